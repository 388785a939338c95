"""
A clock that all processes of this host share, for leases between them.

The wall clock may be set, and the monotonic clock of Linux stops while the machine is suspended. The clock that counts
from the boot does neither. But it has no meaning after the next boot, or on another host. So a lease also names the
boot in which it was given, and after another boot it is judged by the wall clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._model.parsing import is_finite
from evertoken._model.protocols import LONGEST_LEASE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Deadline", "HostClock"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

#: Seconds by which two readings of the wall clock may be out of order.
_SLACK: Final = 1.0


@final
@dataclass(frozen=True, slots=True)
class Deadline:
    """
    The end of a lease.

    Args:
        ttl: The length of the lease in seconds.

        at: The start of the lease, in seconds since the boot.

        wall: The start of the lease, in epoch seconds.

        boot: The id of that boot, or empty if the system does not have one.
    """

    ttl: float
    at: float
    wall: float
    boot: str

    @classmethod
    def of(cls, fields: Any, /) -> Deadline | None:
        """Return the deadline that was written as *fields*, or None if they are not a deadline."""
        try:
            ttl, at, wall, boot = fields
        except (TypeError, ValueError):
            return None
        if not isinstance(boot, str) or not all(is_finite(number) for number in (ttl, at, wall)):
            return None
        return cls(ttl, at, wall, boot)

    def fields(self) -> list[Any]:
        """Return the fields that `of` reads."""
        return [self.ttl, self.at, self.wall, self.boot]


@final
class HostClock:
    """
    Seconds since the boot, and the id of the boot.

    Args:
        boot: The id of this boot. By default it is read from the system.

        since_boot: The clock that counts from the boot. By default the system's.

        wall: The wall clock in epoch seconds.
    """

    def __init__(
        self,
        *,
        boot: str | None = None,
        since_boot: Callable[[], float] | None = None,
        wall: Callable[[], float] = SystemClock.time,
    ) -> None:
        self._boot = boot
        self._since_boot = _since_boot if since_boot is None else since_boot
        self._wall = wall

    def wall(self) -> float:
        """Return the wall clock in epoch seconds."""
        return self._wall()

    def after(self, ttl: float, /) -> Deadline:
        """Return the deadline *ttl* seconds from now."""
        return Deadline(ttl, self._since_boot(), self._wall(), self._this_boot())

    def remaining(self, deadline: Deadline | None, /) -> float:
        """Return the seconds until *deadline*, at most its full length. The result is zero or less if it has passed."""
        if deadline is None:
            return 0.0
        passed = self._since_boot() - deadline.at
        if passed < 0.0 or deadline.boot != self._this_boot():
            # The lease is from before a reboot, or from another host. If the wall clock was set back, the lease is
            # over.
            passed = self._wall() - deadline.wall
            if passed < -_SLACK:
                return 0.0
        return min(deadline.ttl - passed, deadline.ttl)

    def binding(self, deadline: Deadline | None, /) -> float:
        """
        Return the seconds for which a lease until *deadline* excludes other owners.

        A lease that would last longer than the longest one comes from before a clock was set, and excludes nobody.
        """
        remaining = self.remaining(deadline)
        return remaining if 0.0 < remaining <= LONGEST_LEASE else 0.0

    def _this_boot(self) -> str:
        return _boot_id() if self._boot is None else self._boot


def _since_boot() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    # On other systems the monotonic clock is the same for all processes, and counts from the boot.
    return SystemClock.monotonic() if clock is None else time.clock_gettime(clock)


@cache
def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""

"""The faults of a token endpoint."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, final, get_args

if TYPE_CHECKING:
    from evertoken._model.provider_limits import RateLimit

__all__ = ["Fault", "FaultKind", "Faults", "Window"]

#: - "hang": there is no answer while the client waits
#: - "reset": the connection is cut before the request is processed
#: - "lost": the request is processed (a refresh token is spent), but the connection is cut instead of an answer
#: - "truncated": the same, but cut in the middle of the answer
#: - "garbage", "empty": 200 with a web page, or with an empty body
#: - "huge", "bomb": 200 with a body of several megabytes, sent or compressed
#: - "redirect": 307 to another place
#: - "error": an error answer of RFC 6749 section 5.2
FaultKind: TypeAlias = Literal[
    "hang", "reset", "lost", "truncated", "garbage", "empty", "huge", "bomb", "redirect", "error"
]

_KINDS: Final = get_args(FaultKind)
# RFC 9110 section 15; statuses below 200 are not final answers.
_STATUSES: Final = range(200, 600)


@final
@dataclass(slots=True)
class Fault:
    """
    A fault that lasts for a number of requests. As a context manager, it ends with the block.

    Args:
        what: A status code, or the name of a kind of fault.

        times: The number of requests. With None, all requests until the fault is healed.

        retry_after: The Retry-After field: seconds, or a date as text.

        error: The error code of the RFC, for "error", and optionally for a status code.

        error_description: The description that comes with it.

        status: The status code, for "error".
    """

    what: int | FaultKind
    times: int | None = None
    retry_after: float | str | None = None
    error: str | None = None
    error_description: str | None = None
    status: int = 400
    used: int = field(default=0, init=False)
    healed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        known = self.what in _STATUSES if isinstance(self.what, int) else self.what in _KINDS
        if not known:
            msg = f"what must be a status code or one of {', '.join(map(repr, _KINDS))}, not {self.what!r}"
            raise ValueError(msg)

    @property
    def active(self) -> bool:
        """Whether it still affects requests."""
        return not self.healed and (self.times is None or self.used < self.times)

    def heal(self) -> None:
        """End the fault."""
        self.healed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()


@final
class Faults:
    """The faults in force. The first one that was set affects requests first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Put *fault* into force."""
        self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """End all faults."""
        for fault in self._faults:
            fault.heal()
        self._faults.clear()

    def strike(self) -> Fault | None:
        """Return the fault for the next request, if any, and count it."""
        self._faults = [fault for fault in self._faults if fault.active]
        if not self._faults:
            return None
        self._faults[0].used += 1
        return self._faults[0]


@final
class Window:
    """The token requests of the last seconds. A server with a rate limit counts them."""

    def __init__(self) -> None:
        self._taken: deque[float] = deque()

    def refusal(self, limit: RateLimit | None, now: float) -> Fault | None:
        """Record a request at *now*. If *limit* is used up, return the fault that refuses the request."""
        if limit is None:
            return None
        while self._taken and self._taken[0] <= now - limit.per:
            self._taken.popleft()
        if len(self._taken) < limit.requests:
            self._taken.append(now)
            return None
        # Retry-After uses whole seconds (RFC 9110 section 10.2.3).
        return Fault(429, retry_after=math.ceil(self._taken[0] + limit.per - now))

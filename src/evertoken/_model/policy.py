"""
When a token is due, and when to try again. Instants go in, and instants come out.

Rules of this file:

1. There is no clock and no randomness: callers pass `now` and a stable share of jitter.
2. Every duration follows from the token's own lifetime, or is limited by it.
3. Jitter can only make a refresh earlier, never later.
"""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from evertoken._model.frozen import Frozen, frozen

if TYPE_CHECKING:
    from evertoken._model.token import Token

__all__ = ["KeepAlivePolicy", "RefreshPolicy", "RetryPolicy", "Rules", "spread"]

DEFAULT_LEAD_FRACTION: Final = 0.2
MAX_LEAD_SHARE: Final = 0.5
DEFAULT_JITTER: Final = 0.1
FLOOR: Final = 1.0
LEAST_FLOOR: Final = 0.1

FIRST_RETRY: Final = 5.0
FIRST_RETRY_SHARE: Final = 0.05
RETRY_FACTOR: Final = 2.0
RETRY_CAP: Final = 60.0
RETRY_CAP_SHARE: Final = 0.25
RETRY_AFTER_CAP: Final = 300.0
PROBE: Final = 300.0
REFUSAL_FIRST: Final = 1.0
REFUSAL_CAP: Final = 300.0
ECHO_STEPS: Final = (5.0, 10.0, 20.0, 30.0)
MIN_TTL_SHARE: Final = 0.1
PATIENCE: Final = 1.0
PROBE_SHARE: Final = 0.1
PROBE_FLOOR_SHARE: Final = 0.01


def spread(*parts: object) -> float:
    """Return a number in [0, 1) that is always the same for the same *parts*, and evenly spread otherwise."""
    digest = hashlib.blake2b("\x1f".join(map(repr, parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56


def _check(name: str, value: float, *, least: float, most: float = math.inf, open_below: bool = False) -> None:
    # isfinite() is not used, because it overflows for a very large int.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        msg = f"{name} must be a finite number, not {value!r}"
        raise ValueError(msg)
    if value < least or value > most or (open_below and value == least):
        bound = f"greater than {least:g}" if open_below else f"at least {least:g}"
        msg = f"{name} must be {bound}{'' if most == math.inf else f' and at most {most:g}'}, not {value!r}"
        raise ValueError(msg)


@final
@frozen()
class RefreshPolicy(Frozen):
    """
    When a token is due for refresh.

    Durations are in seconds. Fractions are parts of the token's own lifetime. If the server gives a hint (`refresh_in`,
    `refresh_on`), the hint replaces both leads.

    Args:
        lead_fraction: How long before its expiry a token becomes due: 0.2 of its lifetime by default, at most 0.5.

        lead_time:
            The same time in seconds. It overrides *lead_fraction*, but never exceeds half a lifetime.

        jitter:
            The share of the lead by which a refresh may start earlier, so that a fleet that started together spreads
            out: 0.1 by default, 0 for none. Jitter never delays a refresh.

        default_lifetime: The lifetime to assume if neither the answer nor the token states one.

    Raises:
        ValueError: A value is out of range.
    """

    lead_fraction: float = DEFAULT_LEAD_FRACTION
    lead_time: float | None = None
    jitter: float = DEFAULT_JITTER
    default_lifetime: float | None = None

    def __post_init__(self) -> None:
        _check("lead_fraction", self.lead_fraction, least=0.0, most=MAX_LEAD_SHARE, open_below=True)
        if self.lead_time is not None:
            _check("lead_time", self.lead_time, least=0.0, open_below=True)
        _check("jitter", self.jitter, least=0.0, most=1.0)
        if self.default_lifetime is not None:
            _check("default_lifetime", self.default_lifetime, least=0.0, open_below=True)

    def lead(self, lifetime: float, /) -> float:
        """Return how many seconds before its expiry a token of *lifetime* seconds becomes due, without jitter."""
        lead = self.lead_fraction * lifetime if self.lead_time is None else self.lead_time
        # With a lead of five minutes, a five-minute token would be due as soon as it is issued.
        return min(lead, lifetime * MAX_LEAD_SHARE)

    def floor(self, lifetime: float | None, /) -> float:
        """Return the least time in seconds between the starts of two fetches for the same key."""
        if lifetime is None:
            return FLOOR
        return max(LEAST_FLOOR, min(FLOOR, lifetime * MAX_LEAD_SHARE))

    def due_at(self, token: Token, fetched_at: float, share: float, /, *, echoes: int = 0) -> float:
        """
        Return the instant from which *token* should be replaced. It is infinite if the expiry is unknown.

        Args:
            token: The token in service.

            fetched_at: When the fetch that brought the token started (epoch seconds).

            share: A number in [0, 1) that is stable for key and process; see `spread`.

            echoes: How many fetches in a row returned this same token, as metadata servers do.
        """
        # A server with a cache returns the same token if it is asked too early, so ask it less often.
        step = ECHO_STEPS[min(echoes, len(ECHO_STEPS)) - 1] if echoes else FLOOR
        if token.expires_at is None:
            return math.inf if token.refresh_at is None else max(token.refresh_at, fetched_at + step)
        lifetime = max(token.expires_at - token.issued_at, 0.0)
        floor = self.floor(lifetime)
        if echoes:
            return max(fetched_at + floor, min(fetched_at + step, token.expires_at))
        lead = self.lead(lifetime)
        if token.refresh_at is not None and token.refresh_at < token.expires_at:
            lead = min(token.expires_at - token.refresh_at, lifetime)
        # The limit includes jitter. Otherwise, with a lead of half a lifetime, new tokens could be due at once.
        lead = min(lead * (1.0 + self.jitter * share), max(lead, lifetime * MAX_LEAD_SHARE))
        return max(fetched_at + floor, token.expires_at - lead)


@final
@frozen()
class RetryPolicy(Frozen):
    """
    When a failed fetch is tried again. All durations are in seconds.

    Args:
        first: The approximate wait after the first failure, at most a twentieth of the token's lifetime.

        factor: The factor by which each further wait grows.

        cap: The longest wait, at most a quarter of the token's lifetime.

        jitter: The random share of each wait after the first one, from 0 to 1 (full jitter).

        retry_after_cap: The longest wait that a server can demand by Retry-After.

        probe: The wait between attempts while the grant is rejected, at most a tenth of the token's lifetime. If a
            file that was read changes, such as one with a client secret, the next caller does not wait for it.

        patience:
            How long a caller without a valid token waits for an attempt that is under way after a failure: one second
            by default. While somebody asks, the next attempt starts this long after the last one ended.

    Raises:
        ValueError: A value is out of range.
    """

    first: float = FIRST_RETRY
    factor: float = RETRY_FACTOR
    cap: float = RETRY_CAP
    jitter: float = 1.0
    retry_after_cap: float = RETRY_AFTER_CAP
    probe: float = PROBE
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        _check("first", self.first, least=0.0, open_below=True)
        _check("factor", self.factor, least=1.0)
        _check("cap", self.cap, least=self.first)
        _check("jitter", self.jitter, least=0.0, most=1.0)
        _check("retry_after_cap", self.retry_after_cap, least=0.0)
        _check("probe", self.probe, least=0.0, open_below=True)
        _check("patience", self.patience, least=0.0, open_below=True)

    def delay(
        self,
        failures: int,
        share: float,
        /,
        *,
        lifetime: float | None = None,
        left: float | None = None,
        retry_after: float | None = None,
    ) -> float:
        """
        Return the seconds to wait after the given number of failures in a row (1 for the first).

        Args:
            failures: The number of failures in a row, including this one.

            share: A number in [0, 1) that is stable for key, process and failure; see `spread`.

            lifetime: The lifetime of the last token, if there was one.

            left:
                Seconds of life left in the token in service, if there is one. A wait takes at most half of them, but at
                least a fifth of the first wait. So the end of an outage is noticed before the token expires.

            retry_after: The wait that the server asked for, if any. It is limited by its cap, and never shortened.
        """
        # The least wait holds for all policies, so that a mistake in the units does not cause a hot loop.
        first, cap = max(self.first, LEAST_FLOOR), max(self.cap, LEAST_FLOOR)
        if lifetime is not None and lifetime > 0.0:
            first = min(first, max(LEAST_FLOOR, lifetime * FIRST_RETRY_SHARE))
            cap = min(cap, max(first, lifetime * RETRY_CAP_SHARE))
        if retry_after is not None and not math.isnan(retry_after):
            asked = min(max(retry_after, 0.0), self.retry_after_cap)
            return max(asked * (1.0 + 0.1 * self.jitter * share), first)
        # Full jitter may draw zero. A fifth of the first wait, or the floor, prevents a hot loop.
        least = max(first / 5.0, LEAST_FLOOR)
        if failures <= 1:
            return first if left is None else min(first, max(least, left / 2.0))
        ceiling = _grown(first, self.factor, failures - 1, cap)
        if left is not None:
            ceiling = min(ceiling, left / 2.0)
        return max(ceiling * (1.0 - self.jitter * share), least)

    def probe_delay(self, lifetime: float | None, left: float | None, /) -> float:
        """
        Return the seconds to wait after a rejection.

        Args:
            lifetime: The lifetime of the last token, if there was one.

            left: Seconds of life left in the token in service, if there is one. A wait takes at most half of them, so
                that a corrected secret is tried before the token expires.
        """
        wait = self.probe if lifetime is None or lifetime <= 0.0 else min(self.probe, lifetime * PROBE_SHARE)
        if left is not None:
            wait = min(wait, left / 2.0)
        # The floor prevents a hot loop for a short token, and for one that is about to expire.
        floor = FLOOR if lifetime is None else max(FLOOR, lifetime * PROBE_FLOOR_SHARE)
        return max(wait, min(self.probe, floor), LEAST_FLOOR)

    def demand_delay(self) -> float:
        """Return the seconds from the end of a failed attempt to the next one while somebody asks for a token."""
        return max(min(self.patience, FLOOR), LEAST_FLOOR)

    def refusal_cooldown(self, refusals: int, /) -> float:
        """Return for how many seconds no refusal starts a fetch, after this many refused tokens in a row."""
        return _grown(REFUSAL_FIRST, 2.0, max(refusals - 1, 0), REFUSAL_CAP)


def _grown(first: float, factor: float, times: int, cap: float) -> float:
    try:
        return min(cap, first * float(factor) ** times)
    except OverflowError:
        # 2.0 ** 1100 is larger than any float, and so than any cap.
        return cap


@final
@frozen()
class KeepAlivePolicy(Frozen):
    """
    When an unused grant in the store is refreshed, so that it does not expire from disuse.

    Args:
        idle: Seconds without use after which a grant expires. By default the time that its server states
            (`refresh_expires_in` and the like) or that its provider is known for. Without both, it is left alone.

        lead_fraction: The share of that time by which the refresh comes before the end: 0.2 by default, at most 0.5.

        jitter: The share of the lead by which it may be earlier still, to spread out an import: 0.5 by default.

    Raises:
        ValueError: A value is out of range.
    """

    idle: float | None = None
    lead_fraction: float = DEFAULT_LEAD_FRACTION
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.idle is not None:
            _check("idle", self.idle, least=0.0, open_below=True)
        _check("lead_fraction", self.lead_fraction, least=0.0, most=MAX_LEAD_SHARE, open_below=True)
        _check("jitter", self.jitter, least=0.0, most=1.0)

    def due_at(self, used_at: float, dies_at: float, share: float, /) -> float:
        """
        Return when a grant is due (epoch seconds).

        Args:
            used_at: When the grant was used last.

            dies_at: When it expires if it is not used again.

            share: A number in [0, 1) that is stable for its key; see `spread`.
        """
        lead = self.lead_fraction * max(dies_at - used_at, 0.0)
        return dies_at - lead * (1.0 + self.jitter * share)


@final
@dataclass(slots=True)
class Rules:
    """
    All parameters by which the state of a key is judged.

    Args:
        seed: A random text that gives this process its own jitter. A forked process draws a new one.

        owner: The name of this member of the fleet in leases and marks. A forked process draws a new one.

        shared: Whether a store keeps tokens, so that other members may refresh them too.

        strict: Whether a token is held back until the store has kept it.
    """

    refresh: RefreshPolicy
    retry: RetryPolicy
    seed: str
    owner: str = ""
    shared: bool = False
    strict: bool = False

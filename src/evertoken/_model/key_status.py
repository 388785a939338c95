"""
What is known of one key, and what that says at an instant. `_entry` says how it changes.

1. No clock and no event loop: `now` comes in, an answer goes out.
2. Validity (absent, fresh, stale, expired) is computed from the token and `now`; it is never stored.
   `valid_until` is no exception: it is what the hot path compares with the clock, and no more than a bound.
3. What is rare lives in `Trouble`, which a healthy key does not have: a hundred thousand keys pay for each slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from evertoken._model.errors import GrantRejected, TokenUnavailable
from evertoken._model.failure_state import NEVER, Rules, Trouble
from evertoken._model.policy import FLOOR, MIN_TTL_SHARE, spread

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.events import Ambiguity
    from evertoken._model.token import Token

__all__ = ["Standing", "Validity"]

Validity: TypeAlias = Literal["absent", "fresh", "stale", "expired"]

# The part of a grace in which a refresh token is sent again; the rest is for its way, and for clocks.
_GRACE_USED: Final = 0.5
# So many seconds after it was due, a retry that the supervisor has not started is anybody's.
_OVERDUE: Final = 1.0


class Standing:
    """
    How one key stands.
    """

    __slots__ = (
        "deadline",
        "fetched_at",
        "flight",
        "idle_since",
        "key",
        "source",
        "token",
        "trouble",
        "valid_until",
        "version",
    )

    def __init__(self, key: Hashable, source: Any) -> None:
        self.key: Hashable = key
        self.source: Any = source
        self.token: Token | None = None
        self.valid_until: float = NEVER
        self.deadline: float | None = None
        self.flight: Any = None
        self.trouble: Trouble | None = None
        self.fetched_at: float = NEVER
        self.version: int = 0
        self.idle_since: float | None = None

    def __lt__(self, other: object) -> bool:
        return False

    def in_service(self, now: float, /) -> Token | None:
        """
        Return the token if it may be handed out at *now*.
        """
        token = self.token
        if token is None or not token.valid_at(now):
            return None
        barred = self.trouble is not None and (self.trouble.refused is token or self.trouble.withheld)
        return None if barred else token

    def peeked(self, now: float, /) -> None:
        """
        Somebody looked at it, on whatever thread: it is in use. Who awaits it opens the hot path again, on its own.
        """
        if self.idle_since is not None:
            self.idle_since = now

    @property
    def unkept(self) -> bool:
        """
        Whether a store should hold the token and does not yet.
        """
        return self.trouble is not None and self.trouble.unkept

    def single_use(self, rules: Rules, /) -> bool:
        """
        Tell whether a fetch may spend what the next one would have to present.

        Where nobody said and others may present it too, that is assumed until it is known to be otherwise.
        """
        rotates = getattr(self.source, "rotates", ...)
        if isinstance(rotates, bool):
            return rotates
        if self.trouble is not None and self.trouble.rotated:
            return True
        presents = self.token is not None and self.token.refresh_token is not None
        return rules.shared and (presents or rotates is None)

    def on_ambiguous(self, rules: Rules, age: float = 0.0, /) -> Ambiguity:
        """
        Return what follows *age* seconds after a request whose answer was lost.
        """
        habit: Ambiguity | None = getattr(self.source, "on_ambiguous", None)
        if habit is not None:
            return habit
        forgiven = age < getattr(self.source, "grace", 0.0) * _GRACE_USED
        return "hold" if self.single_use(rules) and not forgiven else "retry"

    def validity(self, now: float, rules: Rules, /) -> Validity:
        """
        Return which of the four states the key is in at *now*.
        """
        if self.token is None:
            return "absent"
        if self.in_service(now) is None:
            return "expired"
        return "stale" if now >= self.due_at(rules) else "fresh"

    def due_at(self, rules: Rules, /) -> float:
        """
        Return from when the token in service should be replaced; the distant past if there is none.
        """
        # Read once, for a snapshot may be taken on any thread.
        token, trouble = self.token, self.trouble
        if token is None:
            return NEVER
        echoes = 0 if trouble is None else trouble.echoes
        return rules.refresh.due_at(token, self.fetched_at, spread(rules.seed, self.key), echoes=echoes)

    def next_at(self, now: float, rules: Rules, /) -> float:
        """
        Return the instant of the next flight: the retry of a failed one, else when the token is due, else *now*.

        One that the store does not hold yet is offered to it again before that.
        """
        if self.trouble is not None and self.trouble.error is not None:
            return self.trouble.retry_at
        at = now if self.in_service(now) is None else self.due_at(rules)
        return min(at, self.trouble.repair_at) if self.trouble is not None and self.trouble.unkept else at

    def backing_off(self, now: float, /) -> bool:
        """
        Tell whether the last fetch failed and the next one is the supervisor's: still to come, or under way.

        Callers then neither start a fetch nor wait for one, for a provider that hangs would hold them all. Only if
        nobody starts the fetch that is due may they do so themselves.
        """
        trouble = self.trouble
        # In the distant past: that was before a close, or before a refusal, and nothing was tried since.
        if trouble is None or trouble.error is None or trouble.retry_at == NEVER:
            return False
        return self.flight is not None or now < trouble.retry_at + _OVERDUE

    def longest_obtainable(self, now: float, rules: Rules, /) -> bool:
        """
        Tell whether another fetch could hardly bring a longer life than the token in service has left.
        """
        if self.token is None:
            return False
        lifetime = self.token.lifetime
        share = 0.0 if lifetime is None else lifetime * MIN_TTL_SHARE
        return now - self.fetched_at < max(rules.refresh.floor(lifetime), share)

    def unavailable(self, now: float, what: str = "no valid token", /) -> TokenUnavailable | GrantRejected:
        """
        Return a new exception that says why there is none of *what*, with the last failure as its cause.
        """
        error = None if self.trouble is None else self.trouble.error
        if isinstance(error, GrantRejected):
            return GrantRejected(error.error, error.error_description, error.error_uri)
        of = "" if self.key is None else f" for key {self.key!r}"
        retry_at = None if self.trouble is None or self.trouble.retry_at == NEVER else self.trouble.retry_at
        if retry_at is not None and self.flight is not None:
            # The attempt is under way; what comes of it is known a little later.
            retry_at = max(retry_at, now + FLOOR)
        unavailable = TokenUnavailable(f"{what}{of}: {error or 'none was fetched yet'}", retry_at=retry_at)
        unavailable.__cause__ = error
        return unavailable

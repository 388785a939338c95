"""
Questions about one key: is its token valid, when is it due, may a fetch start. `key_state` has its changes.

1. There is no clock and no event loop: callers pass `now` and receive an answer.
2. Validity (absent, fresh, stale, expired) is computed from the token and `now`. It is never stored. `valid_until` is
   the bound that the hot path compares with the clock.
3. Rare facts are in `FailureState`, which a healthy key does not have.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from evertoken._model.errors import GrantRejected, TokenUnavailable
from evertoken._model.failure_state import NEVER, FailureState
from evertoken._model.failures import is_sign_out
from evertoken._model.policy import MIN_TTL_SHARE, spread

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.policy import Rules
    from evertoken._model.token import Token

__all__ = ["KeyView", "Validity"]

Validity: TypeAlias = Literal["absent", "fresh", "stale", "expired"]


class KeyView:
    """A read-only view of one key."""

    __slots__ = (
        "deadline",
        "failure",
        "fetched_at",
        "flight",
        "generation",
        "idle_since",
        "key",
        "origins",
        "since",
        "source",
        "token",
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
        self.failure: FailureState | None = None
        self.fetched_at: float = NEVER
        #: The version of the store's record when it was last read or written.
        self.version: int = 0
        #: When a person last decided, and how many tokens there were. These tell which record is newer.
        self.since: float = 0.0
        self.generation: int = 0
        #: Fingerprints of the configured refresh tokens that the grant has taken into account.
        self.origins: tuple[str, ...] = ()
        self.idle_since: float | None = None

    def __lt__(self, other: object) -> bool:
        return False

    def in_service(self, now: float, /) -> Token | None:
        """Return the token if callers may receive it at *now*."""
        token, failure = self.token, self.failure
        if token is None or not token.valid_at(now):
            return None
        barred = failure is not None and (failure.refused is token or failure.withheld)
        return None if barred else token

    @property
    def unkept(self) -> bool:
        """Whether the store lacks the state of memory."""
        failure = self.failure
        return failure is not None and failure.unkept

    @property
    def signed_out(self) -> bool:
        """Whether the key was signed out, and nobody has logged in since."""
        return self.token is None and self.failure is not None and is_sign_out(self.failure.error)

    @property
    def withheld(self) -> bool:
        """Whether the token is held back until the store keeps it."""
        return self.failure is not None and self.failure.withheld

    @property
    def droppable(self) -> bool:
        """Whether memory can forget this key without a loss, in a manager without a store."""
        failure, token = self.failure, self.token
        if failure is not None and (failure.sent_at is not None or failure.unkept or self.signed_out):
            return False
        return token is None or token.refresh_token is None

    def validity(self, now: float, rules: Rules, /) -> Validity:
        """Return the validity of the key at *now*."""
        if self.token is None:
            return "absent"
        if self.in_service(now) is None:
            return "expired"
        return "stale" if now >= self.due_at(rules) else "fresh"

    def due_at(self, rules: Rules, /) -> float:
        """Return when the token in service should be replaced, or the distant past if it is absent."""
        # Each attribute is read once, because a snapshot may be taken on any thread.
        token, failure = self.token, self.failure
        if token is None:
            return NEVER
        echoes = 0 if failure is None else failure.echoes
        return rules.refresh.due_at(token, self.fetched_at, spread(rules.seed, self.key), echoes=echoes)

    def next_at(self, now: float, rules: Rules, /) -> float:
        """
        Return when the next flight starts: the retry of a failed one, else when the token is due, else *now*.

        If the store lacks something, an offer to the store may come before that.
        """
        failure = self.failure
        if failure is None:
            return now if self.in_service(now) is None else self.due_at(rules)
        if failure.error is not None:
            at = failure.retry_at
        else:
            at = now if self.in_service(now) is None else self.due_at(rules)
        return min(at, failure.repair_at) if failure.unkept else at

    def demand_at(self, rules: Rules, /) -> float:
        """
        Return the earliest instant at which a caller can start a fetch, or the distant past after a success.

        Callers do not bring forward the probe of a rejected grant.
        """
        failure = self.failure
        if failure is None or failure.error is None:
            return NEVER
        if isinstance(failure.error, GrantRejected):
            return failure.retry_at
        return max(failure.not_before, min(failure.retry_at, failure.failed_at + rules.retry.demand_delay()))

    def longest_obtainable(self, now: float, rules: Rules, /) -> bool:
        """Tell whether another fetch could hardly bring a longer life than the token in service has left."""
        if self.token is None:
            return False
        lifetime = self.token.lifetime
        share = 0.0 if lifetime is None else lifetime * MIN_TTL_SHARE
        return now - self.fetched_at < max(rules.refresh.floor(lifetime), share)

    def unavailable(self, what: str = "no valid token", /) -> TokenUnavailable | GrantRejected:
        """Return a new exception that names the missing *what*, with the last failure as its cause."""
        failure = self.failure
        error = None if failure is None else failure.error
        if isinstance(error, GrantRejected):
            return error.again()
        of = "" if self.key is None else f" for key {self.key!r}"
        retry_at = None if failure is None or not math.isfinite(failure.retry_at) else failure.retry_at
        unavailable = TokenUnavailable(f"{what}{of}: {error or 'none was fetched yet'}", retry_at=retry_at)
        unavailable.__cause__ = error
        return unavailable

"""
The state of one key as it is served: changes that users and the session cause. `key_state` has all other changes.

There is no clock and no event loop: callers pass `now`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from evertoken._model.errors import TransientRefreshError
from evertoken._model.failure_state import NEVER, FailureState
from evertoken._model.key_view import KeyView

if TYPE_CHECKING:
    from evertoken._model.policy import Rules
    from evertoken._model.token import Token

__all__ = ["KeyService", "Refusal"]

#: The result of a refusal: it hit the token in service, it came late, or the cool-down is in force.
Refusal: TypeAlias = Literal["taken", "late", "cooling"]

# If this many cool-downs pass without a refusal, the count starts again.
_REFUSALS_FORGOTTEN_AFTER: Final = 10.0


class KeyService(KeyView):
    """How one key is served, and since when nobody has asked for it."""

    __slots__ = ()

    def refused(self, access_token: str, now: float, rules: Rules, /) -> Refusal:
        """
        A resource server refused the token with this value. It is taken out of service only if it is the current one.
        """
        token = self.in_service(now)
        if token is None or token.access_token != access_token:
            return "late"
        failure = self._failing()
        quiet = now - failure.refused_at
        cooldown = rules.retry.refusal_cooldown(failure.refusals)
        if failure.refusals and quiet > cooldown * _REFUSALS_FORGOTTEN_AFTER:
            failure.refusals = 0
        elif failure.refusals and 0.0 <= quiet < cooldown:
            return "cooling"
        failure.refusals += 1
        failure.refused_at = now
        failure.refused = token
        error = failure.error
        if failure.sent_at is not None and isinstance(error, TransientRefreshError):
            # The next attempt was held back in favour of the token that has now been refused.
            held = NEVER if error.retry_after is None else min(failure.retry_at, now + error.retry_after)
            failure.retry_at = failure.not_before = held
        self.valid_until = NEVER
        return "taken"

    def hurried(self, at: float, /) -> None:
        """A caller needs a token. The next attempt starts at *at*, if it was planned for later."""
        if self.failure is not None:
            self.failure.retry_at = min(self.failure.retry_at, at)

    def reanchored(self, by: float, /) -> None:
        """The wall clock stepped by *by* seconds. All instants move too, so that the remaining times stay the same."""
        failure, token = self.failure, self.token
        self.fetched_at += by
        if self.idle_since is not None:
            self.idle_since += by
        if token is not None:
            self.token = token.shifted(by)
            if self.valid_until != NEVER:
                self.valid_until = math.inf if self.token.expires_at is None else self.token.expires_at
        if failure is not None:
            for name in ("failed_at", "not_before", "refused_at", "rejected_at", "repair_at", "retry_at"):
                setattr(failure, name, getattr(failure, name) + by)
            if failure.sent_at is not None:
                failure.sent_at += by
            if failure.refused is token:
                failure.refused = self.token

    def peeked(self, now: float, /) -> None:
        """Somebody called `peek`, from any thread, so the key is in use."""
        if self.idle_since is not None:
            self.idle_since = now

    def seen(self, /) -> None:
        """Somebody asked for the key. It is not idle any longer, and the hot path may serve it again."""
        self.idle_since = None
        failure = self.failure
        if self.token is not None and not (failure is not None and (failure.withheld or failure.refused is self.token)):
            self._open()

    def watched(self, now: float, /) -> None:
        """
        Count the key as idle from *now* on, until somebody asks for it.

        The hot path does not record its callers. So it is closed for this key, and the next caller takes the slow path
        once. That caller does not wait, and opens the hot path again.
        """
        self.idle_since = now
        self.barred()

    def barred(self, /) -> None:
        """Close the hot path for this key. A flight under way can still finish."""
        self.valid_until = NEVER

    def closed(self, /) -> None:
        """
        The session has ended. After a restart a failed fetch may be tried at once, unless it may spend a refresh token.
        """
        self.barred()
        self.deadline: float | None = None
        self.flight: Any = None
        failure = self.failure
        if failure is not None and failure.sent_at is None and failure.retry_at < math.inf:
            failure.retry_at = failure.not_before = NEVER

    # How

    def _open(self) -> None:
        token = self.token
        if token is None or not token.access_token:
            # There is only a refresh token. Nothing can be served, even if the clock was set back.
            self.barred()
        else:
            self.valid_until = math.inf if token.expires_at is None else token.expires_at

    def _serve(self, token: Token) -> None:
        self.token = token
        if self.idle_since is None:
            self._open()

    def _failing(self) -> FailureState:
        if self.failure is None:
            self.failure = FailureState()
        return self.failure

    def _heal(self) -> None:
        if self.failure is not None and self.failure.over:
            self.failure = None

    def _lifetime(self) -> float | None:
        return None if self.token is None else self.token.lifetime

"""
One key: what can happen to it, and what follows from that.

Each change of state is one method of `Entry`, named for what has happened. No clock and no event loop: `now` comes
in, the next due instant goes out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.failure_state import NEVER, Trouble
from evertoken._model.key_status import Standing
from evertoken._model.policy import spread

if TYPE_CHECKING:
    from evertoken._model.failure_state import Rules
    from evertoken._model.token import Token

__all__ = ["NOBODY", "Entry", "Refusal"]

#: What a refusal comes to: it hit the token in service, it came late, or the cool-down holds.
Refusal: TypeAlias = Literal["taken", "late", "cooling"]

# After this many cool-downs without a refusal the count starts anew.
_REFUSALS_FORGOTTEN_AFTER: Final = 10.0


@final
class Entry(Standing):
    """
    One key.
    """

    __slots__ = ()

    deadline: float | None
    fetched_at: float
    flight: Any
    valid_until: float
    version: int

    def fetched(self, token: Token, started_at: float, rules: Rules, /, *, kept: bool = True) -> float:
        """
        A fetch that began at *started_at* brought *token*: it is in service. Return when it is due.

        Without *kept*, a store should hold it and does not yet: it is offered again later, and not served before
        that if the rules are strict.
        """
        before, trouble = self.token, self.trouble
        same = before is not None and before.access_token == token.access_token
        # A server that hands out what it has cached is asked less often; one that extends a token's life is not.
        repeated = same and self._due_at_once(token, started_at, rules)
        spent = None if before is None else before.refresh_token
        rotated = None not in {spent, token.refresh_token} and spent != token.refresh_token
        if repeated or rotated or not kept or trouble is not None:
            self._troubled().fetched(repeated=repeated, rotated=rotated, kept=kept)
            self._heal()
        self.fetched_at = started_at
        self._serve(token)
        if not kept:
            self.unsaved(started_at, rules)
        return self.next_at(started_at, rules)

    def unsaved(self, now: float, rules: Rules, /) -> float:
        """
        The store did not keep the token. Return when to offer it again.
        """
        trouble = self._troubled()
        trouble.unkept = True
        trouble.repair_at = now + rules.retry.first
        if rules.strict:
            trouble.withheld = True
            self.valid_until = NEVER
        return self.next_at(now, rules)

    def saved(self, version: int, /) -> None:
        """
        The store keeps the token now, under that version.
        """
        self.version = version
        trouble = self.trouble
        if trouble is None:
            return
        trouble.unkept = False
        if trouble.withheld:
            trouble.withheld = False
            trouble.error = None
            trouble.failures = 0
            if self.token is not None and trouble.refused is not self.token:
                self._serve(self.token)
        self._heal()

    def signed_out(self, version: int, error: GrantRejected, now: float, rules: Rules, /) -> float:
        """
        The key was signed out: nothing is served, and nobody asks until told otherwise. Return when to look again.
        """
        self.barred()
        self.token = None
        self.trouble = None
        self.fetched_at = NEVER
        self.version = version
        again_at = self.rejected(error, now, rules)
        if rules.shared or self.trouble is None:
            return again_at
        # Without a store nobody else can sign it in again, and a probe would.
        self.trouble.retry_at = math.inf
        return math.inf

    def adopted(self, token: Token, version: int, rules: Rules, /) -> float:
        """
        Another member of the fleet fetched *token*: it is in service here. Return when it is due.
        """
        if self.trouble is not None:
            self.trouble.fetched(repeated=False, rotated=False, kept=True)
            self._heal()
        self.version = version
        self.fetched_at = token.issued_at
        self._serve(token)
        return self.due_at(rules)

    def superseded(self, token: Token, /) -> None:
        """
        A peer left *token* behind: too old to be adopted, but its refresh token is the one to present.
        """
        refused = None if self.trouble is None else self.trouble.refused
        if self.trouble is not None and refused is not None and refused.access_token == token.access_token:
            self.trouble.refused = token
        self.token = token
        if self.idle_since is None:
            self.seen()

    def failed(self, error: TransientRefreshError, now: float, rules: Rules, /) -> float:
        """
        A fetch failed for a reason that passes; a valid token stays in service. Return when to try again.
        """
        trouble = self._troubled()
        trouble.failures = 1 if isinstance(trouble.error, GrantRejected) else trouble.failures + 1
        trouble.error = error
        lifetime = None if self.token is None else self.token.lifetime
        share = spread(rules.seed, self.key, trouble.failures)
        serving = self.in_service(now)
        retry_at = now + rules.retry.delay(
            trouble.failures,
            share,
            lifetime=lifetime,
            left=None if serving is None else serving.remaining(now),
            retry_after=error.retry_after,
        )
        if error.ambiguous:
            self.unanswered(now)
        # Whatever was answered since, or was not sent, says nothing of the one that was lost.
        if trouble.ambiguous_since is not None:
            retry_at = self._after_ambiguous(trouble, trouble.ambiguous_since, retry_at, now, rules)
        trouble.retry_at = retry_at
        return retry_at

    def unanswered(self, sent_at: float, /) -> None:
        """
        The answer to a request of *sent_at* was lost. The first of several in a row is what counts.
        """
        trouble = self._troubled()
        if trouble.ambiguous_since is None:
            trouble.ambiguous_since = sent_at

    def rejected(self, error: GrantRejected, now: float, rules: Rules, /) -> float:
        """
        The authorization server said no; a valid token stays in service. Return when to probe.
        """
        trouble = self._troubled()
        trouble.failures = trouble.failures + 1 if isinstance(trouble.error, GrantRejected) else 1
        trouble.error = error
        trouble.retry_at = now + rules.retry.probe
        return trouble.retry_at

    def refused(self, access_token: str, now: float, rules: Rules, /) -> Refusal:
        """
        A resource server refused the token with this value. Only the token in service can be taken out by it.
        """
        token = self.in_service(now)
        if token is None or token.access_token != access_token:
            return "late"
        trouble = self._troubled()
        quiet = now - trouble.refused_at
        cooldown = rules.retry.refusal_cooldown(trouble.refusals)
        if trouble.refusals and quiet > cooldown * _REFUSALS_FORGOTTEN_AFTER:
            trouble.refusals = 0
        elif trouble.refusals and 0.0 <= quiet < cooldown:
            return "cooling"
        trouble.refusals += 1
        trouble.refused_at = now
        trouble.refused = token
        error = trouble.error
        if trouble.ambiguous_since is not None and isinstance(error, TransientRefreshError):
            # The next attempt was held back for the sake of this very token.
            trouble.retry_at = NEVER if error.retry_after is None else min(trouble.retry_at, now + error.retry_after)
        self.valid_until = NEVER
        return "taken"

    def reanchored(self, by: float, /) -> None:
        """
        The wall clock stepped by *by* seconds: all instants follow, so that what is left stays left.
        """
        trouble, token = self.trouble, self.token
        self.fetched_at += by
        if self.idle_since is not None:
            self.idle_since += by
        if token is not None:
            self.token = token.shifted(by)
            if self.valid_until != NEVER:
                self.valid_until = math.inf if self.token.expires_at is None else self.token.expires_at
        if trouble is not None:
            trouble.retry_at += by
            trouble.refused_at += by
            trouble.repair_at += by
            if trouble.ambiguous_since is not None:
                trouble.ambiguous_since += by
            if trouble.refused is token:
                trouble.refused = self.token

    def seen(self, /) -> None:
        """
        Somebody asked for it: it is not idle, and the hot path may serve it again.
        """
        self.idle_since = None
        if self.token is not None and not (
            self.trouble is not None and (self.trouble.withheld or self.trouble.refused is self.token)
        ):
            self._open()

    def watched(self, now: float, /) -> None:
        """
        From *now* it counts as idle until somebody asks for it.

        The hot path does not say who used it, so it is barred: the next reader passes through the slow path once
        (without waiting), and opens it again.
        """
        self.idle_since = now
        self.barred()

    def barred(self, /) -> None:
        """
        The hot path serves it no more. A flight under way may still land.
        """
        self.valid_until = NEVER

    def closed(self, /) -> None:
        """
        The manager is closed. What failed may be tried at once next time, unless it may spend a refresh token twice.

        What was signed out stays so.
        """
        self.barred()
        self.deadline = None
        self.flight = None
        if self.trouble is not None and self.trouble.ambiguous_since is None and self.trouble.retry_at < math.inf:
            self.trouble.retry_at = NEVER

    def forgotten(self, /) -> None:
        """
        Nothing is known of it any more. Its flight, if it has one, is to be made void.
        """
        self.barred()
        self.token = None
        self.trouble = None
        self.fetched_at = NEVER
        # So that what the store holds is news.
        self.version = 0
        self.idle_since = None

    # How

    def _due_at_once(self, token: Token, started_at: float, rules: Rules) -> bool:
        due_at = rules.refresh.due_at(token, started_at, spread(rules.seed, self.key))
        return due_at <= started_at + rules.refresh.floor(token.lifetime)

    def _open(self) -> None:
        token = self.token
        self.valid_until = math.inf if token is None or token.expires_at is None else token.expires_at

    def _serve(self, token: Token) -> None:
        self.token = token
        if self.idle_since is None:
            self._open()

    def _troubled(self) -> Trouble:
        if self.trouble is None:
            self.trouble = Trouble()
        return self.trouble

    def _heal(self) -> None:
        if self.trouble is not None and self.trouble.over:
            self.trouble = None

    def _after_ambiguous(self, trouble: Trouble, since: float, retry_at: float, now: float, rules: Rules) -> float:
        habit = self.on_ambiguous(rules, retry_at - since)
        if habit == "retry":
            if self.on_ambiguous(rules, math.inf) == "retry":
                trouble.ambiguous_since = None
            return retry_at
        if habit == "reject":
            trouble.error = GrantRejected(
                "ambiguous", "the answer to a refresh was lost, and this source may not present its refresh token again"
            )
            return now + rules.retry.probe
        # Presenting a refresh token that may be spent can revoke the whole family, and with it the token in service.
        token = self.in_service(now)
        if token is None:
            return retry_at
        return math.inf if token.expires_at is None else max(retry_at, token.expires_at)


#: Stands in for a key that is not there. It is never valid, so it always leads to the slow path.
NOBODY: Final = Entry(None, None)

"""
The state of one key. Each change is one method of `KeyState`, named after the event that causes it.

There is no clock and no event loop: callers pass `now`. After each change, `next_at` says when the key is next due.

==============  ==================================================  ==========================================
transition      token in service afterwards                         next flight
==============  ==================================================  ==========================================
fetched         the new one (none while it is withheld)             when it is due
adopted         a peer's                                            when it is due
rotated         as before: a late answer brought a refresh token    as before
obtained        none: only its refresh token is good                by the retry schedule, with `failed`
superseded      none: a peer left a newer refresh token             now
put             the one that was put                                when it is due
seeded          the one of the configuration                        with a store: now, to look there
failed          as before                                           by the retry schedule
rejected        as before                                           a slow probe
noted           as before: its refresh token was rejected           as before
unjudged        as before                                           when the caller says
refused         none                                                now, unless the cool-down holds
signed_out_at   none                                                a look at the store; none without a store
still_signed    none                                                the same
forgotten       none                                                now
unsaved         as before (none while it is withheld)               an offer to the store, soon
saved           as before, and what was withheld                    as before
==============  ==================================================  ==========================================
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

from evertoken._model.coordination_rules import after_lost_answer, on_ambiguous, same_grant
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.failure_state import NEVER
from evertoken._model.key_service import KeyService
from evertoken._model.key_status import is_dead_grant, with_rejection
from evertoken._model.policy import spread
from evertoken._model.token import origin_of

if TYPE_CHECKING:
    from evertoken._model.policy import Rules
    from evertoken._model.protocols import Record
    from evertoken._model.token import Token

__all__ = ["NO_KEY", "TICK", "KeyState"]

#: The least time, in seconds, between two decisions. It matters if a clock was set back or a peer's clock is ahead.
TICK: Final = 0.001

#: The longest pause between two offers to the store, in seconds. A peer waits longer than this for this member.
REPAIR: Final = 2.0


@final
class KeyState(KeyService):
    """The state of one key."""

    __slots__ = ()

    def fetched(self, token: Token, started_at: float, rules: Rules, /) -> bool:
        """
        A fetch that began at *started_at* brought *token*, now in service. Return whether it repeats the previous one.
        """
        before, failure = self.token, self.failure
        same = before is not None and before.access_token == token.access_token
        # A server that returns a cached token is asked less often. A server that extends a token's life is not.
        repeated = same and self._due_at_once(token, started_at, rules)
        spent = None if before is None else before.refresh_token
        rotated = spent is not None and token.refresh_token is not None and spent != token.refresh_token
        if repeated or rotated or failure is not None:
            failure = self._failing()
            failure.succeeded()
            failure.echoes = failure.echoes + 1 if repeated else 0
            failure.rotated = failure.rotated or rotated
            self._heal()
        self.fetched_at = started_at
        self._serve(token)
        return same

    def obtained(self, token: Token, /) -> None:
        """An answer came whose access token cannot be used. Its refresh token is the next one to present."""
        if self.token is not None and self.token.refresh_token not in {None, token.refresh_token}:
            self._failing().rotated = True
        if self.failure is not None:
            # The answer arrived, so it is not missing any longer.
            self.failure.sent_at = None
        self.barred()
        self.token = token

    def rotated(self, refresh_token: str, /, *, refused: bool) -> None:
        """A late answer brought the *refresh_token* to present next. The access token does not change."""
        if self.token is not None:
            self.token = self.token.replace(refresh_token=refresh_token)
            failure = self._failing()
            failure.rotated = True
            if failure.sent_at is not None:
                # The missing answer has arrived.
                failure.sent_at = None
                failure.not_before = NEVER
                if isinstance(failure.error, TransientRefreshError) and failure.error.ambiguous:
                    # The token in service can be refreshed when it is due. There is no need to wait until it has
                    # expired.
                    failure.error, failure.failures = None, 0
            if refused:
                failure.refused = self.token

    def put(self, token: Token, now: float, rules: Rules, /) -> None:
        """Somebody logged in elsewhere and brought *token*. It is now in service, and replaces the previous state."""
        if token.refresh_token is None and self.token is not None and self.token.refresh_token is not None:
            # The same happens for an answer without one (RFC 6749 section 6). The configured one may be spent.
            token = token.replace(refresh_token=self.token.refresh_token)
        self.failure = None
        self.since = max(now, self.since + TICK) if rules.shared else 0.0
        self.generation += 1
        self.fetched_at = min(now, token.issued_at)
        self._serve(token)

    def seeded(self, token: Token, /, *, shared: bool) -> None:
        """The configuration brought *token*. With a store (*shared*), look there first for a newer one."""
        self.token = token
        self.fetched_at = token.issued_at
        if token.refresh_token is not None:
            self.origins = (origin_of(token.refresh_token),)
        if shared:
            self._failing().unkept = True

    def unsaved(self, now: float, rules: Rules, /, *, withhold: bool) -> None:
        """
        The store lacks the state of memory, which is offered to it soon. Strict rules withhold a new token until then.
        """
        failure = self._failing()
        failure.unkept = True
        failure.repair_at = now + min(REPAIR, max(min(rules.retry.first, rules.retry.cap), rules.retry.demand_delay()))
        if withhold and rules.strict and self.token is not None:
            failure.withheld = True
            self.valid_until = NEVER

    def offered_soon(self, now: float, /) -> None:
        """Offer the state of memory, which the store lacks, to the store at once."""
        self._failing().repair_at = now

    def saved(self, /) -> None:
        """The store has the state of memory."""
        failure = self.failure
        if failure is None:
            return
        failure.unkept = False
        if failure.withheld:
            failure.withheld = False
            failure.error = None
            failure.failures = 0
            if self.token is not None and failure.refused is not self.token:
                self._serve(self.token)
        self._heal()

    def adopted(self, record: Record, token: Token, rules: Rules, /) -> None:
        """Another member of the fleet fetched the *token* of *record*, which is now in service here."""
        if self.failure is not None:
            self.failure.succeeded()
            self.failure.echoes = 0
            self.failure.unkept = False
            self._heal()
        self._known(record, rules)
        self.fetched_at = token.issued_at
        self._serve(token)

    def superseded(self, record: Record, rules: Rules, /) -> None:
        """A peer wrote *record*. It has no token to serve, but its refresh token is the next one to present."""
        own, token, failure = self.token, record.token, self.failure
        if token is not None and failure is not None and not same_grant(own, token):
            failure.sent_at = None
        self._known(record, rules)
        if token is None:
            return
        if own is not None and own.access_token == token.access_token:
            # It is the same access token under a mark. Its instants are those of this machine's clock.
            token = own if own.refresh_token == token.refresh_token else own.replace(refresh_token=token.refresh_token)
        if failure is not None:
            failure.unkept = failure.withheld = False
            refused = failure.refused
            if refused is not None and refused.access_token == token.access_token:
                failure.refused = token
        self.token = token
        if self.idle_since is None:
            self.seen()

    def signed_out_at(self, since: float, version: int, error: GrantRejected, now: float, rules: Rules, /) -> None:
        """The key was signed out. Nothing is served, and no fetch starts until somebody logs in."""
        self.barred()
        self.token = None
        self.failure = None
        self.fetched_at = NEVER
        self.version, self.since = version, since
        self.rejected(error, now, rules)
        if not rules.shared:
            # No other member can sign it in again, so there is nothing to look for.
            self._failing().retry_at = math.inf

    def still_signed_out(self, now: float, rules: Rules, /) -> None:
        """The sign-out holds: the store has no news, and an attempt to log in again brought no token."""
        failure = self._failing()
        failure.failed_at = now
        wait = rules.retry.probe_delay(None, None) if rules.shared else math.inf
        failure.retry_at = failure.not_before = now + wait

    def failed(self, error: TransientRefreshError, now: float, rules: Rules, /) -> None:
        """A fetch failed for a temporary reason. A valid token stays in service."""
        failure = self._failing()
        if self.signed_out:
            self.still_signed_out(now, rules)
            return
        failure.failures = 1 if isinstance(failure.error, GrantRejected) else failure.failures + 1
        failure.error = error
        failure.failed_at = now
        serving = self.in_service(now)
        wait = rules.retry.delay(
            failure.failures,
            spread(rules.seed, self.key, failure.failures),
            lifetime=self._lifetime(),
            left=None if serving is None else serving.remaining(now),
            retry_after=error.retry_after,
        )
        failure.retry_at = now + wait
        failure.not_before = failure.retry_at if error.retry_after is not None else NEVER
        if error.ambiguous:
            self.unanswered(now)
        # A later request that was answered, or was not sent, tells nothing about the lost one.
        after_lost_answer(self, failure, now, rules)

    def unanswered(self, sent_at: float, /) -> None:
        """The answer to a request of *sent_at* was lost. If several in a row were lost, the first one counts."""
        failure = self._failing()
        if failure.sent_at is None:
            failure.sent_at = sent_at

    def rejected(self, error: GrantRejected, now: float, rules: Rules, /) -> None:
        """The authorization server rejected the grant. A valid token stays in service."""
        failure = self._failing()
        if self.signed_out:
            self.still_signed_out(now, rules)
            return
        failure.failures = failure.failures + 1 if isinstance(failure.error, GrantRejected) else 1
        failure.error = error
        failure.failed_at = now
        if failure.failures == 1:
            failure.rejected_at = now
        serving = self.in_service(now)
        left = None if serving is None else serving.remaining(now)
        failure.retry_at = now + rules.retry.probe_delay(self._lifetime(), left)
        failure.not_before = failure.retry_at
        if failure.sent_at is not None and on_ambiguous(self, rules) == "reject" and not rules.shared:
            failure.retry_at = failure.not_before = math.inf

    def noted(self, error: GrantRejected, presented: Token | None, known: Token | None, now: float, /) -> None:
        """
        The refresh token of *presented* was rejected. Note this in the token, for all who read the record now or later.

        Args:
            error: The answer of the server.

            presented: The token whose refresh token was presented. If memory has another token by now, that is not
                changed.

            known: The token in the record of the store.

            now: The instant (epoch seconds).
        """
        token, failure = self.token, self.failure
        if token is None or token is not presented or not is_dead_grant(error):
            return
        self.token = with_rejection(token, error, now, known)
        if failure is not None and failure.refused is token:
            failure.refused = self.token

    def unjudged(self, error: TransientRefreshError | GrantRejected, now: float, retry_at: float, /) -> None:
        """A fetch failed, and the policy raised instead of saying when to try again. Try again at *retry_at*."""
        failure = self._failing()
        failure.error = error
        failure.failures = max(failure.failures, 1)
        failure.failed_at = now
        failure.retry_at = max(failure.retry_at, retry_at)

    def forgotten(self, /, *, keep_refresh_token: bool, keep_grant: bool = False) -> None:
        """
        Forget the key, except for a refresh token or a sign-out that is kept nowhere else.

        Use *keep_grant* if a fetch is under way that may bring another refresh token of the same grant.
        """
        if keep_refresh_token and self.signed_out:
            return
        token, failure, self.failure = self.token, self.failure, None
        self.barred()
        self.token = None
        self.fetched_at = NEVER
        if keep_refresh_token and failure is not None and failure.sent_at is not None:
            # The refresh token that is kept may be spent, even if it comes from the configuration.
            self.unanswered(failure.sent_at)
        if keep_refresh_token and token is not None and token.refresh_token is not None:
            self.token = token.replace(access_token="", expires_at=token.issued_at, refresh_at=None)
        elif not keep_grant:
            # Now each record of the store counts as newer.
            self.version, self.since, self.generation, self.origins = 0, 0.0, 0, ()
        self.idle_since = None

    # How

    def _known(self, record: Record, rules: Rules) -> None:
        if self.version == 0 and record.sent_at is not None and record.sent_by == rules.owner:
            # Memory does not know this key, so the outcome of the request that it marked is unknown.
            self.unanswered(record.sent_at)
        self.version, self.since, self.origins = record.version, record.since, record.origins
        self.generation = record.generation

    def _due_at_once(self, token: Token, started_at: float, rules: Rules) -> bool:
        due_at = rules.refresh.due_at(token, started_at, spread(rules.seed, self.key))
        return due_at <= started_at + rules.refresh.floor(token.lifetime)


#: Used in place of a key that does not exist. It is never valid, so it always leads to the slow path.
NO_KEY: Final = KeyState(None, None)

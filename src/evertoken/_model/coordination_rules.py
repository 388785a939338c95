"""
The rules by which members of a fleet share tokens.

They decide which record is newer, which refresh token may be presented, and what to do after a lost answer. The same
rules hold with and without a store: without one, memory alone is judged. All functions here are pure: they take
records, states and instants, and return a decision.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.failures import signed_out
from evertoken._model.protocols import Record

if TYPE_CHECKING:
    from evertoken._model.events import Ambiguity
    from evertoken._model.failure_state import FailureState
    from evertoken._model.key_state import KeyState
    from evertoken._model.key_view import KeyView
    from evertoken._model.policy import Rules
    from evertoken._model.token import Token

__all__ = [
    "OFFERED",
    "adoptable",
    "after_lost_answer",
    "is_behind",
    "is_new_login",
    "is_newer",
    "judge_lost_answer",
    "judge_sign_out",
    "lost_answer",
    "may_spend",
    "offered_at",
    "on_ambiguous",
    "peers_mark",
    "record_of",
    "same_grant",
    "unheard",
]

#: Used as the sender's name if a member wrote a record into a store that had lost it: a peer may know a newer token.
OFFERED: Final = "offered"

# The part of a grace in which a refresh token is sent again. The rest allows for the network and for clock errors.
_GRACE_USED: Final = 0.5


def may_spend(state: KeyView, rules: Rules, /) -> bool:
    """
    Tell whether a fetch may spend the refresh token, so that the next fetch cannot present it again.

    If the source does not say and other members may present the token too, the answer is yes until it is known better.
    """
    rotates = getattr(state.source, "rotates", ...)
    if isinstance(rotates, bool):
        return rotates
    if state.failure is not None and state.failure.rotated:
        return True
    presents = state.token is not None and state.token.refresh_token is not None
    return rules.shared and (presents or rotates is None)


def on_ambiguous(state: KeyView, rules: Rules, age: float = 0.0, /) -> Ambiguity:
    """Return the action that follows *age* seconds after a request whose answer was lost."""
    habit: Ambiguity | None = getattr(state.source, "on_ambiguous", None)
    if habit is not None:
        return habit
    forgiven = age < getattr(state.source, "grace", 0.0) * _GRACE_USED
    return "hold" if may_spend(state, rules) and not forgiven else "retry"


def after_lost_answer(state: KeyState, failure: FailureState, now: float, rules: Rules, /) -> None:
    """If an answer is missing, postpone the next attempt as the source requires."""
    sent_at = failure.sent_at
    if sent_at is None:
        return
    habit = on_ambiguous(state, rules, failure.retry_at - sent_at)
    if habit == "retry":
        if on_ambiguous(state, rules, math.inf) == "retry":
            failure.sent_at = None
        return
    if habit == "reject":
        state.rejected(_rejected(), now, rules)
        return
    # Presenting a spent refresh token can revoke the whole family, and with it the token in service.
    token = state.in_service(now)
    if token is not None:
        held = math.inf if token.expires_at is None else max(failure.retry_at, token.expires_at)
        failure.retry_at = failure.not_before = held


def lost_answer(state: KeyView, record: Record | None, owner: str, /) -> float | None:
    """
    Return when a request was sent whose answer is missing, if its refresh token would be presented again.

    A mark of this member adds nothing to what memory knows. A peer's mark counts if it belongs to the refresh token
    that would be presented now.
    """
    own = None if state.failure is None else state.failure.sent_at
    peers = peers_mark(state, record, owner)
    return own if peers is None else peers if own is None else min(own, peers)


def peers_mark(state: KeyView, record: Record | None, owner: str, /) -> float | None:
    """
    Return when a peer sent a request with the refresh token that would be presented now, if its answer is missing.
    """
    if record is None or record.sent_by in {owner, OFFERED} or not same_grant(record.token, state.token):
        return None
    return record.sent_at


def offered_at(state: KeyView, record: Record | None, /) -> float | None:
    """Return when the refresh token that would be presented now was written into a store that had lost its record."""
    if record is None or record.sent_by != OFFERED or not same_grant(record.token, state.token):
        return None
    return record.sent_at


def judge_lost_answer(
    state: KeyView, sent_at: float, now: float, rules: Rules, /, *, forced: bool
) -> tuple[Ambiguity, TransientRefreshError | GrantRejected | None]:
    """
    Return how a request whose answer is missing is judged, and the error that prevents sending it again, if any.

    With "reject", the source is asked again only if a person forces it. With "hold", it is not asked while the access
    token in service is valid.
    """
    habit = on_ambiguous(state, rules, max(now - sent_at, 0.0))
    if habit == "reject" and not forced:
        return habit, _rejected()
    if habit == "hold" and state.in_service(now) is not None:
        msg = "the answer to a refresh was lost, and its refresh token may be spent"
        return habit, TransientRefreshError(msg, ambiguous=True)
    return habit, None


def unheard(state: KeyView, record: Record | None, now: float, rules: Rules, /) -> float | None:
    """
    Return the mark of a peer that may still have the answer, if its refresh token would be presented now.

    If the store was down, the member with the answer could not write it, and will do so when the store is back. The
    same holds if the store was flushed and the first member to notice wrote its own record.
    """
    offered = offered_at(state, record)
    if offered is not None:
        return offered if may_spend(state, rules) else None
    sent_at = peers_mark(state, record, rules.owner)
    if sent_at is None:
        return None
    habit, error = judge_lost_answer(state, sent_at, now, rules, forced=False)
    return None if error is not None or habit == "retry" else sent_at


def judge_sign_out(state: KeyView, record: Record | None, /, *, forced: bool) -> None:
    """Raise `GrantRejected` if the key was signed out, unless a person forces a new login."""
    if forced and state.signed_out:
        return
    if state.signed_out or (record is not None and record.revoked and is_newer(state, record)):
        raise signed_out()


def is_newer(state: KeyView, record: Record, /) -> bool:
    """
    Tell whether *record* is newer than memory.

    The later login or sign-out wins. If these are equal, the higher generation of the token wins, and then the later
    version.
    """
    if record.since != state.since:
        return record.since > state.since
    if state.token is None and record.token is not None and not state.signed_out:
        # Memory has forgotten this key, so any record is news.
        return True
    if record.generation != state.generation:
        return record.generation > state.generation
    if state.unkept and (state.signed_out or record.token is None or _is_same(record.token, state.token)):
        # The record matches memory, except for changes that memory has not written yet.
        return False
    return record.version > state.version


def is_new_login(state: KeyView, record: Record, /) -> bool:
    """Tell whether the configuration brought a login that the grant in *record* has not yet taken into account."""
    seeded = state.token is not None and state.since == 0.0 and state.generation == 0 and bool(state.origins)
    return seeded and not record.revoked and bool(record.origins) and state.origins[-1] not in record.origins


def is_behind(state: KeyView, record: Record | None, /) -> bool:
    """Tell whether the store knows less than memory: it was flushed or restored, or a peer wrote something older."""
    if record is None:
        return state.version > 0
    return (record.since, record.generation, record.version) < (state.since, state.generation, state.version)


def same_grant(one: Token | None, other: Token | None, /) -> bool:
    """Tell whether a fetch would present the same refresh token with either."""
    return _presented(one) == _presented(other)


def adoptable(state: KeyView, record: Record, now: float, rules: Rules, /) -> Token | None:
    """Return the token of *record* if this member should serve it."""
    token = record.token
    if token is None or not token.valid_at(now) or not is_newer(state, record):
        return None
    if state.token is not None and state.token.access_token == token.access_token:
        # It is the same token, either under a mark or refused by a resource server.
        return None
    # A token that is due is better than none: it is served while the next one is fetched.
    due_at = rules.refresh.due_at(token, token.issued_at, 0.0)
    return token if now < due_at or state.in_service(now) is None else None


def record_of(state: KeyView, name: str, version: int, rules: Rules, /) -> Record:
    """Return the record that the store should have for *state*."""
    sent_at = None if state.failure is None else state.failure.sent_at
    return Record(
        name,
        version,
        state.token,
        sent_at=sent_at,
        sent_by=None if sent_at is None else rules.owner,
        revoked=state.signed_out,
        since=state.since,
        origins=state.origins,
        generation=state.generation,
    )


def _is_same(one: Token, other: Token | None) -> bool:
    # Only these are compared, because the instants differ if the wall clock was set back.
    return other is not None and one.access_token == other.access_token and same_grant(one, other)


def _presented(token: Token | None) -> str | None:
    return None if token is None else token.refresh_token


def _rejected() -> GrantRejected:
    return GrantRejected(
        "ambiguous", "the answer to a refresh was lost, and this source may not present its refresh token again"
    )

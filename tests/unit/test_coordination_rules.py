"""The rules by which members share tokens, each as a table: the state of the memory, the record, and the outcome."""

from __future__ import annotations

from typing import Any

import pytest

from evertoken import GrantRejected, RefreshPolicy, RetryPolicy, Token, TransientRefreshError
from evertoken._model.coordination_rules import (
    adoptable,
    is_behind,
    is_newer,
    judge_lost_answer,
    judge_sign_out,
    lost_answer,
    may_spend,
    on_ambiguous,
    record_of,
    same_grant,
    unheard,
)
from evertoken._model.failures import signed_out
from evertoken._model.key_state import KeyState
from evertoken._model.policy import Rules
from evertoken._model.protocols import Record

NOW = 1_893_456_000.0
LIFE = 1000.0
ALONE = Rules(RefreshPolicy(jitter=0), RetryPolicy(jitter=0), "seed", "me")
SHARED = Rules(RefreshPolicy(jitter=0), RetryPolicy(jitter=0), "seed", "me", shared=True)


class Source:
    """Habits, and nothing else."""

    def __init__(self, **habits: Any) -> None:
        self.__dict__.update(habits)


def token(value: str = "mine", *, at: float = NOW, refresh_token: str | None = "r1") -> Token:
    return Token(value, issued_at=at, expires_at=at + LIFE, refresh_token=refresh_token)


def record(of: Token | None, version: int = 1, **fields: Any) -> Record:
    return Record("key", version, of, **fields)


def knows(
    of: Token | None = None,
    *,
    version: int = 0,
    generation: int = 0,
    since: float = 0.0,
    unkept: bool = False,
    **habits: Any,
) -> KeyState:
    """Return a key as memory knows it."""
    state = KeyState("key", Source(**habits))
    if of is not None:
        state.fetched(of, of.issued_at, SHARED)
    if unkept:
        state.unsaved(NOW, SHARED, withhold=False)
    state.version, state.generation, state.since = version, generation, since
    return state


def out(since: float, version: int) -> KeyState:
    """Return a key that was signed out."""
    state = knows()
    state.signed_out_at(since, version, signed_out(), NOW, SHARED)
    return state


OLD, SAME, NEW = token("old", at=NOW - 10.0), token(), token("new", at=NOW + 10.0)


@pytest.mark.parametrize(
    ("state", "found", "newer", "behind"),
    [
        # Nothing in memory.
        (knows(), record(None, 0), False, False),
        (knows(), record(NEW, 1), True, False),
        # Within one grant the generation decides, for all instants and versions.
        (knows(SAME, version=3, generation=5), record(OLD, 2, generation=6), True, False),
        (knows(SAME, version=3, generation=5), record(NEW, 9, generation=4), False, True),
        # Within one generation the version decides.
        (knows(SAME, version=3), record(NEW, 4), True, False),
        (knows(SAME, version=3), record(OLD, 4), True, False),
        (knows(SAME, version=3), record(NEW, 2), False, True),
        (knows(SAME, version=3), record(SAME, 3), False, False),
        (knows(SAME, version=3), record(NEW, 3), False, False),
        (knows(SAME, version=3), record(None, 3), False, False),
        (knows(SAME, version=3), record(SAME, 4), True, False),
        # The later login or sign-out wins, for all versions.
        (knows(SAME, version=9, since=NOW), record(OLD, 1, since=NOW + 1.0), True, False),
        (knows(SAME, version=1, since=NOW), record(NEW, 9, since=NOW - 1.0), False, True),
        (knows(SAME, version=9, since=NOW), record(None, 1, since=NOW + 1.0, revoked=True), True, False),
        (knows(SAME, version=1, generation=9), record(OLD, 1, since=NOW, generation=1), True, False),
        # Tokens that the store does not have yet.
        (knows(SAME, version=3, generation=2, unkept=True), record(OLD, 9, generation=1), False, True),
        (knows(SAME, version=3, generation=2, unkept=True), record(NEW, 1, generation=3), True, False),
        (knows(SAME, version=3, unkept=True), record(OLD, 9), True, False),
        (knows(SAME, version=3, unkept=True), record(SAME, 9), False, False),
        (knows(SAME, version=3, unkept=True), record(None, 9), False, False),
        # A key that was forgotten here accepts any record as news.
        (knows(version=3, unkept=True), record(NEW, 4), True, False),
        (knows(version=3, generation=4), record(NEW, 3, generation=4), True, False),
        # A sign-out of this grant is as old as its record, or newer.
        (out(NOW, 5), record(SAME, 4, since=NOW), False, True),
        (out(NOW, 5), record(SAME, 1, since=NOW + 1.0), True, False),
    ],
)
def test_newer_and_behind(state, found, newer, behind):
    """K1, K2: of memory and record the later decision wins, then the higher generation, then the higher version."""
    assert is_newer(state, found) is newer
    assert is_behind(state, found) is behind
    assert not (newer and behind)


@pytest.mark.parametrize(("version", "behind"), [(0, False), (1, True)])
def test_a_store_that_knows_nothing(version, behind):
    """K3: a store without a record was flushed if memory has seen one."""
    assert is_behind(knows(SAME, version=version), None) is behind


@pytest.mark.parametrize(
    ("state", "found", "now", "taken"),
    [
        (knows(), record(SAME), NOW, True),
        (knows(), record(None), NOW, False),
        (knows(), record(SAME), NOW + LIFE, False),
        # A token that is due is better than no token, but not better than the token in service.
        (knows(), record(SAME), NOW + 900.0, True),
        (knows(OLD), record(SAME), NOW + 900.0, False),
        (knows(OLD), record(SAME), NOW + 700.0, True),
        (knows(token("old", at=NOW - LIFE)), record(SAME), NOW + 900.0, True),
        # Not the same token again, and nothing that is older.
        (knows(SAME), record(SAME, sent_at=NOW, sent_by="peer"), NOW, False),
        (knows(SAME, version=3), record(NEW, 2), NOW, False),
        (knows(SAME, since=NOW), record(NEW, 9, since=NOW - 1.0), NOW, False),
    ],
)
def test_adoptable(state, found, now, taken):
    """K2: a peer's token is taken into service if it is valid, newer, another one, and not due."""
    assert (adoptable(state, found, now, SHARED) is not None) is taken


def test_a_refused_token_is_not_adopted():
    """U1, K2: the record that holds the very token that a resource server refused brings nothing."""
    state = knows(SAME, version=1)
    state.refused("mine", NOW, SHARED)
    assert adoptable(state, record(SAME, 2), NOW, SHARED) is None
    assert adoptable(state, record(NEW, 2), NOW + 10.0, SHARED) is NEW


@pytest.mark.parametrize(
    ("of", "habits", "alone", "shared"),
    [
        (SAME, {"rotates": True}, True, True),
        (None, {"rotates": True}, True, True),
        (SAME, {"rotates": False}, False, False),
        # To be found out: where others may present it too, it is assumed.
        (SAME, {"rotates": None}, False, True),
        (None, {"rotates": None}, False, True),
        (SAME, {}, False, True),
        (None, {}, False, False),
        (token(refresh_token=None), {}, False, False),
    ],
)
def test_may_spend(of, habits, alone, shared):
    """K4: a refresh token is spent where the source says so, or where nobody knows and others may present it."""
    state = knows(of, **habits)
    assert may_spend(state, ALONE) is alone
    assert may_spend(state, SHARED) is shared


def test_seen_to_rotate():
    """K4: a source that has rotated before may spend its refresh token, unless the source says that it does not."""
    for habits, spends in (({}, True), ({"rotates": None}, True), ({"rotates": False}, False)):
        state = knows(SAME, **habits)
        state.fetched(token("new", refresh_token="r2"), NOW, ALONE)
        assert may_spend(state, ALONE) is spends


@pytest.mark.parametrize(
    ("habits", "age", "habit"),
    [
        ({"rotates": True}, 0.0, "hold"),
        ({"rotates": False}, 0.0, "retry"),
        ({"rotates": True, "on_ambiguous": "retry"}, 0.0, "retry"),
        ({"rotates": False, "on_ambiguous": "reject"}, 0.0, "reject"),
        ({"rotates": True, "on_ambiguous": None}, 1e9, "hold"),
        # In the first half of its grace a refresh token may be presented again.
        ({"rotates": True, "grace": 60.0}, 29.9, "retry"),
        ({"rotates": True, "grace": 60.0}, 30.0, "hold"),
        ({"rotates": True, "grace": 60.0, "on_ambiguous": "reject"}, 1.0, "reject"),
    ],
)
def test_on_ambiguous(habits, age, habit):
    """K4: the source's word decides; else what may be spent is held back, except within its grace."""
    assert on_ambiguous(knows(SAME, **habits), ALONE, age) == habit


@pytest.mark.parametrize(
    ("own", "mark", "sent_at"),
    [
        (None, None, None),
        (5.0, None, 5.0),
        (None, record(SAME), None),
        # A mark of this member says nothing that memory does not know.
        (None, record(SAME, sent_at=3.0, sent_by="me"), None),
        (5.0, record(SAME, sent_at=3.0, sent_by="me"), 5.0),
        # A peer's mark counts for the refresh token that would be presented now.
        (None, record(SAME, sent_at=3.0, sent_by="peer"), 3.0),
        (5.0, record(SAME, sent_at=3.0, sent_by="peer"), 3.0),
        (5.0, record(SAME, sent_at=7.0, sent_by="peer"), 5.0),
        (None, record(token("theirs"), sent_at=3.0, sent_by="peer"), 3.0),
        (None, record(token("theirs", refresh_token="r2"), sent_at=3.0, sent_by="peer"), None),
        (5.0, record(None, sent_at=3.0, sent_by="peer"), 5.0),
        (None, record(SAME, sent_at=0.0, sent_by="peer"), 0.0),
        (0.0, record(SAME, sent_at=3.0, sent_by="peer"), 0.0),
    ],
)
def test_lost_answer(own, mark, sent_at):
    """K4: an answer is missing if memory says so, or a peer's mark for the same refresh token does."""
    state = knows(SAME)
    if own is not None:
        state.unanswered(own)
    assert lost_answer(state, mark, "me") == sent_at


@pytest.mark.parametrize(
    ("habits", "mark", "now", "sent_at"),
    [
        # A member that would present the refresh token now waits for the peer's answer.
        ({"rotates": True}, record(SAME, sent_at=NOW, sent_by="peer"), NOW + LIFE, NOW),
        # Nothing is presented while the token in service is kept, or after the grant has ended.
        ({"rotates": True}, record(SAME, sent_at=NOW, sent_by="peer"), NOW + 800.0, None),
        ({"on_ambiguous": "reject"}, record(SAME, sent_at=NOW, sent_by="peer"), NOW + LIFE, None),
        # A refresh token that may be presented twice waits for nobody.
        ({"rotates": False}, record(SAME, sent_at=NOW, sent_by="peer"), NOW + LIFE, None),
        ({"rotates": True}, record(SAME, sent_at=NOW, sent_by="me"), NOW + LIFE, None),
        ({"rotates": True}, record(SAME), NOW + LIFE, None),
        ({"rotates": True}, None, NOW + LIFE, None),
    ],
)
def test_unheard(habits, mark, now, sent_at):
    """K4: a peer's lost answer is waited for where the same refresh token would be presented now, and only there."""
    assert unheard(knows(SAME, **habits), mark, now, ALONE) == sent_at


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (None, None, True),
        (None, token(refresh_token=None), True),
        (None, SAME, False),
        (SAME, token("other"), True),
        (SAME, token(refresh_token="r2"), False),
    ],
)
def test_same_grant(one, other, same):
    """K4: two tokens are of one grant if the same refresh token would be presented with either."""
    assert same_grant(one, other) is same
    assert same_grant(other, one) is same


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize(
    ("habits", "serving", "habit", "error"),
    [
        ({"rotates": False}, True, "retry", None),
        ({"rotates": True}, True, "hold", TransientRefreshError),
        ({"rotates": True}, False, "hold", None),
        ({"rotates": True, "grace": 1e6}, True, "retry", None),
        ({"on_ambiguous": "reject"}, True, "reject", GrantRejected),
        ({"on_ambiguous": "reject"}, False, "reject", GrantRejected),
    ],
)
def test_judge_lost_answer(habits, serving, habit, error, forced):
    """K4, F4: a lost answer is sent again, waits for the token in service, or ends the grant, as the habit says."""
    now = NOW + (800.0 if serving else LIFE)
    judged, raised = judge_lost_answer(knows(SAME, **habits), NOW + 700.0, now, ALONE, forced=forced)
    assert judged == habit
    if forced and error is GrantRejected:
        # A person who knows it wants it: then only a token in service is in the way, and "reject" is no "hold".
        assert raised is None
    else:
        assert (raised is None) if error is None else isinstance(raised, error)
    if isinstance(raised, TransientRefreshError):
        assert raised.ambiguous
    if isinstance(raised, GrantRejected):
        assert raised.error == "ambiguous"


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize(
    ("state", "found", "raises"),
    [
        (knows(SAME), None, ()),
        (knows(SAME, version=1), record(SAME, 1), ()),
        (out(NOW, 5), None, (False,)),
        (out(NOW, 5), record(SAME, 4, since=NOW - 5.0), (False,)),
        # A sign-out by a peer is news, also to a person who wants a new token.
        (knows(SAME, version=1), record(None, 2, revoked=True), (False, True)),
        (knows(SAME, version=9, since=NOW), record(None, 2, since=NOW - 5.0, revoked=True), ()),
    ],
)
def test_judge_sign_out(state, found, raises, forced):
    """K6, F4: a signed out key is not fetched for, until a person who knows it begins anew."""
    if forced in raises:
        with pytest.raises(GrantRejected, match="signed out"):
            judge_sign_out(state, found, forced=forced)
    else:
        judge_sign_out(state, found, forced=forced)


def test_record_of():
    """K1, K4: the record says what memory has: token, lost answer and whose, sign-out, and since when."""
    state = knows(SAME, since=NOW - 5.0, generation=4)
    state.origins = ("f1", "f2")
    origins = {"since": NOW - 5.0, "origins": ("f1", "f2"), "generation": 4}
    assert record_of(state, "name", 7, SHARED) == Record("name", 7, SAME, **origins)
    state.unanswered(NOW + 1.0)
    assert record_of(state, "name", 9, SHARED) == Record("name", 9, SAME, sent_at=NOW + 1.0, sent_by="me", **origins)
    gone = record_of(out(NOW, 5), "name", 6, SHARED)
    assert (gone.token, gone.revoked, gone.since, gone.sent_at) == (None, True, NOW, None)
    assert record_of(knows(), "name", 1, SHARED) == Record("name", 1, None)

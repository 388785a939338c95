"""
Each row of the table of transitions in `key_state`: the token in service after it, and the time of the next flight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from evertoken import GrantRejected, RefreshPolicy, RetryPolicy, Token, TransientRefreshError
from evertoken._model.failure_state import NEVER
from evertoken._model.failures import signed_out
from evertoken._model.key_state import KeyState
from evertoken._model.policy import Rules
from evertoken._model.protocols import Record

BORN = 1_893_456_000.0
NOW = BORN + 500.0
LIFE = 1000.0
DUE = BORN + 800.0
SHARED = Rules(RefreshPolicy(jitter=0), RetryPolicy(jitter=0), "seed", shared=True)
STRICT = Rules(RefreshPolicy(jitter=0), RetryPolicy(jitter=0), "seed", shared=True, strict=True)
ALONE = Rules(RefreshPolicy(jitter=0), RetryPolicy(jitter=0), "seed")

DOWN = TransientRefreshError("down")
NO = GrantRejected("invalid_grant")


class Source:
    def __init__(self) -> None:
        self.rotates = False


def token(value: str, *, at: float = NOW, refresh_token: str | None = "r2") -> Token:
    return Token(value, issued_at=at, expires_at=at + LIFE, refresh_token=refresh_token)


def record(of: Token | None) -> Record:
    return Record("key", 5, of, since=BORN)


def fresh() -> KeyState:
    state = KeyState("key", Source())
    state.fetched(token("old", at=BORN, refresh_token="r1"), BORN, SHARED)
    return state


def failing() -> KeyState:
    state = fresh()
    state.failed(DOWN, NOW - 1.0, SHARED)
    return state


def withheld() -> KeyState:
    state = fresh()
    state.fetched(token("new"), NOW, STRICT)
    state.unsaved(NOW, STRICT, withhold=True)
    return state


def refused_and_rotated(one: KeyState) -> None:
    one.refused("old", NOW, SHARED)
    one.rotated("r9", refused=True)


def obtained_and_failed(one: KeyState) -> None:
    one.obtained(token("dead", at=NOW - LIFE))
    one.failed(DOWN, NOW, SHARED)


def watched_and_seen(one: KeyState) -> None:
    one.watched(NOW)
    one.seen()


NEW_DUE = NOW + 800.0

ROWS: dict[str, tuple[Callable[[], KeyState], Callable[[KeyState], object], str | None, float, str | None]] = {
    "fetched": (fresh, lambda one: one.fetched(token("new"), NOW, SHARED), "new", NEW_DUE, "r2"),
    "fetched after a failure": (failing, lambda one: one.fetched(token("new"), NOW, SHARED), "new", NEW_DUE, "r2"),
    "adopted": (fresh, lambda one: one.adopted(record(token("peer")), token("peer"), SHARED), "peer", NEW_DUE, "r2"),
    "adopted after a failure": (
        failing, lambda one: one.adopted(record(token("peer")), token("peer"), SHARED), "peer", NEW_DUE, "r2"
    ),
    "rotated": (fresh, lambda one: one.rotated("r9", refused=False), "old", DUE, "r9"),
    "rotated, refused": (
        fresh, refused_and_rotated, None, NOW, "r9"
    ),
    "obtained": (fresh, lambda one: one.obtained(token("dead", at=NOW - LIFE)), None, NOW, "r2"),
    "obtained, then failed": (
        fresh,
        obtained_and_failed,
        None, NOW + 5.0, "r2",
    ),
    "superseded": (fresh, lambda one: one.superseded(record(token("peer", at=NOW - LIFE)), SHARED), None, NOW, "r2"),
    "superseded by nothing": (fresh, lambda one: one.superseded(record(None), SHARED), "old", DUE, "r1"),
    "put": (failing, lambda one: one.put(token("put"), NOW, SHARED), "put", NEW_DUE, "r2"),
    "put without a refresh token": (
        fresh, lambda one: one.put(token("put", refresh_token=None), NOW, SHARED), "put", NEW_DUE, "r1"
    ),
    "failed": (fresh, lambda one: one.failed(DOWN, NOW, SHARED), "old", NOW + 5.0, "r1"),
    "rejected": (fresh, lambda one: one.rejected(NO, NOW, SHARED), "old", NOW + 100.0, "r1"),
    "unjudged": (fresh, lambda one: one.unjudged(DOWN, NOW, NOW + 10.0), "old", NOW + 10.0, "r1"),
    "refused": (fresh, lambda one: one.refused("old", NOW, SHARED), None, NOW, "r1"),
    "refused late": (fresh, lambda one: one.refused("older", NOW, SHARED), "old", DUE, "r1"),
    "signed out": (
        fresh, lambda one: one.signed_out_at(NOW, 2, signed_out(), NOW, SHARED), None, NOW + 300.0, None
    ),
    "signed out, without a store": (
        fresh, lambda one: one.signed_out_at(NOW, 2, signed_out(), NOW, ALONE), None, math.inf, None
    ),
    "forgotten": (fresh, lambda one: one.forgotten(keep_refresh_token=False), None, NOW, None),
    "forgotten, but for its refresh token": (
        fresh, lambda one: one.forgotten(keep_refresh_token=True), None, NOW, "r1"
    ),
    "unsaved": (fresh, lambda one: one.unsaved(NOW, SHARED, withhold=True), "old", NOW + 2.0, "r1"),
    "unsaved, strict": (fresh, lambda one: one.unsaved(NOW, STRICT, withhold=True), None, NOW, "r1"),
    "unsaved, strict, not new": (fresh, lambda one: one.unsaved(NOW, STRICT, withhold=False), "old", NOW + 2.0, "r1"),
    "saved": (failing, lambda one: one.saved(), "old", NOW + 4.0, "r1"),
    "saved, withheld": (withheld, lambda one: one.saved(), "new", NEW_DUE, "r2"),
    "adopted, withheld": (
        withheld, lambda one: one.adopted(record(token("peer")), token("peer"), SHARED), "peer", NEW_DUE, "r2"
    ),
    "hurried": (failing, lambda one: one.hurried(NOW + 0.5), "old", NOW + 0.5, "r1"),
    "hurried, in good health": (fresh, lambda one: one.hurried(NOW), "old", DUE, "r1"),
    "seen": (fresh, watched_and_seen, "old", DUE, "r1"),
    "barred": (fresh, lambda one: one.barred(), "old", DUE, "r1"),
    "closed": (failing, lambda one: one.closed(), "old", NEVER, "r1"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "what", "serves", "next_at", "presents"), ROWS.values(), ids=ROWS)
def test_each_transition(before, what, serves, next_at, presents):
    """F3, F4, K1: after each transition there is one token in service, one next instant, one refresh token."""
    state = before()
    what(state)
    in_service = state.in_service(NOW)
    assert (None if in_service is None else in_service.access_token) == serves
    assert state.next_at(NOW, STRICT if state.failure is not None and state.failure.withheld else SHARED) == next_at
    assert (None if state.token is None else state.token.refresh_token) == presents
    # The bound of the hot path never exceeds the life of the token in service.
    assert state.valid_until <= NOW or (in_service is not None and state.valid_until == in_service.expires_at)


LOST = TransientRefreshError("lost", ambiguous=True)


AFTER: dict[str, tuple[Callable[[KeyState], object], bool]] = {
    "fetched": (lambda one: one.fetched(token("new"), NOW, SHARED), False),
    "adopted": (lambda one: one.adopted(record(token("peer")), token("peer"), SHARED), False),
    "obtained": (lambda one: one.obtained(token("dead", at=NOW - LIFE)), False),
    "rotated": (lambda one: one.rotated("r9", refused=False), False),
    "superseded": (lambda one: one.superseded(record(token("peer", at=NOW - LIFE)), SHARED), False),
    "put": (lambda one: one.put(token("put"), NOW, SHARED), False),
    "signed out": (lambda one: one.signed_out_at(NOW, 2, signed_out(), NOW, SHARED), False),
    "forgotten": (lambda one: one.forgotten(keep_refresh_token=False), False),
    # These transitions say nothing about the answer.
    "forgotten, but for its refresh token": (lambda one: one.forgotten(keep_refresh_token=True), True),
    "superseded, same": (lambda one: one.superseded(record(token("peer", at=BORN, refresh_token="r1")), SHARED), True),
    "superseded by nothing": (lambda one: one.superseded(record(None), SHARED), True),
    "failed": (lambda one: one.failed(DOWN, NOW, SHARED), True),
    "rejected": (lambda one: one.rejected(NO, NOW, SHARED), True),
    "unjudged": (lambda one: one.unjudged(DOWN, NOW, NOW + 10.0), True),
    "refused": (lambda one: one.refused("old", NOW, SHARED), True),
    "unsaved": (lambda one: one.unsaved(NOW, SHARED, withhold=False), True),
    "saved": (lambda one: one.saved(), True),
    "closed": (lambda one: one.closed(), True),
    "lost again": (lambda one: one.unanswered(NOW), True),
}


@pytest.mark.parametrize(("what", "missing"), AFTER.values(), ids=AFTER)
def test_a_lost_answer_is_remembered(what, missing):
    """K4: a lost answer is remembered until an answer, another refresh token, a person or a sign-out ends it."""
    state = fresh()
    state.source.rotates = True
    state.failed(LOST, NOW - 10.0, SHARED)
    what(state)
    assert (state.failure is not None and state.failure.sent_at == NOW - 10.0) is missing
    assert missing or state.failure is None or state.failure.sent_at is None


@pytest.mark.parametrize("rules", [SHARED, ALONE], ids=["shared", "alone"])
def test_put_is_later_than_what_was(rules):
    """K6: a login by hand is later than the grant before, also where a peer's clock was ahead."""
    state: Any = fresh()
    state.since = NOW + 100.0 if rules.shared else 0.0
    before = state.since
    state.put(token("put"), NOW, rules)
    assert state.since > before if rules.shared else state.since == 0.0

"""What a member writes into the record of a key: the state of its memory, and the marks that must not get lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from evertoken import RefreshPolicy, RetryPolicy, Token
from evertoken._coordination.record_judge import RecordJudge
from evertoken._model.coordination_rules import OFFERED
from evertoken._model.coordinator import Permit
from evertoken._model.key_state import TICK, KeyState
from evertoken._model.leases import Lease
from evertoken._model.policy import Rules
from evertoken._model.protocols import Begun, Record

NOW = 1_893_456_000.0
RULES = Rules(RefreshPolicy(), RetryPolicy(), "seed", shared=True)


def judge() -> RecordJudge:
    session = SimpleNamespace(clock=None, rules=RULES, observers=None, providers=None)
    client: Any = SimpleNamespace(name_of=lambda state, flight: "k")
    return RecordJudge(client, session)  # type: ignore[arg-type]


@pytest.mark.parametrize("sent_at", [None, NOW - 2.0])
@pytest.mark.parametrize(
    ("sent_by", "same", "kept"),
    [
        # What a member has offered to a store that had lost the record: its peers need the rest of their time.
        (OFFERED, True, True),
        # A peer's request, whose answer is missing.
        ("a peer", True, True),
        # This member's own request, or marks of another grant.
        (RULES.owner, True, False),
        (OFFERED, False, False),
        ("a peer", False, False),
    ],
)
def test_marks_that_are_kept(sent_by, same, kept, sent_at):
    """K2: whoever writes a record keeps the mark of a peer, and the mark of an offer unless it has one of its own."""
    state = KeyState("k", SimpleNamespace(rotates=True))
    state.fetched(Token("a", issued_at=NOW, expires_at=NOW + 600.0, refresh_token="r"), NOW, RULES)
    if sent_at is not None:
        state.unanswered(sent_at)
    before = Record(
        "k", 3, state.token if same else state.token.replace(refresh_token="other"), sent_at=NOW - 5.0, sent_by=sent_by
    )
    flight: Any = SimpleNamespace(request=None)
    wanted = judge().wanted(state, flight, Permit(None, before), None)
    assert wanted.version == 4
    if kept and not (sent_by == OFFERED and sent_at is not None):
        assert (wanted.sent_at, wanted.sent_by) == (NOW - 5.0, sent_by)
    else:
        assert (wanted.sent_at, wanted.sent_by) == (sent_at, None if sent_at is None else RULES.owner)


@pytest.mark.parametrize("ahead", [-100.0, 0.0, 100.0])
def test_a_decision_is_later_than_the_record_before_it(ahead):
    """K6: the login of a person counts as later than the record that was there, also if a peer's clock is ahead."""
    state = KeyState("k", SimpleNamespace(rotates=True))
    state.fetched(Token("a", issued_at=NOW, expires_at=NOW + 600.0, refresh_token="r"), NOW, RULES)
    state.since, state.generation = NOW, 3
    record = Record(
        "k", 7, Token("b", issued_at=NOW, refresh_token="s"), since=NOW + ahead, generation=5, revoked=not ahead
    )
    flight: Any = SimpleNamespace(decided=True, reason="put", found=None)
    begun = Begun(Lease("k", "me", 1), record)
    assert judge().newer(state, flight, begun) is None
    assert (flight.decided, flight.found) == (False, record.token)
    assert state.since == max(NOW, NOW + ahead + TICK)
    assert (state.version, state.generation) == (7, 5)

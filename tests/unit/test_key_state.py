"""All transitions of one key: the token in service after each, its condition, and the time of its next deadline."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from evertoken import GrantRejected, RefreshPolicy, RetryPolicy, Token, TokenUnavailable, TransientRefreshError
from evertoken._model.failure_state import NEVER, FailureState
from evertoken._model.key_state import NO_KEY, KeyState
from evertoken._model.key_status import rejection_of
from evertoken._model.policy import ECHO_STEPS, PROBE_SHARE, Rules
from evertoken._model.protocols import Record

NOW = 1_893_456_000.0
LIFE = 1000.0
RULES = Rules(RefreshPolicy(jitter=0), RetryPolicy(jitter=0), "seed")
DUE = NOW + 800.0


class Source:
    """Habits, and nothing else."""

    def __init__(self, **habits: Any) -> None:
        self.__dict__.update(habits)


def token(value: str = "t1", *, at: float = NOW, lifetime: float | None = LIFE, **fields: Any) -> Token:
    return Token(value, issued_at=at, expires_at=None if lifetime is None else at + lifetime, **fields)


def key_state(key: Any = "key", /, **habits: Any) -> KeyState:
    return KeyState(key, Source(**habits))


def serving(**habits: Any) -> KeyState:
    one = key_state(**habits)
    one.fetched(token(refresh_token="r1"), NOW, RULES)
    return one


def transient(message: str = "down", **fields: Any) -> TransientRefreshError:
    return TransientRefreshError(message, **fields)


def lost() -> TransientRefreshError:
    return transient("lost", ambiguous=True)


def fetched(one: KeyState, new: Token, at: float, /) -> float:
    one.fetched(new, at, RULES)
    return one.next_at(at, RULES)


def failed(one: KeyState, error: TransientRefreshError, at: float, /) -> float:
    one.failed(error, at, RULES)
    return one.next_at(at, RULES)


def rejected(one: KeyState, error: GrantRejected, at: float, /) -> float:
    one.rejected(error, at, RULES)
    return one.next_at(at, RULES)


def waits(one: KeyState, at: float, /) -> bool:
    """Whether the fetch for a caller at that instant must still wait."""
    return at < one.demand_at(RULES)


def record(new: Token | None, *, version: int = 1, **fields: Any) -> Record:
    return Record("key", version, new, **fields)


# Validity: absent, fresh, stale, expired


def test_absent():
    """F5: a new key is absent, due at once, and served by nobody."""
    one = key_state()
    assert one.validity(NOW, RULES) == "absent"
    assert one.in_service(NOW) is None
    assert (one.valid_until, one.due_at(RULES), one.next_at(NOW, RULES)) == (NEVER, NEVER, NOW)
    assert not waits(one, NOW)
    assert not one.longest_obtainable(NOW, RULES)
    assert one.failure is None


@pytest.mark.parametrize(
    ("after", "validity"),
    [(0.0, "fresh"), (799.999, "fresh"), (800.0, "stale"), (999.999, "stale"), (1000.0, "expired"), (1e9, "expired")],
)
def test_validity_follows_from_the_clock(after, validity):
    """F5: validity is computed from token and now, with sharp edges on both sides."""
    one = serving()
    assert one.validity(NOW + after, RULES) == validity
    assert (one.in_service(NOW + after) is None) == (validity == "expired")
    assert (NOW + after < one.valid_until) == (validity != "expired")


def test_unknown_expiry_is_fresh_until_refused():
    """T1: a token of unknown expiry is fresh and never due, until a 401."""
    one = key_state()
    assert fetched(one, token(lifetime=None), NOW) == math.inf
    assert one.validity(NOW + 1e9, RULES) == "fresh"
    assert one.valid_until == math.inf
    assert one.refused("t1", NOW + 1e9, RULES) == "taken"
    assert one.validity(NOW + 1e9, RULES) == "expired"


# fetched


def test_fetched():
    """F5: fetched puts the token into service, ends all failures, and returns when it is due."""
    one = key_state()
    one.failed(transient(), NOW, RULES)
    assert fetched(one, token(), NOW) == DUE == one.next_at(NOW, RULES)
    assert one.validity(NOW, RULES) == "fresh"
    assert one.failure is None


def test_fetched_stale_is_born_stale():
    """F5: a token that is past its due instant when it comes is stale, due no sooner than the floor."""
    one = key_state()
    late = NOW + 900.0
    assert fetched(one, token(), late) == late + 1.0
    assert one.validity(late, RULES) == "fresh"
    assert one.validity(late + 1.0, RULES) == "stale"


def test_fetched_keeps_no_trouble_for_a_healthy_key():
    """F6: a key that was refreshed a thousand times in good health owns no record of failure."""
    one = key_state()
    for turn in range(1000):
        one.fetched(token(f"t{turn}", at=NOW + turn * LIFE), NOW + turn * LIFE, RULES)
        assert one.failure is None


def test_unkept():
    """K1: a token that a store should hold and does not is remembered as unkept until it is kept."""
    one = key_state()
    one.fetched(token(), NOW, RULES)
    one.unsaved(NOW, RULES, withhold=True)
    assert one.unkept
    assert one.in_service(NOW) is not None
    assert one.next_at(NOW, RULES) == NOW + 2.0
    one.fetched(token("t2"), NOW, RULES)
    assert one.unkept
    one.saved()
    assert one.failure is None


def test_rotation_is_found_out():
    """K4: a source that does not say whether it rotates is seen to, once another refresh token comes."""
    one = serving()
    one.fetched(token("t2", refresh_token="r1"), NOW, RULES)
    assert one.failure is None
    one.fetched(token("t3", refresh_token="r2"), NOW, RULES)
    assert one.failure is not None
    assert one.failure.rotated
    one.fetched(token("t4", refresh_token="r2"), NOW, RULES)
    assert one.failure is not None
    assert one.failure.rotated


# Echoes


def test_echoes():
    """F1: the same token again, due at once, is an echo: the next fetch waits longer each time, until another comes."""
    one = key_state()
    one.fetched(token(lifetime=100_000.0), NOW, RULES)
    at = NOW + 99_000.0
    for count, step in enumerate([*ECHO_STEPS, ECHO_STEPS[-1]], 1):
        assert fetched(one, token(lifetime=100_000.0), at) == at + step
        assert one.failure is not None
        assert one.failure.echoes == count
    one.fetched(token("t2", at=at), at, RULES)
    assert one.failure is None


def test_extended_is_no_echo():
    """F1: the same token with a longer life is no echo, and is scheduled by its new life."""
    one = serving()
    at = NOW + 800.0
    assert fetched(one, token(at=at), at) == at + 800.0
    assert one.failure is None


# failed


def test_failed_leaves_the_token_in_service():
    """F3: a failed refresh leaves the valid token in service, counts, and returns the retry."""
    one = serving()
    at = NOW + 800.0
    first = failed(one, transient(), at)
    assert first == at + 5.0 == one.next_at(at, RULES)
    second = failed(one, transient(), first)
    assert second == first + 10.0
    assert one.in_service(second) is not None
    assert one.valid_until == NOW + LIFE
    assert one.failure is not None
    assert one.failure.failures == 2
    assert waits(one, first + 0.9)
    # A caller waits a second, and not for the schedule.
    assert not waits(one, first + 1.0)


def test_failed_without_a_token():
    """R4: with nothing in service the same schedule holds, and says why there is nothing."""
    one = key_state()
    error = transient("connection refused")
    retry_at = failed(one, error, NOW)
    unavailable = one.unavailable()
    assert isinstance(unavailable, TokenUnavailable)
    assert unavailable.retry_at == retry_at
    assert unavailable.__cause__ is error
    assert "key 'key'" in str(unavailable)
    assert "connection refused" in str(unavailable)
    assert one.unavailable() is not unavailable


def test_retry_after():
    """F3: Retry-After wins over the schedule, capped."""
    assert failed(key_state(), transient(retry_after=120.0), NOW) == NOW + 120.0
    assert failed(key_state(), transient(retry_after=1e9), NOW) == NOW + 300.0


def test_a_failure_after_a_rejection_counts_anew():
    """F4: the two kinds of failure do not add up."""
    one = key_state()
    for _ in range(5):
        one.rejected(GrantRejected("invalid_grant"), NOW, RULES)
    assert failed(one, transient(), NOW) == NOW + 5.0
    one.rejected(GrantRejected("invalid_grant"), NOW, RULES)
    assert one.failure is not None
    assert one.failure.failures == 1


def test_a_million_failures():
    """F3: no number of failures overflows the schedule."""
    one = key_state()
    one.failed(transient(), NOW, RULES)
    assert one.failure is not None
    one.failure.failures = 10**6
    assert failed(one, transient(), NOW) == NOW + 60.0


# rejected


def test_rejected():
    """F4: a rejection leaves the valid token in service, and is probed slowly."""
    one = serving()
    error = GrantRejected("invalid_grant", "gone", "https://as.example/why")
    assert rejected(one, error, NOW + 800.0) == NOW + 800.0 + LIFE * PROBE_SHARE
    assert one.in_service(NOW + 900.0) is not None
    raised = one.unavailable()
    assert isinstance(raised, GrantRejected)
    assert raised is not error
    assert (raised.error, raised.error_description, raised.error_uri) == (
        "invalid_grant",
        "gone",
        "https://as.example/why",
    )


def test_rejected_then_fetched():
    """F4: a probe that succeeds ends the rejection."""
    one = key_state()
    one.rejected(GrantRejected("invalid_grant"), NOW, RULES)
    assert waits(one, NOW + 299.9)
    assert not waits(one, NOW + 300.0)
    one.fetched(token(at=NOW + 300.0), NOW + 300.0, RULES)
    assert one.failure is None


# refused


def test_refused_takes_the_token_out():
    """U1: a 401 of the token in service takes it out at once, and a fetch is due."""
    one = serving()
    assert one.refused("t1", NOW + 10.0, RULES) == "taken"
    assert one.validity(NOW + 10.0, RULES) == "expired"
    assert one.valid_until == NEVER
    assert one.next_at(NOW + 10.0, RULES) == NOW + 10.0
    assert not waits(one, NOW + 10.0)
    one.seen()
    assert one.valid_until == NEVER


@pytest.mark.parametrize("value", ["t0", "", "t2"])
def test_refused_late(value):
    """U1: a late 401 of another token than the one in service costs nothing."""
    one = serving()
    assert one.refused(value, NOW + 10.0, RULES) == "late"
    assert one.in_service(NOW + 10.0) is not None
    assert one.failure is None


def test_refused_twice_is_late_the_second_time():
    """U1: of many 401s of one token the first takes it out, and the others come late."""
    one = serving()
    outcomes = [one.refused("t1", NOW + 10.0, RULES) for _ in range(500)]
    assert outcomes == ["taken"] + ["late"] * 499
    assert one.refused("t1", NOW + 5000.0, RULES) == "late"
    assert key_state().refused("t1", NOW, RULES) == "late"


def test_refused_again_and_again_opens_a_cooldown():
    """U1: fresh tokens that are refused too meet a cool-down that doubles; in it the token stays in service."""
    one = serving()
    at, taken = NOW, []
    for turn in range(4000):
        if one.refused(f"t{turn}" if turn else "t1", at, RULES) == "taken":
            taken.append(at - NOW)
        one.fetched(token(f"t{turn + 1}", at=at), at, RULES)
        assert one.in_service(at) is not None
        at += 0.25
    assert taken[:8] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0]
    assert len(taken) <= 11


def test_cooling_changes_nothing():
    """U1: a refusal within the cool-down leaves token, hot path and count as they were."""
    one = serving()
    one.refused("t1", NOW, RULES)
    one.fetched(token("t2"), NOW, RULES)
    before = one.valid_until
    assert one.refused("t2", NOW + 0.5, RULES) == "cooling"
    assert one.valid_until == before
    assert one.in_service(NOW + 0.5) is not None
    assert one.failure is not None
    assert one.failure.refusals == 1


def test_refusals_are_forgotten():
    """U1: after ten quiet cool-downs the count begins anew."""
    one = serving()
    at = NOW
    for turn in range(5):
        one.refused(f"t{turn + 1}", at, RULES)
        one.fetched(token(f"t{turn + 2}", at=at), at, RULES)
        at += 2.0 * RULES.retry.refusal_cooldown(turn + 1)
    assert one.failure is not None
    assert one.failure.refusals == 5
    assert one.refused("t6", at + 10.0 * RULES.retry.refusal_cooldown(5), RULES) == "taken"
    assert one.failure.refusals == 1


def test_refused_while_backing_off():
    """F3: a refusal does not cut a retry schedule short: backoff belongs to the key."""
    one = serving()
    retry_at = failed(one, transient(), NOW + 800.0)
    assert one.refused("t1", NOW + 801.0, RULES) == "taken"
    assert one.next_at(NOW + 801.0, RULES) == retry_at
    assert waits(one, NOW + 800.9)
    assert not waits(one, NOW + 801.0)


# adopted, superseded


def test_adopted():
    """K2: a peer's token is in service like one's own, counted from when it was issued, with its version."""
    one = serving()
    one.failed(transient(), NOW, RULES)
    theirs = token("theirs", at=NOW + 700.0)
    one.adopted(record(theirs, version=7, since=NOW - 50.0, origins=("f",)), theirs, RULES)
    assert one.next_at(NOW + 700.0, RULES) == NOW + 1500.0
    assert one.in_service(NOW + 1000.0) is theirs
    assert (one.version, one.failure, one.fetched_at) == (7, None, NOW + 700.0)
    assert (one.since, one.origins) == (NOW - 50.0, ("f",))


def test_adopted_after_a_refusal():
    """K2: a peer's token ends the refusal of one's own, and the refused one stays out."""
    one = serving()
    one.refused("t1", NOW, RULES)
    one.adopted(record(token("theirs"), version=2), token("theirs"), RULES)
    assert one.in_service(NOW) is not None
    assert one.refused("t1", NOW, RULES) == "late"


def test_superseded():
    """K2: a peer's token that is too old to adopt lends its refresh token alone; a refused one stays refused."""
    one = serving()
    old = token("old", at=NOW - 2000.0, refresh_token="r7")
    one.superseded(record(old, version=3), RULES)
    assert one.version == 3
    assert one.token is old
    assert one.in_service(NOW) is None
    one = serving()
    one.refused("t1", NOW, RULES)
    one.superseded(record(token(refresh_token="r7")), RULES)
    assert one.in_service(NOW) is None
    assert one.valid_until == NEVER


def test_superseded_wakes_no_idle_key():
    """F6: what a peer left behind does not count as use: an idle key stays idle, and barred."""
    one = serving()
    one.watched(NOW)
    one.superseded(record(token("t2")), RULES)
    assert (one.idle_since, one.valid_until) == (NOW, NEVER)


# sent without answer


@pytest.mark.parametrize(
    ("habits", "held"),
    [
        ({}, False),
        ({"rotates": None}, False),
        ({"rotates": False}, False),
        ({"rotates": True}, True),
        ({"on_ambiguous": "hold"}, True),
        ({"on_ambiguous": "retry", "rotates": True}, False),
        ({"on_ambiguous": None, "rotates": True}, True),
        ({"on_ambiguous": "hold", "rotates": False}, True),
    ],
)
def test_ambiguous_by_habit(habits, held):
    """K4: a lost answer is retried, or held back while the token in service lives, as the source's habit says."""
    one = serving(**habits)
    retry_at = failed(one, lost(), NOW + 800.0)
    assert retry_at == (NOW + LIFE if held else NOW + 805.0)
    assert one.in_service(NOW + 900.0) is not None
    assert one.failure is not None
    assert (one.failure.sent_at == NOW + 800.0) == held


def test_ambiguous_of_a_source_that_was_seen_to_rotate():
    """K4: a source that never said so but was seen to rotate is held back as one that does."""
    one = serving()
    one.fetched(token("t2", refresh_token="r2"), NOW, RULES)
    assert failed(one, lost(), NOW + 800.0) == NOW + LIFE


def test_held_without_a_token():
    """K4: with nothing in service there is nothing to hold back for, and the schedule is the ordinary one."""
    one = key_state(rotates=True)
    assert failed(one, lost(), NOW) == NOW + 5.0
    one = serving(rotates=True)
    assert failed(one, lost(), NOW + LIFE) == NOW + LIFE + 5.0


def test_held_for_a_token_of_unknown_expiry():
    """K4: a token of unknown expiry is valid until a 401, and until then its refresh token is not presented again."""
    one = key_state(rotates=True)
    one.fetched(token(lifetime=None, refresh_token="r1"), NOW, RULES)
    assert failed(one, lost(), NOW + 1.0) == math.inf
    assert one.refused("t1", NOW + 2.0, RULES) == "taken"
    assert not waits(one, NOW + 2.0)


def test_held_until_refused():
    """K4: a refresh that is delayed for the sake of the token in service is due at once if that token is refused."""
    one = serving(rotates=True)
    assert failed(one, lost(), NOW + 100.0) == NOW + LIFE
    assert one.refused("t1", NOW + 200.0, RULES) == "taken"
    assert not waits(one, NOW + 200.0)
    one = serving(rotates=True)
    one.failed(transient("lost", ambiguous=True, retry_after=60.0), NOW + 100.0, RULES)
    one.refused("t1", NOW + 110.0, RULES)
    assert one.next_at(NOW + 110.0, RULES) == NOW + 170.0


def test_rejected_habit():
    """K4, F4: a source that may not present its refresh token again turns a lost answer into a rejection for ever."""
    one = serving(on_ambiguous="reject")
    assert failed(one, lost(), NOW + 800.0) == math.inf
    raised = one.unavailable()
    assert isinstance(raised, GrantRejected)
    assert raised.error == "ambiguous"
    assert one.in_service(NOW + 900.0) is not None


def test_ambiguity_outlives_closing():
    """K1: closing and starting again presents no refresh token that may be spent; a plain failure may be retried."""
    held = serving(rotates=True)
    retry_at = failed(held, lost(), NOW + 800.0)
    held.closed()
    held.seen()
    assert held.next_at(NOW + 801.0, RULES) == retry_at
    plain = serving()
    plain.failed(transient(), NOW + 800.0, RULES)
    plain.closed()
    assert plain.next_at(NOW + 801.0, RULES) == NEVER


def test_ambiguity_ends_with_an_answer():
    """K4: an answer that comes ends the ambiguity."""
    one = serving(rotates=True)
    one.failed(lost(), NOW + 800.0, RULES)
    one.fetched(token("t2", refresh_token="r1"), NOW + LIFE, RULES)
    assert one.failure is None


def test_ambiguous_at_the_epoch():
    """K4: an instant of zero is an instant like any other."""
    one = key_state(rotates=True)
    one.fetched(token(at=0.0), 0.0, RULES)
    one.failed(lost(), 0.0, RULES)
    one.failed(lost(), 10.0, RULES)
    assert one.failure is not None
    assert one.failure.sent_at == 0.0


# reanchored


@pytest.mark.parametrize("by", [-7200.0, -1.5, 3600.0])
def test_reanchored(by):
    """T2: after a clock step all instants follow, so that the remaining times stay the same."""
    one = serving(rotates=True)
    one.failed(lost(), NOW + 800.0, RULES)
    one.idle_since = NOW + 700.0
    one.reanchored(by)
    assert one.validity(NOW + 799.0 + by, RULES) == "fresh"
    assert one.validity(NOW + LIFE + by, RULES) == "expired"
    assert one.valid_until == NOW + LIFE + by
    assert one.fetched_at == NOW + by
    assert one.idle_since == NOW + 700.0 + by
    assert one.failure is not None
    assert one.failure.retry_at == NOW + LIFE + by
    assert one.failure.sent_at == NOW + 800.0 + by


def test_reanchored_keeps_refused_refused():
    """T2: a step of the clock does not bring a refused token back, nor forget its cool-down."""
    one = serving()
    one.refused("t1", NOW + 10.0, RULES)
    one.reanchored(-3600.0)
    assert one.in_service(NOW + 10.0 - 3600.0) is None
    assert one.valid_until == NEVER
    one.fetched(token("t2", at=NOW - 3590.0), NOW - 3590.0, RULES)
    assert one.refused("t2", NOW - 3589.5, RULES) == "cooling"


@pytest.mark.parametrize("lifetime", [None, LIFE])
def test_reanchored_opens_nothing(lifetime):
    """T2: a step of the clock opens no hot path that was barred, and closes none that was open."""
    one = key_state()
    one.reanchored(-5.0)
    assert (one.token, one.valid_until, one.fetched_at) == (None, NEVER, NEVER)
    one.fetched(token(lifetime=lifetime), NOW, RULES)
    one.reanchored(-5.0)
    assert one.valid_until == (math.inf if lifetime is None else NOW + lifetime - 5.0)
    one.watched(NOW)
    one.reanchored(-5.0)
    assert (one.valid_until, one.idle_since) == (NEVER, NOW - 5.0)


# Idle keys, closing, forgetting


def test_watched_and_seen():
    """F6: a watched key is idle and off the hot path, but still in service, until somebody asks for it."""
    one = serving()
    one.watched(NOW + 5.0)
    assert (one.idle_since, one.valid_until) == (NOW + 5.0, NEVER)
    assert one.in_service(NOW + 6.0) is not None
    one.seen()
    assert (one.idle_since, one.valid_until) == (None, NOW + LIFE)


def test_refreshed_while_idle_stays_barred():
    """F6: a refresh of an idle key does not count as use of it."""
    one = serving()
    one.watched(NOW)
    one.fetched(token("t2"), NOW, RULES)
    assert (one.idle_since, one.valid_until) == (NOW, NEVER)
    one.adopted(record(token("t3")), token("t3"), RULES)
    assert one.valid_until == NEVER


def test_forgotten():
    """K6: of a forgotten key nothing is left but its name and its source; its flight is for others to end."""
    one = serving()
    one.refused("t1", NOW, RULES)
    one.failed(transient(), NOW, RULES)
    one.idle_since, one.flight = NOW, object()
    one.forgotten(keep_refresh_token=False)
    assert (one.token, one.failure, one.idle_since) == (None,) * 3
    assert one.flight is not None
    assert (one.valid_until, one.fetched_at) == (NEVER, NEVER)
    assert one.validity(NOW, RULES) == "absent"
    one.seen()
    assert one.valid_until == NEVER


def test_closed_serves_nobody_and_keeps_what_it_has():
    """L1: a closed key is barred, keeps its token for the next start, and is served again when it is seen."""
    one = serving()
    one.deadline, one.flight = 1.0, object()
    one.closed()
    assert (one.valid_until, one.deadline, one.flight) == (NEVER, None, None)
    one.seen()
    assert one.valid_until == NOW + LIFE


def test_looked_at_while_it_is_forgotten():
    """L2: a snapshot on another thread finds a key with its token or without, and nothing between."""
    one = serving()

    class Interrupted:
        seed = RULES.seed

        @property
        def refresh(self) -> RefreshPolicy:
            # As where the manager's own thread has its turn.
            one.forgotten(keep_refresh_token=False)
            return RULES.refresh

    assert one.due_at(cast("Rules", Interrupted())) > NOW
    assert one.due_at(RULES) == NEVER


# min_ttl, and the rest


@pytest.mark.parametrize(("age", "longest"), [(0.0, True), (99.9, True), (100.0, False), (-50.0, True)])
def test_longest_obtainable(age, longest):
    """R2: within a tenth of its lifetime a token counts as the longest to be had."""
    assert serving().longest_obtainable(NOW + age, RULES) is longest
    one = key_state()
    one.fetched(token(lifetime=None), NOW, RULES)
    assert one.longest_obtainable(NOW + 0.5, RULES)
    assert not one.longest_obtainable(NOW + 1.5, RULES)


def test_unavailable_of_the_only_key_names_none():
    """R4: the message of a manager with a single token names no key; before any fetch there is no retry to name."""
    unavailable = key_state(None).unavailable()
    assert str(unavailable) == "no valid token: none was fetched yet"
    assert isinstance(unavailable, TokenUnavailable)
    assert (unavailable.retry_at, unavailable.__cause__) == (None, None)


def test_nobody_is_never_valid():
    """R1: what stands in for a missing key always leads to the slow path."""
    assert NO_KEY.valid_until == NEVER
    assert NO_KEY.in_service(NOW) is None
    assert not math.inf < NO_KEY.valid_until


def test_entries_are_small_and_show_no_secret():
    """F6: an entry and its failure are slots alone, and S1: their repr shows nothing of the token."""
    one = serving()
    assert not hasattr(one, "__dict__")
    assert not hasattr(FailureState(), "__dict__")
    assert "t1" not in repr(one)
    assert not one < one  # noqa: PLR0124 - that it only breaks ties is the rule


@pytest.mark.parametrize(
    ("error", "same", "is_noted"),
    [("invalid_grant", True, True), ("invalid_grant", False, False), ("invalid_client", True, False)],
)
@pytest.mark.parametrize("was_refused", [False, True])
def test_a_rejection_is_noted_in_the_token_that_was_presented(error, same, is_noted, was_refused):
    """F4: only the refresh token that was presented is marked as rejected, and only if a login would help."""
    one = serving()
    held = one.token
    if was_refused:
        one.refused(held.access_token, NOW + 1.0, RULES)
    presented = held if same else token("t0", refresh_token="r0")
    one.noted(GrantRejected(error), presented, None, NOW + 2.0)
    assert (rejection_of(one.token) is not None) is is_noted
    assert (one.token is held) is not is_noted
    # A token that was refused stays out of service.
    assert (one.in_service(NOW + 3.0) is None) is was_refused
    empty = key_state()
    empty.noted(GrantRejected(error), presented, None, NOW)
    assert empty.token is None

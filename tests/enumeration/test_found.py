"""Faults that random use has found, each as the rule that was broken."""

from __future__ import annotations

import asyncio

import pytest
from tests.enumeration.faults import Plan
from tests.enumeration.world import World

from evertoken import GrantRejected, Record, RefreshPolicy, RetryPolicy, Token, TransientRefreshError
from evertoken._model.coordination_rules import is_behind, is_newer
from evertoken._model.failures import signed_out
from evertoken._model.key_state import KeyState
from evertoken._model.policy import Rules
from evertoken.testing import VirtualTimeLoop

NOW = 1_000_000.0
RULES = Rules(RefreshPolicy(), RetryPolicy(), "seed", "me", shared=True)


def token(number: int, issued_at: float = NOW) -> Token:
    return Token(f"at-{number}", issued_at=issued_at, expires_at=issued_at + 60.0, refresh_token=f"rt-{number}")


def holding(*numbers: int, issued_at: float = NOW) -> KeyState:
    state = KeyState("k", None)
    for number in numbers:
        state.fetched(token(number, issued_at), issued_at, RULES)
    state.version, state.since = 5, NOW
    return state


@pytest.mark.parametrize(
    "error", [TransientRefreshError("down"), GrantRejected("invalid_grant")], ids=["transient", "rejected"]
)
def test_only_a_token_ends_a_sign_out(error):
    """K6: an attempt to begin anew that fails leaves the key signed out, here and for the store."""
    state = holding(1)
    state.signed_out_at(NOW, 6, signed_out(), NOW, RULES)
    if isinstance(error, TransientRefreshError):
        state.failed(error, NOW + 1.0, RULES)
    else:
        state.rejected(error, NOW + 1.0, RULES)
    assert state.signed_out
    assert state.next_at(NOW + 1.0, RULES) > NOW + 1.0


def test_a_key_that_has_only_a_refresh_token_serves_nothing():
    """T2: after forget() a key that keeps its refresh token serves nothing, also if the clock is set back."""
    state = holding(1)
    state.forgotten(keep_refresh_token=True)
    state.seen()
    assert state.valid_until < NOW - 120.0
    assert state.in_service(NOW - 120.0) is None


@pytest.mark.parametrize("offset", [-120.0, 0.0, 120.0])
def test_what_is_kept_at_a_forget_is_newer_than_the_record(offset):
    """K1: a refresh token that the store lacks outlives forget(), and what it replaced stays older."""
    state = holding(1, 2, issued_at=NOW + offset)
    state.unsaved(NOW, RULES, withhold=False, replaced=token(1))
    state.forgotten(keep_refresh_token=True)
    state.unsaved(NOW, RULES, withhold=False)
    assert not is_newer(state, Record("k", 5, token(1), since=NOW))


@pytest.mark.parametrize("version", [1, 9])
@pytest.mark.parametrize("offset", [-120.0, 0.0, 120.0])
def test_a_record_with_a_spent_refresh_token_is_older(version, offset):
    """K1: whatever version and instants a peer gives it after a flush, the token that memory's came from is older."""
    state = holding(1, 2)
    record = Record("k", version, token(1, NOW + offset), since=NOW)
    assert not is_newer(state, record)
    assert is_behind(state, record)


def test_what_the_store_lacks_wins_over_the_last_that_it_took():
    """
    T2: tokens that were minted while the store was down are newer than its record, also where the clock was set back.
    """
    state = KeyState("k", None)
    minted = [Token(f"at-{number}", issued_at=NOW - 120.0 * number, expires_at=NOW + 60.0) for number in range(3)]
    for before, after in zip([None, *minted], minted, strict=False):
        state.fetched(after, after.issued_at, RULES)
        if before is not None:
            state.unsaved(NOW, RULES, withhold=True, replaced=before)
    assert not is_newer(state, Record("k", 5, minted[0], since=0.0))


def test_a_fetch_belongs_to_its_grant_though_the_key_was_forgotten_meanwhile():
    """K1: forget() during a fetch keeps the age of the grant, by which peers tell what is newer."""
    state = holding(1)
    state.forgotten(keep_refresh_token=False, keep_grant=True)
    assert state.since == NOW
    assert is_newer(state, Record("k", 5, token(1), since=NOW))


def test_the_record_of_a_key_that_was_signed_out_is_looked_at_rarely():
    """F1: a key that was signed out costs the store one look a probe, and not one after the other."""

    async def looks() -> int:
        world = World(Plan("store", "rotating"))
        world.install()
        await world.begin("a")
        process = world.processes["a"]
        await process.manager.get()
        await process.manager.revoke()
        await asyncio.sleep(310.0)
        before = len(world.trace)
        await asyncio.sleep(600.0)
        steps = len(world.trace) - before
        await process.manager.aclose()
        return steps

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(looks()) <= 4

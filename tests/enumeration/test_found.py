"""Faults that random use has found, each as the rule that was broken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.enumeration.faults import Plan
from tests.enumeration.world import World

from evertoken import GrantRejected, Record, RefreshPolicy, RetryPolicy, Token, TransientRefreshError
from evertoken._model.coordination_rules import is_newer
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


def test_a_fetch_belongs_to_its_grant_though_the_key_was_forgotten_meanwhile():
    """K1: forget() during a fetch keeps the age of the grant, by which peers see which record is newer."""
    state = holding(1)
    state.forgotten(keep_refresh_token=False, keep_grant=True)
    assert state.since == NOW
    assert is_newer(state, Record("k", 5, token(1), since=NOW))


def played(plan: str, script: Callable[[World], Awaitable[None]]) -> World:
    """Play *script* in a world with the faults of *plan*, whose member a runs, and return that world."""

    async def play() -> World:
        world = World(Plan.parse(plan))
        world.install()
        await world.begin("a")
        await script(world)
        await world.check_close(rounds=5, owned=False)
        await world.bury()
        return world

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        world = runner.run(play())
    assert not world.faults
    assert not world.server.replays
    return world


@pytest.mark.parametrize("provider", ["rotating", "minting"])
@pytest.mark.parametrize("fault", ["lost", "cancelled"])
@pytest.mark.parametrize("at", [0.23, 0.25, 0.3, 0.345, 0.355, 0.4, 0.5, 0.56, 0.6])
def test_a_token_that_was_asked_for_before_a_sign_out_does_not_end_it(provider, fault, at):
    """K6: a fetch whose write is repeated after revoke() writes of its own grant, which the sign-out has ended."""

    async def script(world: World) -> None:
        manager = world.processes["a"].manager
        waiting = world.processes["a"].spawn(manager.get())
        await asyncio.sleep(at)
        await manager.revoke()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(10.0)
        record = world.memory._records[world.name_of(None)]
        assert (record.revoked, record.token) == (True, None)
        assert manager.peek() is None

    played(f"store:{provider}:a.commit#1={fault}", script)


@pytest.mark.parametrize("fault", ["hang", "lost", "slow", "cancel"])
@pytest.mark.parametrize("at", [0.0, 0.005, 0.015, 0.1, 3.0])
def test_forget_takes_no_refresh_token_out_of_the_store(fault, at):
    """K1: a fetch that fails after forget() leaves on record what the store had."""

    async def script(world: World) -> None:
        process = world.processes["a"]
        await process.manager.get()
        waiting = process.spawn(process.manager.refresh())
        await asyncio.sleep(at)
        await process.manager.forget()
        for _ in range(200):
            assert world.stored(None) is not None
            await asyncio.sleep(0.05)
        await asyncio.gather(waiting, return_exceptions=True)

    played(f"store:rotating:a.fetch#2={fault}", script)


@pytest.mark.parametrize("fault", ["hang", "slow", "fail", "cancelled"])
@pytest.mark.parametrize("ends", ["closed", "flushed"])
def test_what_was_read_outlives_a_step_that_ends_badly(fault, ends):
    """K1: a member that read a newer refresh token presents that one, though its flight was cancelled at once."""

    async def script(world: World) -> None:
        await world.begin("b")
        one, other = world.processes["a"], world.processes["b"]
        waiting = [one.spawn(one.manager.get()), other.spawn(other.manager.get())]
        await asyncio.sleep(0.6)
        if ends == "closed":
            await other.manager.aclose()
        await one.manager.aclose()
        world.kill(one)
        world.flush(heard=False)
        if ends == "closed":
            await other.manager.start()
        await asyncio.gather(other.manager.refresh(), *waiting, return_exceptions=True)

    played("store:rotating:" + "+".join(f"b.abandon#{number}={fault}" for number in (1, 2)), script)


@pytest.mark.parametrize("fault", ["hang", "slow"])
@pytest.mark.parametrize("seconds", [-120.0, 120.0])
def test_a_clock_that_was_set_is_noticed_after_a_start_that_was_closed(fault, seconds):
    """T2: a start that is closed while it opens the store knows what the session before knew of the clocks."""

    async def script(world: World) -> None:
        process = world.processes["a"]
        await process.manager.get()
        await process.manager.aclose()
        starting = process.spawn(process.manager.start())
        await asyncio.sleep(1.0)
        world.step(seconds)
        await process.manager.aclose()
        await asyncio.gather(starting, return_exceptions=True)
        await process.manager.start()
        token = await process.manager.get()
        assert token.expires_at is not None
        assert token.expires_at - process.clock.time() <= world.server.lifetime
        process.clock.noticed_at = 0.0
        world.check_deadlines()

    played(f"store:minting:a.open#2={fault}", script)


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

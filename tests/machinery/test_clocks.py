"""
Suspend, steps, skew, and timers that fire early.

Wall and monotonic clock are told apart here: the truth about a token's life is kept by a clock of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.gated import virtual
from tests.machinery.scripted import Recorder, ScriptedSource, down, gaps

from evertoken import RefreshPolicy, Token, TokenManager, TokenUnavailable
from evertoken._engine.clock import SystemClock
from evertoken._engine.supervisor import BEAT
from evertoken._model.supervisor_events import ClockStepped
from evertoken.stores import MemoryStore
from evertoken.testing.clock import VirtualClock

time_machine = pytest.importorskip("time_machine", reason="moves time.time, on CPython alone")

UNJITTERED = RefreshPolicy(jitter=0.0)


class Truth:
    """When each token really dies, by a clock that runs through suspends and that nobody steps."""

    def __init__(self, clock: VirtualClock, lifetime: float) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.slept = 0.0
        self.source = ScriptedSource(clock, lifetime=lifetime)
        self.source.answer = self.issue
        self.dies: dict[str, float] = {}
        self.issued = 0

    def now(self) -> float:
        return self.clock.monotonic() + self.slept

    def issue(self, request: Any) -> Any:
        self.issued += 1
        name = f"t{self.issued}"
        self.dies[name] = self.now() - self.source.latency + self.lifetime
        return name, self.lifetime

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: real time and the wall clock go on, the loop's stands."""
        self.slept += seconds
        self.clock.step(seconds)

    def set(self, seconds: float) -> None:
        """Somebody sets the wall clock: no real time goes by."""
        self.clock.step(seconds)

    def overdue(self, token: Token) -> float:
        return self.now() - self.dies[token.access_token]


@virtual
@pytest.mark.parametrize("lifetime", [300.0, 3600.0])
async def test_suspend(clock, lifetime):
    """T2: after two hours asleep no dead token is handed out, not even within the first beat, and work goes on."""
    truth = Truth(clock, lifetime)
    recorder = Recorder()
    async with TokenManager(truth.source, clock=clock, observers=[recorder]) as manager:
        await manager.get()
        for _ in range(5):
            await clock.advance(100.0)
            truth.suspend(7200.0)
            assert manager.peek() is None
            assert truth.overdue(await manager.get()) < 0.0
            before = truth.issued
            await clock.advance(2.0 * BEAT)
            assert truth.issued == before
            assert manager.health().alive
        assert truth.issued <= 5 * (1 + 100 // 200) + 6
        assert len(recorder.of(ClockStepped)) == 5


@virtual
async def test_suspend_with_nobody_asking(clock):
    """T2: after a suspend the supervisor replaces the token within one beat, though its timer had hours to go."""
    truth = Truth(clock, 3600.0)
    async with TokenManager(truth.source, clock=clock) as manager:
        await manager.get()
        await clock.advance(3.0)
        truth.suspend(7200.0)
        await clock.advance(BEAT + 0.01)
        token = manager.peek()
        assert token is not None
        assert truth.overdue(token) < -3500.0
        assert truth.issued == 2


@virtual
@pytest.mark.parametrize("step", [-3600.0, -90.0, -2.0, 2.0, 90.0, 3600.0, 86_400.0])
async def test_a_step_does_no_harm(clock, step):
    """T2: after a step of the wall clock no token is handed out that has been dead for more than one beat; no storm."""
    truth = Truth(clock, 300.0)
    async with TokenManager(truth.source, policy=UNJITTERED, clock=clock) as manager:
        await manager.get()
        await clock.advance(120.0)
        truth.set(step)
        for _ in range(3000):
            token = await manager.get()
            assert truth.overdue(token) <= BEAT
            await clock.advance(0.5)
    # One a lifetime's four fifths, and at most one more for the step.
    assert truth.issued <= 1 + 1 + int(1620.0 / 240.0)
    assert max(gaps(truth.source.at)) <= 240.0 + max(step, 0.0) + BEAT


@virtual
@pytest.mark.parametrize("step", [-3600.0, -100.0, -9.0])
@pytest.mark.parametrize("before", [0.2, 3.0, 9.0, 60.0])
async def test_a_step_back_just_before_expiry(clock, step, before):
    """T2: a step back shortly before the end of a token under an outage keeps it alive for one beat at the most."""
    truth = Truth(clock, 300.0)
    async with TokenManager(truth.source, clock=clock) as manager:
        await manager.get()
        truth.source.error = down()
        await clock.advance(300.0 - before)
        truth.set(step)
        for _ in range(200):
            token = manager.peek()
            if token is not None:
                assert truth.overdue(token) <= BEAT
            await clock.advance(0.5)
        assert manager.peek() is None
        truth.source.error = None
        await clock.advance(61.0)
        token = manager.peek()
        assert token is not None
        assert truth.overdue(token) < 0.0


@virtual
@pytest.mark.parametrize("step", [-3600.0, 3600.0])
async def test_a_step_while_a_fetch_is_under_way(clock, step):
    """T2: a token whose request straddles a step lives no longer than it does for its issuer, plus one beat."""
    truth = Truth(clock, 300.0)
    truth.source.latency = 25.0
    async with TokenManager(truth.source, clock=clock) as manager:
        await clock.advance(5.0)
        truth.set(step)
        await clock.advance(40.0)
        truth.source.latency = 0.0
        truth.source.error = down()
        for _ in range(2000):
            token = manager.peek()
            if token is not None:
                assert truth.overdue(token) <= BEAT
            await clock.advance(1.0)
    assert truth.issued <= 2


class NeverOpens:
    """A store that hangs when it is opened again."""

    def __init__(self, clock: VirtualClock) -> None:
        self.memory = MemoryStore(clock=clock)
        self.opened = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)

    async def __aenter__(self) -> None:
        self.opened += 1
        if self.opened > 1:
            await asyncio.Event().wait()

    async def __aexit__(self, *exc_info: object) -> None:
        pass


@virtual
@pytest.mark.parametrize("step", [-3600.0, -100.0, -9.0])
@pytest.mark.parametrize("left", [0.5, 2.0, 4.0])
async def test_a_step_back_while_the_manager_is_closed(clock, step, left):
    """T2: a start notices a step back at once, before the store is open, and serves no token that is dead."""
    truth = Truth(clock, 300.0)
    manager = TokenManager(truth.source, store=NeverOpens(clock), policy=UNJITTERED, clock=clock, namespace="")
    async with manager:
        await manager.get()
        truth.source.error = down()
        await clock.advance(300.0 - left)
    truth.set(step)
    starting = asyncio.ensure_future(manager.start())
    await clock.advance(0.1)
    assert manager.peek() is not None
    for _ in range(8):
        await clock.advance(0.5)
        token = manager.peek()
        assert token is None or truth.overdue(token) <= 0.0
    await clock.advance(5.0)
    await starting
    await manager.aclose()


@virtual
async def test_a_fetch_in_the_beat_after_a_step_back(clock):
    """T2: a token fetched after a step back, before the supervisor noticed it, is not taken for older than it is."""
    truth = Truth(clock, 300.0)
    async with TokenManager(truth.source, policy=UNJITTERED, clock=clock) as manager:
        await manager.get()
        await clock.advance(1.0)
        truth.set(-3600.0)
        token = await manager.refresh()
        await clock.advance(2.0 * BEAT)
        assert truth.issued == 2
        again = manager.peek()
        assert again is not None
        assert again.access_token == token.access_token
        await clock.advance(240.0)
        assert truth.issued == 3


@virtual
async def test_a_token_that_is_put_in_the_beat_after_a_step_back(clock):
    """T2: a token that was put after a step back, before the supervisor noticed it, lives as long as it says."""
    truth = Truth(clock, 300.0)
    async with TokenManager(truth.source, policy=UNJITTERED, clock=clock) as manager:
        await manager.get()
        await clock.advance(1.0)
        truth.set(-3600.0)
        token = Token("by-hand", issued_at=clock.time(), expires_at=clock.time() + 300.0)
        await manager.put(token)
        await clock.advance(2.0 * BEAT)
        assert manager.peek() == token
        await clock.advance(230.0)
        assert truth.issued == 2


@virtual
async def test_a_retry_is_not_postponed_by_a_step_back(clock):
    """T2: during an outage a step back by an hour does not put the next retry off by an hour."""
    truth = Truth(clock, 300.0)
    truth.source.error = down()
    async with TokenManager(truth.source, clock=clock) as manager:
        await clock.advance(1.0)
        truth.set(-3600.0)
        await clock.advance(100.0)
        assert truth.source.fetches >= 3
        truth.source.error = None
        await clock.advance(61.0)
        assert manager.peek() is not None


@virtual
async def test_a_cool_down_is_not_stretched_by_a_step_back(clock):
    """T2, R4: a clock step back does not prolong the wait of a caller during an outage."""
    truth = Truth(clock, 300.0)
    truth.source.error = down()
    async with TokenManager(truth.source, clock=clock) as manager:
        await clock.advance(1.0)
        waiting = asyncio.ensure_future(manager.get(timeout=500.0))
        await clock.advance(1.0)
        truth.set(-3600.0)
        truth.source.error = None
        await clock.advance(61.0)
        assert waiting.done()
        assert truth.overdue(waiting.result()) < 0.0


@virtual
@pytest.mark.parametrize("step", [0.3, -0.3, 0.9, -0.9])
async def test_many_small_steps(clock, step):
    """T2: steps that are each too small to matter add up, and are noticed when they do; no storm."""
    truth = Truth(clock, 300.0)
    recorder = Recorder()
    async with TokenManager(truth.source, policy=UNJITTERED, clock=clock, observers=[recorder]) as manager:
        await manager.get()
        for _ in range(400):
            truth.set(step)
            assert truth.overdue(await manager.get()) <= BEAT
            await clock.advance(5.0)
    assert truth.issued <= 2000.0 / 240.0 * (1.0 + abs(step) / 5.0) + 3
    assert recorder.of(ClockStepped)


@virtual
@pytest.mark.parametrize("step", [1.25, -1.25, 1.75, -1.75])
async def test_a_second_is_a_step(clock, step):
    """T2: a step of more than a second is noticed within a beat, and told once; a part of a second is not."""
    truth = Truth(clock, 300.0)
    recorder = Recorder()
    async with TokenManager(truth.source, policy=UNJITTERED, clock=clock, observers=[recorder]) as manager:
        await manager.get()
        truth.set(step / 2.0)
        await clock.advance(2.0 * BEAT)
        assert not recorder.of(ClockStepped)
        truth.set(step / 2.0)
        await clock.advance(2.0 * BEAT)
    assert [event.by for event in recorder.of(ClockStepped)] == pytest.approx([step])


@virtual
async def test_to_and_fro(clock):
    """T2: a clock that is set an hour forward and back again, over and over, costs one fetch a turn at the most."""
    truth = Truth(clock, 3600.0)
    async with TokenManager(truth.source, clock=clock) as manager:
        await manager.get()
        for _ in range(50):
            truth.set(3600.0)
            await clock.advance(15.0)
            assert truth.overdue(await manager.get()) <= BEAT
            truth.set(-3600.0)
            await clock.advance(15.0)
            assert truth.overdue(await manager.get()) <= BEAT
    assert truth.issued <= 1 + 2 * 50


@virtual
@pytest.mark.parametrize("skew", [-90.0, 90.0])
async def test_a_clock_that_is_wrong_from_the_start(clock, skew):
    """T2: lifetimes are counted from our own request, so a wall clock that is wrong by a constant changes nothing."""
    truth = Truth(clock, 120.0)
    truth.set(skew)
    async with TokenManager(truth.source, policy=UNJITTERED, clock=clock) as manager:
        await manager.get()
        for _ in range(500):
            assert truth.overdue(await manager.get()) < 0.0
            await clock.advance(2.0)
    assert truth.issued == 1 + int(1000.0 / 96.0)


@virtual
@pytest.mark.parametrize("step", [7200.0, -3600.0])
async def test_a_thousand_keys(clock, step):
    """T2: with a thousand keys a step costs at most one fetch a key, within the cap, and no key is forgotten."""
    truth = Truth(clock, 3600.0)
    truth.source.latency = 0.1
    async with TokenManager(source_for=lambda key: truth.source, clock=clock) as manager:
        await asyncio.gather(*(manager.get(key) for key in range(1000)))
        await clock.advance(60.0)
        before = truth.issued
        if step > 0.0:
            truth.suspend(step)
        else:
            truth.set(step)
        await clock.advance(BEAT + 1000 / 16 * 0.1 + 1.0)
        assert truth.issued - before == (1000 if step > 0.0 else 0)
        tokens = [manager.peek(key) for key in range(1000)]
        assert all(token is not None and truth.overdue(token) < 0.0 for token in tokens)
        assert truth.source.most <= 16
        await clock.advance(hours=0.9)
        assert all(manager.peek(key) is not None for key in range(1000))


@virtual
@pytest.mark.parametrize("step", [7200.0, -3600.0, 90.0])
async def test_the_systems_own_clock(step):
    """T2: the same with time.time itself moved under the system's clock."""
    loop = asyncio.get_running_loop()
    lifetime, dies, issued = 300.0, dict[str, float](), 0

    async def fetch() -> tuple[str, float]:
        nonlocal issued
        issued += 1
        dies[f"t{issued}"] = loop.time() + slept + lifetime
        return f"t{issued}", lifetime

    slept = 0.0
    with time_machine.travel(1_893_456_000.0, tick=False) as traveller:
        last = loop.time()

        async def tick(seconds: float) -> None:
            nonlocal last
            await asyncio.sleep(seconds)
            # Its monotonic clock is left alone by the traveller, and stands for the suspended loop's.
            traveller.shift(loop.time() - last)
            last = loop.time()

        async with TokenManager(fetch, clock=SystemClock()) as manager:
            await manager.get()
            await tick(10.0)
            traveller.shift(step)
            if step == 7200.0:
                slept = step
            for _ in range(600):
                token = await manager.get()
                assert loop.time() + slept - dies[token.access_token] <= BEAT
                await tick(1.0)
    assert issued <= 2 + int(600.0 / 200.0) + 1


class EarlyClock:
    """A clock whose timers fire half a millisecond early, as uvloop's do."""

    def __init__(self, clock: VirtualClock, by: float) -> None:
        self.clock = clock
        self.by = by
        self.armed = 0
        self.time = clock.time
        self.monotonic = clock.monotonic

    def call_later(self, delay: float, callback: Any, *args: object) -> Any:
        self.armed += 1
        return self.clock.call_later(max(delay - self.by, 0.0), callback, *args)


@virtual
@pytest.mark.parametrize("by", [0.0005, 0.004, 1e-6])
async def test_timers_that_fire_early(clock, by):
    """F6: a timer that fires a little early is no reason to spin."""
    early = EarlyClock(clock, by)
    source = ScriptedSource(clock, lifetime=100.0)
    async with TokenManager(source, policy=UNJITTERED, clock=early) as manager:
        await manager.get()
        supervisor = manager._life.session.maintenance.supervisor
        before = supervisor.wakeups
        await clock.advance(8000.0)
        assert source.fetches in {100, 101}
        assert supervisor.wakeups - before <= 8000.0 / BEAT + 2 * 101 + 10
        source.error = down()
        wakeups, fetches = supervisor.wakeups, source.fetches
        await clock.advance(1000.0)
        assert supervisor.wakeups - wakeups <= 1000.0 / BEAT + 2 * (source.fetches - fetches) + 10
        with pytest.raises(TokenUnavailable):
            await manager.get()


@virtual
async def test_a_loop_that_was_held_up(clock):
    """T2: a callback that blocks the loop for a minute is no clock step. Nothing is moved, and overdue work is done."""
    source = ScriptedSource(clock, lifetime=100.0)
    recorder = Recorder()
    async with TokenManager(source, policy=UNJITTERED, clock=clock, observers=[recorder]) as manager:
        await manager.get()
        await clock.advance(30.0)
        asyncio.get_running_loop().advance(60.0)
        await clock.advance(0.1)
        assert source.fetches == 2
        assert not recorder.of(ClockStepped)
        assert manager.health().alive

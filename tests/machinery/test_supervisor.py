"""The supervisor survives faults in every part it touches: each part raises every class of exception, at every step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from tests.gated import virtual
from tests.machinery.scripted import Recorder, ScriptedSource, down

from evertoken import (
    Begun,
    FetchRequest,
    GrantRejected,
    Lease,
    ManagerClosed,
    Record,
    RefreshPolicy,
    RetryPolicy,
    Token,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken._model.events import Event, RefreshFailed, StoreFailed
from evertoken._model.supervisor_events import SupervisorRestarted
from evertoken.stores.memory import MemoryStore
from evertoken.testing.clock import VirtualClock

pytestmark = pytest.mark.filterwarnings("error")


class Private(BaseException):
    """Somebody's own BaseException."""


RAISED: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: Exception("boom"),
    "BaseException": lambda: BaseException("boom"),
    "Private": lambda: Private("boom"),
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "TimeoutError": TimeoutError,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "KeyError": lambda: KeyError("boom"),
    "ExceptionGroup": lambda: ExceptionGroup("several", [ValueError("one"), OSError("two")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("several", [Private("one"), asyncio.CancelledError()]),
}

every_class = pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)


class FaultyClock:
    """A clock whose methods raise when told."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.faults: dict[str, Callable[[], BaseException]] = {}
        self.raised = 0

    def _check(self, name: str) -> None:
        if name in self.faults:
            self.raised += 1
            error = self.faults[name]()
            raise error

    def time(self) -> float:
        self._check("time")
        return self.clock.time()

    def monotonic(self) -> float:
        self._check("monotonic")
        return self.clock.monotonic()

    def call_later(self, delay: float, callback: Any, *args: object) -> Any:
        self._check("call_later")
        timer = self.clock.call_later(delay, callback, *args)
        return _FaultyTimer(self, timer)


class _FaultyTimer:
    def __init__(self, owner: FaultyClock, timer: asyncio.TimerHandle) -> None:
        self.owner, self.timer = owner, timer

    def cancel(self) -> None:
        self.timer.cancel()
        self.owner._check("cancel")


@virtual
@every_class
@pytest.mark.parametrize("step", ["time", "monotonic", "call_later", "cancel"])
async def test_a_clock_that_raises(clock, step, make):
    """F5: after any exception of the clock, the supervisor is restarted, reports it, and goes on when it can."""
    faulty, recorder = FaultyClock(clock), Recorder()
    source = ScriptedSource(clock, lifetime=300.0)
    async with TokenManager(source, policy=RefreshPolicy(jitter=0.0), clock=faulty, observers=[recorder]) as manager:
        await manager.get()
        await clock.advance(5.0)
        faulty.faults[step] = make
        await clock.advance(60.0)
        assert faulty.raised
        faulty.faults.clear()
        await clock.advance(30.0)
        if make is GeneratorExit:
            # It looks like the end of the loop. health() says so, and the next waiter revives it.
            assert step == "cancel" or not manager.health().alive
            await clock.advance(600.0)
            assert (await manager.get()).valid_at(clock.time())
            assert manager.health().alive
            return
        health = manager.health()
        assert health.alive
        assert health.restarts >= 1
        assert health.restarts == len(recorder.of(SupervisorRestarted)) or step == "time"
        before = source.fetches
        await clock.advance(600.0)
        assert source.fetches - before in {2, 3}
        assert manager.health().ready


@virtual
@every_class
async def test_a_clock_that_raises_as_a_fetch_ends(clock, make):
    """F5: nobody is left waiting for a fetch that ended while the clock raised, and the next one is right."""
    faulty = FaultyClock(clock)
    source = ScriptedSource(clock, latency=1.0)
    source.error = down()
    async with TokenManager(source, clock=faulty) as manager:
        waiting = asyncio.ensure_future(manager.get())
        await clock.advance(0.5)
        faulty.faults["time"] = make
        await clock.advance(1.0)
        faulty.faults.clear()
        with pytest.raises((TokenUnavailable, type(make()), RuntimeError)):
            async with asyncio.timeout(30.0):
                await waiting
        source.error = None
        async with asyncio.timeout(30.0):
            assert await manager.get(timeout=20.0)


@virtual
@pytest.mark.parametrize("step", ["monotonic", "call_later", "cancel"])
@pytest.mark.parametrize("latency", [0.0, 1e6])
async def test_closing_while_the_clock_raises(clock, step, latency):
    """F5, L1: a clock that raises while the manager closes does not keep it from ending."""
    faulty = FaultyClock(clock)
    source = ScriptedSource(clock, latency=latency)
    manager = await TokenManager(source, clock=faulty).start()
    await clock.advance(1.0)
    faulty.faults[step] = lambda: OSError("boom")
    async with asyncio.timeout(60.0):
        try:
            await manager.aclose()
        except OSError:
            faulty.faults.clear()
            await manager.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
@every_class
@pytest.mark.parametrize("method", ["hand_out", "next"])
async def test_deadlines_that_raise(clock, method, make):
    """F5: a crash of the loop itself is logged, counted and restarted, and no deadline is lost by it."""
    source = ScriptedSource(clock, lifetime=300.0)
    recorder = Recorder()
    async with TokenManager(source, policy=RefreshPolicy(jitter=0.0), clock=clock, observers=[recorder]) as manager:
        await manager.get()
        supervisor = manager._life.session.maintenance.supervisor
        real, raised = supervisor.deadlines, 0

        class Broken:
            def __getattr__(self, name: str) -> Any:
                nonlocal raised
                if name == method:
                    raised += 1
                    raise make()
                return getattr(real, name)

        supervisor.deadlines = Broken()
        await clock.advance(100.0)
        if make is GeneratorExit:
            assert not manager.health().alive
            supervisor.deadlines = real
            await clock.advance(200.0)
            assert await manager.get()
            assert manager.health().alive
            return
        assert raised >= 5
        assert manager.health().restarts == raised == len(recorder.of(SupervisorRestarted))
        supervisor.deadlines = real
        await clock.advance(200.0)
        assert source.fetches == 2
        assert manager.health().alive


@virtual
@every_class
async def test_a_due_item_that_raises(clock, make, caplog):
    """F5: a key whose maintenance raises is looked at again a beat later, and no other key is late for it."""
    sources = {key: ScriptedSource(clock, lifetime=300.0) for key in ("good", "bad")}
    async with TokenManager(sources, policy=RefreshPolicy(jitter=0.0), clock=clock) as manager:
        await clock.advance(1.0)
        maintenance = manager._life.session.maintenance
        real, raised = maintenance.supervisor._on_due, 0

        def due(state: Any) -> None:
            nonlocal raised
            if state.key == "bad":
                raised += 1
                raise make()
            real(state)

        maintenance.supervisor._on_due = due
        with caplog.at_level(logging.ERROR, "evertoken"):
            await clock.advance(400.0)
        assert sources["good"].fetches == 2
        assert raised in range(10, 20)
        assert f"a due item raised {type(make()).__name__}" in caplog.text
        assert manager.health().alive
        assert manager.health().restarts == 0
        # Its readers are served on demand.
        assert (await manager.get("bad")).valid_at(clock.time())
        maintenance.supervisor._on_due = real
        await clock.advance(250.0)
        assert sources["bad"].fetches == 3


@virtual
@every_class
async def test_an_observer_that_raises(clock, make):
    """F5, L2: what an observer raises harms no refresh, no caller and no other observer."""

    def broken(event: Event) -> None:
        raise make()

    recorder = Recorder()
    source = ScriptedSource(clock, lifetime=300.0)
    async with TokenManager(source, clock=clock, observers=[broken, recorder, broken]) as manager:
        await manager.get()
        await clock.advance(1000.0)
        source.error = down()
        await clock.advance(250.0)
        source.error = GrantRejected("invalid_grant")
        await clock.advance(300.0)
        clock.step(-3600.0)
        await clock.advance(30.0)
        assert manager.health().restarts == 0
        assert manager.health().alive
    kinds = {type(event).__name__ for event in recorder.events}
    assert {
        "ManagerStarted",
        "TokenRefreshed",
        "RefreshFailed",
        "RefreshRejected",
        "ClockStepped",
        "ManagerClosing",
    } <= kinds


@virtual
async def test_an_observer_that_calls_back(clock):
    """L2: an observer may look at the manager, and start tasks that change it, on any event; nothing hangs."""
    calling, turned_down, nested = list[asyncio.Task[None]](), set[str](), 0

    async def told(call: Any) -> None:
        try:
            await call
        except (TokenUnavailable, GrantRejected, ManagerClosed) as error:
            turned_down.add(type(error).__name__)

    def meddle(event: Event) -> None:
        nonlocal nested
        manager.snapshot(), manager.health(), manager.peek("a"), repr(manager)
        # With eager tasks, their events come back here at once.
        if nested > 1 or len(calling) > 300 or manager.snapshot().state != "running":
            return
        nested += 1
        now = clock.time()
        for call in (
            manager.get("a"), manager.get("a", timeout=3.0), manager.refresh("b"), manager.forget("a"),
            manager.get("b", min_ttl=19.0), manager.invalidate("unknown", "a"), manager.revoke("a"),
            manager.put(Token("by-hand", issued_at=now, expires_at=now + 20.0), "b"),
        ):  # fmt: skip
            calling.append(asyncio.get_running_loop().create_task(told(call)))
        nested -= 1

    source = ScriptedSource(clock, lifetime=20.0, latency=0.2)
    manager = TokenManager(source_for=lambda key: source, clock=clock, observers=[meddle], idle_after=30.0)
    async with manager:
        await told(manager.get("a"))
        await clock.advance(300.0)
        assert len(calling) > 300
        assert all(task.done() for task in calling)
        assert {task.exception() for task in calling} == {None}
        assert await manager.refresh("a") is await manager.get("a")
        assert manager.health().alive
        assert manager.health().restarts == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert turned_down <= {"GrantRejected", "TokenUnavailable"}


@virtual
@every_class
async def test_a_log_filter_that_raises(clock, make):
    """F5, L2: what a filter of the log raises harms no refresh and no supervisor, at any level."""

    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise make()

    logger, broken, recorder = logging.getLogger("evertoken"), Broken(), Recorder()
    before = logger.level
    logger.addFilter(broken)
    logger.setLevel(logging.DEBUG)
    source = ScriptedSource(clock, lifetime=300.0)
    try:
        async with TokenManager(source, clock=clock, observers=[recorder]) as manager:
            first = await manager.get()
            await clock.advance(200.0)
            source.error = GrantRejected("invalid_grant")
            await clock.advance(90.0)
            assert await manager.get() is first
            the_supervisor().cancel()
            source.error = None
            await clock.advance(1.0)
            token = await manager.refresh()
            assert await manager.get() is token
            assert manager.health().alive
            assert manager.health().restarts == 0
    finally:
        logger.removeFilter(broken)
        logger.setLevel(before)
    assert "RefreshRejected" in {type(event).__name__ for event in recorder.events}


@virtual
@every_class
@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_source_that_raises(clock, when, make):
    """F5: any exception of a source is a failure of its key: shared, counted, tried again. Other keys go on."""
    bad, good = ScriptedSource(clock, lifetime=300.0), ScriptedSource(clock, lifetime=300.0)
    bad.latency = 0.0 if when == "at once" else 0.5
    recorder = Recorder()
    async with TokenManager({"bad": bad, "good": good}, clock=clock, observers=[recorder]) as manager:
        first = await manager.get("bad")
        bad.error = make()
        await clock.advance(290.0)
        assert await manager.get("bad") is first
        assert manager.health().failing == ("bad",)
        await clock.advance(20.0)
        outcomes = await asyncio.gather(*(manager.get("bad") for _ in range(10)), return_exceptions=True)
        assert all(isinstance(outcome, TokenUnavailable) for outcome in outcomes)
        assert all(outcome.__cause__ is not None for outcome in outcomes)
        assert await manager.get("good")
        assert good.fetches == 2
        health = manager.health()
        assert health.alive
        assert not health.ready
        assert health.restarts == 0
        failures = [event.failures for event in recorder.of(RefreshFailed)]
        assert failures == list(range(1, len(failures) + 1))
        bad.error = None
        await clock.advance(61.0)
        assert (await manager.get("bad")).valid_at(clock.time())
        assert manager.health().failing == ()
        assert not manager._life.session.limits._limits


@virtual
@every_class
async def test_a_source_that_raises_when_told_to_revoke(clock, make):
    """
    F5, S1: any exception of a source during a sign-out counts as one of the two failures, and the key is signed out.
    """

    class Revoking(ScriptedSource):
        async def revoke(self, token: Any) -> None:
            raise make()

    async with TokenManager(Revoking(clock), clock=clock) as manager:
        await manager.get()
        with pytest.raises(GeneratorExit if make is GeneratorExit else TransientRefreshError):
            await manager.revoke()
        with pytest.raises(GrantRejected, match="signed out"):
            await manager.get()
        current = asyncio.current_task()
        assert current is not None
        assert not current.cancelling()


@virtual
@every_class
async def test_a_source_that_raises_without_a_coroutine(clock, make):
    """F5: the same for a fetch that is no coroutine function and raises when called."""

    class Plain:
        def fetch(self, request: Any) -> Any:
            raise make()

    async with TokenManager(Plain(), clock=clock) as manager:
        for _ in range(3):
            with pytest.raises(TokenUnavailable):
                await manager.get()
            await clock.advance(61.0)
        assert manager.health().alive
        assert manager.snapshot().failures >= 3


@virtual
@pytest.mark.parametrize(
    "answer", [None, 5, b"bytes", [], {}, {"access_token": ""}, ("a",), ("t", "soon", 3), object], ids=repr
)
async def test_a_source_that_answers_nonsense(clock, answer):
    """F4: an unreadable answer is a transient failure."""
    source = ScriptedSource(clock)
    source.answer = lambda request: answer
    async with TokenManager(source, clock=clock) as manager:
        with pytest.raises(TokenUnavailable):
            await manager.get()
        source.answer = None
        await clock.advance(10.0)
        assert await manager.get()


class FaultyStore:
    """A store of which one method raises or hangs when told."""

    def __init__(self, clock: VirtualClock) -> None:
        self.real = MemoryStore(clock=clock)
        self.faults: dict[str, Callable[[], BaseException]] = {}

    async def _do(self, name: str, *arguments: Any) -> Any:
        if name in self.faults:
            error = self.faults[name]()
            raise error
        return await getattr(self.real, name)(*arguments)

    async def read(self, key: str, /) -> Record | None:
        found: Record | None = await self._do("read", key)
        return found

    async def begin(self, key: str, owner: str, ttl: float, /) -> Begun:
        begun: Begun = await self._do("begin", key, owner, ttl)
        return begun

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        return bool(await self._do("renew", lease, ttl))

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        return bool(await self._do("mark", record, lease))

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        return bool(await self._do("commit", record, lease))

    async def abandon(self, lease: Lease, /) -> None:
        await self._do("abandon", lease)


@virtual
@every_class
@pytest.mark.parametrize("method", ["begin", "commit"])
async def test_a_store_that_raises(clock, method, make):
    """F5, K3: after any exception of a store, at any step, tokens are still fetched, and an event reports it."""
    store, recorder = FaultyStore(clock), Recorder()
    source = ScriptedSource(clock, lifetime=300.0)
    source.rotates = False
    policy = RefreshPolicy(jitter=0.0)
    async with TokenManager(
        source, policy=policy, clock=clock, store=store, namespace="", observers=[recorder]
    ) as manager:
        await manager.get()
        store.faults[method] = make
        await clock.advance(1200.0)
        assert manager.health().alive
        assert manager.health().restarts == 0
        if make is GeneratorExit:
            store.faults.clear()
            await clock.advance(61.0)
            assert (await manager.get()).valid_at(clock.time())
            return
        assert (await manager.get()).valid_at(clock.time())
        assert source.fetches >= 4
        assert {event.operation for event in recorder.of(StoreFailed)} == {method}
        store.faults.clear()
        await clock.advance(1200.0)
        assert (await manager.get()).valid_at(clock.time())
        assert manager.snapshot().keys[None].kept


@virtual
@every_class
@pytest.mark.parametrize("method", ["abandon", "read"])
async def test_a_store_that_raises_after_a_failure(clock, method, make):
    """F5, K3: after any exception of a store when a failed fetch returns its lease and looks once more, it heals."""
    store, recorder = FaultyStore(clock), Recorder()
    source = ScriptedSource(clock, lifetime=300.0)
    source.rotates = False
    policy = RefreshPolicy(jitter=0.0)
    async with TokenManager(
        source, policy=policy, clock=clock, store=store, namespace="", observers=[recorder]
    ) as manager:
        first = await manager.get()
        store.faults[method] = make
        source.error = down()
        await clock.advance(270.0)
        assert await manager.get() is first
        assert manager.health().alive
        assert manager.health().restarts == 0
        assert make is GeneratorExit or {event.operation for event in recorder.of(StoreFailed)} == {method}
        store.faults.clear()
        source.error = None
        await clock.advance(61.0)
        assert (await manager.get()).valid_at(clock.time())
        assert manager.snapshot().keys[None].kept


@virtual
@every_class
@pytest.mark.parametrize("method", ["begin", "mark", "commit", "abandon", "read"])
async def test_a_store_that_raises_under_a_rotating_source(clock, method, make):
    """K1, K3: with any exception of a store, no refresh token is presented twice, and the key heals with the store."""
    store, presented = FaultyStore(clock), list[str]()
    source = ScriptedSource(clock)
    source.rotates = True

    def answer(request: FetchRequest) -> dict[str, Any]:
        presented.append("" if request.current is None else request.current.refresh_token or "")
        return {"access_token": f"a{source.fetches}", "expires_in": 300, "refresh_token": f"r{source.fetches}"}

    source.answer = answer
    async with TokenManager(
        source, policy=RefreshPolicy(jitter=0.0), clock=clock, store=store, namespace=""
    ) as manager:
        await manager.get()
        store.faults[method] = make
        await clock.advance(1200.0)
        assert manager.health().alive
        assert manager.health().restarts == 0
        store.faults.clear()
        await clock.advance(61.0)
        assert (await manager.get()).valid_at(clock.time())
        assert manager.snapshot().keys[None].kept
    assert len(presented) == len(set(presented))


class EnteredStore(FaultyStore):
    """A store that is entered, left and watched, and has its lease renewed, with the same faults."""

    async def __aenter__(self) -> None:
        self._raise("enter")

    async def __aexit__(self, *_: object) -> None:
        self._raise("exit")

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        self._raise("watch")
        await asyncio.Event().wait()

    def _raise(self, name: str) -> None:
        if name in self.faults:
            error = self.faults[name]()
            raise error


@virtual
@every_class
@pytest.mark.parametrize("method", ["enter", "exit", "watch", "renew"])
async def test_the_life_of_a_store_that_raises(clock, method, make):
    """F5, K3: with any exception of a store on enter, exit, watch or lease renewal, tokens are available."""
    store, recorder = EnteredStore(clock), Recorder()
    store.faults[method] = make
    source = ScriptedSource(clock, lifetime=300.0, latency=15.0)
    source.rotates = False
    manager = TokenManager(source, clock=clock, store=store, namespace="", observers=[recorder])
    try:
        async with manager:
            await manager.get()
            await clock.advance(600.0)
            assert (await manager.get()).valid_at(clock.time())
            assert manager.health().alive
            assert manager.health().restarts == 0
            assert source.fetches in {3, 4}
    except GeneratorExit:
        # It looks like the end of the caller.
        assert make is GeneratorExit
        assert method in {"enter", "exit"}
    else:
        told = {event.operation for event in recorder.of(StoreFailed)}
        assert told == {{"enter": "open", "exit": "close"}.get(method, method)} or make is GeneratorExit
    await clock.advance(1.0)
    assert manager.snapshot().state == "closed"
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
@every_class
async def test_source_for_that_raises(clock, make):
    """F5: what source_for raises reaches its caller, opens no key, and blocks no other."""
    source = ScriptedSource(clock)

    def source_for(key: str) -> Any:
        if key == "bad":
            raise make()
        return source

    async with TokenManager(source_for=source_for, clock=clock) as manager:
        with pytest.raises((type(make()), RuntimeError)):
            await manager.get("bad")
        assert await manager.get("good")
        assert list(manager.snapshot().keys) == ["good"]
        assert not manager._life.session.lock.locked()


def the_supervisor() -> asyncio.Task[Any]:
    [task] = [task for task in asyncio.all_tasks() if task.get_name() == "evertoken:supervisor"]
    return task


@virtual
async def test_cancelled_from_outside(clock, caplog):
    """F5: with the supervisor cancelled by somebody else, health() tells, get() works, and it is revived by that."""
    source = ScriptedSource(clock, lifetime=300.0)
    async with TokenManager(source, clock=clock) as manager:
        first = await manager.get()
        the_supervisor().cancel()
        await clock.advance(1.0)
        assert not manager.health().alive
        assert await manager.get() is first
        await clock.advance(301.0)
        assert source.fetches == 1
        token = await manager.get()
        assert token.valid_at(clock.time())
        assert "stopped from outside" in caplog.text
        assert manager.health().alive
        await clock.advance(300.0)
        assert source.fetches == 3


@virtual
@every_class
@pytest.mark.parametrize("policy", [RefreshPolicy, RetryPolicy])
async def test_a_policy_that_raises(clock, monkeypatch, policy, make):
    """F5: after any exception of a policy at the end of a fetch, waiters are told, and the next try heals it."""

    def broken(*_: object, **__: object) -> float:
        raise make()

    monkeypatch.setattr(policy, "due_at" if policy is RefreshPolicy else "delay", broken)
    source = ScriptedSource(clock, lifetime=300.0)
    source.error = down() if policy is RetryPolicy else None
    async with TokenManager(source, clock=clock) as manager:
        waiting = [asyncio.ensure_future(manager.get()) for _ in range(10)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        # A token that came is in service, though nobody can say when it is due.
        assert {type(outcome) for outcome in outcomes} == {Token if policy is RefreshPolicy else TokenUnavailable}
        await clock.advance(100.0)
        assert 5 <= source.fetches <= 30
        assert manager.health().alive
        monkeypatch.undo()
        source.error = None
        await clock.advance(61.0)
        assert (await manager.get()).valid_at(clock.time())
        assert not manager._life.session.limits._limits


@virtual
async def test_a_task_factory_that_raises(clock):
    """F5: where the loop makes no tasks for a while, callers are told so, no place is lost, and it heals."""

    def broken(*_: object, **__: object) -> Any:
        msg = "no tasks today"
        raise RuntimeError(msg)

    source, loop = ScriptedSource(clock, lifetime=300.0), asyncio.get_running_loop()
    async with TokenManager({"a": source, "b": source}, clock=clock, concurrency=1) as manager:
        await asyncio.gather(manager.get("a"), manager.get("b"))
        factory = loop.get_task_factory()
        loop.set_task_factory(broken)
        try:
            for _ in range(3):
                await clock.advance(301.0)
                for key in "ab":
                    with pytest.raises(TokenUnavailable, match="no tasks today"):
                        await manager.get(key)
        finally:
            loop.set_task_factory(factory)
        await clock.advance(61.0)
        assert (await manager.get("a")).valid_at(clock.time())
        assert (await manager.get("b")).valid_at(clock.time())
        assert not manager._life.session.limits._limits


@virtual
async def test_a_source_that_asks_its_own_manager(clock, caplog):
    """F6: a fetch that needs the token of another key, at the very start, gets it, and starts no second supervisor."""

    async def parent() -> tuple[str, float]:
        return "parent", 300.0

    async def child() -> tuple[str, float]:
        return f"child of {(await manager.get('parent')).access_token}".replace(" ", "-"), 300.0

    manager = TokenManager({"child": child, "parent": parent}, clock=clock)
    async with manager:
        assert (await manager.get("child")).access_token == "child-of-parent"
        assert the_supervisor()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not caplog.records


@virtual
async def test_asked_before_it_has_started(clock, caplog):
    """
    F5: a caller during start(), while it still opens the store, is served and hears nothing of an ended supervisor.
    """

    class Slow(FaultyStore):
        async def __aenter__(self) -> None:
            await asyncio.sleep(2.0)

        async def __aexit__(self, *_: object) -> None: ...

    manager = TokenManager(ScriptedSource(clock), clock=clock, store=Slow(clock), namespace="")
    starting = asyncio.ensure_future(manager.start())
    await clock.advance(1.0)
    assert await manager.get()
    await starting
    assert the_supervisor()
    await manager.aclose()
    assert not caplog.records


@virtual
async def test_flights_cancelled_from_outside(clock):
    """F5, R3: a fetch that somebody cancels fails for those who wait, and is tried again by the schedule."""
    source = ScriptedSource(clock, latency=5.0)
    async with TokenManager(source, clock=clock) as manager:
        waiting = [asyncio.ensure_future(manager.get()) for _ in range(10)]
        await clock.advance(1.0)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("evertoken:refresh"):
                task.cancel()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, TokenUnavailable) for outcome in outcomes)
        await clock.advance(15.0)
        assert manager.peek() is not None
        assert not manager._life.session.limits._limits


@virtual
async def test_all_tasks_cancelled_in_every_order(clock):
    """F5: somebody who cancels all of the manager's tasks, over and over, does not leave it stuck."""
    source = ScriptedSource(clock, lifetime=60.0, latency=1.0)
    async with TokenManager(source, clock=clock) as manager:
        for turn in range(50):
            await clock.advance(0.37 * turn)
            for task in asyncio.all_tasks():
                if task.get_name().startswith("evertoken:"):
                    task.cancel()
        assert (await manager.get(timeout=60.0)).valid_at(clock.time())
        await clock.advance(120.0)
        assert manager.health().alive
        assert source.most <= 2


@virtual
async def test_a_hanging_provider_delays_nobody(clock):
    """F6: sixteen keys of a provider that hangs keep no key of another from its instant."""
    quick = ScriptedSource(clock, lifetime=300.0)
    sources: dict[str, Any] = {f"slow-{i}": ScriptedSource(clock, latency=1e6) for i in range(50)}
    for source in sources.values():
        source.provider = "slow"
    sources["quick"] = quick
    async with TokenManager(sources, policy=RefreshPolicy(jitter=0.0), clock=clock) as manager:
        await clock.advance(10.0)
        assert manager.snapshot().in_flight == 16
        await clock.advance(990.0)
        assert quick.at == pytest.approx([quick.at[0] + 240.0 * i for i in range(5)], abs=0.05)
        assert (await manager.get("quick")).valid_at(clock.time())
        # By then it is known to be down: one attempt at a time, to its deadline, stands for all keys (F8).
        assert manager.snapshot().in_flight <= 1
        assert sum(source.fetches for source in sources.values()) <= 1 + 16 + 1000 / 30


@virtual
async def test_a_slow_key_of_one_source_delays_only_what_its_cap_says(clock):
    """F6: urgent callers go before the queue of a busy provider."""
    source = ScriptedSource(clock, latency=1.0)
    async with TokenManager(source_for=lambda key: source, clock=clock, concurrency=2) as manager:
        crowd = [asyncio.ensure_future(manager.get(key)) for key in range(100)]
        await asyncio.gather(*crowd)
        assert source.most == 2
        clock.step(3000.0)
        await clock.advance(11.0)
        assert manager.snapshot().queued > 10
        begun = clock.time()
        late = next(key for key, known in manager.snapshot().keys.items() if known.in_flight)
        token = await manager.get("new")
        assert clock.time() - begun <= 3.0
        assert token.valid_at(clock.time())
        assert late is not None


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_shutdown_signals_pass(signal):
    """F5: KeyboardInterrupt and SystemExit end the program; they are contained nowhere."""

    async def fetch() -> tuple[str, float]:
        raise signal

    async def main() -> None:
        async with TokenManager(fetch):
            await asyncio.sleep(5.0)

    with pytest.raises(signal):
        asyncio.run(main())

"""Starting, closing and starting again, mistakes at construction, eviction, events and subscriptions."""

# Its tables contain wrong arguments on purpose.
# mypy: disable-error-code="arg-type,call-overload,dict-item,list-item,misc"

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.gated import GatedSource, virtual
from tests.machinery.scripted import Recorder, ScriptedSource, down

from evertoken import (
    GrantRejected,
    Lease,
    ManagerClosed,
    RefreshPolicy,
    RetryPolicy,
    Token,
    TokenManager,
    TokenUnavailable,
)
from evertoken._model import events
from evertoken.stores import MemoryStore
from evertoken.testing import TokenServer


def ours() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("evertoken:")}


# Start and close


@virtual
async def test_a_hundred_lives(clock):
    """L1: a hundred start/close cycles, with fetches done, under way and queued, leave no task and no warning."""
    source = ScriptedSource(clock, lifetime=60.0)
    manager = TokenManager({"a": source, "b": source, "c": source}, clock=clock, concurrency=1, close_grace=0.5)
    for turn in range(100):
        source.latency = (0.0, 0.3, 1.0, 1e6)[turn % 4]
        async with manager:
            waiting = [asyncio.ensure_future(manager.get(key)) for key in "abc"]
            await clock.advance(0.1 * (turn % 7))
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, Token | ManagerClosed | TokenUnavailable) for outcome in outcomes)
        assert ours() == set()
        assert source.flying == 0
    gc.collect()


async def test_a_hundred_lives_in_real_time():
    """L1: the same on an ordinary loop in debug mode."""
    asyncio.get_running_loop().set_debug(True)

    async def fetch() -> tuple[str, float]:
        await asyncio.sleep(0)
        return "t", 3600.0

    for _ in range(100):
        async with TokenManager(fetch) as manager:
            assert await manager.get()
    assert ours() == set()


LIVES = """
    import asyncio, gc, os, sys
    from evertoken import TokenManager
    from evertoken.sources import ClientCredentials, OAuthClient

    endpoint, client_secret = sys.argv[1:]

    def sockets():
        gc.collect()
        return len(os.listdir("/dev/fd"))

    async def main():
        # A machine that is busy is no fault of ours.
        asyncio.get_running_loop().slow_callback_duration = 60.0
        client = OAuthClient(token_endpoint=endpoint, client_id="lives", client_secret=client_secret)
        manager = TokenManager(ClientCredentials(client))
        before = None
        for turn in range(100):
            async with manager:
                if turn % 4:
                    await manager.refresh()
                else:
                    # Closed with a fetch under way, or not even begun.
                    await asyncio.sleep(0.001 * (turn % 3))
            assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}
            if turn == 1:
                before = sockets()
        assert sockets() == before, (sockets(), before)

    asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="this platform does not list what is open")
def test_a_hundred_lives_over_sockets():
    """L1: a hundred lives over real sockets, with every warning an error: no task, socket or warning is left."""
    with TokenServer() as server:
        server.add_client("lives", "secret")
        lives = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(LIVES)]
        done = subprocess.run(
            [*lives, server.token_endpoint, "secret"],
            capture_output=True,
            text=True,
            timeout=50.0,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        assert server.stats.token_requests >= 75


@virtual
async def test_lazy(clock):
    """L1: lazy returns at once and fetches in the background."""
    source = ScriptedSource(clock, latency=5.0)
    begun = clock.time()
    async with TokenManager(source, clock=clock) as manager:
        assert clock.time() == begun
        await clock.advance(5.1)
        assert manager.peek() is not None


@virtual
@pytest.mark.parametrize("trouble", ["none", "failing", "rejected", "hanging"])
async def test_warm(clock, trouble):
    """L1: warm waits for the first tokens at most start_timeout, and goes on without them."""
    good, bad = ScriptedSource(clock, latency=1.0), ScriptedSource(clock, latency=1.0)
    bad.error = {"failing": down(), "rejected": GrantRejected("invalid_grant")}.get(trouble)
    bad.latency = 1e6 if trouble == "hanging" else 1.0
    begun = clock.time()
    async with TokenManager({"bad": bad, "good": good}, start="warm", start_timeout=4.0, clock=clock) as manager:
        assert clock.time() - begun == pytest.approx(4.0 if trouble == "hanging" else 1.0, abs=0.01)
        assert manager.peek("good") is not None
        assert (manager.peek("bad") is None) == (trouble != "none")
        assert manager.health().alive


@virtual
@pytest.mark.parametrize("trouble", ["failing", "rejected", "hanging", "raising"])
async def test_require(clock, trouble):
    """L1: require raises what kept the first token away, leaves nothing running, and may be tried again."""
    source = ScriptedSource(clock)
    source.error = {
        "failing": down(), "rejected": GrantRejected("invalid_grant"), "raising": ValueError("boom")
    }.get(trouble)  # fmt: skip
    source.latency = 1e6 if trouble == "hanging" else 0.5
    manager = TokenManager(source, start="require", start_timeout=3.0, close_grace=0.1, clock=clock)
    begun = clock.time()
    with pytest.raises(GrantRejected if trouble == "rejected" else TokenUnavailable):
        await manager.start()
    assert clock.time() - begun < 4.0
    assert ours() == set()
    assert manager.snapshot().state == "closed"
    source.error, source.latency = None, 0.0
    async with manager:
        assert manager.peek() is not None


@virtual
async def test_require_cancelled(clock):
    """L1: a start that is cancelled leaves nothing running."""
    source = ScriptedSource(clock, latency=1e6)
    manager = TokenManager(source, start="require", close_grace=0.1, clock=clock)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await manager.start()
    assert ours() == set()


@virtual
async def test_double_start(clock):
    """L1: a second start() on one loop does nothing, and entering twice raises. Both leave the first start unharmed."""
    async with TokenManager(ScriptedSource(clock), clock=clock) as manager:
        session = manager._life.session
        assert await manager.start() is manager
        assert manager._life.session is session
        with pytest.raises(RuntimeError, match="running already"):
            async with manager:
                pass
        assert await manager.get()
        assert manager.health().alive


@virtual
@pytest.mark.parametrize("trouble", ["none", "rejected", "hanging"])
async def test_concurrent_starts_join(clock, trouble):
    """L1: starts at the same time make one session; if it fails, each of them is told."""
    source = ScriptedSource(clock, latency=1e6 if trouble == "hanging" else 1.0)
    source.error = GrantRejected("invalid_grant") if trouble == "rejected" else None
    manager = TokenManager(source, start="require", start_timeout=2.0, close_grace=0.1, clock=clock)
    outcomes = await asyncio.gather(*(manager.start() for _ in range(5)), return_exceptions=True)
    assert source.fetches == 1
    if trouble == "none":
        assert outcomes == [manager] * 5
        await manager.aclose()
    else:
        assert isinstance(outcomes[0], GrantRejected if trouble == "rejected" else TokenUnavailable)
        assert {type(outcome) for outcome in outcomes[1:]} == {ManagerClosed}
    assert ours() == set()
    assert manager.snapshot().state == "closed"


@virtual
async def test_close_drains(clock):
    """L1: a fetch that ends within the grace is kept, its waiters get ManagerClosed at once."""
    source = ScriptedSource(clock, latency=3.0)
    manager = await TokenManager(source, close_grace=5.0, clock=clock).start()
    waiting = [asyncio.ensure_future(call) for call in (manager.get(), manager.get(timeout=60.0), manager.refresh())]
    await clock.advance(1.0)
    begun = clock.time()
    closing = asyncio.ensure_future(manager.aclose())
    await clock.advance(0.01)
    for task in waiting:
        assert isinstance(task.exception(), ManagerClosed)
    await closing
    assert clock.time() - begun == pytest.approx(2.0, abs=0.02)
    async with manager:
        assert (await manager.get()).access_token == "token-1"
        assert source.fetches == 1


@virtual
async def test_what_lands_while_closing_is_not_served(clock):
    """L1: a token that lands within the grace, or that put() brings, is kept for the next start and not given out."""
    store = MemoryStore(clock=clock)
    sources = {"a": ScriptedSource(clock, latency=1.0), "b": ScriptedSource(clock), "c": ScriptedSource(clock)}
    sources["c"].latency = 1e6
    manager = await TokenManager(sources, close_grace=5.0, clock=clock, store=store, namespace="").start()
    await clock.advance(0.5)
    assert isinstance((await store.begin('["","b"]', "somebody", 7.0)).lease, Lease)
    hand_made = Token("by-hand", issued_at=clock.time(), expires_at=clock.time() + 1000.0)
    putting = asyncio.ensure_future(manager.put(hand_made, "b"))
    await clock.advance(0.1)
    closing = asyncio.ensure_future(manager.aclose())
    for _ in range(30):
        await clock.advance(0.5)
        for key in "abc":
            assert manager.peek(key) is None
            with pytest.raises(ManagerClosed):
                await manager.get(key)
    await closing
    await putting
    async with manager:
        assert manager.peek("a").access_token == "token-1"
        assert manager.peek("b") is hand_made


@virtual
@pytest.mark.parametrize("grace", [0.0, 2.0])
async def test_close_cancels_after_the_grace(clock, grace):
    """L1: a fetch that does not end is cancelled after the grace; queued ones never start."""
    sources = {key: ScriptedSource(clock, latency=1e6) for key in range(5)}
    for source in sources.values():
        source.provider = "one"
    manager = await TokenManager(sources, close_grace=grace, concurrency=2, clock=clock).start()
    await clock.advance(1.0)
    begun = clock.time()
    await manager.aclose()
    assert clock.time() - begun == pytest.approx(grace, abs=0.01)
    assert sum(source.fetches for source in sources.values()) == 2
    assert sum(source.flying for source in sources.values()) == 0
    assert ours() == set()


@virtual
async def test_close_is_idempotent_and_shared(clock):
    """L1: many closes at once share one, one after another do nothing, and one that is cancelled still closes."""
    source = ScriptedSource(clock, latency=2.0)
    manager = await TokenManager(source, clock=clock).start()
    await clock.advance(0.5)
    closers = [asyncio.ensure_future(manager.aclose()) for _ in range(10)]
    await clock.advance(0.1)
    closers[3].cancel()
    outcomes = await asyncio.gather(*closers, return_exceptions=True)
    assert isinstance(outcomes[3], asyncio.CancelledError)
    assert [outcome for outcome in outcomes if outcome is not None] == [outcomes[3]]
    assert ours() == set()
    await manager.aclose()
    for call in (manager.get, manager.handle().get, manager.refresh, manager.forget, manager.revoke):
        with pytest.raises(ManagerClosed, match="enter it again"):
            await call()
    with pytest.raises(ManagerClosed, match="enter it again"):
        manager.subscribe()
    never = TokenManager(source, clock=clock)
    await never.aclose()


@virtual
async def test_entering_again_keeps_the_token(clock):
    """
    L1: a manager that is entered again serves its valid tokens, and fetches again the tokens that expired meanwhile.
    """
    source = ScriptedSource(clock)
    manager = TokenManager(source, clock=clock)
    async with manager:
        first = await manager.get()
    assert manager.peek() is None
    await clock.advance(minutes=30)
    async with manager:
        assert manager.peek() is first
        assert await manager.get() is first
        await clock.advance(minutes=20)
        assert source.fetches == 2
    await clock.advance(hours=5)
    async with manager:
        assert (await manager.get()).valid_at(clock.time())
    assert source.fetches == 3


@virtual
@pytest.mark.parametrize("error", [down(), GrantRejected("invalid_grant")])
async def test_entering_again_after_a_failure(clock, error):
    """R3, L1: after a close in an outage the next start is a cold one: callers wait for its fetch and its token."""
    source = ScriptedSource(clock, latency=1.0)
    source.error = error
    manager = TokenManager(source, clock=clock)
    async with manager:
        with pytest.raises(TokenUnavailable if error.args == ("connection refused",) else GrantRejected):
            await manager.get()
    await clock.advance(hours=1)
    source.error = None
    async with manager:
        await clock.advance(0.5)
        assert (await manager.get()).access_token == "token-2"
    assert source.fetches == 2


def test_two_runs_with_one_manager():
    """L1: one manager in two asyncio.run, closed or not in the first, under contention in both."""
    fetches = 0

    async def fetch() -> tuple[str, float]:
        nonlocal fetches
        fetches += 1
        await asyncio.sleep(0.005)
        return f"t{fetches}", 3600.0

    manager = TokenManager(source_for=lambda key: fetch)

    async def main() -> None:
        async with manager:
            await asyncio.gather(*(manager.get(key) for key in range(20) for _ in range(5)))

    asyncio.run(main())
    asyncio.run(main())
    assert fetches == 20


def test_not_closed():
    """L1: a manager that is dropped without being closed says so."""

    async def main() -> None:
        await TokenManager(lambda: ("t", 60.0)).start()
        await asyncio.sleep(0)

    with pytest.warns(ResourceWarning, match="not closed"):  # noqa: PT031
        asyncio.run(main())
        gc.collect()


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_managers_do_not_travel(take):
    """Trap 78, S1: a manager is neither pickled nor copied, and says what to do instead."""
    with pytest.raises(TypeError, match="share what they hold by a store"):
        take(TokenManager(time.time))


# Bad arguments


class ASource:
    async def fetch(self, request: Any) -> str:
        return "t"


async def a_function() -> str:
    return "t"


async def watching(event: Any) -> None: ...


BAD: dict[str, tuple[str, Callable[[], Any]]] = {
    "nothing": ("source", TokenManager),
    "both": ("source_for", lambda: TokenManager(a_function, source_for=lambda key: a_function)),
    "class": ("source", lambda: TokenManager(ASource)),
    "coroutine object": ("source", lambda: TokenManager(a_function())),
    "string": ("source", lambda: TokenManager("https://id.example.com/token")),
    "number": ("source", lambda: TokenManager(5)),
    "empty mapping": ("source", lambda: TokenManager({})),
    "None key": ("None", lambda: TokenManager({None: a_function})),
    "class in mapping": (r"source\['a'\]", lambda: TokenManager({"a": ASource})),
    "nonsense in mapping": (r"source\['a'\]", lambda: TokenManager({"a": None})),
    "source_for": ("source_for", lambda: TokenManager(source_for="x")),
    "async source_for": ("source_for", lambda: TokenManager(source_for=watching)),
    "start": ("start", lambda: TokenManager(a_function, start="eager")),
    "start, source_for": ("start", lambda: TokenManager(source_for=lambda key: a_function, start="warm")),
    "policy": ("policy", lambda: TokenManager(a_function, policy=300)),
    "retry": ("retry", lambda: TokenManager(a_function, retry=RefreshPolicy())),
    "store": ("store", lambda: TokenManager(a_function, store={}, namespace="")),
    "namespace": ("namespace", lambda: TokenManager(a_function, namespace=5)),
    "clock": ("clock", lambda: TokenManager(a_function, clock=object())),
    "observers": ("observers", lambda: TokenManager(a_function, observers=print)),
    "observer": ("observers", lambda: TokenManager(a_function, observers=[5])),
    "async observer": ("observers", lambda: TokenManager(a_function, observers=[watching])),
    "unknown": ("lead_time", lambda: TokenManager(a_function, lead_time=300)),
    **{
        f"{name}={value!r}": (name, lambda name=name, value=value: TokenManager(a_function, **{name: value}))
        for name in ("fetch_timeout", "start_timeout", "close_grace", "idle_after", "concurrency")
        for value in (-1, "5", True, float("nan"), float("inf"), *([] if name == "close_grace" else [0]))
    },
    "concurrency 1.5": ("concurrency", lambda: TokenManager(a_function, concurrency=1.5)),
    **{
        f"policy {name}={value!r}": (name, lambda name=name, value=value: RefreshPolicy(**{name: value}))
        for name in ("lead_fraction", "lead_time", "jitter", "default_lifetime")
        for value in (-1, "5", True, float("nan"), float("inf"), *([] if name == "jitter" else [0]))
    },
    **{
        f"retry {name}={value!r}": (name, lambda name=name, value=value: RetryPolicy(**{name: value}))
        for name in ("first", "factor", "cap", "jitter", "retry_after_cap", "probe", "patience")
        for value in (-1, "5", True, float("nan"), float("inf"))
    },
}


@pytest.mark.parametrize(("parameter", "make"), BAD.values(), ids=BAD)
async def test_bad_arguments(parameter, make):
    """L1: a bad argument is an error at construction that names it, and nothing is started."""
    before = asyncio.all_tasks()
    with pytest.raises((TypeError, ValueError), match=parameter):
        make()
    assert asyncio.all_tasks() == before


@virtual
async def test_wrong_keys(clock):
    """R1: a key where there is but one, none where there are several, and an unknown one, each say so."""
    source = ScriptedSource(clock)
    async with TokenManager(source, clock=clock) as single, TokenManager({"a": source}, clock=clock) as keyed:
        for method in ("get", "refresh"):
            with pytest.raises(TypeError, match="takes no key"):
                await getattr(single, method)("a")
            with pytest.raises(TypeError, match="say which"):
                await getattr(keyed, method)()
            with pytest.raises(LookupError, match="'b'"):
                await getattr(keyed, method)("b")
        for method in ("peek", "handle", "subscribe", "auth"):
            with pytest.raises(TypeError):
                getattr(single, method)("a")
            with pytest.raises(TypeError):
                getattr(keyed, method)()
            with pytest.raises(LookupError):
                getattr(keyed, method)("b")
        assert list(keyed.snapshot().keys) == ["a"]


# Eviction


@virtual
async def test_idle_keys_go_and_used_ones_stay(clock):
    """F6, trap 77: a key nobody asked for is dropped; one that is read on the hot path alone, by handle too, stays."""
    source, recorder = ScriptedSource(clock), Recorder()
    async with TokenManager(
        source_for=lambda key: source, idle_after=600.0, clock=clock, observers=[recorder]
    ) as manager:
        handle = manager.handle("handled")
        await asyncio.gather(manager.get("idle"), manager.get("used"), handle.get())
        for _ in range(30):
            await clock.advance(100.0)
            assert await manager.get("used")
            assert await handle.get()
        assert sorted(manager.snapshot().keys) == ["handled", "used"]
        assert [event.key for event in recorder.of(events.KeyEvicted)] == ["idle"]
        fetches = source.fetches
        assert await manager.get("idle")
        assert source.fetches == fetches + 1


@virtual
async def test_idle_keys_go_when_the_timer_is_late(clock):
    """F6: a key whose idle time has ended is dropped, also if the supervisor comes to it some moments later."""
    source = ScriptedSource(clock, lifetime=100_000.0)
    async with TokenManager(source_for=lambda key: source, idle_after=600.0, clock=clock) as manager:
        await manager.get("idle")
        # After the first of these times the key counts as unused, and after the second one it goes.
        await clock.advance(1195.0)
        assert list(manager.snapshot().keys) == ["idle"]
        clock.step(0.7)
        await clock.advance(10.0)
        assert not manager.snapshot().keys


@virtual
@pytest.mark.parametrize("use", ["peek", "get_sync"])
async def test_keys_used_without_a_loop_stay(clock, use):
    """F6: a key that is only peeked at, or asked for by callers without a loop, is in use, and never dropped."""
    source, recorder = ScriptedSource(clock, lifetime=1000.0), Recorder()
    async with TokenManager(
        source_for=lambda key: source, idle_after=600.0, clock=clock, observers=[recorder]
    ) as manager:
        await asyncio.gather(manager.get("used"), manager.get("idle"))
        for _ in range(200):
            await clock.advance(50.0)
            assert getattr(manager, use)("used") is not None
        assert [event.key for event in recorder.of(events.KeyEvicted)] == ["idle"]
        # Callers that await it are back on the hot path after one call.
        token = await manager.get("used")
        assert manager._life.registry.keys["used"].valid_until == token.expires_at


@virtual
async def test_what_is_never_evicted(clock):
    """F6: a key with a flight, a waiter, a subscriber or a refresh token held in memory alone is never dropped."""
    plain, failing = ScriptedSource(clock, lifetime=None), ScriptedSource(clock)
    failing.error = down(retry_after=250.0)
    rotating = ScriptedSource(clock)
    rotating.answer = lambda request: {
        "access_token": f"a{rotating.fetches}", "expires_in": 3600, "refresh_token": f"r{rotating.fetches}"
    }  # fmt: skip
    hanging = GatedSource(clock, lifetime=5000.0)
    sources = {"plain": plain, "subscribed": plain, "waiting": failing, "rotating": rotating, "hanging": hanging}
    manager = TokenManager(source_for=sources.__getitem__, idle_after=60.0, fetch_timeout=1000.0, clock=clock)
    async with manager:
        tokens = manager.subscribe("subscribed")
        assert await anext(tokens)
        waiting = [
            asyncio.ensure_future(call) for call in (manager.get("waiting", timeout=5000.0), manager.get("hanging"))
        ]
        await asyncio.gather(manager.get("plain"), manager.get("rotating"))
        await clock.advance(900.0)
        assert sorted(manager.snapshot().keys) == ["hanging", "rotating", "subscribed", "waiting"]
        hanging.release()
        failing.error = None
        await asyncio.gather(*waiting)
        tokens.close()
        del tokens
        await clock.advance(900.0)
        assert sorted(manager.snapshot().keys) == ["rotating"]


@virtual
async def test_eviction_meets_a_reader(clock):
    """F6: a reader at the very instant of eviction is served, in either order."""
    source = ScriptedSource(clock)
    async with TokenManager(source_for=lambda key: source, idle_after=50.0, clock=clock) as manager:
        for _ in range(60):
            assert (await manager.get("a")).valid_at(clock.time())
            await clock.advance(50.0)
            assert (await manager.get("a")).valid_at(clock.time())
            await clock.advance(100.0)


# Watching


@virtual
async def test_counts(clock):
    """L2: a snapshot counts calls of sources, tokens, tokens of peers, failures, rejections and refusals."""

    def counts(manager):
        shown = manager.snapshot()
        return [
            shown.fetches, shown.refreshed, shown.adopted, shown.failures, shown.rejections, shown.refusals
        ]  # fmt: skip

    source, store = ScriptedSource(clock), MemoryStore(clock=clock)
    one = TokenManager(source, store=store, namespace="", clock=clock)
    assert counts(one) == [0, 0, 0, 0, 0, 0]
    async with one, TokenManager(source, store=store, namespace="", clock=clock) as peer:
        await one.get()
        await peer.get()
        assert counts(one) == [1, 1, 0, 0, 0, 0]
        assert counts(peer) == [0, 0, 1, 0, 0, 0]
        await clock.advance(60.0)
        await one.refused(await one.get())
        assert counts(one) == [2, 2, 0, 0, 0, 1]
        source.error = down()
        with pytest.raises(TokenUnavailable):
            await one.refresh()
        assert counts(one) == [3, 2, 0, 1, 0, 1]
        source.error = GrantRejected("invalid_grant")
        with pytest.raises(GrantRejected):
            await one.refresh()
        assert counts(one) == [4, 2, 0, 1, 1, 1]
    assert counts(one) == [4, 2, 0, 1, 1, 1]


@virtual
async def test_events_tell_the_story(clock):
    """L2: each thing that happens is one event, in order, with its numbers."""
    source, recorder = ScriptedSource(clock, latency=0.5), Recorder()
    policy = RefreshPolicy(jitter=0.0)
    async with TokenManager({"a": source}, policy=policy, clock=clock, observers=[recorder]) as manager:
        first = await manager.get("a")
        await clock.advance(2882.0)
        source.error = down("no route")
        await manager.invalidate(await manager.get("a"), "a")
        await clock.advance(1.0)
    names = [type(event).__name__ for event in recorder.events]
    assert names == [
        "ManagerStarted", "FetchStarted", "TokenRefreshed", "CallerWaited", "FetchStarted", "TokenRefreshed",
        "TokenRefused", "FetchStarted", "RefreshFailed", "ManagerClosing",
    ]  # fmt: skip
    refreshed = recorder.of(events.TokenRefreshed)[0]
    assert refreshed.fingerprint == first.fingerprint
    assert refreshed.took == pytest.approx(0.5)
    assert refreshed.due_at == pytest.approx(first.issued_at + 2880.0)
    assert [event.reason for event in recorder.of(events.FetchStarted)] == ["absent", "due", "refused"]
    failed = recorder.of(events.RefreshFailed)[0]
    assert (failed.failures, failed.serving, str(failed.error)) == (1, False, "no route")


@virtual
async def test_snapshot_and_health(clock):
    """
    L2: snapshot() describes the state and health() the success of the work, in every state, before the start and after.
    """
    source = GatedSource(clock, lifetime=100.0)
    manager = TokenManager({"a": source}, policy=RefreshPolicy(jitter=0.0), clock=clock)
    assert manager.snapshot().state == "new"
    assert not manager.health().alive
    async with manager:
        waiting = asyncio.ensure_future(manager.get("a"))
        await source.reached()
        await asyncio.sleep(0)
        known = manager.snapshot().keys["a"]
        assert (known.validity, known.in_flight, known.waiters) == ("absent", True, 1)
        assert not manager.health().ready
        source.release()
        token = await waiting
        known = manager.snapshot().keys["a"]
        assert (known.validity, known.condition, known.fingerprint) == ("fresh", "ok", token.fingerprint)
        assert known.due_at == known.next_attempt_at == pytest.approx(token.issued_at + 80.0)
        assert manager.health().ready
        source.hold()
        await clock.advance(81.0)
        assert manager.snapshot().keys["a"].validity == "stale"
        await clock.advance(19.5)
        assert manager.snapshot().keys["a"].validity == "expired"
        source.release()
    assert manager.snapshot().state == "closed"
    assert not manager.health().alive
    assert not manager.health().ready


@virtual
async def test_subscriptions(clock):
    """L2: a subscription begins with the valid token, goes on with each new one, gives a slow reader the newest."""
    source = ScriptedSource(clock, lifetime=100.0)
    async with TokenManager(source, policy=RefreshPolicy(jitter=0.0), clock=clock) as manager:
        tokens = manager.subscribe()
        assert (await anext(tokens)).access_token == "token-1"
        assert (await anext(tokens)).access_token == "token-2"
        await clock.advance(410.0)
        assert (await anext(tokens)).access_token == f"token-{source.fetches}"
        waiting = asyncio.ensure_future(anext(tokens))
        await clock.advance(1.0)
        with pytest.raises(RuntimeError, match="one reader"):
            await anext(tokens)
        waiting.cancel()
        await clock.advance(1.0)
        late = manager.subscribe()
        assert (await anext(late)).access_token == f"token-{source.fetches}"
        late.close()
        with pytest.raises(StopAsyncIteration):
            await anext(late)
        reading = asyncio.ensure_future(anext(tokens))
        await clock.advance(1.0)
    with pytest.raises(StopAsyncIteration):
        await reading


@virtual
async def test_a_subscription_waits_out_an_outage(clock):
    """L2: a subscription to a key without a token ends neither with its failure nor its rejection."""
    source = ScriptedSource(clock)
    source.error = GrantRejected("invalid_grant")
    async with TokenManager(source_for=lambda key: source, clock=clock) as manager:
        async with manager.subscribe("a") as tokens:
            reading = asyncio.ensure_future(anext(tokens))
            await clock.advance(1000.0)
            assert not reading.done()
            source.error = None
            await clock.advance(301.0)
            assert reading.result().valid_at(clock.time())


@virtual
async def test_a_subscription_that_could_not_begin(clock):
    """L2: a subscription whose first step failed is begun by the next one, and does not wait for ever."""
    source, known = ScriptedSource(clock), set[str]()

    def source_for(key: str) -> Any:
        if key not in known:
            raise LookupError(key)
        return source

    async with TokenManager(source_for=source_for, clock=clock) as manager, manager.subscribe("a") as tokens:
        with pytest.raises(LookupError):
            await anext(tokens)
        known.add("a")
        async with asyncio.timeout(5.0):
            assert (await anext(tokens)).access_token == "token-1"


@virtual
@pytest.mark.parametrize("mode", ["lazy", "warm", "require"])
async def test_signed_out_without_a_store(clock, mode):
    """F4, trap 42: a key that was signed out stays so, through time and another start, until refresh()."""
    source, recorder = ScriptedSource(clock), Recorder()
    manager = TokenManager({"a": source, "b": source}, clock=clock, start=mode, observers=[recorder])
    async with manager:
        await manager.get("a")
        await manager.revoke("a")
        await clock.advance(hours=10)
        with pytest.raises(GrantRejected, match="signed out"):
            await manager.get("a", timeout=60.0)
    if mode == "require":
        with pytest.raises(GrantRejected, match="signed out"):
            await manager.start()
        return
    async with manager:
        await clock.advance(hours=10)
        with pytest.raises(GrantRejected, match="signed out"):
            await manager.get("a")
        assert [event.key for event in recorder.of(events.FetchStarted)].count("a") == 1
        token = await manager.refresh("a")
        assert await manager.get("a") is token
        await clock.advance(hours=10)
        assert await manager.get("a") is not token


@virtual
async def test_forget(clock):
    """L2: forget() begins anew, under a fetch too: its late answer is dropped and its waiters get the next."""
    source = GatedSource(clock)
    async with TokenManager(source_for=lambda key: source, clock=clock) as manager:
        waiting = asyncio.ensure_future(manager.get("a"))
        await source.reached()
        assert await manager.forget("a")
        assert not await manager.forget("b")
        await clock.advance(0.1)
        source.release()
        token = await waiting
        assert token.access_token == "token-2"
        assert await manager.get("a") is token
        await clock.advance(1.0)
        assert await manager.get("a") is token
        assert not manager._life.session.limits._limits

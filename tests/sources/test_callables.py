"""Any function as a source."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import subprocess
import sys
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from tests.gated import until
from tests.sources.wire import a_request

from evertoken import (
    Answer,
    CallableSource,
    FetchRequest,
    GrantRejected,
    Token,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken._engine.function_threads import THREADS, threads_of

PAIR = ("token", 3600.0)


async def asynchronous() -> tuple[str, float]:
    return PAIR


def plain() -> tuple[str, float]:
    return PAIR


async def with_current(current: Token | None) -> tuple[str, float]:
    return ("first" if current is None else f"after-{current.access_token}", 3600.0)


def plain_with_current(current: Token | None) -> tuple[str, float]:
    return ("first" if current is None else f"after-{current.access_token}", 3600.0)


class Holder:
    async def method(self) -> tuple[str, float]:
        return PAIR

    def plain(self) -> tuple[str, float]:
        return PAIR

    @staticmethod
    async def static() -> tuple[str, float]:
        return PAIR

    @classmethod
    async def of_class(cls) -> tuple[str, float]:
        return PAIR


class Callable:
    async def __call__(self) -> tuple[str, float]:
        return PAIR


class PlainCallable:
    def __call__(self) -> tuple[str, float]:
        return PAIR


async def two(a: str, b: float) -> tuple[str, float]:
    return a, b


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


FORMS = {
    "async": asynchronous,
    "plain": plain,
    "lambda": lambda: PAIR,
    "lambda of coroutine": lambda: asynchronous(),  # noqa: PLW0108 - that it is one is the point
    "partial": functools.partial(two, "token", 3600.0),
    "partial by name": functools.partial(two, a="token", b=3600.0),
    "partial of plain": functools.partial(plain),
    "method": Holder().method,
    "plain method": Holder().plain,
    "static": Holder.static,
    "class method": Holder.of_class,
    "callable": Callable(),
    "plain callable": PlainCallable(),
    "decorated": decorated(asynchronous),
    "defaults": lambda _current=None, *args, **kwargs: PAIR,
    "builtin": functools.partial(dict, access_token="token", expires_in=3600.0),
}


@pytest.mark.parametrize("form", FORMS)
async def test_forms(form):
    """R3: every callable without arguments, async or plain, is a source."""
    async with TokenManager(FORMS[form]) as manager:
        token = await manager.get()
    assert (token.access_token, token.lifetime) == PAIR


@pytest.mark.parametrize(
    "function",
    [
        with_current,
        plain_with_current,
        lambda current: with_current(current),  # noqa: PLW0108 - that it is one is the point
        functools.partial(lambda prefix, current: with_current(current), "x"),
    ],
    ids=["async", "plain", "lambda", "partial"],
)
async def test_one_argument_is_the_token_before(function):
    """R3: a function that takes one argument is given the token before, or None."""
    async with TokenManager(function) as manager:
        assert (await manager.get()).access_token == "first"
        assert (await manager.refresh()).access_token == "after-first"


async def test_an_optional_argument_stays_out():
    """R3: an argument that has a default is the function's own."""
    seen = []

    async def fetch(retries: int = 3, *, verbose: bool = False) -> tuple[str, float]:
        seen.append((retries, verbose))
        return PAIR

    async with TokenManager(fetch) as manager:
        await manager.get()
    assert seen == [(3, False)]


@pytest.mark.parametrize(
    "function", [two, lambda a, b: None, lambda *, a: None, lambda a, *, b: None, pow], ids=range(5)
)
def test_wrong_signatures(function):
    """R3: a function that wants more than one argument, or one by name, is rejected at construction."""
    with pytest.raises(TypeError, match="must take no argument"):
        TokenManager(function)
    with pytest.raises(TypeError, match="must take no argument"):
        CallableSource(function)


@pytest.mark.parametrize("thing", ["text", 7, None, [], Holder, object, b"", PAIR], ids=repr)
def test_what_is_no_source(thing):
    """R3: what cannot be called, and a class, are rejected at construction, naming the parameter."""
    with pytest.raises(TypeError, match="source"):
        TokenManager(thing)
    with pytest.raises(TypeError, match=r"source|function"):
        CallableSource(thing)


def test_a_coroutine_is_no_source():
    """R3: a function called too early is rejected, and its coroutine is closed without a warning."""
    with pytest.raises(TypeError, match="leave out the parentheses"):
        TokenManager(asynchronous())
    gc.collect()


async def test_a_plain_function_does_not_block_the_loop():
    """R3: a plain function runs in a worker thread; the loop goes on meanwhile."""
    began, go = threading.Event(), threading.Event()
    threads: list[int] = []

    def blocking() -> tuple[str, float]:
        threads.append(threading.get_ident())
        began.set()
        assert go.wait(30)
        return PAIR

    async with TokenManager(blocking) as manager:
        waiting = asyncio.create_task(manager.get())
        await until(began.is_set)
        assert not waiting.done()
        go.set()
        assert (await waiting).access_token == "token"
    assert threads != [threading.get_ident()]


async def test_a_hung_function_hangs_nobody():
    """F7: a plain function that never returns is given up at the deadline, and closing does not wait for it."""
    go, ended = threading.Event(), threading.Event()

    def hung() -> Any:
        go.wait()
        ended.set()

    async with TokenManager(hung, fetch_timeout=0.1) as manager:
        with pytest.raises(TokenUnavailable, match="no answer within"):
            await manager.get()
    assert not ended.is_set()
    go.set()
    assert ended.wait(20.0)


NOW = 4e9

ACCEPTED: list[tuple[Any, str, float | None]] = [
    (Token("t", issued_at=1e9, expires_at=NOW), "t", NOW - 1e9),
    (Answer({"access_token": "t", "expires_in": 60}), "t", 60.0),
    ({"access_token": "t", "expires_in": "60"}, "t", 60.0),
    (MappingProxyType({"access_token": "t"}), "t", None),
    (("t", 60), "t", 60.0),
    (("t", 60.5), "t", 60.5),
    (("t", "60"), "t", 60.0),
    (("t", None), "t", None),
    ("t", "t", None),
]


@pytest.mark.parametrize(("returned", "value", "lifetime"), ACCEPTED, ids=range(len(ACCEPTED)))
async def test_what_may_be_returned(returned, value, lifetime):
    """T1: a Token, an Answer, a mapping, a pair and a string are tokens."""
    async with TokenManager(lambda: returned) as manager:
        token = await manager.get()
    assert token.access_token == value
    assert token.lifetime == (lifetime if lifetime is None else pytest.approx(lifetime))


REFUSED: list[Any] = [
    None,
    7,
    True,
    b"token",
    "",
    [],
    ["t", 60],
    (),
    ("t",),
    ("t", 60, "more"),
    (None, 60),
    (b"t", 60),
    ("", 60),
    ("t", 0),
    ("t", -1),
    {},
    {"access_token": None},
    {"access_token": 7},
    {"token": "t"},
    "line\nbreak",
    "sp ace",
    object(),
    Token("t", issued_at=0.0, expires_at=1.0),
    {1: 2},
]


@pytest.mark.parametrize("returned", REFUSED, ids=range(len(REFUSED)))
async def test_what_may_not_be_returned(returned):
    """F4: any other result is a transient failure. Its message describes the mistake, and shows no value."""
    async with TokenManager(lambda: returned) as manager:
        with pytest.raises(TokenUnavailable) as caught:
            await manager.get()
        assert isinstance(caught.value.__cause__, TransientRefreshError)
        assert manager.health().alive


async def test_an_async_generator_is_none():
    """F4: a generator function is not a source: its first call fails, and the message names the result."""

    async def generating() -> Any:
        yield PAIR

    async with TokenManager(generating) as manager:
        with pytest.raises(TokenUnavailable, match="async_generator"):
            await manager.get()


class Odd(Exception):
    def __str__(self) -> str:
        msg = "even its words"
        raise RuntimeError(msg)


RAISED = [
    ValueError("v"),
    OSError("o"),
    KeyError("k"),
    TimeoutError(),
    StopIteration(1),
    StopAsyncIteration(),
    GeneratorExit(),
    asyncio.CancelledError(),
    asyncio.InvalidStateError(),
    RecursionError(),
    MemoryError(),
    ExceptionGroup("g", [ValueError("v")]),
    BaseExceptionGroup("g", [asyncio.CancelledError()]),
    BaseException("b"),
    TransientRefreshError("t", retry_after=1.0),
    TokenUnavailable("u"),
    NotImplementedError(),
    Odd(),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("form", ["async", "plain"])
async def test_raising_anything(error, form):
    """F5: any exception of a function fails that fetch alone: the supervisor lives, and the next fetch works."""
    calls = 0

    def plainly() -> tuple[str, float]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise error
        return PAIR

    async def later() -> tuple[str, float]:
        return plainly()

    async with TokenManager(plainly if form == "plain" else later) as manager:
        async with asyncio.timeout(5):
            with pytest.raises(TokenUnavailable) as caught:
                await manager.get()
            assert isinstance(caught.value.__cause__, TransientRefreshError)
            assert manager.health().alive
            assert (await manager.refresh()).access_token == "token"


@pytest.mark.parametrize("form", ["async", "plain"])
async def test_raising_a_rejection(form):
    """F4: a function may say that a person must act."""

    def plainly() -> Any:
        msg = "invalid_grant"
        raise GrantRejected(msg, "log in again")

    async def later() -> Any:
        plainly()

    async with TokenManager(plainly if form == "plain" else later) as manager:
        with pytest.raises(GrantRejected, match="log in again"):
            await manager.get()


async def test_secrets_in_what_is_raised():
    """S1: the words of a foreign exception reach the caller without what looks like a secret."""

    def failing() -> Any:
        msg = "POST failed: refresh_token=1//0gAAAAbcd12345678 for eyJhbGciOiJIUzI1NiJ9.e30.abc"
        raise RuntimeError(msg)

    async with TokenManager(failing) as manager:
        with pytest.raises(TokenUnavailable, match="POST failed") as caught:
            await manager.get()
    assert "0gAAAA" not in str(caught.value)
    assert "eyJ" not in str(caught.value)


async def test_a_source_whose_fetch_is_plain():
    """F4: a source whose fetch is not async fails with a message that describes the mistake."""

    class Plain:
        def fetch(self, request: Any) -> Any:
            return PAIR

    async with TokenManager(Plain()) as manager:
        with pytest.raises(TokenUnavailable, match="await"):
            await manager.get()


async def test_directly():
    """R3: a CallableSource is a source by itself, with a provider of one's choice, and a repr that names it."""
    source = CallableSource(asynchronous, provider="idp")
    assert await source.fetch(a_request()) == PAIR
    assert source.provider == "idp"
    assert repr(source) == "CallableSource(asynchronous)"
    assert "partial" in repr(CallableSource(functools.partial(two, "secret-token", 1.0)))
    assert "secret-token" not in repr(CallableSource(functools.partial(two, "secret-token", 1.0)))
    returned = await CallableSource(lambda: {"access_token": "a"}).fetch(a_request())
    assert isinstance(returned, Mapping)


@pytest.mark.parametrize("form", ["async", "plain", "lambda"])
@pytest.mark.parametrize("takes", [True, False])
async def test_a_function_that_takes_the_token_counts_as_sending(form, takes):
    """K4: a function that takes the token before is assumed to present it: the request counts as sent before."""
    request = a_request(Token("a", issued_at=0.0, refresh_token="r"))
    seen = []

    async def later(_current: Token | None) -> tuple[str, float]:
        seen.append(request.sent)
        return PAIR

    def plainly(_current: Token | None) -> tuple[str, float]:
        seen.append(request.sent)
        return PAIR

    made: Any = {"async": later, "plain": plainly, "lambda": lambda current: later(current)}[form]  # noqa: PLW0108
    if not takes:
        made = functools.partial(made, None)
    assert await CallableSource(made).fetch(request) == PAIR
    assert seen == [takes]


@pytest.mark.parametrize("form", ["async", "plain"])
async def test_a_function_is_not_called_where_nothing_may_be_sent(form):
    """K4: where the lease has ended, a function that takes the token before is not called, and keeps no thread."""
    calls = []

    def plainly(current: Token | None) -> None:
        calls.append(current)

    async def later(current: Token | None) -> None:
        calls.append(current)

    def guard() -> None:
        msg = "the lease has ended"
        raise TransientRefreshError(msg)

    source = CallableSource(plainly if form == "plain" else later)
    for _ in range(2 * THREADS):
        with pytest.raises(TransientRefreshError, match="lease"):
            await source.fetch(FetchRequest(None, None, 5.0, guard=guard))
    assert calls == []


class Hanging:
    """A function whose calls hang until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = 0
        self.ended = 0
        self.lock = threading.Lock()

    def __call__(self) -> tuple[str, float]:
        with self.lock:
            self.began += 1
        assert self.go.wait(60)
        with self.lock:
            self.ended += 1
        return PAIR


async def abandoned(source: CallableSource, calls: int) -> None:
    tasks = [asyncio.create_task(source.fetch(a_request())) for _ in range(calls)]
    await until(lambda: source.function.began == calls)  # type: ignore[attr-defined]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_hung_threads_keep_their_places():
    """F6: a thread whose call was given up keeps its place; where all are taken, a fetch fails at once."""
    hanging = Hanging()
    sources = [CallableSource(hanging) for _ in range(3)]
    assert {source.function for source in sources} == {hanging}
    await abandoned(sources[0], THREADS)
    for source in sources:
        with pytest.raises(TransientRefreshError, match=f"all {THREADS} threads") as caught:
            async with asyncio.timeout(10):
                await source.fetch(a_request())
        assert not caught.value.ambiguous
    assert hanging.began == THREADS
    # Other functions are not concerned.
    assert await CallableSource(plain).fetch(a_request()) == PAIR
    hanging.go.set()
    await until(lambda: hanging.ended == THREADS)
    assert await sources[1].fetch(a_request()) == PAIR


async def test_a_call_waits_for_a_place_that_will_be_free():
    """F6: while the calls of a function are waited for, more of them wait for a place, and all get their answer."""
    hanging = Hanging()
    source = CallableSource(hanging)
    tasks = [asyncio.create_task(source.fetch(a_request())) for _ in range(5 * THREADS)]
    await until(lambda: hanging.began == THREADS)
    for task in tasks[-THREADS:]:
        task.cancel()
    hanging.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[:-THREADS] == [PAIR] * (4 * THREADS)
    assert hanging.began == 4 * THREADS


async def test_a_call_that_waits_is_told_when_all_hang():
    """F6: a call that waits for a place fails as soon as every place is taken by a call that was given up."""
    hanging = Hanging()
    source = CallableSource(hanging)
    first = [asyncio.create_task(source.fetch(a_request())) for _ in range(THREADS)]
    await until(lambda: hanging.began == THREADS)
    waiting = asyncio.create_task(source.fetch(a_request()))
    await asyncio.sleep(0)
    for task in first:
        task.cancel()
    with pytest.raises(TransientRefreshError, match="all"):
        await waiting
    hanging.go.set()
    await until(lambda: hanging.ended == THREADS)


def test_loops_share_the_threads_of_a_function():
    """F6: sources on several loops in several threads share the places of one function, and wake each other."""
    hanging = Hanging()
    results: list[Any] = []

    async def ask() -> None:
        source = CallableSource(hanging)
        results.extend(await asyncio.gather(*(source.fetch(a_request()) for _ in range(THREADS))))

    loops = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(3)]
    for thread in loops:
        thread.start()

    async def all_began() -> None:
        await until(lambda: hanging.began == THREADS)

    asyncio.run(all_began())
    hanging.go.set()
    for thread in loops:
        thread.join(60)
    assert results == [PAIR] * 3 * THREADS


async def test_a_method_is_one_function():
    """F6: a bound method is the same function each time it is asked for; that of another object is another."""
    one, other = Holder(), Holder()
    threads = {id(CallableSource(holder.plain)._threads) for holder in (one, one, other)}
    kept = [threads_of(one.plain), threads_of(one.plain), threads_of(other.plain)]
    assert kept[0] is kept[1] is not kept[2]
    assert threads


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __call__(self) -> tuple[str, float]:
        return PAIR


async def test_an_unhashable_function():
    """R3: a callable object may be unhashable, or equal to others: it is known by its identity."""
    one, other = Unhashable(), Unhashable()
    assert threads_of(one) is not threads_of(other)
    assert await CallableSource(one).fetch(a_request()) == PAIR


async def test_a_function_sees_the_context_of_its_fetch():
    """R3: a plain function sees the context variables of the fetch, and its changes stay in its own copy."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def looking() -> tuple[str, float]:
        seen.append(variable.get())
        variable.set("inside")
        return PAIR

    variable.set("outside")
    source = CallableSource(looking)
    await source.fetch(a_request())
    await source.fetch(a_request())
    assert (seen, variable.get()) == (["outside", "outside"], "outside")


async def test_the_threads_are_daemons_and_end():
    """L1: a thread of a function is a daemon, and ends with the call."""
    names = []

    def looking() -> tuple[str, float]:
        thread = threading.current_thread()
        names.append(thread.daemon)
        return PAIR

    before = threading.active_count()
    for _ in range(3):
        await CallableSource(looking).fetch(a_request())
    assert names == [True] * 3
    await until(lambda: threading.active_count() <= before)


async def test_no_thread_to_have(monkeypatch):
    """F4: where the system has no thread left, the fetch fails as transient, and its place is free again."""

    def failing(self: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    source = CallableSource(plain)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", failing)
        for _ in range(2 * THREADS):
            with pytest.raises(TransientRefreshError, match="no thread"):
                await source.fetch(a_request())
    assert await source.fetch(a_request()) == PAIR


def test_the_process_ends_while_a_function_hangs():
    """L1: a function that hangs does not keep the process from ending."""
    program = """
import asyncio, time
from evertoken import TokenManager, TokenUnavailable

def hung():
    time.sleep(600)

async def main():
    async with TokenManager(hung, fetch_timeout=0.1, close_grace=0.1) as tokens:
        try:
            await tokens.get()
        except TokenUnavailable:
            print("unavailable")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "unavailable\n"


def test_a_child_process_has_none_of_the_threads():
    """L1: after a fork the child has all places: the hung threads are those of its parent."""
    program = """
import asyncio, os, threading, time, warnings
warnings.simplefilter("ignore")
from evertoken import CallableSource, FetchRequest

parent = os.getpid()

def hung():
    if os.getpid() == parent:
        time.sleep(600)
    return "token", 60.0

async def main():
    source = CallableSource(hung)
    tasks = [asyncio.create_task(source.fetch(FetchRequest(None, None, 5.0))) for _ in range(8)]
    for _ in range(5):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return source

source = asyncio.run(main())
if os.fork() == 0:
    print(asyncio.run(source.fetch(FetchRequest(None, None, 5.0)))[0], flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "token\n"

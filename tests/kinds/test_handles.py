"""
The functions of a handle for libraries that do not know it: bare text, one more attempt, tokens pushed as they come.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import threading
import time
from typing import Any

import pytest
from tests.gated import until

from evertoken import FetchRequest, GrantRejected, RefreshPolicy, RetryPolicy, Token, TokenManager, TokenUnavailable


class Source:
    """token-1, token-2, ..., and why each was asked for."""

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.reasons: list[str] = []
        self.lifetime = lifetime
        self.error: Exception | None = None

    async def fetch(self, request: FetchRequest) -> tuple[str, float]:
        self.reasons.append(request.reason)
        if self.error is not None:
            raise self.error
        return f"token-{len(self.reasons)}", self.lifetime


class RefusedError(Exception):
    """The error that an SDK raises for a 401."""


class OtherError(Exception):
    """Anything else."""


@pytest.fixture
def source() -> Source:
    return Source()


READS = ["get", "get_sync", "access_token", "access_token_sync"]


@pytest.mark.parametrize("through", ["handle", "manager"])
@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "token-0"),
        ({"timeout": 5.0}, "token-0"),
        ({"min_ttl": 50.0}, "token-0"),
        ({"min_ttl": 1000.0}, "token-1"),
        ({"min_ttl": 1000.0, "timeout": 5.0}, "token-1"),
    ],
)
async def test_every_reading_method(source, through, name, options, expected):
    """R2, R5: each reading method takes `min_ttl` and `timeout`, and the bare ones return text."""
    now = time.time()
    old = Token("token-0", issued_at=now - 3500.0, expires_at=now + 100.0)
    async with TokenManager({"a": source}, initial={"a": old}, policy=RefreshPolicy(lead_fraction=0.01)) as tokens:
        arguments = ("a",) if through == "manager" else ()
        method = getattr(tokens if through == "manager" else tokens.handle("a"), name)
        if name.endswith("_sync"):
            found = await asyncio.to_thread(method, *arguments, **options)
        else:
            assert inspect.iscoroutinefunction(method)
            found = await method(*arguments, **options)
    assert found == expected if name.startswith("access") else found.access_token == expected
    assert type(found) is (str if name.startswith("access") else Token)


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("option", ["min_ttl", "timeout"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), "5", True])
async def test_what_is_no_duration(source, name, option, value):
    """R2: an invalid duration is named in the error."""
    async with TokenManager(source) as tokens:
        method = functools.partial(getattr(tokens.handle(), name), **{option: value})
        with pytest.raises(ValueError, match=option):
            await (asyncio.to_thread(method) if name.endswith("_sync") else method())


@pytest.mark.parametrize("name", ["access_token", "access_token_sync"])
async def test_no_token(source, name):
    """R4, R5: a function that is called back raises what `get` raises."""
    source.error = GrantRejected("invalid_client")
    async with TokenManager(source) as tokens:
        method = getattr(tokens.handle(), name)
        with pytest.raises(GrantRejected):
            await (asyncio.to_thread(method) if name.endswith("_sync") else method())


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: copy.deepcopy({"a": [one]})["a"][0]])
@pytest.mark.parametrize("name", ["handle", "auth"])
async def test_copies(source, name, copied):
    """U1: a copy of a handle or of an auth is the same object, for clients copy their configuration."""
    async with TokenManager(source) as tokens:
        one = getattr(tokens, name)()
        assert copied(one) is one


@pytest.mark.parametrize("method", ["refused", "refused_sync"])
@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("through", ["handle", "manager"])
async def test_refused_by_value(source, method, by_value, through):
    """U1: a client that knows only the sent field reports by value. A late report costs nothing."""
    async with TokenManager(source) as tokens:
        reader: Any = tokens if through == "manager" else tokens.handle()
        first = await tokens.get()
        given = first.access_token if by_value else first
        for _ in range(2):
            report = functools.partial(getattr(reader, method), given)
            other = await (asyncio.to_thread(report) if method.endswith("_sync") else report())
            assert other.access_token == "token-2"
    assert source.reasons == ["absent", "refused"]


# attempt


class Api:
    """An SDK that is given a token in one of the ways there are, and refuses those that were revoked."""

    def __init__(self, handle: Any, *, error: type[Exception] = RefusedError) -> None:
        self.handle = handle
        self.revoked: set[str] = set()
        self.seen: list[str] = []
        self.error = error

    def check(self, token: str) -> str:
        self.seen.append(token)
        if token in self.revoked:
            raise self.error
        return f"served by {token}"

    async def taking(self, token: str) -> str:
        return self.check(token)

    async def taking_more(self, token: str, page: int = 1, *, size: int = 2) -> str:
        return self.check(token) if (page, size) == (1, 2) else "wrong"

    async def asking(self, page: str = "first") -> str:
        assert page == "first"
        return self.check(await self.handle.access_token())

    def taking_sync(self, token: str) -> str:
        return self.check(token)

    def asking_sync(self, *pages: str, size: int = 2) -> str:
        assert (pages, size) == ((), 2)
        return self.check(self.handle.access_token_sync())


CALLS = ["taking", "taking_more", "asking", "taking_sync", "asking_sync"]
TESTS = {
    "type": RefusedError,
    "base": Exception,
    "tuple": (OtherError, RefusedError),
    "function": lambda error: isinstance(error, RefusedError),
}


async def attempted(handle: Any, call: str, api: Api, refused: Any) -> Any:
    if call.endswith("_sync"):
        return await asyncio.to_thread(handle.attempt_sync, getattr(api, call), refused=refused)
    return await handle.attempt(getattr(api, call), refused=refused)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("refused", TESTS)
async def test_attempt_heals(source, call, refused):
    """U1: a call whose token was refused reports that token and is made once more with another."""
    async with TokenManager(source) as tokens:
        handle = tokens.handle()
        api = Api(handle)
        assert await attempted(handle, call, api, TESTS[refused]) == "served by token-1"
        api.revoked.add("token-1")
        assert await attempted(handle, call, api, TESTS[refused]) == "served by token-2"
    assert api.seen == ["token-1", "token-1", "token-2"]
    assert source.reasons == ["absent", "refused"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("raised", "refused", "seen", "fetches"),
    [
        (OtherError, RefusedError, 1, 1),
        (OtherError, lambda error: False, 1, 1),
        (RefusedError, (), 1, 1),
        # Refused again: no loop.
        (RefusedError, RefusedError, 2, 2),
    ],
)
async def test_attempt_gives_up(source, call, raised, refused, seen, fetches):
    """U1: another failure is the caller's at once, and so is a second refusal."""
    async with TokenManager(source) as tokens:
        handle = tokens.handle()
        api = Api(handle, error=raised)
        api.revoked.update(f"token-{number}" for number in range(9))
        with pytest.raises(raised):
            await attempted(handle, call, api, refused)
    assert (len(api.seen), len(source.reasons)) == (seen, fetches)


@pytest.mark.parametrize("call", CALLS)
async def test_attempt_in_the_cool_down(source, call):
    """U1: where there is no other token to be had, the refusal is the caller's, and nothing is fetched."""
    async with TokenManager(source) as tokens:
        handle = tokens.handle()
        api = Api(handle)
        api.revoked.update(f"token-{number}" for number in range(9))
        for _ in range(3):
            with pytest.raises(RefusedError):
                await attempted(handle, call, api, RefusedError)
    assert len(source.reasons) == 2


@pytest.mark.parametrize("call", CALLS)
async def test_attempt_while_the_provider_is_down(source, call):
    """U1, S1: a refusal that cannot be healed says why, and carries no frame of the call."""
    async with TokenManager(source) as tokens:
        handle = tokens.handle()
        api = Api(handle)
        await tokens.get()
        api.revoked.add("token-1")
        source.error = ConnectionError("down")
        with pytest.raises(TokenUnavailable) as caught:
            await attempted(handle, call, api, RefusedError)
    assert caught.value.__context__ is None
    assert api.seen == ["token-1"]


@pytest.mark.parametrize("count", [1, 40])
async def test_attempts_at_once_cost_one_fetch(source, count):
    """R3, U1: many refused calls share one fetch."""
    async with TokenManager(source) as tokens:
        handle = tokens.handle()
        api = Api(handle)
        await tokens.get()
        api.revoked.add("token-1")
        found = await asyncio.gather(*(handle.attempt(api.taking, refused=RefusedError) for _ in range(count)))
    assert set(found) == {"served by token-2"}
    assert source.reasons == ["absent", "refused"]


@pytest.mark.parametrize("refused", [None, 401, "401 ", [RefusedError], (RefusedError, 401), int, KeyboardInterrupt])
@pytest.mark.parametrize("method", ["attempt", "attempt_sync", "keep"])
async def test_what_says_nothing_of_refusals(source, refused, method):
    """U1: a `refused` that is no type, tuple or function is told at once, before anything is called."""
    async with TokenManager(source) as tokens:
        with pytest.raises(TypeError, match="refused"):
            await getattr(tokens.handle(), method)(pytest.fail, refused=refused)
    assert source.reasons == []


async def test_a_builtin_is_called_without_a_token(source):
    """S1: a callable that does not declare its parameters is not given the token."""
    async with TokenManager(source) as tokens:
        assert await asyncio.to_thread(tokens.handle().attempt_sync, dict, refused=RefusedError) == {}


# keep


class Connection:
    """A live connection, which raises the errors that it is given."""

    def __init__(self) -> None:
        self.pushed: list[str] = []
        self.errors: list[Exception | None] = []

    async def push(self, token: Token) -> None:
        self.pushed.append(token.access_token)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


def managed(source: Source) -> TokenManager[Token, None]:
    return TokenManager(source, retry=RetryPolicy(first=0.05, cap=0.1), policy=RefreshPolicy(jitter=0.0))


@pytest.mark.parametrize("known", [None, "value", "token", "another"])
async def test_keep_pushes_each_new_token(source, known):
    """L2: each new token is pushed once, what the connection has already is not, and it ends with the manager."""
    connection = Connection()
    async with managed(source) as tokens:
        handle = tokens.handle()
        first = await handle.get()
        has = {"value": first.access_token, "token": first, "another": "token-0"}.get(str(known))
        task = asyncio.create_task(handle.keep(connection.push, known=has))
        await asyncio.sleep(0.01)
        await handle.refresh()
        await until(lambda: "token-2" in connection.pushed)
    assert await asyncio.wait_for(task, 5.0) is None
    assert connection.pushed == (["token-2"] if known in {"value", "token"} else ["token-1", "token-2"])


@pytest.mark.parametrize("failures", [1, 3])
async def test_keep_contains_and_retries(source, failures, caplog):
    """
    L2, S1: a push that fails is repeated after a pause. One warning reports it, without the text of the exception.
    """
    connection = Connection()
    connection.errors = [OSError("token-1") for _ in range(failures)]
    with caplog.at_level(logging.DEBUG, logger="evertoken"):
        async with managed(source) as tokens:
            task = asyncio.create_task(tokens.handle().keep(connection.push))
            await until(lambda: len(connection.pushed) == failures + 1)
            await asyncio.sleep(0.3)
        await task
    assert connection.pushed == ["token-1"] * (failures + 1)
    said = [record for record in caplog.records if "pushing" in record.message]
    assert [record.levelno for record in said] == [logging.WARNING, *[logging.DEBUG] * (failures - 1)]
    assert "token-1" not in caplog.text


async def test_keep_does_not_make_a_new_token_wait(source):
    """L2: a new token is pushed at once, although the one before waits for its next try."""
    connection = Connection()
    connection.errors = [OSError()]
    async with TokenManager(source, retry=RetryPolicy(first=1.0)) as tokens:
        task = asyncio.create_task(tokens.handle().keep(connection.push))
        await until(lambda: connection.pushed == ["token-1"])
        await tokens.refresh()
        await until(lambda: connection.pushed == ["token-1", "token-2"])
        # The pause of the failure ends, and nothing is pushed again for it.
        await asyncio.sleep(1.2)
    await task
    assert connection.pushed == ["token-1", "token-2"]


@pytest.mark.parametrize("refused", [RefusedError, (OtherError, RefusedError), lambda error: True])
async def test_keep_reports_refusals(source, refused):
    """U1: a token that the connection refuses is reported, and the next one pushed."""
    connection = Connection()
    connection.errors = [RefusedError()]
    async with managed(source) as tokens:
        task = asyncio.create_task(tokens.handle().keep(connection.push, refused=refused))
        await until(lambda: connection.pushed[-1:] == ["token-2"])
    await task
    assert source.reasons == ["absent", "refused"]
    assert connection.pushed.count("token-2") == 1


async def test_keep_is_cancelled(source):
    """L1: cancelling its task ends it, while it waits and while it pauses."""
    connection = Connection()
    connection.errors = [OSError(), None]
    async with managed(source) as tokens:
        for pushed in (1, 2):
            task = asyncio.create_task(tokens.handle().keep(connection.push))
            await until(lambda pushed=pushed: len(connection.pushed) == pushed)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await tokens.refresh()
        await asyncio.sleep(0.2)
    assert connection.pushed == ["token-1", "token-1"]


async def test_keep_on_another_loop(source):
    """U5: it works on another loop than the manager's, and ends with the manager there too."""
    connection = Connection()
    async with managed(source) as tokens:
        thread = threading.Thread(target=asyncio.run, args=(tokens.handle().keep(connection.push),))
        thread.start()
        await until(lambda: connection.pushed == ["token-1"])
        await tokens.refresh()
        await until(lambda: connection.pushed == ["token-1", "token-2"])
    await asyncio.to_thread(thread.join, 10.0)
    assert not thread.is_alive()


async def test_keep_needs_a_manager_that_runs(source):
    """L1: without a manager that runs it says so, and does not wait for ever."""
    with pytest.raises(RuntimeError, match="not started"):
        await TokenManager(source).handle().keep(Connection().push)


# FetchRequest.reason


async def test_sources_are_told_why(source):
    """F1: a source that wraps a cache is told why it is asked, and so goes past it where the cached token is bad."""
    async with managed(source) as tokens:
        token = await tokens.get()
        await tokens.refresh()
        await tokens.refused(await tokens.get())
        assert await tokens.refused(token) is not None
        await tokens.get(min_ttl=4000.0)
    assert source.reasons[:3] == ["absent", "forced", "refused"]
    assert source.reasons[3:] in ([], ["min_ttl"])


async def test_sources_are_told_of_time():
    """F1: what the schedule asks for is "due"."""
    source = Source(lifetime=0.5)
    async with managed(source) as tokens:
        await tokens.get()
        await until(lambda: len(source.reasons) >= 2)
    assert source.reasons[:2] == ["absent", "due"]


async def test_a_login_is_put_into_the_key_of_the_handle(source):
    """K6: `put` of a handle takes over a login for its own key, and no other."""
    async with TokenManager({"a": source, "b": source}) as tokens:
        login = Token("logged-in", issued_at=time.time(), expires_at=time.time() + 600.0)
        await tokens.handle("a").put(login)
        assert await tokens.handle("a").get() is login
        assert (await tokens.get("b")).access_token == "token-1"
        with pytest.raises(TypeError, match="token must be a Token or a Grant, not str"):
            await tokens.handle("a").put("logged-in")

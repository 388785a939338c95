"""
The contract of the adapters for SDKs, database drivers and brokers. A subclass for each says how it is made.

HTTP clients have a contract of their own: see `contract.py`. `python -m tests.clients.adapters` finds the subclasses in
the test modules beside this one, and writes the tables of them into the reference.

A subclass is a class `Test...` with `name`, `extra`, `lines` and `without`, and the methods `server`, `given` and
`client`. `test_callables.py` has the smallest ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.clients.contract import SOON, Source
from tests.gated import until

from evertoken import TokenHandle, TokenManager, TokenUnavailable

__all__ = ["SdkContract", "Service", "Setting"]


class Service:
    """The tokens that a server accepts. A fake server asks `accepts`, and a real one overrides `issue` and `revoke`."""

    def __init__(self) -> None:
        #: The tokens that it was shown, in their order, good or not.
        self.shown: list[str] = []
        #: The bodies that it read, for adapters with `bodies`.
        self.bodies: list[bytes] = []
        self.good: set[str] = set()

    async def issue(self, token: str) -> None:
        """Accept *token* from now on. It is called before the manager has it."""
        self.good.add(token)

    async def revoke(self, token: str) -> None:
        """Refuse *token* from now on."""
        self.good.discard(token)

    def accepts(self, token: str) -> bool:
        """Take note that *token* was shown, and tell whether it is good."""
        self.shown.append(token)
        return token in self.good


@dataclass
class Setting:
    """The objects that a check works with."""

    source: Source
    tokens: TokenManager[Any, Any]
    server: Any

    @property
    def handle(self) -> TokenHandle[Any]:
        return self.tokens.handle()


class SdkContract:
    """The checks. Each is a column of the table, and the first line of its docstring explains it there."""

    #: How the client is called in the table, and the extra of the adapter.
    name: ClassVar[str]
    extra: ClassVar[str] = ""
    #: The distribution of the library, if its name is not the first part of *name*, or None without a library.
    library: ClassVar[str | None] = ""
    #: The lines that a user writes, 1 to 3 of them, and how many the shortest right code needs without the adapter.
    lines: ClassVar[str]
    without: ClassVar[int]
    #: Empty if a refused token is healed. Otherwise why it cannot be, and what happens instead.
    heals: ClassVar[str] = ""
    #: Empty if no frame of the library shows a token in an error. Otherwise why one does.
    library_frames: ClassVar[str] = ""
    #: Whether a call is a plain function, which is then made in a thread.
    blocking: ClassVar[bool] = False
    #: Whether the adapter is bound to origins, and whether a call has a body that can be read only once.
    origins: ClassVar[bool] = False
    bodies: ClassVar[bool] = False
    #: The errors that a call raises without a token, anywhere in the chain: a library may wrap them.
    unavailable: ClassVar[tuple[type[Exception], ...]] = (TokenUnavailable,)
    #: The errors that a call raises if the server refuses the token, as `attempt` takes them. Only for adapters that do
    #: not heal.
    refusal: ClassVar[Any] = None
    #: Checks that come out otherwise, and how. The subclass overrides each of them, to show what happens instead.
    differs: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls) -> None:
        for check, wanted in _wanted(cls).items():
            # pytest collects no None.
            if not wanted:
                setattr(cls, check, None)
            elif getattr(cls, check) is None:
                setattr(cls, check, vars(SdkContract)[check])
        for check in cls.differs:
            if getattr(cls, check, None) is getattr(SdkContract, check, None):
                msg = f"{cls.__name__}.differs names {check}, and the class does not override it"
                raise TypeError(msg)

    # Set by a subclass

    def server(self) -> AbstractAsyncContextManager[Any]:
        """Start a server and give a `Service`, or an object with `shown`, `issue` and `revoke`."""
        raise AssertionError

    def given(self, handle: TokenHandle[Any]) -> Any:
        """Return what the client is given; where a function is given the client, return *handle*."""
        raise AssertionError

    def client(self, given: Any, server: Any) -> AbstractAsyncContextManager[Callable[[], Any]]:
        """
        Open a client of *server* and give the function that makes one call, without retries of the library's own.

        It is a coroutine function, or a plain one where `blocking` is set. Each call shows the server a token, so a
        call of a database opens a connection. It raises if the server refuses the token. It is opened in a second
        loop too.
        """
        raise AssertionError

    def token(self, number: int) -> Any:
        """Return the token of the fetch *number*, as a source may. The server is shown `secret-{number}` of it."""
        return f"secret-{number}", 3600.0

    def streamed(self, call: Callable[[], Any]) -> Any:
        """Make *call* with a body that can be read once, of the pieces `one` and `two`. For adapters with `bodies`."""
        raise AssertionError

    async def instead(self, at: Setting, call: Callable[[], Any]) -> None:
        """Do what a user does where a refused token is not healed: `attempt`, unless a subclass knows better."""
        if self.blocking:
            await asyncio.to_thread(at.handle.attempt_sync, call, refused=self.refusal)
        else:
            await at.handle.attempt(call, refused=self.refusal)

    # Shared by the checks

    @contextlib.asynccontextmanager
    async def setting(self, error: Exception | None = None) -> AsyncIterator[Setting]:
        async with self.server() as server:
            source = _Issuer(self.token, server)
            source.error = error
            async with TokenManager(source) as tokens:
                yield Setting(source, tokens, server)

    @contextlib.asynccontextmanager
    async def using(self, at: Setting) -> AsyncIterator[Callable[[], Any]]:
        async with self.client(self.given(at.handle), at.server) as call:
            yield call

    async def ask(self, call: Callable[[], Any]) -> None:
        if self.blocking:
            await asyncio.to_thread(call)
        else:
            await call()

    async def healed(self, at: Setting, call: Callable[[], Any]) -> None:
        await (self.instead(at, call) if self.heals else self.ask(call))

    async def on_a_second_loop(self, at: Setting, given: Any) -> None:
        async def alone() -> None:
            async with self.client(given, at.server) as call:
                if self.blocking:
                    call()
                else:
                    await call()

        await asyncio.to_thread(asyncio.run, alone())

    # The checks

    async def test_first_use(self):
        """U1: The first use fetches a token and shows it."""
        async with self.setting() as at, self.using(at) as call:
            await self.ask(call)
            assert at.source.fetches == 1
            assert set(at.server.shown) == {"secret-1"}

    async def test_rotation(self):
        """U1: A token that was refreshed is shown by the next use."""
        async with self.setting() as at, self.using(at) as call:
            await self.ask(call)
            await at.tokens.refresh()
            before = len(at.server.shown)
            await self.ask(call)
            assert set(at.server.shown[before:]) == {"secret-2"}

    async def test_revocation(self):
        """U1: If a token was revoked, it is reported, and the call is made once more with another token."""
        async with self.setting() as at, self.using(at) as call:
            await self.ask(call)
            await at.server.revoke("secret-1")
            if self.heals:
                async with _raising():
                    await self.ask(call)
                assert at.source.fetches == 1
            await self.healed(at, call)
            assert at.server.shown[-1] == "secret-2"
            assert at.source.fetches == 2

    async def test_many_callers(self):
        """U1: Many refused calls cost one fetch."""
        async with self.setting() as at, self.using(at) as call:
            await self.ask(call)
            await at.server.revoke("secret-1")
            await asyncio.gather(*(self.healed(at, call) for _ in range(8)))
            assert at.source.fetches == 2

    async def test_no_token_on_the_loop(self):
        """U5: If no token can be fetched, a call on the manager's loop raises an error."""
        async with self.setting(ConnectionError("down")) as at, self.using(at) as call:
            async with _raising(*((RuntimeError,) if self.blocking else self.unavailable)):
                _ = call() if self.blocking else await call()
            assert at.server.shown == []

    async def test_no_token_elsewhere(self):
        """U5: If no token can be fetched, a call in a thread or on a second loop raises an error, and does not hang."""
        async with self.setting(ConnectionError("down")) as at:
            given = self.given(at.handle)
            async with _raising(*self.unavailable):
                await self.on_a_second_loop(at, given)
            if self.blocking:
                async with self.client(given, at.server) as call:
                    async with _raising(*self.unavailable):
                        await self.ask(call)
            assert at.server.shown == []

    async def test_provider_down(self):
        """R4: While the provider is down, the valid token is shown."""
        async with self.setting() as at, self.using(at) as call:
            await at.tokens.get()
            at.source.error = ConnectionError("down")
            await self.ask(call)
            assert set(at.server.shown) == {"secret-1"}

    async def test_foreign_origin(self):
        """U4: Another origin never sees the token."""
        async with self.setting() as at, self.server() as other:
            given = self.given(at.handle)
            async with self.client(given, at.server) as call:
                await self.ask(call)
            async with self.client(given, other) as call:
                async with _raising():
                    await self.ask(call)
            assert other.shown == []

    async def test_used_up_bodies(self):
        """U3: A body that was used up is not sent again. The token is reported, and the caller gets the refusal."""
        async with self.setting() as at, self.using(at) as call:
            await at.tokens.get()
            await at.server.revoke("secret-1")
            async with _raising():
                await self.ask(lambda: self.streamed(call))
            await until(lambda: at.source.fetches == 2)
            assert at.server.bodies == [b"onetwo"]

    async def test_copies(self):
        """U1: A deep copy of the credential object is the object itself, and it cannot be pickled."""
        async with self.setting() as at:
            given = self.given(at.handle)
            assert copy.deepcopy([given])[0] == given
            # Functions within functions refuse it on their own, and not all Pythons do so by one error.
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                pickle.dumps(given)

    async def test_everywhere(self):
        """U5: One object works on the manager's loop, in a thread and on a second loop at once."""
        async with self.setting() as at:
            given = self.given(at.handle)
            async with self.client(given, at.server) as call:
                await asyncio.gather(
                    *(self.ask(call) for _ in range(3)), *(self.on_a_second_loop(at, given) for _ in range(3))
                )
            assert at.source.fetches == 1
            assert set(at.server.shown) == {"secret-1"}

    async def test_no_secret_is_shown(self):
        """S1: No `repr`, no attribute and no frame of the adapter shows a token."""
        async with self.setting() as at:
            given = self.given(at.handle)
            async with self.client(given, at.server) as call:
                await self.ask(call)
                shown = [repr(given), repr(getattr(given, "__dict__", None))]
            error = await self._refused(at, given)
            shown += [str(error), repr(error)]
            shown += [text for path, text in _locals(error) if "evertoken" in path.parts]
            assert not [text for text in shown if "secret-1" in text]

    async def test_frames_of_the_library(self):
        """S1: If a token is refused while the provider is down, no frame of the library shows a token."""
        async with self.setting() as at:
            error = await self._refused(at, self.given(at.handle))
            # Ours know what the server saw.
            shown = [text for path, text in _locals(error) if "tests" not in path.parts]
            assert bool([text for text in shown if "secret-1" in text]) == bool(self.library_frames)

    async def _refused(self, at: Setting, given: Any) -> BaseException:
        async with self.client(given, at.server) as call:
            await self.ask(call)
            await at.server.revoke("secret-1")
            at.source.error = ConnectionError("down")
            async with _raising() as caught:
                await self.ask(call)
        return caught[0]


class _Issuer(Source):
    """A source that tells the server which tokens are good."""

    def __init__(self, token: Callable[[int], Any], server: Any) -> None:
        super().__init__()
        self._token = token
        self._server = server

    async def fetch(self, request: Any) -> Any:
        text, _ = await super().fetch(request)
        await self._server.issue(text)
        return self._token(self.fetches)


@contextlib.asynccontextmanager
async def _raising(*kinds: type[Exception]) -> AsyncIterator[list[Exception]]:
    """Expect an error soon. It is one of *kinds*, or has one as its cause. Without *kinds*, any error will do."""
    caught: list[Exception] = []
    scope = asyncio.timeout(SOON)
    try:
        async with scope:
            yield caught
    except Exception as error:  # noqa: BLE001 - each library has its own
        caught.append(error)
    if scope.expired() or not caught:
        pytest.fail("it hangs" if scope.expired() else "nothing was raised")
    if kinds and not any(isinstance(one, kinds) for one in _chain(caught[0])):
        raise caught[0]


def _chain(error: BaseException) -> list[BaseException]:
    """Return *error*, and the errors that it comes from."""
    found: list[BaseException] = []
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is not None and one not in found:
            found.append(one)
            ahead += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return found


def _locals(error: BaseException) -> Iterator[tuple[Path, str]]:
    """Yield the local variables of each frame that the error and those it comes from can show."""
    for one in _chain(error):
        for frame in traceback.TracebackException.from_exception(one, capture_locals=True).stack:
            for name, value in (frame.locals or {}).items():
                yield Path(frame.filename), f"{name} = {value}"


def _wanted(adapter: type[SdkContract]) -> dict[str, bool]:
    """Return whether the checks that not every adapter can have are made for *adapter*."""
    return {"test_foreign_origin": adapter.origins, "test_used_up_bodies": adapter.bodies}


def checks() -> dict[str, str]:
    """Return the checks, each with the first line of its docstring."""
    found = {name: getattr(SdkContract, name).__doc__ for name in vars(SdkContract) if name.startswith("test_")}
    return {name: doc.strip().splitlines()[0].partition(": ")[2].rstrip(".") for name, doc in found.items()}


def outcome(adapter: type[SdkContract], check: str) -> tuple[str, str]:
    """Return what the table says of *check*, and how it comes out, if it comes out otherwise."""
    otherwise = {
        "test_revocation": adapter.heals,
        "test_many_callers": adapter.heals,
        "test_frames_of_the_library": adapter.library_frames,
    }
    differs = adapter.differs.get(check) or otherwise.get(check, "")
    return ("no" if differs else "yes" if _wanted(adapter).get(check, True) else "none"), differs

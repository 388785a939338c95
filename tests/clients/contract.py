"""
The contract of all HTTP clients. One class, and a subclass for each client says how it is made and called.

Real servers on loopback, real clients. `python -m tests.clients.adapters` writes the table of it into the reference.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import pickle
import threading
import time
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.gated import until
from tests.sources.wire import Asked, Wire, http

from evertoken import OriginRefused, RefreshPolicy, Token, TokenManager, TokenUnavailable

#: Seconds in which a caller is told that something cannot work.
SOON = 9.0

CHALLENGE = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class Source:
    """secret-1, secret-2, ...; it may be down, or wait."""

    def __init__(self) -> None:
        self.fetches = 0
        self.error: Exception | None = None

    async def fetch(self, request: Any) -> tuple[str, float]:
        self.fetches += 1
        if self.error is not None:
            raise self.error
        await asyncio.sleep(0.02)
        return f"secret-{self.fetches}", 3600.0


class Api:
    """A resource server that reports errors by status and challenge, and redirects some requests."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.refusal = (401, CHALLENGE)
        self.leads_to: dict[str, str] = {}
        self.always = False
        self.says = b"who?"

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        if asked.target in self.leads_to:
            return http(307, b"", {"Location": self.leads_to[asked.target]})
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind == "Bearer" and token and token not in self.revoked and not self.always:
            return http(200, asked.body or b"served")
        status, headers = self.refusal
        return http(status, self.says, headers)


@dataclass
class Setting:
    """The objects that a check works with."""

    source: Source
    tokens: TokenManager[Any, Any]
    api: Api
    wire: Wire
    other: Wire

    @property
    def sent(self) -> list[str | None]:
        """The requests that the API received with an accepted token."""
        return [asked.headers.get("authorization") for asked in self.wire.asked]


@contextlib.asynccontextmanager
async def setting(error: Exception | None = None) -> AsyncIterator[Setting]:
    source, api = Source(), Api()
    source.error = error
    async with TokenManager(source) as tokens, Wire(api.answer) as wire, Wire(api.answer) as other:
        yield Setting(source, tokens, api, wire, other)


@pytest.fixture
async def at() -> AsyncIterator[Setting]:
    async with setting() as found:
        yield found


@pytest.fixture
async def down() -> AsyncIterator[Setting]:
    async with setting(ConnectionError("down")) as found:
        yield found


class Contract:
    """The checks. Each is a row of the table, whose first cell is the first line of its docstring."""

    #: How the client is called in the table, its extra, and the lines that a user writes.
    name: ClassVar[str]
    extra: ClassVar[str] = ""
    lines: ClassVar[str]
    #: How many lines the shortest right code needs without the adapter, a 401 healed.
    without: ClassVar[int]
    #: Whether it is called without a loop.
    blocking: ClassVar[bool] = False
    #: Checks that come out otherwise, and how.
    differs: ClassVar[dict[str, str]] = {}

    def auth(self, handle: Any, **options: Any) -> Any:
        """Return what the client is given."""
        raise AssertionError

    def client(self, auth: Any) -> Any:
        """Return an async context manager over a client, which is a function of a method, an URL and a body."""
        raise AssertionError

    @contextlib.asynccontextmanager
    async def using(self, at: Setting, **options: Any) -> AsyncIterator[Any]:
        async with self.client(self.auth(at.tokens.handle(), **options)) as call:
            yield call

    async def test_first_use(self, at):
        """U1: The first request fetches a token and carries it."""
        async with self.using(at) as call:
            assert await call("GET", at.wire.url()) == 200
        assert at.sent == ["Bearer secret-1"]

    async def test_rotation(self, at):
        """U1: A token that was refreshed is sent with the next request."""
        async with self.using(at) as call:
            await call("GET", at.wire.url())
            await at.tokens.refresh()
            assert await call("GET", at.wire.url()) == 200
        assert at.sent == ["Bearer secret-1", "Bearer secret-2"]

    async def test_long_requests(self, at):
        """R2: With `min_ttl`, each request carries a token with that many seconds left, and a 401 is still healed."""
        now = time.time()
        old = Token("secret-0", issued_at=now - 3500.0, expires_at=now + 100.0)
        async with TokenManager(Source(), initial=old, policy=RefreshPolicy(lead_fraction=0.01)) as tokens:
            for min_ttl, sent in ((None, "secret-0"), (50.0, "secret-0"), (600.0, "secret-1"), (600.0, "secret-2")):
                async with self.client(self.auth(tokens.handle(), min_ttl=min_ttl)) as call:
                    assert await call("GET", at.wire.url()) == 200
                assert at.sent[-1] == f"Bearer {sent}"
                at.api.revoked.update({"secret-1"} if sent == "secret-1" else set())
            with pytest.raises(ValueError, match="min_ttl"):
                self.auth(tokens.handle(), min_ttl=-1.0)

    @pytest.mark.parametrize("refusal", [(401, CHALLENGE), (401, {}), (403, CHALLENGE)], ids=["401", "bare", "403"])
    async def test_revocation(self, at, refusal):
        """U1: If a token was revoked, it is reported, and the request is sent again with another token."""
        at.api.refusal = refusal
        async with self.using(at) as call:
            await call("GET", at.wire.url())
            at.api.revoked.add("secret-1")
            assert await call("GET", at.wire.url()) == 200
        assert at.sent == ["Bearer secret-1", "Bearer secret-1", "Bearer secret-2"]

    async def test_many_callers(self, at):
        """U1: Many refused requests cost one fetch."""
        await at.tokens.get()
        at.api.revoked.add("secret-1")
        async with self.using(at) as call:
            found = await asyncio.gather(*(call("GET", at.wire.url()) for _ in range(12)))
        assert set(found) == {200}
        assert at.source.fetches == 2

    async def test_no_loop(self, at):
        """U1: If a token is refused again, the caller gets the 401, and a lasting refusal costs no further fetch."""
        at.api.always = True
        async with self.using(at) as call:
            assert [await call("GET", at.wire.url()) for _ in range(3)] == [401] * 3
        assert at.source.fetches == 2

    @pytest.mark.parametrize("refusal", [(403, {}), (401, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'})])
    async def test_other_refusals(self, at, refusal):
        """U1: The caller gets a 403, and a 401 that blames the scope, at once."""
        at.api.always, at.api.refusal = True, refusal
        async with self.using(at) as call:
            assert await call("GET", at.wire.url()) == refusal[0]
        assert at.sent == ["Bearer secret-1"]
        assert at.source.fetches == 1

    async def test_no_token_on_the_loop(self, down):
        """U5: If no token can be fetched, a call on the manager's loop raises an error."""
        async with self.using(down) as call, asyncio.timeout(SOON):
            with pytest.raises(RuntimeError if self.blocking else TokenUnavailable):
                await call.here("GET", down.wire.url())
        assert down.sent == []

    async def test_no_token_in_a_thread(self, down):
        """U5: If no token can be fetched, a call in another thread or loop raises an error, and does not hang."""
        async with asyncio.timeout(SOON):
            with pytest.raises(TokenUnavailable):
                await asyncio.to_thread(asyncio.run, self._alone(down))
        assert down.sent == []

    async def test_provider_down(self, at):
        """R4: While the provider is down, the valid token is sent. If it is refused, the caller gets an error."""
        await at.tokens.get()
        at.source.error = ConnectionError("down")
        async with self.using(at) as call:
            assert await call("GET", at.wire.url()) == 200
            at.api.revoked.add("secret-1")
            with pytest.raises(TokenUnavailable):
                await call("GET", at.wire.url())

    async def test_foreign_origin(self, at):
        """U4: A request to another origin raises, and nothing is sent."""
        for options in ({}, {"origins": [at.wire.url("")]}):
            async with self.using(at, **options) as call:
                await call("GET", at.wire.url())
                if "test_foreign_origin" in self.differs:
                    assert await call("GET", at.other.url()) == 401
                else:
                    with pytest.raises(OriginRefused):
                        await call("GET", at.other.url())
        assert all("authorization" not in asked.headers for asked in at.other.asked)
        assert bool(at.other.asked) == ("test_foreign_origin" in self.differs)

    async def test_redirects(self, at):
        """U4: A redirect to another origin goes on without the token, also if it leads back."""
        at.api.leads_to = {"/away": at.other.url("/back"), "/back": at.wire.url("/lured")}
        async with self.using(at, origins=[at.wire.url("")]) as call:
            assert await call("GET", at.wire.url("/away")) == 401
        assert at.sent == ["Bearer secret-1", None]
        assert [asked.headers.get("authorization") for asked in at.other.asked] == [None]
        assert at.source.fetches == 1

    async def test_redirects_within(self, at):
        """U4: A redirect within the origin carries the token, and is healed."""
        at.api.leads_to = {"/moved": "/here"}
        async with self.using(at) as call:
            assert await call("GET", at.wire.url("/moved")) == 200
            at.api.revoked.add("secret-1")
            assert await call("GET", at.wire.url("/moved")) == 200
        assert at.sent[:3] == ["Bearer secret-1"] * 3
        assert at.sent[-1] == "Bearer secret-2"

    @pytest.mark.parametrize("origin", ["http://api.example.com", "ws://10.0.0.7:8080"])
    async def test_in_the_clear(self, at, origin):
        """U4: Plain http outside loopback needs `allow_http=True`."""
        with pytest.raises(ValueError, match="in the clear"):
            self.auth(at.tokens.handle(), origins=[origin])
        assert self.auth(at.tokens.handle(), origins=[origin], allow_http=True)

    @pytest.mark.parametrize("kind", ["bytes", "file"])
    async def test_bodies(self, at, kind):
        """U3: Bytes and seekable files are sent again whole."""
        if kind == "file" and "test_bodies" in self.differs:
            pytest.skip(self.differs["test_bodies"])
        await at.tokens.get()
        at.api.revoked.add("secret-1")
        body = b"x" * 3000
        async with self.using(at) as call:
            assert await call("POST", at.wire.url(), body if kind == "bytes" else io.BytesIO(body)) == 200
        assert [asked.body for asked in at.wire.asked] == [body, body]

    async def test_used_up_bodies(self, at):
        """U3: A generator is not sent again. The token is refreshed in the background, and the caller gets the 401."""
        await at.tokens.get()
        at.api.revoked.add("secret-1")
        async with self.using(at) as call:
            assert await call("POST", at.wire.url(), "generator") == 401
            await until(lambda: at.source.fetches == 2)
        assert [asked.body for asked in at.wire.asked] == [b"onetwo"]

    async def test_copies(self, at):
        """U1: A deep copy of the auth object is the object itself, and it cannot be pickled."""
        auth = self.auth(at.tokens.handle())
        assert copy.deepcopy({"auth": auth})["auth"] is auth
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(auth)

    async def test_everywhere(self, at):
        """U5: It works on the manager's loop, in a thread and on a second loop at once."""
        async with self.using(at) as call:
            statuses = await asyncio.gather(
                *(call("GET", at.wire.url()) for _ in range(3)),
                *(asyncio.to_thread(asyncio.run, self._alone(at)) for _ in range(3)),
            )
        assert statuses == [200] * 6
        assert at.source.fetches == 1
        assert threading.active_count() < 60

    async def test_no_secret_is_shown(self, at):
        """S1: No `repr`, no pickle and no frame of an error shows a token."""
        auth = self.auth(at.tokens.handle())
        async with self.client(auth) as call:
            await call("GET", at.wire.url())
            shown = [repr(auth), repr(vars(auth)), *map(repr, call.seen()), *map(pickled, call.pickled())]
            at.api.revoked.add("secret-1")
            at.source.error = ConnectionError("down")
            with pytest.raises(TokenUnavailable) as caught:
                await call("GET", at.wire.url())
        frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
        # Ours know what the server saw.
        others = [frame for frame in frames if "tests" not in Path(frame.filename).parts]
        assert others
        shown += [f"{name} = {value}" for frame in others for name, value in (frame.locals or {}).items()]
        assert not [text for text in shown if "secret-1" in text]

    async def _alone(self, at: Setting) -> int:
        async with self.using(at) as call:
            status: int = await call.here("GET", at.wire.url())
            return status


def pickled(one: Any) -> str:
    return repr(pickle.dumps(one))


def checks() -> dict[str, str]:
    """Return the checks, each with the first line of its docstring."""
    found = {name: getattr(Contract, name).__doc__ for name in vars(Contract) if name.startswith("test_")}
    return {name: doc.strip().splitlines()[0].partition(": ")[2].rstrip(".") for name, doc in found.items()}


def outcome(adapter: type[Contract], check: str) -> tuple[str, str]:
    """Return what the table says of *check*, and how it comes out, if it comes out otherwise."""
    return "yes", adapter.differs.get(check, "")

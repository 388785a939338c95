"""S1: planted secrets are looked for wherever a person or a machine may read them."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import logging
import pickle
import traceback
from types import ModuleType
from typing import Any

import httpx
import pytest
from tests.sources.keys import rsa_pem

from evertoken import (
    Answer,
    DPoPKey,
    FetchRequest,
    GrantRejected,
    Held,
    Lease,
    Record,
    Token,
    TokenError,
    TokenManager,
    TransientRefreshError,
    events,
    sources as all_sources,
)
from evertoken.clients.httpx import BearerAuth
from evertoken.sources import ClientCredentials, OAuthClient, RefreshToken, aws, azure, google, vault
from evertoken.stores import MemoryStore
from evertoken.testing import TokenServer

CLIENT_SECRET = "planted-client-secret-5f1c9d"
REFRESH = "planted-refresh-token-77aa01"
ACCESS = "planted-access-token-c0ffee42"
PLANTED = (CLIENT_SECRET, REFRESH, ACCESS)


class Records(logging.Handler):
    """Everything that is logged, formatted with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter("%(name)s %(message)s %(args)s").format(record))


@pytest.fixture
def logged():
    root = logging.getLogger()
    handler, level = Records(), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(level)


def clean(*texts: object) -> None:
    """Fail if a secret, or a good part of one, stands in any of these."""
    for text in texts:
        said = text if isinstance(text, bytes) else str(text).encode(errors="replace")
        for secret in PLANTED:
            assert secret.encode() not in said, f"{secret} in {text!r:.2000}"
            assert secret[-10:].encode() not in said, f"the end of {secret} in {text!r:.2000}"


def rendered(error: BaseException) -> str:
    """
    Return what an error tracker shows: the whole chain, with the locals of every frame.

    The test's own frames are left out, because they contain the secrets.
    """
    parts = []
    seen: BaseException | None = error
    while seen is not None:
        shown = traceback.TracebackException.from_exception(seen, capture_locals=True)
        shown.stack = traceback.StackSummary.from_list(
            [frame for frame in shown.stack if "/tests/" not in frame.filename]
        )
        shown.__cause__ = shown.__context__ = None
        parts.append("".join(shown.format()))
        seen = seen.__cause__ or seen.__context__
    return "\n".join(parts)


def sources(server: TokenServer) -> dict[str, Any]:
    return {
        "client": ClientCredentials(
            OAuthClient(token_endpoint=server.token_endpoint, client_id="id", client_secret=CLIENT_SECRET)
        ),
        "post": ClientCredentials(
            OAuthClient(
                token_endpoint=server.token_endpoint,
                client_id="id",
                client_secret=CLIENT_SECRET,
                client_auth="client_secret_post",
            )
        ),
        "refresh": RefreshToken(
            OAuthClient(token_endpoint=server.token_endpoint, client_id="id", client_secret=CLIENT_SECRET),
            refresh_token=REFRESH,
        ),
    }


@pytest.mark.parametrize("name", ["client", "post", "refresh"])
@pytest.mark.parametrize("fault", ["error", "hang", "reset", "lost", "garbage", "redirect", 500, 429])
async def test_failures_show_no_secret(logged, name, fault):
    """S1: no log, event, error, chain or traceback with locals shows a sent secret, however the endpoint behaves."""
    told: list[events.Event] = []
    with TokenServer() as server:
        source = sources(server)[name]
        server.fail(fault, **({"error": "invalid_grant"} if fault == "error" else {}))
        async with TokenManager(source, observers=[told.append], fetch_timeout=0.4, close_grace=0.1) as manager:
            caught = []
            for call in (manager.get, manager.refresh, lambda: manager.get(timeout=0.2)):
                with pytest.raises(TokenError) as info:
                    await call()
                caught.append(info.value)
            clean(manager, manager.snapshot(), manager.health(), manager.auth(), manager.handle(), source)
    for error in caught:
        clean(error, repr(error), pickle.dumps(error), rendered(error))
        clean(*(vars(error).values()))
    clean(*logged, *told, *map(repr, told))
    assert told
    assert logged


async def test_start_required_shows_no_secret(logged):
    """S1: what start="require" raises shows nothing either."""
    with TokenServer() as server:
        server.fail("error", error="invalid_client", status=401)
        with pytest.raises(GrantRejected) as info:
            await TokenManager(sources(server)["client"], start="require").start()
    clean(rendered(info.value), info.value, *logged)


async def test_a_server_that_echoes_shows_no_secret(logged):
    """S1: if an endpoint copies a sent secret into its error, the secret is removed before anyone sees it."""

    def echo(request: httpx.Request) -> httpx.Response:
        said = f"bad: {request.content.decode()} {request.headers.get('authorization')} {CLIENT_SECRET} {REFRESH}"
        return httpx.Response(400, json={"error": "invalid_grant", "error_description": said})

    async with httpx.AsyncClient(transport=httpx.MockTransport(echo)) as client:
        source = RefreshToken(
            OAuthClient(
                token_endpoint="https://idp.example/token",
                client_id="id",
                client_secret=CLIENT_SECRET,
                http_client=client,
            ),
            refresh_token=REFRESH,
        )
        async with TokenManager(source) as manager:
            with pytest.raises(GrantRejected) as info:
                await manager.get()
    clean(info.value, info.value.error_description, rendered(info.value))
    clean(*(line for line in logged if line.startswith("evertoken")))


@pytest.mark.parametrize(
    "raised",
    [RuntimeError, KeyError, TransientRefreshError, GrantRejected, AssertionError, asyncio.CancelledError],
    ids=lambda raised: raised.__name__,
)
async def test_a_source_that_raises_its_token(logged, raised):
    """S1: an exception of a source, chained to others and full of locals, comes to callers without any of it."""

    async def fetch(current: Token | None) -> tuple[str, float]:
        answer = {"access_token": ACCESS, "refresh_token": REFRESH}
        if current is None:
            return ACCESS, 3600.0
        try:
            raise ValueError(answer)
        except ValueError as error:
            raise raised(f"could not read {current.access_token}") from error

    told: list[events.Event] = []
    async with TokenManager(fetch, observers=[told.append]) as manager:
        await manager.get()
        with pytest.raises(TokenError) as info:
            await manager.refresh()
        clean(info.value, rendered(info.value), manager.snapshot(), *told)
    clean(*logged)


async def test_values_show_no_secret(logged):
    """S1: tokens, and all objects that hold them, show fingerprints in repr, str and pickle."""
    token = Token(ACCESS, issued_at=0.0, expires_at=1e12, refresh_token=REFRESH, extra={"id_token": ACCESS})
    lease = Lease("key", "owner", 1)
    for thing in (token, FetchRequest("key", token, 1.0), Record("key", 1, token), lease, Held(1.0)):
        clean(repr(thing), str(thing), f"{thing}", f"{thing!s:>3}", [thing], {"k": thing})
    clean(pickle.dumps(token), pickle.dumps([token]), pickle.dumps(Record("key", 1, token)))
    store = MemoryStore()
    async with TokenManager(lambda: token, store=store, namespace="") as manager:
        assert await manager.get() is token
        auth = manager.auth()
        clean(manager, auth, store, manager.snapshot(), manager.health(), manager._life.registry.keys)
        clean(*(repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()))
        for error in (TypeError, ValueError):
            with pytest.raises(error) as info:
                Token(
                    ACCESS if error is TypeError else f"{ACCESS}\n",
                    **({} if error is TypeError else {"issued_at": 0.0}),
                )
            clean(info.value)
    clean(*logged)


AT: dict[str, Any] = {"token_endpoint": "https://as.example.com/token", "client_id": "app"}
INFO: dict[str, Any] = {
    "client_id": "app",
    "client_secret": CLIENT_SECRET,
    "refresh_token": REFRESH,
    "type": "authorized_user",
}
CARRIERS: dict[str, Any] = {
    "client credentials": lambda: ClientCredentials(OAuthClient(client_secret=CLIENT_SECRET, **AT)),
    "refresh token": lambda: RefreshToken(OAuthClient(**AT), refresh_token=REFRESH),
    "password": lambda: all_sources.LegacyPassword(all_sources.OAuthClient(**AT), "alice", CLIENT_SECRET),
    "assertion": lambda: all_sources.JwtBearer(all_sources.OAuthClient(**AT), CLIENT_SECRET),
    "signed assertion": lambda: all_sources.JwtBearer(
        all_sources.OAuthClient(**AT), all_sources.Assertion(rsa_pem(), issuer="app")
    ),
    "exchange": lambda: all_sources.TokenExchange(all_sources.OAuthClient(**AT), ACCESS),
    "key": lambda: all_sources.PrivateKeyJwt(rsa_pem()),
    "client secret": lambda: all_sources.ClientSecretJwt(2 * CLIENT_SECRET),
    "login": lambda: all_sources.LoginEndpoint("https://api.example.com/login", json={"password": CLIENT_SECRET}),
    "command": lambda: all_sources.Command(["login"], environment={"PASSWORD": CLIENT_SECRET}),
    "github": lambda: all_sources.GitHubApp(1, 2, private_key=rsa_pem()),
    "vault": lambda: vault.AppRole("https://vault.example.com", role_id="r", secret_id=CLIENT_SECRET),
    "google": lambda: google.AuthorizedUser(INFO),
    "fallback": lambda: all_sources.Fallback(CARRIERS["client credentials"](), CARRIERS["login"]()),
    "dpop": DPoPKey,
    "manager": lambda: TokenManager(CARRIERS["refresh token"]()),
    "auth": lambda: TokenManager(CARRIERS["refresh token"]()).auth(),
    "answer": lambda: Answer({"access_token": ACCESS}),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_what_carries_secrets_is_not_pickled(name):
    """S1: no pickle has a client secret, refresh token, assertion or private key: trying says so, and shows none."""
    with pytest.raises(TypeError, match="cannot be pickled") as info:
        pickle.dumps(CARRIERS[name]())
    clean(info.value)


def test_a_copy_of_a_source_is_itself():
    """S1: objects that refuse to be pickled can still be copied, alone and inside other objects."""
    source = CARRIERS["client credentials"]()
    assert copy.copy(source) is source
    assert copy.deepcopy([source]) == [source]


@pytest.mark.parametrize("room", [all_sources, aws, azure, google, vault], ids=lambda room: room.__name__)
def test_every_source_that_is_given_a_secret(room: ModuleType):
    """S1: every object that takes a secret or the content of a key file refuses to be pickled."""
    classes = [kind for name in room.__all__ if inspect.isclass(kind := getattr(room, name))]
    taking = [kind for kind in classes if {"Secret", "Info"} & set(_words(kind))]
    assert taking
    assert [kind.__name__ for kind in taking if kind.__reduce__ is object.__reduce__] == []


def _words(kind: type) -> list[str]:
    parameters = inspect.signature(kind).parameters.values()
    return " ".join(str(parameter.annotation) for parameter in parameters).replace("[", " ").split()


async def test_requests_show_no_secret(logged):
    """S1: the auth flow, its refusals and what goes wrong in it put no token into logs, errors or tracebacks."""
    with TokenServer() as server:
        async with TokenManager(server.client_credentials()) as manager:
            auth = manager.auth()
            assert isinstance(auth, BearerAuth)
            async with httpx.AsyncClient(auth=auth) as client:
                assert (await client.get(f"{server.url}/resource")).status_code == 200
                secret = (await manager.get()).access_token
                server.revoke_all()
                assert (await client.get(f"{server.url}/resource")).status_code == 200
                with pytest.raises(TokenError) as refused:
                    await client.get("https://elsewhere.example/")
            server.fail(500)
            async with (
                TokenManager(server.client_credentials()) as other,
                httpx.AsyncClient(auth=other.auth()) as client,
            ):
                with pytest.raises(TokenError) as failed:
                    await client.get(f"{server.url}/resource")
    for text in (*logged, rendered(refused.value), rendered(failed.value), repr(refused.value), repr(failed.value)):
        # httpcore writes header fields into its log at DEBUG; that is its own.
        if not text.startswith(("httpcore", "hpack")):
            assert secret not in text


async def test_debug_mode_shows_no_secret(caplog):
    """S1: asyncio's debug mode, which names coroutines and their arguments when they are slow or lost, shows none."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    caplog.set_level(logging.DEBUG)
    try:
        async with TokenManager(lambda: Token(ACCESS, issued_at=0.0, expires_at=1e12)) as manager:
            await asyncio.gather(*(manager.get() for _ in range(10)))
            await manager.invalidate(ACCESS)
            await manager.get()
    finally:
        loop.set_debug(False)
    gc.collect()
    clean(caplog.text)
    assert "asyncio" in caplog.text

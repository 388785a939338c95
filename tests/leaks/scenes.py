"""Calls that need something that runs: managers, handles, clients, the command line."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import httpx
from tests.leaks.cases import Case, arguments, methods
from tests.leaks.planted import SECRETS, answers, credentials, dpop_key, oauth_client, token

from evertoken import GrantRejected, Token, TokenHandle, TokenManager
from evertoken.cli.main import main
from evertoken.clients.httpx import BearerAuth, DPoPAuth, HeaderAuth, SigV4Auth
from evertoken.sources import ClientCredentials, RefreshToken
from evertoken.stores import MemoryStore

# They run until they are closed.
_NOT_CALLED = {"aclose", "keep", "subscribe", "start"}
# The arguments that stand for a token: a token, its value, and other objects that a program may have.
_GIVEN = (token, lambda: SECRETS["access-token"], lambda: {"access_token": SECRETS["access-token"]})


class Once:
    """A source that works once, and fails with its token in hand ever after."""

    rotates = False

    def __init__(self, made: Callable[[], Any], failure: Callable[[str], BaseException]) -> None:
        self._made: Any = made
        self._failure = failure

    async def fetch(self, request: Any) -> Any:
        made, self._made = self._made, None
        if made is not None:
            return made()
        held = SECRETS["returned"]
        try:
            raise ValueError(held)
        except ValueError as error:
            raise self._failure("no more") from error


def _client_credentials(client: httpx.AsyncClient) -> ClientCredentials:
    return ClientCredentials(oauth_client(client))


def _refresh_token(client: httpx.AsyncClient) -> RefreshToken:
    return RefreshToken(oauth_client(client), SECRETS["refresh-token"])


def sources() -> dict[str, Callable[[], Any]]:
    """Return what makes the sources of the managers."""
    found: dict[str, Callable[[], Any]] = {
        "works once": lambda: Once(token, ConnectionError),
        "is rejected": lambda: Once(token, GrantRejected),
        "a pair": lambda: Once(lambda: (SECRETS["returned"], 3600.0), ConnectionError),
        "a mapping": lambda: Once(lambda: {"access_token": SECRETS["returned"], "expires_in": 9}, KeyError),
        "unreadable": lambda: Once(lambda: {"access_token": f"{SECRETS['returned']}\n"}, KeyError),
        "keys": lambda: Once(credentials, ConnectionError),
        "a function": lambda: lambda: (SECRETS["returned"], 3600.0),
        "a function that fails": lambda: partial(int, SECRETS["returned"], 99),
    }
    for name, handler in answers().items():
        client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
        found[f"client: {name}"] = partial(_client_credentials, client)
        found[f"refresh token: {name}"] = partial(_refresh_token, client)
    return found


@contextlib.asynccontextmanager
async def _managed(source: Any, store: Any) -> AsyncIterator[TokenManager[Any, Any]]:
    options: dict[str, Any] = {} if store is None else {"store": store, "namespace": "walk"}
    async with TokenManager(source, fetch_timeout=5.0, close_grace=0.1, **options) as manager:
        with contextlib.suppress(Exception):
            await manager.get()
        yield manager


async def _called(make: Any, store: Any, method: str, given: Any, *, through: bool) -> None:
    async with _managed(make(), store() if store else None) as manager:
        thing = manager.handle() if through else manager
        bound = getattr(thing, method)
        for _ in range(2):
            values = arguments(bound, type(thing).__name__, None, None, optional=set())  # type: ignore[arg-type]
            if "token" in values:
                values["token"] = given()
            takes = inspect.signature(bound).parameters.values()
            positional = [values.pop(one.name) for one in takes if one.kind is one.POSITIONAL_ONLY]
            found = bound(*positional, **values)
            if inspect.isawaitable(found):
                await found


def managers() -> list[Case]:
    """Return each method of a manager and of a handle, over each source, without a store and with one."""
    found = []
    for kind, through in ((TokenManager, False), (TokenHandle, True)):
        for method in methods(kind):
            takes_token = "token" in inspect.signature(getattr(kind, method)).parameters
            for name, make in {} if method in _NOT_CALLED else sources().items():
                for store in (None, MemoryStore):
                    for given in _GIVEN if takes_token else (token,):
                        label = f"{kind.__name__}.{method}: {name}{', in a store' if store else ''}"
                        call = partial(_called, make, store, method, given, through=through)
                        found.append(Case(label, given(), call))
    for start in ("require",):
        for name, make in sources().items():
            manager = partial(TokenManager, start=start, fetch_timeout=5.0)
            found.append(Case(f"TokenManager.start: {name}", make(), partial(_started, manager, make)))
    return found


async def _started(manager: Any, make: Any) -> None:
    made = manager(make())
    try:
        await made.start()
    finally:
        await made.aclose()


def clients() -> list[Case]:
    """Return requests of all clients: to another origin, refused, with a body that cannot be sent again."""
    auths: dict[str, Callable[[Any], Any]] = {
        "BearerAuth": lambda handle: BearerAuth(handle, origins=["https://api.example"]),
        "DPoPAuth": lambda handle: DPoPAuth(handle, dpop_key(), origins=["https://api.example"]),
        "HeaderAuth": lambda handle: HeaderAuth(handle, "X-Key", origins=["https://api.example"]),
        "SigV4Auth": lambda handle: SigV4Auth(
            handle, service="s3", region="eu-west-1", origins=["https://api.example"]
        ),
    }
    found = []
    for name, auth in auths.items():
        for host in ("api", "other"):
            for source, make in sources().items():
                for made in (token, credentials, _bound):
                    call = partial(_requested, auth, host, make, made)
                    found.append(Case(f"{name} to {host}: {source}", made(), call))
    return found


def _bound() -> Token:
    return token().replace(token_type="DPoP")


async def _requested(auth: Any, host: str, make: Any, made: Any) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    async with _managed(make(), None) as manager:
        await manager.put(made())
        async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), auth=auth(manager.handle())) as client:
            await client.get(f"https://{host}.example/")


def command_line() -> list[Case]:
    """Return command lines with the password of a store in them."""
    stores = (
        f"redis://:{SECRETS['store-password']}@127.0.0.1:9/0",
        f"redis://:{SECRETS['store-password']}/x@127.0.0.1:9/0",
        f"postgresql://app:{SECRETS['store-password']}@127.0.0.1:9/db",
        f"postgresql://app:{SECRETS['store-password']}/x@127.0.0.1:9/db",
        f"mysql://app:{SECRETS['store-password']}@127.0.0.1:9/db",
    )
    commands = ("list", "show", "check", "purge", "nothing")
    lines = [["store", command, store, *more] for store in stores for command in commands for more in ([], ["key"])]
    return [Case(f"evertoken store {line[1]}", line, partial(_run, line)) for line in lines]


async def _run(line: list[str]) -> None:
    import asyncio  # noqa: PLC0415 - for this alone

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        # It runs a loop of its own.
        ended: Any = await asyncio.to_thread(_outcome, line)
    if SECRETS["store-password"] in said.getvalue():
        raise AssertionError(said.getvalue())
    if isinstance(ended, BaseException):
        raise ended


def _outcome(line: list[str]) -> object:
    try:
        return main(line)
    except BaseException as error:  # noqa: BLE001 - looked at by the walker
        return error

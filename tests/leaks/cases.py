"""The calls, made from the public names by inspection, so that a new name cannot be forgotten."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from tests.leaks.planted import PEM, SECRETS, VALUES, WRONG, answers, dpop_key, forms, oauth_client, worse
from tests.test_exports import PUBLIC

from evertoken.sources import (
    Assertion,
    ClientAssertion,
    ClientCredentials,
    ClientSecretJwt,
    Command,
    Fallback,
    JwtBearer,
    LoginEndpoint,
    OAuthClient,
    PrivateKeyJwt,
    RefreshToken,
    TokenFile,
)
from evertoken.sources.vault import AppRole
from evertoken.stores import FileStore

MODULES = (*PUBLIC, "evertoken.stores.encryption", "evertoken.stores.keyring")

#: The exclusions, and their reasons.
WITHOUT = {
    "evertoken.testing": "what its server hands out is made up, and protects nothing",
    "evertoken.health": "it reads states and numbers",
    "evertoken.observability.opentelemetry": "it is told events, which a test of its own looks at",
    "evertoken.observability.prometheus": "it is told events, which a test of its own looks at",
    "evertoken.observability.structlog": "it is told events, which a test of its own looks at",
    "evertoken.events": "what is told of keys; a test of its own looks at every event",
    "evertoken.providers": "public data",
    "evertoken.clients.httpx2": "the same flows as for httpx",
    "evertoken.clients.aiobotocore": "likewise, and it keeps none",
    "evertoken.clients.botocore": "likewise",
    "evertoken.clients.google": "likewise",
    "evertoken.clients.aiohttp": "its contract in tests/clients looks at what it shows and raises",
    "evertoken.clients.azure": "likewise",
    "evertoken.clients.kubernetes": "likewise",
    "evertoken.clients.obstore": "likewise",
    "evertoken.clients.requests": "likewise",
    "evertoken.clients.aio_pika": "likewise",
    "evertoken.clients.aiokafka": "likewise",
    "evertoken.clients.grpc": "likewise",
    "evertoken.clients.kafka": "likewise",
    "evertoken.clients.websockets": "likewise",
    "evertoken.clients.anthropic": "likewise",
    "evertoken.clients.mcp": "a test of its own in tests/clients looks at what it shows and raises",
    "evertoken.clients.asyncpg": "likewise",
    "evertoken.clients.psycopg": "likewise",
    "evertoken.clients.pymongo": "likewise",
    "evertoken.clients.redis": "likewise",
    "evertoken.clients.sqlalchemy": "likewise",
    "evertoken.Budget": "numbers",
    "evertoken.Counts": "numbers",
    "evertoken.EventStream": "it takes no secret; a test of its own looks at every event",
    "evertoken.Health": "states and numbers",
    "evertoken.ImportResult": "keys and numbers",
    "evertoken.KeepAlivePolicy": "numbers",
    "evertoken.KeyStatus": "states and numbers",
    "evertoken.Held": "a number",
    "evertoken.KeySnapshot": "states and numbers",
    "evertoken.ProviderSnapshot": "states and numbers",
    "evertoken.Quota": "a name and numbers",
    "evertoken.RateLimit": "numbers",
    "evertoken.Spent": "numbers",
    "evertoken.Unused": "numbers",
    "evertoken.RefreshPolicy": "numbers",
    "evertoken.RetryPolicy": "numbers",
    "evertoken.Snapshot": "states and numbers",
    "evertoken.RedactedToken": "it has no secret",
    "evertoken.Subscription": "it takes no secret, and has the manager's token alone",
    "evertoken.stores.keyring.KeyringKey": "its key is in a keyring, which machines that run tests have not",
    "evertoken.stores.encryption.generate_key": "it returns a secret, and is given none",
    "evertoken.sources.aws.from_environment": "it is given no secret; its sources are walked",
    "evertoken.sources.azure.from_environment": "likewise",
    "evertoken.sources.google.from_environment": "likewise",
    "evertoken.run_in_background": "it is given a manager, whose calls are walked",
}
#: Walked by `scenes`: these objects are used after they were started, or by a client.
IN_SCENES = {"TokenManager", "TokenHandle", "BearerAuth", "DPoPAuth", "HeaderAuth", "SigV4Auth"}
# They wait for what never ends.
_ENDLESS = {"watch"}


@dataclass(frozen=True)
class Case:
    """One call that may raise: its arguments and its function."""

    name: str
    given: Any
    call: Callable[[], Any]
    #: Whether it is cancelled under way.
    cancelled: bool = False


def public() -> dict[str, Any]:
    """Return all public classes and functions that can be called, but for exceptions and protocols."""
    found = {}
    for module in MODULES:
        room = importlib.import_module(module)
        for name in room.__all__:
            thing = getattr(room, name)
            plain = inspect.isclass(thing) or inspect.isfunction(thing)
            skipped = module in WITHOUT or f"{module}.{name}" in WITHOUT
            if plain and not skipped and not getattr(thing, "_is_protocol", False):
                found[f"{module}.{name}"] = thing
    return {name: thing for name, thing in found.items() if not _is_error(thing)}


def methods(thing: type) -> list[str]:
    """Return the public methods of a class."""
    members = ((name, inspect.getattr_static(thing, name)) for name in dir(thing) if not name.startswith("_"))
    kinds = (classmethod, staticmethod)
    return [name for name, member in members if inspect.isroutine(member) or isinstance(member, kinds)]


def constructors(folder: Path) -> Iterator[Case]:
    """Yield constructors, each with one argument wrong, one too many, and one secret that was read the wrong way."""
    for name, thing in public().items():
        if thing.__name__ in IN_SCENES:
            continue
        good = arguments(thing, thing.__name__, http_client("down"), folder)
        parameters = inspect.signature(thing).parameters.values()
        named = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        for wrong in [*named, *(["keys"] if thing.__name__ == "AesGcm" else [])]:
            for value in (*WRONG, *worse(good.get(wrong))):
                given = {**good, wrong: value}
                yield Case(f"{name}({wrong}={type(value).__name__})", given, partial(_made, thing, given))
        yield Case(f"{name}(unexpected)", good, partial(_made, thing, {**good, "unexpected": 1}))


def calls(folder: Path) -> Iterator[Case]:
    """Yield all methods of all instances, with all that servers do, and with one argument wrong."""
    for name, thing in public().items():
        if not inspect.isclass(thing) or thing.__name__ in IN_SCENES:
            continue
        for answer in (*answers(), "hangs"):
            client = http_client(answer)
            for number, (form, make) in enumerate(instances(thing, client, folder)):
                for method in methods(thing):
                    if method in _ENDLESS and answer != "hangs":
                        continue
                    bound = getattr(make, method)
                    good = arguments(bound, type(make).__name__, client, folder, optional={"access_token"})
                    label = f"{name}[{form}].{method}"
                    call = partial(_made, bound, good)
                    yield Case(f"{label}: {answer}", (make, good), call, cancelled=answer == "hangs")
                    for wrong in good if answer == "down" and number == 0 else ():
                        for value in (*WRONG, *worse(good[wrong])):
                            given = {**good, wrong: value}
                            call = partial(_made, bound, given)
                            yield Case(f"{label}({wrong}={type(value).__name__})", (make, given), call)


def instances(thing: type, client: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield instances of a class, its secret in each form."""
    good = arguments(thing, thing.__name__, client, folder)
    secret = next((one for one in _secret_parameters(thing) if isinstance(good.get(one), str)), None)
    if secret is None:
        yield "as it is", _made(thing, good)
    else:
        for form, value in forms(good[secret], folder).items():
            yield form, _made(thing, {**good, secret: value})
    if thing in _MORE:
        yield from _MORE[thing](client, folder).items()


def arguments(thing: Any, owner: str, client: Any, folder: Path, *, optional: set[str] | None = None) -> dict[str, Any]:
    """
    Return a value for each parameter that needs one, and for each other that there is a value for.

    Raises:
        LookupError: There is no value for a parameter that needs one: add it to `VALUES`.
    """
    found: dict[str, Any] = {}
    for parameter in inspect.signature(thing).parameters.values():
        own = "oauth_client" if parameter.annotation == "OAuthClient" else f"{owner}.{parameter.name}"
        needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        known = own if own in VALUES else parameter.name if parameter.name in VALUES else None
        if known is None and needed:
            raise LookupError(f"{own} has no planted value")
        wanted = needed or optional is None or parameter.name in optional
        if known is not None and wanted and parameter.kind is not parameter.VAR_KEYWORD:
            value = VALUES[known]
            found[parameter.name] = value(client, folder) if inspect.isfunction(value) else value
    return found


def _made(thing: Any, given: dict[str, Any]) -> Any:
    positional, named = [], {}
    parameters = inspect.signature(thing).parameters
    for name, value in given.items():
        parameter = parameters.get(name)
        if parameter is not None and parameter.kind is parameter.VAR_POSITIONAL:
            positional += value if isinstance(value, list) else [value]
        elif parameter is not None and parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(value)
        else:
            named[name] = value
    return thing(*positional, **named)


def _secret_parameters(thing: Any) -> list[str]:
    parameters = inspect.signature(thing).parameters.values()
    return [one.name for one in parameters if "Secret" in str(one.annotation).replace("[", " ").split()]


def http_client(answer: str) -> httpx.AsyncClient:
    async def hang(_: httpx.Request) -> httpx.Response:
        import asyncio  # noqa: PLC0415 - for this alone

        await asyncio.get_running_loop().create_future()
        raise AssertionError

    return httpx.AsyncClient(transport=httpx.MockTransport(answers().get(answer, hang)))


def _is_error(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, BaseException)


def _more_clients(client: Any, folder: Path) -> dict[str, Any]:
    at: dict[str, Any] = {"token_endpoint": "https://as.example/token", "client_id": "app", "http_client": client}
    return {
        "key": OAuthClient(client_auth=PrivateKeyJwt(PEM), **at),
        "hmac": OAuthClient(client_auth=ClientSecretJwt(2 * SECRETS["client-secret"]), **at),
        "assertion": OAuthClient(client_auth=ClientAssertion(lambda: SECRETS["assertion"]), **at),
        "post": OAuthClient(client_auth="client_secret_post", client_secret=SECRETS["client-secret"], **at),
        "dpop": OAuthClient(client_secret=SECRETS["client-secret"], dpop=dpop_key(), body="json", **at),
        "discovered": OAuthClient(
            issuer="https://as.example",
            client_id="app",
            client_secret=SECRETS["client-secret"],
            http_client=client,
        ),
    }


def _on_the_wire() -> OAuthClient:
    # No server listens at this port: the exception comes from the sockets, through all layers.
    return OAuthClient(
        token_endpoint="http://127.0.0.1:9/token", client_id="app", client_secret=SECRETS["client-secret"]
    )


def _printing(file: Path, *, status: int = 0) -> list[str]:
    # Not in the arguments, which all users of a machine can read.
    return ["/bin/sh", "-c", f"cat {file}; cat {file} >&2; exit {status}"]


# More ways to make an instance than its parameters tell.
_MORE: dict[type, Callable[[Any, Path], dict[str, Any]]] = {
    OAuthClient: _more_clients,
    ClientCredentials: lambda client, folder: {
        **{form: ClientCredentials(one) for form, one in _more_clients(client, folder).items()},
        "on the wire": ClientCredentials(_on_the_wire()),
    },
    RefreshToken: lambda _client, _folder: {
        "on the wire": RefreshToken(_on_the_wire(), SECRETS["refresh-token"]),
    },
    JwtBearer: lambda client, _: {"signed": JwtBearer(oauth_client(client), Assertion(PEM, issuer="app"))},
    LoginEndpoint: lambda _client, _folder: {
        "on the wire": LoginEndpoint("http://127.0.0.1:9/login", json={"password": SECRETS["password"]}),
    },
    AppRole: lambda _client, _folder: {
        "on the wire": AppRole("http://127.0.0.1:9", "role", SECRETS["secret-id"], allow_http=True),
    },
    Command: lambda _client, folder: {
        "fails": Command(_printing(folder / "lines", status=1)),
        "prints lines": Command(_printing(folder / "lines")),
        "prints": Command(_printing(folder / "one")),
        "is none": Command(["/nonexistent"], environment={"PASSWORD": SECRETS["environment"]}),
    },
    TokenFile: lambda _client, folder: {"lost": TokenFile(folder / "lost")},
    Fallback: lambda client, _: {
        "two": Fallback(
            RefreshToken(oauth_client(client), SECRETS["refresh-token"], rotates=False),
            ClientCredentials(oauth_client(client)),
        ),
    },
    FileStore: lambda _client, folder: {"in a file": FileStore(folder / "lines")},
}

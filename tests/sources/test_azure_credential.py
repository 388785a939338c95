"""A credential of azure-core as a source: azure-identity's own against a server on loopback, and others."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import azure.identity
import azure.identity.aio
import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport
from tests.sources.wire import Asked, Wire, a_request, http

from evertoken import FetchRequest, GrantRejected, TokenManager, TokenUnavailable, TransientRefreshError, events
from evertoken.sources.azure import AzureCredential
from evertoken.stores import MemoryStore

SCOPE = "https://vault.azure.net/.default"
AUTHORITY = "https://login.example.com"


class Here(RequestsTransport):  # type: ignore[misc]  # it is imported lazily, and has no type
    """A transport that sends https requests to the server here."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def send(self, request: Any, **options: Any) -> Any:
        parts = urlsplit(request.url)
        request.url = f"{self.url}{parts.path}{f'?{parts.query}' if parts.query else ''}"
        return super().send(request, **options)


class AsyncHere(AioHttpTransport):  # type: ignore[misc]  # likewise
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    async def send(self, request: Any, **options: Any) -> Any:
        parts = urlsplit(request.url)
        request.url = f"{self.url}{parts.path}{f'?{parts.query}' if parts.query else ''}"
        return await super().send(request, **options)


class Entra:
    """As much of Microsoft Entra ID, and of the metadata service of a machine, as a credential asks for."""

    def __init__(self) -> None:
        self.tokens = 0
        self.keeps = False
        self.claims: list[str | None] = []
        self.answer: bytes | None = None

    async def __call__(self, asked: Asked, writer: Any) -> bytes:
        if asked.method == "GET" and "/metadata/identity" not in asked.target:
            base = f"{AUTHORITY}/tenant"
            return http(
                200,
                {
                    "issuer": f"{base}/v2.0",
                    "authorization_endpoint": f"{base}/a",
                    "token_endpoint": f"{base}/oauth2/token",
                },
            )
        if self.answer is not None:
            return self.answer
        self.tokens += not (self.keeps and self.tokens)
        self.claims.append(dict(asked.form).get("claims") if asked.method == "POST" else None)
        return http(
            200,
            {"access_token": f"at-{self.tokens}", "token_type": "Bearer", "expires_in": 3600, "resource": "r",
             "expires_on": str(int(time.time()) + 3600)},
        )  # fmt: skip


@pytest.fixture
def entra() -> Entra:
    return Entra()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    level = logging.getLogger("azure").level
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("azure").setLevel(level)


@asynccontextmanager
async def credential_of(
    entra: Entra, *, asynchronous: bool, name: str = "ClientSecretCredential"
) -> AsyncIterator[Any]:
    async with Wire(entra) as wire:
        options: dict[str, Any] = {"retry_total": 0}
        if name == "ClientSecretCredential":
            options |= {"tenant_id": "tenant", "client_id": "app", "client_secret": "s3cret", "authority": AUTHORITY}
            options |= {"disable_instance_discovery": True}
        if asynchronous:
            async with getattr(azure.identity.aio, name)(**options, transport=AsyncHere(wire.url(""))) as credential:
                yield credential
        else:
            with getattr(azure.identity, name)(**options, transport=Here(wire.url(""))) as credential:
                yield credential


BOTH = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@BOTH
async def test_a_token_of_azure_identity(entra, asynchronous):
    """T1: The token has the instant at which it dies, and the type that the credential tells."""
    async with credential_of(entra, asynchronous=asynchronous) as credential:
        async with TokenManager(AzureCredential(credential, SCOPE)) as tokens:
            token = await tokens.get()
    assert (token.access_token, token.authorization) == ("at-1", "Bearer at-1")
    assert token.expires_at == pytest.approx(time.time() + 3600, abs=10.0)
    assert entra.claims == [None]


@BOTH
@pytest.mark.parametrize("reason", ["absent", "due", "expired", "min_ttl", "retry", "keep_alive"])
async def test_the_cache_is_used(entra, asynchronous, reason):
    """F1: An early refresh asks the credential like any other client, and may receive its cached token."""
    async with credential_of(entra, asynchronous=asynchronous) as credential:
        source = AzureCredential(credential, SCOPE)
        found = [await source.fetch(FetchRequest(None, None, 5.0, reason=reason)) for _ in range(2)]
    assert [fields["access_token"] for fields in found] == ["at-1", "at-1"]
    assert entra.tokens == 1


@BOTH
@pytest.mark.parametrize("reason", ["forced", "refused"])
async def test_past_the_cache(entra, asynchronous, reason):
    """U1: Where the token is not wanted any more, a newer one than now is demanded."""
    async with credential_of(entra, asynchronous=asynchronous) as credential:
        source = AzureCredential(credential, SCOPE)
        await source.fetch(a_request())
        found = await source.fetch(FetchRequest(None, None, 5.0, reason=reason))
    assert (found["access_token"], entra.tokens) == ("at-2", 2)
    demanded = json.loads(entra.claims[1])["access_token"]["nbf"]
    assert demanded["essential"] is True
    assert int(demanded["value"]) == pytest.approx(time.time(), abs=10.0)


@BOTH
async def test_a_refusal_is_healed(entra, asynchronous):
    """U1: The whole way: a token is refused, and the next one is another."""
    async with credential_of(entra, asynchronous=asynchronous) as credential:
        async with TokenManager(AzureCredential(credential, SCOPE)) as tokens:
            first = await tokens.get()
            second = await tokens.refused(first)
            third = await tokens.refresh()
    assert [token and token.access_token for token in (first, second, third)] == ["at-1", "at-2", "at-3"]


@BOTH
async def test_a_cache_that_cannot_be_passed(entra, asynchronous):
    """U1: A metadata service has a cache too. The same token comes again, and the event says so."""
    entra.keeps = True
    seen: list[Any] = []
    async with credential_of(entra, asynchronous=asynchronous, name="ManagedIdentityCredential") as credential:
        async with TokenManager(AzureCredential(credential, SCOPE), observers=[seen.append]) as tokens:
            first = await tokens.get()
            assert await tokens.refused(first) is None
            assert (await tokens.get()).access_token == "at-1"
    assert [event.repeated for event in seen if isinstance(event, events.TokenRefreshed)] == [False, True]
    assert len(entra.claims) == 2


def rejected(code: str, words: str) -> bytes:
    return http(400, {"error": code, "error_description": words, "error_codes": [1]})


@BOTH
@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (rejected("invalid_client", "AADSTS7000215: Invalid client secret."), GrantRejected, "AADSTS7000215"),
        (rejected("unauthorized_client", "AADSTS700016: Application not found."), GrantRejected, "AADSTS700016"),
        (rejected("invalid_request", "AADSTS90033: A transient error."), TransientRefreshError, "AADSTS90033"),
        (http(503, b"busy"), TransientRefreshError, "503"),
        (http(429, {"error": "throttled"}, {"Retry-After": "17"}), TransientRefreshError, "throttled"),
    ],
)
async def test_what_entra_answers(entra, asynchronous, answer, kind, says):
    """F4: A rejection by Entra is one here, and every temporary error is transient, for all classes of exceptions."""
    async with credential_of(entra, asynchronous=asynchronous) as credential:
        source = AzureCredential(credential, SCOPE)
        # Entra is there, until it is asked for a token.
        entra.answer = answer
        with pytest.raises(kind, match=says) as caught:
            await source.fetch(a_request())
    if kind is GrantRejected and asynchronous:
        assert caught.value.origin.startswith("http://127.0.0.1:")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    if says == "throttled" and asynchronous:
        # The plain credential keeps the status to itself.
        assert (caught.value.status, caught.value.retry_after) == (429, 17.0)


@BOTH
@pytest.mark.parametrize("reason", ["absent", "forced"])
async def test_nobody_answers(asynchronous, reason):
    """F4: A connection that fails is transient, though azure-identity calls it a failed authentication."""
    made: Any = (azure.identity.aio if asynchronous else azure.identity).ClientSecretCredential(
        "tenant", "app", "s3cret", authority="https://127.0.0.1:9", disable_instance_discovery=True, retry_total=0
    )
    source = AzureCredential(made, SCOPE)
    with pytest.raises(TransientRefreshError, match="did not reach its server"):
        await source.fetch(FetchRequest(None, None, 5.0, reason=reason))
    closed = made.close()
    if asynchronous:
        await closed


# Credentials of others


class Plain:
    """The least that is a credential."""

    def __init__(self, *raises: Exception) -> None:
        self.raises = list(raises)
        self.asked: list[Any] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.asked.append((scopes, options))
        if self.raises:
            raise self.raises.pop(0)
        return AccessToken(f"at-{len(self.asked)}", int(time.time()) + 600)


class WithoutClaims:
    def get_token(self, *scopes: str) -> AccessToken:
        return AccessToken("at-1", int(time.time()) + 600)


class Wrapped(Plain):
    """A plain method that returns a coroutine, as some decorators make them."""

    def get_token(self, *scopes: str, **options: Any) -> Any:
        async def later() -> AccessToken:
            return super(Wrapped, self).get_token(*scopes, **options)

        return later()


class WithInfo:
    async def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        now = int(time.time())
        return AccessTokenInfo("at-1", now + 600, token_type="bearer", refresh_on=now + 100)


@pytest.mark.parametrize("kind", [Plain, WithoutClaims, Wrapped])
@pytest.mark.parametrize("reason", ["absent", "forced"])
async def test_any_credential(kind, reason):
    """R4: Any object with `get_token` does, with or without coroutines and claims."""
    credential = kind()
    found = await AzureCredential(credential, "a", "b").fetch(FetchRequest(None, None, 5.0, reason=reason))
    assert (found["access_token"], found["token_type"]) == ("at-1", "Bearer")
    if kind is Plain:
        ((scopes, options),) = credential.asked
        assert scopes == ("a", "b")
        assert sorted(options) == (["claims"] if reason == "forced" else [])


async def test_what_the_credential_tells():
    """F1: The instant at which the credential wants the token replaced is taken over."""
    async with TokenManager(AzureCredential(WithInfo(), SCOPE)) as tokens:
        token = await tokens.get()
    assert token.authorization == "Bearer at-1"
    assert token.refresh_at == pytest.approx(time.time() + 100, abs=10.0)


class CredentialUnavailableError(ClientAuthenticationError):
    pass


class AuthenticationRequiredError(CredentialUnavailableError):
    pass


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


class Answer:
    """An answer whose body was not read."""

    reason, status_code, headers, request = "X", 503, {"Retry-After": "9"}, None

    def text(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (CredentialUnavailableError("no endpoint"), TransientRefreshError, "gave no token: no endpoint"),
        (AuthenticationRequiredError("log in"), GrantRejected, "interaction_required: log in"),
        (ClientAuthenticationError("Authentication failed: AADSTS50034: gone"), GrantRejected, "AADSTS50034"),
        (ClientAuthenticationError("chain: AADSTS90033: later"), TransientRefreshError, "AADSTS90033"),
        (ClientAuthenticationError("no credential in the chain"), TransientRefreshError, "in the chain"),
        (ServiceRequestError("no route"), TransientRefreshError, "did not reach its server: no route"),
        (ServiceResponseTimeoutError("slow"), TransientRefreshError, "did not reach its server: slow"),
        (
            caused(ClientAuthenticationError("failed"), caused(ValueError("x"), ConnectionResetError("reset"))),
            TransientRefreshError,
            "did not reach its server: failed",
        ),
        (HttpResponseError("busy", response=Answer()), TransientRefreshError, "503"),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
    ],
)
async def test_what_credentials_raise(error, kind, says):
    """F4: Each class of error of azure-core and azure-identity is one of the two failures. A bug stays a bug."""
    with pytest.raises(kind, match=says) as caught:
        await AzureCredential(Plain(error), SCOPE).fetch(a_request())
    if isinstance(error, HttpResponseError) and error.status_code:
        assert caught.value.retry_after == 9.0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (CredentialUnavailableError("takes no claims challenges"), None),
        (ClientAuthenticationError("takes no claims challenges"), None),
        (CredentialUnavailableError("takes no claims challenges"), ServiceRequestError("no route")),
    ],
)
async def test_a_credential_that_takes_no_claims(first, second):
    """U1: Credentials of command line tools raise for claims; they are asked once more without."""
    credential = Plain(*filter(None, (first, second)))
    source = AzureCredential(credential, SCOPE)
    request = FetchRequest(None, None, 5.0, reason="refused")
    if second is None:
        assert (await source.fetch(request))["access_token"] == "at-2"
    else:
        with pytest.raises(TransientRefreshError, match="no route"):
            await source.fetch(request)
    assert [bool(options) for _, options in credential.asked] == [True, False]


async def test_a_server_that_refuses_is_not_asked_twice():
    """F8: Where a server answered a demand for claims, or was not reached, there is no second request."""
    for error in (HttpResponseError("busy", response=Answer()), ServiceRequestError("no route")):
        credential = Plain(error)
        with pytest.raises(TransientRefreshError):
            await AzureCredential(credential, SCOPE).fetch(FetchRequest(None, None, 5.0, reason="forced"))
        assert len(credential.asked) == 1


async def test_a_plain_credential_that_hangs_blocks_nobody():
    """F7: It runs in a thread, which is given up after `fetch_timeout`."""
    let_go = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Hanging:
        def get_token(self, *scopes: str) -> AccessToken:
            asyncio.run_coroutine_threadsafe(let_go.wait(), loop).result()
            return AccessToken("late", int(time.time()) + 600)

    async with TokenManager(AzureCredential(Hanging(), SCOPE), fetch_timeout=0.05) as tokens:
        with pytest.raises(TokenUnavailable):
            await tokens.get()
        let_go.set()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((object(), SCOPE), TypeError, "must have get_token"),
        ((Plain(),), ValueError, "scopes must be given"),
        ((Plain(), ""), ValueError, "scopes must be given"),
        ((Plain(), None), ValueError, "scopes must be given"),
    ],
)
def test_what_is_refused(arguments, error, says):
    """S1: A wrong argument is named at once."""
    with pytest.raises(error, match=says):
        AzureCredential(*arguments)


async def test_whose_token_it_is_is_not_known():
    """K5: A credential tells nobody whose tokens it gives, so a store needs a namespace."""
    source = AzureCredential(Plain(), SCOPE)
    with pytest.raises(ValueError, match="namespace"):
        TokenManager(source, store=MemoryStore())
    assert repr(source) == f"AzureCredential(Plain, {SCOPE})"

"""azure-core: a real BlobServiceClient and a bare pipeline, over TLS on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import ssl
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from azure.core import AsyncPipelineClient, PipelineClient
from azure.core.credentials import AccessToken
from azure.core.pipeline import policies
from azure.core.pipeline.transport import AioHttpTransport, HttpRequest as LegacyRequest, RequestsTransport
from azure.core.rest import HttpRequest
from azure.storage.blob import BlobServiceClient
from azure.storage.blob.aio import BlobServiceClient as AsyncBlobServiceClient
from tests.clients.sdk_contract import SdkContract, Service, Setting
from tests.sources.wire import Asked, Wire, http
from tests.stores.certificates import Certificate, certificate_in

from evertoken import TokenManager, TokenUnavailable
from evertoken.clients._azure_flow import place_of, rewound
from evertoken.clients.azure import (
    AsyncHealingTransport,
    AsyncTokenCredential,
    HealingTransport,
    TokenCredential,
)

STORAGE = "https://storage.azure.com/.default"


@pytest.fixture(scope="module")
def vouched(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate_in(tmp_path_factory.mktemp("tls"))


class Storage(Service):
    """A blob service that looks at the token, and keeps no blob."""

    wire: Wire
    certificate: str

    def __init__(self) -> None:
        super().__init__()
        self.challenge = ""
        self.status = 401
        self.always = False
        self.writers: set[Any] = set()

    @property
    def url(self) -> str:
        return self.wire.url("")

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        self.writers.add(writer)
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind == "Bearer" and self.accepts(token) and not self.always:
            self.bodies.append(asked.body)
            return http(201 if asked.method == "PUT" else 200, b"", {"x-ms-version": "2025-01-05"})
        self.bodies.append(asked.body)
        fields = {"WWW-Authenticate": self.challenge} if self.challenge else {}
        said = b"" if asked.method == "HEAD" else b"<Error><Code>InvalidAuthenticationInfo</Code></Error>"
        return http(self.status, said, fields)


@contextlib.asynccontextmanager
async def storage(vouched: Certificate) -> AsyncIterator[Storage]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*vouched)
    service = Storage()
    service.certificate = str(vouched.certificate)
    async with Wire(service.answer, tls=context) as wire:
        service.wire = wire
        yield service
        for writer in service.writers:
            # A close would wait for the other side's end of TLS.
            writer.transport.abort()


class _Azure(SdkContract):
    extra = "azure"
    library: ClassVar[str | None] = "azure-core"

    @pytest.fixture(autouse=True)
    def _vouched(self, vouched: Certificate) -> None:
        self.certificate = vouched

    def server(self):
        return storage(self.certificate)


class TestBlobs(_Azure):
    name = "azure.storage.blob.BlobServiceClient"
    lines = (
        "credential = TokenCredential(tokens.handle())\n"
        "BlobServiceClient(url, credential=credential, transport=HealingTransport(credential))"
    )
    without = 26
    blocking = True

    def given(self, handle):
        return TokenCredential(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        transport = HealingTransport(given, RequestsTransport(connection_verify=server.certificate))
        with BlobServiceClient(server.url, credential=given, transport=transport, retry_total=0) as service:
            yield service.get_blob_client("c", "b").exists


class TestAsyncBlobs(_Azure):
    name = "azure.storage.blob.aio.BlobServiceClient"
    lines = (
        "credential = AsyncTokenCredential(tokens.handle())\n"
        "BlobServiceClient(url, credential=credential, transport=AsyncHealingTransport(credential))"
    )
    without = 26

    def given(self, handle):
        return AsyncTokenCredential(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        transport = AsyncHealingTransport(given, AioHttpTransport(connection_verify=server.certificate))
        options = {"credential": given, "transport": transport, "retry_total": 0}
        async with AsyncBlobServiceClient(server.url, **options) as service:
            yield service.get_blob_client("c", "b").exists


def pieces():
    yield b"one"
    yield b"two"


async def async_pieces():
    yield b"one"
    yield b"two"


class TestPipeline(_Azure):
    name = "azure.core.PipelineClient"
    lines = (
        "credential = TokenCredential(tokens.handle())\n"
        "policy = BearerTokenCredentialPolicy(credential, scope)\n"
        "PipelineClient(url, policies=[policy], transport=HealingTransport(credential))"
    )
    without = 26
    blocking = True
    bodies = True

    def given(self, handle):
        return TokenCredential(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        policy = policies.BearerTokenCredentialPolicy(given, STORAGE)
        transport = HealingTransport(given, RequestsTransport(connection_verify=server.certificate))
        with PipelineClient(server.url, policies=[policy], transport=transport) as client:

            def call(content: Any = None) -> None:
                client.send_request(HttpRequest("PUT", f"{server.url}/c/b", content=content)).raise_for_status()

            yield call

    def streamed(self, call: Any) -> None:
        call(pieces())


class TestAsyncPipeline(_Azure):
    name = "azure.core.AsyncPipelineClient"
    lines = (
        "credential = AsyncTokenCredential(tokens.handle())\n"
        "policy = AsyncBearerTokenCredentialPolicy(credential, scope)\n"
        "AsyncPipelineClient(url, policies=[policy], transport=AsyncHealingTransport(credential))"
    )
    without = 26
    bodies = True

    def given(self, handle):
        return AsyncTokenCredential(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        policy = policies.AsyncBearerTokenCredentialPolicy(given, STORAGE)
        transport = AsyncHealingTransport(given, AioHttpTransport(connection_verify=server.certificate))
        async with AsyncPipelineClient(server.url, policies=[policy], transport=transport) as client:

            async def call(content: Any = None) -> None:
                (await client.send_request(HttpRequest("PUT", f"{server.url}/c/b", content=content))).raise_for_status()

            yield call

    async def streamed(self, call: Any) -> None:
        await call(async_pieces())


# Beyond the contract


class Other:
    """A credential of somebody else, whose token is dead."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken("stranger", 4_000_000_000)


CLAIMS = base64.urlsafe_b64encode(b'{"access_token":{"nbf":{"essential":true,"value":"1"}}}').decode().rstrip("=")
DEMAND = f'Bearer authorization_uri="https://login.example", error="insufficient_claims", claims="{CLAIMS}"'
ELSEWHERE = "Bearer authorization_uri=https://login.example/t/oauth2/authorize resource_id=https://storage.azure.com"


@pytest.fixture
async def at(vouched: Certificate) -> AsyncIterator[Setting]:
    issuer = TestPipeline()
    issuer.certificate = vouched
    async with issuer.setting() as found:
        yield found


def sending(at: Setting, credential: Any, transport: Any = None) -> PipelineClient[Any, Any]:
    """Return a client of a bare pipeline."""
    inner = RequestsTransport(connection_verify=at.server.certificate)
    transport = HealingTransport(credential, inner) if transport is None else transport
    policy = policies.BearerTokenCredentialPolicy(credential, STORAGE)
    return PipelineClient(at.server.url, policies=[policy], transport=transport)


def async_sending(at: Setting, credential: Any, transport: Any = None) -> AsyncPipelineClient[Any, Any]:
    inner = AioHttpTransport(connection_verify=at.server.certificate)
    transport = AsyncHealingTransport(credential, inner) if transport is None else transport
    policy = policies.AsyncBearerTokenCredentialPolicy(credential, STORAGE)
    return AsyncPipelineClient(at.server.url, policies=[policy], transport=transport)


async def status(at: Setting, client: Any, content: Any = None, **options: Any) -> int:
    """Return the status of one request of a client of either kind."""
    request = HttpRequest("PUT", f"{at.server.url}/c/b", content=content, **options)
    if isinstance(client, PipelineClient):
        with client:
            return (await asyncio.to_thread(client.send_request, request)).status_code
    async with client:
        return (await client.send_request(request)).status_code


def either(at: Setting, *, asynchronous: bool, healing: bool = True) -> Any:
    """Return a client of either kind, over the plain transport of the library unless it is *healing*."""
    if asynchronous:
        plain = AioHttpTransport(connection_verify=at.server.certificate)
        return async_sending(at, AsyncTokenCredential(at.handle), None if healing else plain)
    blocking = RequestsTransport(connection_verify=at.server.certificate)
    return sending(at, TokenCredential(at.handle), None if healing else blocking)


BOTH = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@BOTH
@pytest.mark.parametrize("healing", [True, False])
async def test_a_claims_challenge_forces_a_refresh(at, asynchronous, healing):
    """U1: `claims` count as a refusal of the token given last, with the transport and by the policy alone."""
    at.server.challenge = DEMAND
    await at.tokens.get()
    await at.server.revoke("secret-1")
    assert await status(at, either(at, asynchronous=asynchronous, healing=healing)) == 201
    assert at.server.shown == ["secret-1", "secret-2"]
    assert at.source.fetches == 2


@BOTH
async def test_a_claims_challenge_that_never_ends(at, asynchronous):
    """U1: Where each token is challenged, the caller gets the 401, and the cool-down bounds the fetches."""
    at.server.challenge = DEMAND
    await at.tokens.get()
    at.server.always = True
    assert await status(at, either(at, asynchronous=asynchronous)) == 401
    assert at.source.fetches == 2


@BOTH
async def test_claims_before_any_token(at, asynchronous):
    """U1: Claims that come before anything was given cost the one fetch that is needed."""
    if asynchronous:
        found = await AsyncTokenCredential(at.handle).get_token_info(STORAGE, options={"claims": "{}"})
    else:
        found = await asyncio.to_thread(TokenCredential(at.handle).get_token, STORAGE, claims="{}")
    assert (found.token, at.source.fetches) == ("secret-1", 1)


@BOTH
@pytest.mark.parametrize("challenge", ["", ELSEWHERE])
async def test_the_policy_alone_heals_no_other_challenge(at, asynchronous, challenge):
    """U1: Without the transport a 401 is the caller's, and the credential is not told of it."""
    at.server.challenge = challenge
    await at.tokens.get()
    await at.server.revoke("secret-1")
    assert await status(at, either(at, asynchronous=asynchronous, healing=False)) == 401
    assert at.source.fetches == 1
    assert await status(at, either(at, asynchronous=asynchronous)) == 201


@BOTH
@pytest.mark.parametrize(
    ("refusal", "fetches"),
    [
        ((403, ""), 1),
        ((403, 'Bearer error="invalid_token"'), 2),
        ((401, 'Bearer error="insufficient_scope"'), 1),
        ((401, ELSEWHERE), 2),
        ((404, ""), 1),
    ],
)
async def test_what_is_a_refusal(at, asynchronous, refusal, fetches):
    """U1: The status and the challenge tell, as with other clients."""
    at.server.status, at.server.challenge = refusal
    await at.tokens.get()
    await at.server.revoke("secret-1")
    assert await status(at, either(at, asynchronous=asynchronous)) == (201 if fetches == 2 else refusal[0])
    assert at.source.fetches == fetches


async def test_a_transport_that_is_shared_with_another_credential(at):
    """U4: A token of another credential is not reported, and not replaced by this one's."""
    credential = TokenCredential(at.handle)
    transport = HealingTransport(credential, RequestsTransport(connection_verify=at.server.certificate))
    request = HttpRequest("GET", f"{at.server.url}/c/b")
    with sending(at, credential, transport) as client:
        assert (await asyncio.to_thread(client.send_request, request)).status_code == 200
        stranger = sending(at, Other(), transport)
        assert (await asyncio.to_thread(stranger.send_request, request)).status_code == 401
    assert at.server.shown == ["secret-1", "stranger"]
    assert at.source.fetches == 1


async def test_a_request_without_a_token(at):
    """U4: A 401 to a request without a token, as to the first one of Key Vault, is not healed with one."""
    inner = RequestsTransport(connection_verify=at.server.certificate)
    transport = HealingTransport(TokenCredential(at.handle), inner)
    with PipelineClient(at.server.url, policies=[], transport=transport) as client:
        request = HttpRequest("GET", f"{at.server.url}/c/b")
        assert (await asyncio.to_thread(client.send_request, request)).status_code == 401
    assert at.server.shown == []


@pytest.mark.parametrize("scopes", [(STORAGE,), (STORAGE, "offline_access")])
async def test_a_manager_whose_keys_are_scopes(scopes):
    """U1: One credential serves the clients of several services, each with the token of its scope."""
    vault = "https://vault.azure.net/.default"
    sources = {" ".join(scopes): lambda: ("for-storage", 3600.0), vault: lambda: ("for-vault", 60.0)}
    async with TokenManager(sources) as tokens:
        credential = AsyncTokenCredential(tokens)
        for _ in range(2):
            assert (await credential.get_token(*scopes)).token == "for-storage"
        assert (await credential.get_token_info(vault)).token == "for-vault"
        with pytest.raises(LookupError, match=r"management\.azure"):
            await credential.get_token("https://management.azure.com/.default")
        blocking = TokenCredential(tokens)
        assert (await asyncio.to_thread(blocking.get_token, *scopes)).token == "for-storage"


async def test_scopes_are_healed_apart():
    """U1: A refusal blames the token in the request, for any scope."""
    numbers = itertools.count(1)
    sources = {scope: lambda scope=scope: (f"{scope}-{next(numbers)}", 3600.0) for scope in ("a", "b")}
    async with TokenManager(sources) as tokens:
        credential = AsyncTokenCredential(tokens)
        first, second = [(await credential.get_token(scope)).token for scope in ("a", "b")]
        request = HttpRequest("GET", "https://a.example", headers={"Authorization": f"Bearer {second}"})
        refused = credential._scopes.refused(request, SimpleNamespace(status_code=401, headers={}))
        assert refused is not None
        scope, token = refused
        other = await scope.reader.refused(token)
        assert token.access_token == second
        assert tokens.peek("b") is other is not token
        assert (await credential.get_token("a")).token == first


@pytest.mark.parametrize(
    ("expires_in", "found"), [(3600.0, range(3595, 3601)), (90.9, range(86, 91)), (None, range(10**11, 10**12))]
)
async def test_when_it_ends(expires_in, found):
    """T1: `expires_on` is a whole number of epoch seconds, never late; unknown ends far ahead."""
    async with TokenManager(lambda: ("opaque", expires_in)) as tokens:
        for name in ("get_token", "get_token_info"):
            token = await getattr(AsyncTokenCredential(tokens.handle()), name)(STORAGE)
            assert isinstance(token.expires_on, int)
            assert int(token.expires_on - time.time()) in found


async def test_no_second_cache(at):
    """U1: The policy asks before each request, however long the token lives: `refresh_on` is long past."""
    token = await AsyncTokenCredential(at.handle).get_token_info(STORAGE)
    assert token.refresh_on is not None
    assert 0 < token.refresh_on < time.time() - 3600


async def test_what_is_given_shows_no_token(at):
    """S1: No form of a token shows it."""
    credential = AsyncTokenCredential(at.handle)
    for found in (await credential.get_token(STORAGE), await credential.get_token_info(STORAGE)):
        assert found.token == "secret-1"
        assert "secret-1" not in f"{found!r} {getattr(found, '__dict__', None)!r}"
    assert repr(credential) == "AsyncTokenCredential()"


def beside(data: bytes) -> io.BytesIO:
    body = io.BytesIO(b"header" + data)
    body.seek(6)
    return body


@BOTH
@pytest.mark.parametrize(
    "body", [lambda: b"onetwo", lambda: "onetwo", lambda: beside(b"onetwo")], ids=["bytes", "text", "file"]
)
async def test_bodies(at, asynchronous, body):
    """U3: A body is sent again whole, a file from where it began."""
    await at.tokens.get()
    await at.server.revoke("secret-1")
    headers = {"Content-Length": "6"}
    assert await status(at, either(at, asynchronous=asynchronous), body(), headers=headers) == 201
    assert at.server.bodies == [b"onetwo"] * 2


class Unseekable(io.BytesIO):
    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation


@pytest.mark.parametrize("kind", [io.BytesIO, Unseekable])
def test_bodies_that_cannot_be_wound_back(kind):
    """U3: A file that was closed meanwhile, or cannot seek, is not sent again."""
    request = HttpRequest("PUT", "https://a.example", content=kind(b"onetwo"))
    place = place_of(request)
    assert place == 0
    if kind is io.BytesIO:
        request.content.close()
        assert place_of(request) is None
    assert not rewound(request, place)


@BOTH
async def test_forms_and_files(at, asynchronous):
    """U3: A form is sent again. Files are not, because nobody knows how much of them has been read."""
    await at.tokens.get()
    await at.server.revoke("secret-1")
    request = HttpRequest("POST", f"{at.server.url}/c", files={"a": io.BytesIO(b"one")})
    assert not rewound(request, place_of(request))
    assert await status(at, either(at, asynchronous=asynchronous), data={"a": "b"}) == 201
    assert at.server.bodies == [b"a=b", b"a=b"]


@BOTH
async def test_a_stream_of_an_older_client(at, asynchronous):
    """U1: Requests of generated clients, whose answers are streamed, are healed, and the first answer is let go."""
    await at.tokens.get()
    await at.server.revoke("secret-1")
    request = LegacyRequest("GET", f"{at.server.url}/c/b")
    client = either(at, asynchronous=asynchronous)
    if asynchronous:
        async with client:
            response = await client._pipeline.run(request, stream=True)
    else:
        with client:
            response = await asyncio.to_thread(client._pipeline.run, request, stream=True)
    assert response.http_response.status_code == 200
    assert at.server.shown == ["secret-1", "secret-2"]


class Recorder:
    """A transport that records its calls."""

    def __init__(self) -> None:
        self.called: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.called.append((name, *args))

    def __enter__(self) -> None:
        self.called.append("enter")

    def __exit__(self, *_: object) -> None:
        self.called.append("exit")


class AsyncRecorder(Recorder):
    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> None:
            self.called.append((name, *args))

        return call

    async def __aenter__(self) -> None:
        self.called.append("enter")

    async def __aexit__(self, *_: object) -> None:
        self.called.append("exit")


async def test_what_else_a_transport_does(at):
    """U1: All that is not sending is passed on to the transport that sends."""
    inner: Any = Recorder()
    async_inner: Any = AsyncRecorder()
    with HealingTransport(TokenCredential(at.handle), inner) as transport:
        transport.open()
        transport.sleep(2.0)
        transport.close()
    async with AsyncHealingTransport(AsyncTokenCredential(at.handle), async_inner) as async_transport:
        await async_transport.open()
        await async_transport.sleep(2.0)
        await async_transport.close()
    assert inner.called == async_inner.called == ["enter", ("open",), ("sleep", 2.0), ("close",), "exit"]


async def test_the_transports_that_are_made(at):
    """U1: Without a transport of one's own there is that of the library."""
    with HealingTransport(TokenCredential(at.handle)) as transport:
        assert isinstance(transport._transport, RequestsTransport)
    async with AsyncHealingTransport(AsyncTokenCredential(at.handle)) as async_transport:
        assert isinstance(async_transport._transport, AioHttpTransport)


async def test_closing_a_credential_closes_no_manager(at):
    """L1: Clients close the resources that they are given. The manager belongs to the program."""
    async with AsyncTokenCredential(at.handle) as credential:
        await credential.close()
    with TokenCredential(at.handle) as blocking:
        blocking.close()
    assert (await credential.get_token(STORAGE)).token == "secret-1"


async def carrying(at: Setting, credential: Any) -> HttpRequest:
    """Return a request with the token of *credential*, and a body that can be read once."""
    token = (await credential.get_token(STORAGE)).token
    fields = {"Authorization": f"Bearer {token}"}
    return HttpRequest("PUT", f"{at.server.url}/c/b", content=async_pieces(), headers=fields)


async def test_a_late_refusal_of_a_used_up_body(at):
    """U3: Where another token is there already, a body that was used up is still not sent empty with it."""
    credential = AsyncTokenCredential(at.handle)
    inner = AioHttpTransport(connection_verify=at.server.certificate)
    request = await carrying(at, credential)
    await at.tokens.refresh()
    await at.server.revoke("secret-1")
    async with AsyncHealingTransport(credential, inner) as transport:
        assert (await transport.send(request)).status_code == 401
    assert at.server.bodies == [b"onetwo"]


async def test_a_request_that_ends_in_an_error_keeps_no_token(at):
    """S1: The frames of the pipeline hold the request, and error reporters look into it."""
    credential = AsyncTokenCredential(at.handle)
    inner = AioHttpTransport(connection_verify=at.server.certificate)
    request = HttpRequest("GET", f"{at.server.url}/c/b", headers=(await carrying(at, credential)).headers)
    await at.server.revoke("secret-1")
    at.source.error = ConnectionError("down")
    async with AsyncHealingTransport(credential, inner) as transport:
        with pytest.raises(TokenUnavailable):
            await transport.send(request)
    assert "Authorization" not in request.headers

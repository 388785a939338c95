"""Tokens in a field of their own, and requests that are signed with AWS credentials."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import pickle
from typing import Any

import httpx
import httpx2
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth as Signer
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.sources.wire import Asked, Wire, always, http

from evertoken import DPoPKey, OriginRefused, TokenManager
from evertoken.clients import httpx as for_httpx, httpx2 as for_httpx2
from evertoken.sources.aws import AwsCredentials

LIBRARIES = {"httpx": (httpx, for_httpx), "httpx2": (httpx2, for_httpx2)}


@pytest.fixture(params=LIBRARIES)
def lib(request) -> Any:
    return LIBRARIES[request.param]


class Keys:
    """A source of planted-1, planted-2, ..."""

    def __init__(self) -> None:
        self.fetches = 0

    async def __call__(self) -> tuple[str, float]:
        self.fetches += 1
        return f"planted-{self.fetches}", 3600.0


# A field of its own


@pytest.mark.parametrize(("scheme", "value"), [("", "planted-1"), ("Token", "Token planted-1")])
async def test_own_field(lib, scheme, value):
    """Section 4 of the sources: the token goes out in the field that the API wants, async and sync."""
    library, ours = lib
    async with Wire(always(http(200))) as wire, TokenManager(Keys()) as tokens:
        auth = ours.HeaderAuth(tokens.handle(), "X-Api-Key", scheme=scheme)
        async with library.AsyncClient(auth=auth, headers={"X-Api-Key": "the client's own"}) as client:
            response = await client.post(wire.url("/a"), content=b"body")
        assert response.request.headers["X-Api-Key"] == value
        assert "X-Api-Key" in response.request.headers
        assert "planted" not in repr(response.request.headers)

        def in_thread() -> int:
            with library.Client(auth=auth) as client:
                return int(client.get(wire.url("/b")).status_code)

        assert await asyncio.to_thread(in_thread) == 200
    assert [asked.headers["x-api-key"] for asked in wire.asked] == [value, value]
    assert all("authorization" not in asked.headers for asked in wire.asked)
    assert wire.asked[0].body == b"body"


@pytest.mark.parametrize(
    ("header", "extra", "heals"),
    [
        ("X-Vault-Token", {}, True),
        ("x-vault-token", {}, True),
        ("X-Api-Key", {}, False),
        # The source may name the status itself, and a store brings the field back as it is.
        ("X-Api-Key", {"refused_by": [403]}, True),
        ("X-Api-Key", {"refused_by": [418]}, False),
        ("X-Api-Key", {"refused_by": "403"}, False),
    ],
)
@pytest.mark.parametrize("how", ["async", "sync"])
async def test_forbidden_for_a_token_that_has_ended(lib, how, header, extra, heals):
    """U1: where a 403 is how a server refuses a token, it costs one fetch and one retry, however many come late."""
    library, ours = lib
    fetches = 0

    async def source() -> dict[str, Any]:
        nonlocal fetches
        fetches += 1
        return {"access_token": f"planted-{fetches}", "expires_in": 3600, **extra}

    async def server(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        ended = asked.headers[header.lower()] == "planted-1"
        return http(403 if ended else 200, {"errors": ["permission denied", "invalid token"]})

    async with Wire(server) as wire, TokenManager(source) as tokens:
        auth = ours.HeaderAuth(tokens.handle(), header)

        def in_thread() -> int:
            with library.Client(auth=auth) as client:
                return int(client.get(wire.url("/b")).status_code)

        if how == "sync":
            statuses = await asyncio.gather(*(asyncio.to_thread(in_thread) for _ in range(4)))
        else:
            async with library.AsyncClient(auth=auth) as client:
                statuses = [
                    one.status_code for one in await asyncio.gather(*(client.get(wire.url()) for _ in range(20)))
                ]
    assert set(statuses) == ({200} if heals else {403})
    assert fetches == (2 if heals else 1)


async def test_forbidden_by_a_policy(lib):
    """U1: if no token cures a 403, the caller gets it after one retry, and the cool-down bounds the cost."""
    library, ours = lib
    keys = Keys()
    async with Wire(always(http(403, {"errors": ["permission denied"]}))) as wire, TokenManager(keys) as tokens:
        async with library.AsyncClient(auth=ours.HeaderAuth(tokens.handle(), "X-Vault-Token")) as client:
            for _ in range(20):
                assert (await client.get(wire.url())).status_code == 403
    assert keys.fetches <= 3
    assert len(wire.asked) <= 22


async def test_redirect_to_another_origin(lib):
    """U4: a redirect to another origin goes on without the token, and its 401 refreshes nothing."""
    library, ours = lib
    keys = Keys()
    async with Wire(always(http(401))) as stranger:
        there = http(302, b"", {"Location": stranger.url("/elsewhere")})
        async with Wire(always(there)) as wire, TokenManager(keys) as tokens:
            auth = ours.HeaderAuth(tokens.handle(), "X-Api-Key")
            async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
                assert (await client.get(wire.url("/a"))).status_code == 401
                with pytest.raises(OriginRefused):
                    await client.get(stranger.url("/b"))
    (asked,) = stranger.asked
    assert "planted" not in repr(asked)
    assert keys.fetches == 1


async def test_redirect_within_the_origin(lib):
    """A redirect within the origin gets the token as well, async and sync, and no token is blamed for it."""
    library, ours = lib
    keys = Keys()

    async def resource(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/a":
            return http(307, b"", {"Location": "/b"})
        return http(200 if asked.headers.get("x-api-key") == "planted-1" else 401, asked.body)

    async with Wire(resource) as wire, TokenManager(keys) as tokens:
        auth = ours.HeaderAuth(tokens.handle(), "X-Api-Key")
        async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
            response = await client.post(wire.url("/a"), content=b"body")

        def in_thread() -> int:
            with library.Client(auth=auth, follow_redirects=True) as client:
                return int(client.post(wire.url("/a"), content=b"body").status_code)

        assert await asyncio.to_thread(in_thread) == 200
    assert (response.status_code, response.content) == (200, b"body")
    assert keys.fetches == 1


async def test_redirect_to_a_stranger_and_back(lib):
    """U4: what a stranger sends us back to gets no token, and its 401 refreshes nothing."""
    library, ours = lib
    keys = Keys()

    async def resource(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/a":
            return http(307, b"", {"Location": stranger.url("/elsewhere")})
        return http(200 if "x-api-key" in asked.headers else 401)

    async with Wire(resource) as wire, Wire(always(http(307, b"", {"Location": wire.url("/pay")}))) as stranger:
        async with TokenManager(keys) as tokens:
            auth = ours.HeaderAuth(tokens.handle(), "X-Api-Key")
            async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
                assert (await client.get(wire.url("/a"))).status_code == 401
    assert [asked.target for asked in wire.asked] == ["/a", "/pay"]
    assert keys.fetches == 1


async def test_refused_key_after_a_redirect(lib):
    """U1: a 401 after a redirect within the origin is healed too, async and sync."""
    library, ours = lib
    keys = Keys()
    good = "planted-2"

    async def resource(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/a":
            return http(307, b"", {"Location": "/b"})
        return http(200 if asked.headers.get("x-api-key") == good else 401)

    async with Wire(resource) as wire, TokenManager(keys) as tokens:
        auth = ours.HeaderAuth(tokens.handle(), "X-Api-Key")
        async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
            assert (await client.get(wire.url("/a"))).status_code == 200
    good = "planted-3"
    async with Wire(resource) as wire, TokenManager(keys) as tokens:
        auth = ours.HeaderAuth(tokens.handle(), "X-Api-Key")
        keys.fetches = 1

        def in_thread() -> int:
            with library.Client(auth=auth, follow_redirects=True) as client:
                return int(client.get(wire.url("/a")).status_code)

        assert await asyncio.to_thread(in_thread) == 200


@pytest.mark.parametrize("kind", ["field", "signature"])
async def test_copies_and_pickles(lib, kind):
    """S1: an answer can be copied and pickled, and neither its copy nor its pickle holds the token."""
    library, ours = lib
    source: Any = Keys() if kind == "field" else Aws("s3")
    async with TokenManager(source) as tokens:
        handle: Any = tokens.handle()
        auth = (
            ours.HeaderAuth(handle, "X-Api-Key")
            if kind == "field"
            else ours.SigV4Auth(handle, service="s3", region="eu-west-1")
        )
        transport = library.MockTransport(lambda request: library.Response(200, content=b"content"))
        async with library.AsyncClient(auth=auth, transport=transport) as client:
            response = await client.get("https://a.example/", headers={"X-Trace": "kept"})
    assert any(b"planted" in value for _, value in response.request.headers.raw)
    pickled = pickle.dumps(response)
    assert b"planted" not in pickled
    assert pickle.loads(pickled).content == b"content"
    for copied in (copy.copy(response.request.headers), copy.deepcopy(response.request.headers)):
        assert copied["X-Trace"] == "kept"
        assert not any(b"planted" in value for _, value in copied.raw)


async def test_fields_that_a_hook_changes(lib):
    """A request hook may take the withheld field out, or put another value in its place."""
    library, ours = lib
    sent: list[Any] = []

    async def change(request: Any) -> None:
        if request.url.path == "/out":
            del request.headers["X-Api-Key"]
        else:
            request.headers["x-api-key"] = "changed"

    def handler(request: Any) -> Any:
        sent.append([value for name, value in request.headers.raw if name.lower() == b"x-api-key"])
        return library.Response(200)

    async with TokenManager(Keys()) as tokens:
        auth = ours.HeaderAuth(tokens.handle(), "X-Api-Key")
        transport = library.MockTransport(handler)
        async with library.AsyncClient(auth=auth, transport=transport, event_hooks={"request": [change]}) as client:
            await client.get("https://a.example/out")
            await client.get("https://a.example/other")
    assert sent == [[], [b"changed"]]


async def test_refused_key_is_replaced(lib):
    """U1: a 401 brings another token, once."""
    library, ours = lib
    keys = Keys()

    async def resource(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return http(200 if asked.headers.get("x-api-key") == "planted-2" else 401)

    async with Wire(resource) as wire, TokenManager(keys) as tokens:
        async with library.AsyncClient(auth=ours.HeaderAuth(tokens.handle(), "X-Api-Key")) as client:
            assert (await client.get(wire.url("/a"))).status_code == 200
    assert (keys.fetches, len(wire.asked)) == (2, 2)


async def test_library_that_would_carry_it_on(lib, monkeypatch):
    """
    U4: if a release of the library copied the withheld fields, the auth would be refused, and nothing would be sent.
    """
    library, ours = lib

    redirected = library.Client._build_redirect_request

    def carried(self: Any, request: Any, response: Any) -> Any:
        again = redirected(self, request, response)
        again.headers = library.Headers(request.headers)
        return again

    monkeypatch.setattr(library.Client, "_build_redirect_request", carried)
    with pytest.raises(RuntimeError, match="would carry X-Leaky to other origins"):
        ours.HeaderAuth(None, "X-Leaky")


@pytest.mark.parametrize("kind", ["BearerAuth", "HeaderAuth", "SigV4Auth", "DPoPAuth", "TokenHandle"])
async def test_deep_copies(lib, kind):
    """U5: options that hold an auth or a handle can be copied: it refers to a manager, and stays the same object."""
    _, ours = lib
    async with TokenManager(Keys()) as tokens:
        handle = tokens.handle()
        made = {
            "BearerAuth": lambda: ours.BearerAuth(handle),
            "HeaderAuth": lambda: ours.HeaderAuth(handle, "X-Api-Key"),
            "SigV4Auth": lambda: ours.SigV4Auth(handle, service="s3", region="eu-west-1"),
            "DPoPAuth": lambda: ours.DPoPAuth(handle, DPoPKey()),
            "TokenHandle": lambda: handle,
        }[kind]()
        options = {"retries": [1], "auth": made}
        again = copy.deepcopy(options)
        assert again["auth"] is made
        assert again["retries"] is not options["retries"]
        assert copy.copy(made) is made
        with pytest.raises(TypeError, match="a manager cannot be pickled or copied"):
            copy.deepcopy(tokens)


def _rebuilt(library: Any, request: Any) -> Any:
    return library.Request(request.method, request.url, headers=request.headers, stream=request.stream)


COPIES = {
    "a request of the request": _rebuilt,
    "twice, as retries do": lambda library, request: _rebuilt(library, _rebuilt(library, request)),
    "a mapping": lambda library, request: library.Request(request.method, request.url, headers=dict(request.headers)),
    "pairs": lambda library, request: library.Request(request.method, request.url, headers=request.headers.raw),
    "items": lambda library, request: library.Request(
        request.method, request.url, headers=request.headers.multi_items()
    ),
    "a copy": lambda library, request: library.Request(request.method, request.url, headers=request.headers.copy()),
}


@pytest.mark.parametrize("copied", COPIES)
async def test_transports_that_copy_the_fields(lib, copied):
    """U1, U4: the field arrives however a transport copies it, and no redirect takes it to another origin."""
    library, ours = lib
    seen: list[tuple[str, str | None]] = []

    class Copying(library.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any:
            sent = COPIES[copied](library, request)
            seen.append((request.url.host, sent.headers.get("x-api-key")))
            there = {"Location": "https://there.example/"}
            return library.Response(200, headers={}) if len(seen) > 1 else library.Response(302, headers=there)

    async with TokenManager(Keys()) as tokens:
        auth = ours.HeaderAuth(tokens.handle(), "X-Api-Key")
        async with library.AsyncClient(auth=auth, transport=Copying(), follow_redirects=True) as client:
            await client.get("https://here.example/")
    assert seen == [("here.example", "planted-1"), ("there.example", None)]


async def test_hooks_see_the_field(lib):
    """U1: a hook finds the field in every way in which it may look, and `repr` does not show it."""
    library, ours = lib
    seen: list[Any] = []

    async def looked(response: Any) -> None:
        fields = response.request.headers
        seen.append(
            ("x-api-key" in dict(fields), "X-Api-Key" in fields, fields["x-api-key"], "planted" in repr(fields))
        )

    async with Wire(always(http(200))) as wire, TokenManager(Keys()) as tokens:
        auth = ours.HeaderAuth(tokens.handle(), "X-Api-Key")
        hooks = {"response": [looked]}
        async with library.AsyncClient(auth=auth, event_hooks=hooks) as client:
            await client.get(wire.url("/a"))
    assert seen == [(True, True, "planted-1", False)]


@pytest.mark.parametrize("header", ["", "X Api", "Host", "Content-Length", "Cookie", "a:b", None])
def test_bad_field(header):
    """Bad input: a name that is invalid or taken is reported at construction."""
    with pytest.raises(ValueError, match="header must be the name"):
        for_httpx.HeaderAuth(None, header)


# Signed requests


class Aws:
    """Recomputes each signature with botocore from the bytes of the request, as a service of AWS does."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.fetches = 0
        self.refusal: bytes | None = None
        self.url = ""

    async def fetch(self, request: Any, /) -> AwsCredentials:
        self.fetches += 1
        return AwsCredentials.of(f"AKID{self.fetches}", "planted-key", f"planted-session-{self.fetches}")

    @property
    def credential(self) -> type[AwsCredentials]:
        return AwsCredentials

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if self.refusal is not None and f"Credential=AKID{1}/" in asked.headers["authorization"]:
            return self.refusal
        return http(200 if self._signed(asked) else 403, asked.body)

    def _signed(self, asked: Asked) -> bool:
        scheme, _, rest = asked.headers["authorization"].partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        key_id, day, region, service, end = parts["Credential"].split("/")
        signed = {name: asked.headers[name] for name in parts["SignedHeaders"].split(";")}
        assert (scheme, region, service, end) == ("AWS4-HMAC-SHA256", "eu-west-1", self.service, "aws4_request")
        assert {"host", "x-amz-date", "x-amz-security-token"} <= set(signed)
        request = AWSRequest(asked.method, self.url + asked.target, headers=signed, data=asked.body)
        request.context["timestamp"] = asked.headers["x-amz-date"]
        kind = S3SigV4Auth if self.service == "s3" else Signer
        signer = kind(Credentials(key_id, "planted-key", asked.headers["x-amz-security-token"]), service, region)
        text = signer.string_to_sign(request, signer.canonical_request(request))
        assert dt.datetime.strptime(asked.headers["x-amz-date"][:8], "%Y%m%d").strftime("%Y%m%d") == day  # noqa: DTZ007 - a day
        return bool(signer.signature(text, request) == parts["Signature"])


@pytest.mark.parametrize("service", ["execute-api", "s3"])
@pytest.mark.parametrize("url", ["/", "/a/b%20c/d?z=1&a=2&empty=", "/caf%C3%A9/x//y?q=a%2Fb"])
async def test_signature(lib, service, url):
    """Signature Version 4: a service that recomputes the signature accepts it, for every URL and body."""
    library, ours = lib
    aws = Aws(service)
    async with Wire(aws) as wire, TokenManager(aws) as tokens:
        aws.url = wire.url("")
        auth = ours.SigV4Auth(tokens.handle(), service=service, region="eu-west-1")
        async with library.AsyncClient(auth=auth, headers={"X-Amz-Target": "t", "X-Trace": "changes"}) as client:
            assert (await client.get(wire.url(url))).status_code == 200
            response = await client.put(wire.url(url), json={"a": "ü"})
            assert response.status_code == 200

            async def body() -> Any:
                yield b"in "
                yield b"parts"

            assert (await client.put(wire.url(url), content=body())).content == b"in parts"

        def in_thread() -> int:
            with library.Client(auth=auth) as client:
                return int(client.post(wire.url(url), content=b"body").status_code)

        assert await asyncio.to_thread(in_thread) == 200
    assert all("planted-key" not in repr(asked) for asked in wire.asked)
    assert all("x-trace" not in asked.headers["authorization"] for asked in wire.asked)


@pytest.mark.parametrize(
    "refusal",
    [
        http(403, b"<Error><Code>ExpiredToken</Code></Error>"),
        http(400, {"__type": "com.amazon.coral.service#UnrecognizedClientException"}),
        http(403, b"", {"x-amzn-ErrorType": "ExpiredTokenException"}),
    ],
    ids=["xml", "json", "header"],
)
async def test_expired_credentials_are_replaced(lib, refusal):
    """U1: what AWS calls expired or unknown is reported, and the request signed once more with others."""
    library, ours = lib
    aws = Aws("execute-api")
    async with Wire(aws) as wire, TokenManager(aws) as tokens:
        aws.url, aws.refusal = wire.url(""), refusal
        auth = ours.SigV4Auth(tokens.handle(), service="execute-api", region="eu-west-1")
        async with library.AsyncClient(auth=auth) as client:
            response = await client.post(wire.url("/a"), content=b"body")
    assert (response.status_code, response.content) == (200, b"body")
    assert aws.fetches == 2


async def test_signed_request_sent_to_another_origin(lib):
    """U4: a redirect to another origin carries neither the session token nor the signature along."""
    library, ours = lib
    aws = Aws("s3")
    async with Wire(always(http(403))) as stranger:
        there = http(307, b"", {"Location": stranger.url("/elsewhere")})
        async with Wire(always(there)) as wire, TokenManager(aws) as tokens:
            auth = ours.SigV4Auth(tokens.handle(), service="s3", region="eu-west-1")
            async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
                assert (await client.put(wire.url("/a"), content=b"body")).status_code == 403
    (asked,) = stranger.asked
    assert "planted" not in repr(asked)
    assert "AKID" not in repr(asked)
    assert not any(name.startswith("x-amz-") for name, _ in asked.fields)
    assert aws.fetches == 1


async def test_signed_request_sent_on_within_the_origin(lib):
    """A redirect within the origin is signed for where it leads, async and sync, also where credentials expired."""
    library, ours = lib
    aws = Aws("execute-api")

    async def service(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/a":
            return http(307, b"", {"Location": "/b?c=d"})
        if "authorization" not in asked.headers:
            return http(403, {"message": "Missing Authentication Token"})
        return await aws(asked, writer)

    async with Wire(service) as wire, TokenManager(aws) as tokens:
        aws.url = wire.url("")
        auth = ours.SigV4Auth(tokens.handle(), service="execute-api", region="eu-west-1")
        async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
            response = await client.put(wire.url("/a"), content=b"body")
            assert (response.status_code, response.content) == (200, b"body")
            aws.refusal = http(403, b"<Error><Code>ExpiredToken</Code></Error>")
            assert (await client.put(wire.url("/a"), content=b"body")).status_code == 200

        def in_thread() -> int:
            with library.Client(auth=auth, follow_redirects=True) as client:
                return int(client.put(wire.url("/a"), content=b"body").status_code)

        assert await asyncio.to_thread(in_thread) == 200
    assert aws.fetches == 2


async def test_missing_permission_costs_nothing(lib):
    """U1: a caller without permission is told so, and no credentials are fetched for it."""
    library, ours = lib
    aws = Aws("execute-api")
    async with Wire(aws) as wire, TokenManager(aws) as tokens:
        aws.refusal = http(403, {"__type": "AccessDeniedException", "message": "no ExpiredThings here"})
        auth = ours.SigV4Auth(tokens.handle(), service="execute-api", region="eu-west-1")
        async with library.AsyncClient(auth=auth) as client:
            assert (await client.get(wire.url("/a"))).status_code == 403
    assert aws.fetches == 1


async def test_wrong_kind_of_credentials():
    """Bad input: a manager of bearer tokens cannot sign, and an auth without a service is refused."""
    async with TokenManager(Keys()) as tokens:
        auth = for_httpx.SigV4Auth(tokens.handle(), service="s3", region="eu-west-1")
        async with httpx.AsyncClient(auth=auth) as client:
            with pytest.raises(TypeError, match="the manager gives Token"):
                await client.get("https://api.example.com")
        with pytest.raises(ValueError, match="service must be"):
            for_httpx.SigV4Auth(tokens.handle(), service="", region="eu-west-1")

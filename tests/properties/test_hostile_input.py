"""
For any data from a server or a store: the parsers end with a result or with the error they document, in bounded time.

A secret is planted in the input. No exception, attribute of one, event or line of log has it.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from evertoken import DPoPKey, FetchRequest, GrantRejected, Token, TransientRefreshError
from evertoken._model.answer import Answer
from evertoken._model.protocols import Record
from evertoken._model.token_response import read_response
from evertoken.clients.httpx import BearerAuth, DPoPAuth
from evertoken.sources import ClientCredentials, OAuthClient, azure
from evertoken.sources._answer import Judge
from evertoken.sources._body import fields_of
from evertoken.stores._record import UnreadableRecord, dump, load
from evertoken.stores.encryption import AesGcm

#: It looks like a token, and is in no text by chance.
PLANTED = "Zk3JQ9c1Xp0aLm7TqRs2"
NOW = 1_800_000_000.0
ERRORS = (TransientRefreshError, GrantRejected)

budget = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

odd = st.sampled_from([
    "", " ", "\x00", "\u202e\u2066", "\u2028\u0085", "\ud800", "%", "%2", "&#", "&#99999999999;", "\\u", "\\ud800",
    "null", "NaN", "1e999", "9" * 5000, "-0", "/Date(1)/", "Bearer", 'error="invalid_token', "https://", "https://a:b/c@d/e",
    "invalid_grant", "<html><title>", "error=", "https://as.example/token", "javascript:alert(1)", "://@",
    "Tue, 01 Jan",
])  # fmt: skip
planted = st.builds(
    lambda before, spell, after: before + spell(PLANTED) + after,
    st.sampled_from(["", " ", "token=", "https://u:", "https://as.example/?a=", "eyJ", "'", "realm="]),
    st.sampled_from([str, lambda text: quote(text).replace("Z", "%5A"), lambda text: text.replace("Z", "&#90;")]),
    st.sampled_from(["", " ", "@as.example/token", "'", "\u200b", "%", "=="]),
)
texts = odd | planted | st.text(max_size=40)
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), True])
values = st.recursive(
    st.none() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
NAMES = [
    "access_token", "token_type", "expires_in", "expires_at", "expires_on", "refresh_in", "refresh_on", "refresh_token",
    "scope", "error", "errors", "error_description", "error_uri", "error_codes", "trace_id", "status", "ok", "code",
    "message", "accessToken", "data", "authed_user", "refresh_expires_in", "id_token", "client_id",
]  # fmt: skip
answers = st.dictionaries(st.sampled_from(NAMES) | texts, values, max_size=8)


def shown(error: BaseException) -> str:
    """The text of a report of *error*, with all that it brings along."""
    told = "".join(traceback.format_exception(error))
    return f"{told} {error!r} {error.args!r} {vars(error)!r}"


def named(token: Token | None) -> str:
    """The visible part of a token, except its type and its scope, which are names."""
    return "" if token is None else repr(Token.replace(token, scope=None)).replace(repr(token.token_type), "")


def clean(error: BaseException, *secrets: str) -> None:
    """Assert that *error* shows no secret, and is one line of a bounded length."""
    told = shown(error)
    assert not [secret for secret in (PLANTED, *secrets) if secret in told]
    assert str(error) == "" or str(error).isprintable()
    assert len(str(error)) <= 2500


@budget
@given(answer=answers | values | texts | st.tuples(values, values), date=st.none() | st.floats(), mapping=st.booleans())
@example(answer={"error": 10**5000, "trace_id": 10**5000}, date=None, mapping=True)
@example(answer={"error": "x", "refresh_token": "planted words", "message": "planted words"}, date=None, mapping=True)
def test_token_responses(answer, date, mapping):
    """F4, S1: any answer of a source is a token, or one of the two failures, which show no secret of it."""
    given = Answer(answer, date=date) if isinstance(answer, dict) and not mapping else answer
    try:
        response = read_response(given, requested_at=NOW, received_at=NOW + 1.0)
    except ERRORS as error:
        clean(error, "planted words")
    else:
        assert PLANTED not in named(response.token)
        if response.failure is not None:
            clean(response.failure)


RECORD = json.loads(
    dump(Record("k", 3, Token("a", issued_at=NOW, refresh_token="r", expires_at=NOW + 9, extra={"x": 1}), sent_at=NOW))
)
parts = st.dictionaries(st.sampled_from([*RECORD, "sealed"]), values | numbers, max_size=4)
inside = st.dictionaries(st.sampled_from([*RECORD["token"]]), values, max_size=4)


@budget
@given(
    parts=parts, inside=inside, cut=st.none() | st.integers(0, 400), junk=st.binary(max_size=20), sealed=st.booleans()
)
@example(parts={"format": PLANTED}, inside={}, cut=None, junk=b"", sealed=False)
def test_records(parts, inside, cut, junk, sealed):
    """S3, S1: what a store holds is a record, or one that cannot be read, and the error repeats nothing of it."""
    body = {**RECORD, "token": {**RECORD["token"], **inside}, **parts}
    data = json.dumps(body).encode()[:cut] + junk
    codec = AesGcm(b"k" * 32, accept_plain=True) if sealed else None
    try:
        record = load("k", data, codec)
    except UnreadableRecord as error:
        clean(error)
    else:
        assert PLANTED not in named(record.token)


@budget
@given(data=st.binary(max_size=200))
def test_records_of_any_bytes(data):
    """S3: any bytes are a record or none."""
    with pytest.raises(UnreadableRecord):
        load("k", data)


KINDS = st.sampled_from([
    "", "application/json", "text/html", "application/x-www-form-urlencoded", "text/plain; charset=punycode",
    "text/html;charset=utf-7", "application/json; charset=utf-16", "text/plain;charset=idna", "a;charset=rot13",
    "text/plain; charset=unicode_escape", "x;charset=undefined", "text/html; charset=iso-8859-7", "x;charset=../../x",
])  # fmt: skip
pages = st.builds(
    lambda tag, text: f"<html><{tag}>{text}</{tag}>", st.sampled_from(["title", "p", "script", "h1"]), texts
)
forms = st.lists(st.tuples(st.sampled_from(NAMES), texts), max_size=4).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
bodies = (
    answers.map(json.dumps).map(str.encode)
    | (pages | forms | texts).map(lambda text: text.encode(errors="surrogatepass"))
    | st.binary(max_size=60)
)
fields = st.fixed_dictionaries(
    {"content-type": KINDS},
    optional={name: texts.filter(lambda text: text.isascii()) for name in ("date", "retry-after", "location")},
)


@budget
@given(status=st.sampled_from([200, 201, 302, 400, 401, 403, 429, 500, 503]), headers=fields, body=bodies)
def test_error_bodies(status, headers, body):
    """F4, S1: any answer of a token endpoint is one of three: an answer, a failure that passes, or a rejection."""
    kind = headers["content-type"]
    judge = Judge("https://as.example/token", "https://as.example", ["hidden-secret"], codes=())
    try:
        judge.answer(status, headers, fields_of(body, kind), body)
    except ERRORS as error:
        clean(error)


def client_of(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


metadata = st.dictionaries(
    st.sampled_from(["issuer", "token_endpoint", "revocation_endpoint", "mtls_endpoint_aliases"]) | texts,
    values | st.sampled_from(["https://as.example/tenant", "https://as.example/token"]),
    max_size=6,
)


@budget
@given(document=metadata | values, honest=st.booleans())
async def test_metadata(document, honest):
    """S2, S1: any document is metadata of the issuer, or a failure that passes and repeats no secret of it."""
    issuer = "https://as.example/tenant"
    if honest and isinstance(document, dict):
        document = {**document, "issuer": issuer}

    def answer(request: httpx.Request) -> httpx.Response:
        if "well-known" in request.url.path:
            return httpx.Response(200, content=json.dumps(document), headers={"content-type": "application/json"})
        return httpx.Response(200, json={"access_token": "t", "expires_in": 60})

    async with client_of(answer) as client:
        server = OAuthClient(issuer=issuer, client_id="app", client_secret="hidden-secret", http_client=client)
        for use in (lambda: ClientCredentials(server).fetch(request_of()), lambda: server.revoke(token_of())):
            try:
                await use()
            except ERRORS as error:
                clean(error)


def request_of() -> FetchRequest:
    return FetchRequest(None, None, 30.0)


def token_of() -> Token:
    return Token("t", issued_at=NOW, refresh_token="r")


class Reader:
    """Has one token, and no other when that is refused."""

    async def get(self) -> Token:
        return token_of()

    async def refused(self, token: Token, *, wait: bool = True) -> None:
        return None


DPOP = DPoPKey()
READER: Any = Reader()
challenges = st.lists(
    texts | st.sampled_from(["Bearer", "DPoP", ",", "=", '"', "error", "use_dpop_nonce", "invalid_token", "realm"]),
    max_size=6,
).map(lambda parts: " ".join(parts).encode(errors="surrogatepass").replace(b"\r", b"").replace(b"\n", b""))


@budget
@given(challenge=challenges, nonce=challenges, status=st.sampled_from([400, 401, 403]))
async def test_challenges(challenge, nonce, status):
    """U1, S1: any WWW-Authenticate and DPoP-Nonce are read or ignored: the caller gets the answer."""
    headers = [(b"WWW-Authenticate", challenge), (b"DPoP-Nonce", nonce)]
    async with client_of(lambda _: httpx.Response(status, headers=headers)) as client:
        for auth in (BearerAuth(READER), DPoPAuth(READER, DPOP)):
            answer = await client.get("https://api.example/", auth=auth)
            assert answer.status_code == status


@budget
@given(challenge=challenges, name=texts)
async def test_challenges_of_azure_arc(challenge, name):
    """S1: a challenge of the agent must name a key in its folder, and only its plain characters are shown."""
    path = f"Basic realm=/var/opt/azcmagent/tokens/{name}.key".encode(errors="surrogatepass")
    for value in (challenge, path.replace(b"\r", b"").replace(b"\n", b"")):
        async with client_of(
            lambda _, value=value: httpx.Response(401, headers=[(b"WWW-Authenticate", value)])
        ) as client:
            source = azure.ArcIdentity("https://r", client=client)
            try:
                await source.fetch(request_of())
            except ERRORS as error:
                clean(error)


MEGABYTE = 1_000_000
BODIES: dict[str, tuple[str, bytes]] = {
    "one text": ("application/json", json.dumps({"error": "x", "error_description": "api_" * 240_000}).encode()),
    "one code": ("application/json", json.dumps({"error": "a" * 990_000}).encode()),
    "words and spaces": (
        "application/json",
        json.dumps({"error": "x", "message": "a " + " " * 990_000 + "a"}).encode(),
    ),
    "members": ("application/json", json.dumps({f"error {number}": 1 for number in range(50_000)}).encode()),
    "objects": ("application/json", json.dumps({"errors": [{"message": "a"}] * 50_000}).encode()),
    "objects in objects": ("application/json", b'{"error":' * 900 + b"1" + b"}" * 900),
    "deep lists": ("application/json", b"[" * MEGABYTE),
    "ids": ("application/json", json.dumps({"errors": [{"trace id": "%41" * 30}] * 8_000}).encode()),
    "ids in names": (
        "application/json",
        json.dumps({f"trace{'-' * number}id": "a" for number in range(1_300)}).encode(),
    ),
    "different texts": ("application/json", json.dumps({"errors": [f"%{n}41 why" * 9 for n in range(8_000)]}).encode()),
    "large number": ("application/json", b'{"error": ' + b"9" * 900_000 + b"}"),
    "escapes": ("application/json", b'{"error": "' + b"\\u0025" * 160_000 + b'"}'),
    "form": ("application/x-www-form-urlencoded", b"error=" + b"%41" * 330_000),
    "almost a form": ("text/plain", b"error=a&" * 120_000 + b" x"),
    "pairs": ("text/plain", b"a=b&" * 250_000),
    "names of a form": ("text/plain", b"a" * MEGABYTE + b"=b"),
    "open tags": ("text/html", b"<a" + b"<" * MEGABYTE),
    "tags": ("text/html", b"<html>" + b"<a>" * 330_000),
    "titles": ("text/html", b"<html>" + b"<title" * 160_000),
    "open titles": ("text/html", b"<html>" + b"<title>" * 140_000),
    "scripts": ("text/html", b"<html>" + b"<script>" * 120_000),
    "ends of scripts": ("text/html", b"<html>" + b"<script></script " * 58_000),
    "entities": ("text/html", b"<html>" + b"&noentityofthislengthatallaaaaaa;" * 30_000),
    "large entities": ("text/html", b"<html>&#" + b"9" * 990_000 + b";"),
    "bad bytes": ("text/plain; charset=utf-8", b"\xff" * MEGABYTE),
    "bad bytes of another charset": ("text/plain; charset=iso-8859-7", b"\xff" * MEGABYTE),
    "bad UTF-16": ("text/plain; charset=utf-16", b"\x00\xd8" * 500_000),
    "bad UTF-32": ("text/plain; charset=utf-32", b"\xff" * MEGABYTE),
    "punycode": ("text/plain; charset=punycode", b"a" * 500_000 + b"-" + b"bc" * 250_000),
    "UTF-7": ("text/plain; charset=utf-7", b"+A-" * 330_000),
}


@pytest.mark.parametrize("status", [200, 400, 503])
@pytest.mark.parametrize("name", BODIES)
def test_no_body_takes_long(name, status):
    """F5: an answer of the largest allowed size never holds the loop, with any content."""
    kind, body = BODIES[name]
    judge = Judge("https://as.example/token", "https://as.example", ["hidden-secret-1", "a" * 60], codes=())
    took = []
    for _ in range(3):
        begun = time.process_time()
        try:
            # With 200 and without an error it is an answer, which has no token.
            judge.answer(status, httpx.Headers({"content-type": kind}), fields_of(body, kind), body)
        except ERRORS as error:
            clean(error)
        took.append(time.process_time() - begun)
    # A twentieth of a second on a machine that measures nothing else.
    assert min(took) < 0.25

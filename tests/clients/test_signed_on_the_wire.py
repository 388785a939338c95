"""Requests that are signed for AWS, as the bytes of a socket show them to a service that checks each signature."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from hypothesis import given, settings, strategies as st
from tests.clients.aws_service import SECRET, AwsService, parse, refusal

from evertoken import TokenManager
from evertoken.clients import httpx as for_httpx, httpx2 as for_httpx2
from evertoken.sources.aws import AwsCredentials

LIBRARIES = {"httpx": (httpx, for_httpx), "httpx2": (httpx2, for_httpx2)}
SERVICES = ["execute-api", "s3"]


@pytest.fixture(params=LIBRARIES)
def lib(request) -> Any:
    return LIBRARIES[request.param]


async def keys() -> AwsCredentials:
    return AwsCredentials.of("AKIDEXAMPLE", SECRET, "planted/session+token==")


async def lasting_keys() -> AwsCredentials:
    return AwsCredentials.of("AKIDEXAMPLE", SECRET)


async def in_parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts or (b"in ", b"", b"parts"):
        yield part


def in_sync_parts() -> Iterator[bytes]:
    yield from (b"in ", b"", b"parts")


HASH = hashlib.sha256(b"body").hexdigest()
POST: dict[str, Any] = {"method": "POST", "content": b"body"}


def fields(*pairs: tuple[str, str | bytes], **more: Any) -> dict[str, Any]:
    raw = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in pairs]
    return {"headers": raw, **more}


# The path and query, and the other arguments of the request. A callable makes the body for each request anew.
PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "no path": ("", {}),
    "root": ("/", {}),
    "plain": ("/data/part-0.parquet", {}),
    "partition of Hive": ("/data/dt=2024-05-22/part-0.parquet", {}),
    "space": ("/example space/", {}),
    "space as %20": ("/example%20space/", {}),
    "plus": ("/a+b", {}),
    "parentheses": ("/report(final).csv", {}),
    "at sign": ("/user@example.com/x", {}),
    "comma and semicolon": ("/a,b;c", {}),
    "colons": ("/arn:aws:s3/x", {}),
    "ampersand": ("/logs/year=2026/a&b.gz", {}),
    "quotes, star, exclamation mark": ("/it's*a\"test!", {}),
    "dollar and tilde": ("/example/$delete~1", {}),
    "brackets": ("/a[0]{1}|2^3`4\\5", {}),
    "UTF-8": ("/caf\u00e9/\u1234/\U0001f600", {}),
    "UTF-8 as escapes": ("/caf%C3%A9", {}),
    "lower-case escapes": ("/caf%c3%a9%3a", {}),
    "escapes of unreserved characters": ("/%41%7e%2d", {}),
    "an escape that is no UTF-8": ("/%ff%00", {}),
    "an escaped percent sign": ("/100%25", {}),
    "a percent sign alone": ("/100%", {}),
    "an escaped slash": ("/a%2Fb", {}),
    "an escaped question mark": ("/a%3Fb%23c", {}),
    "two slashes": ("//example//", {}),
    "slashes at the end": ("/a///", {}),
    "dot segments": ("/a/./b/../c", {}),
    "escaped dot segments": ("/a/%2E%2E/b", {}),
    "dot segments of a target": ("/", {"extensions": {"target": b"/a/./b/../c"}}),
    "a target as text": ("/", {"extensions": {"target": "/a/./b//c?d=e,f"}}),
    "fragment": ("/a#b?c", {}),
}
QUERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "empty": ("/?", {}),
    "order": ("/?b=2&a=1", {}),
    "order of names that begin alike": ("/?a-=1&a=2&a%20b=3&a.=4&aa=5", {}),
    "order of what is encoded": ("/?Param-3=3&Param=2&%E1%88%B4=1&z=%7e", {}),
    "one name twice": ("/?a=2&a=1&a&a=10", {}),
    "case of names": ("/?B=1&a=2&A=3", {}),
    "no value": ("/?lifecycle", {}),
    "empty values": ("/?a=&b&=c&=", {}),
    "empty parts": ("/a,b?&a=1&&b=2&", {}),
    "empty parts alone": ("/a?&&", {}),
    "an equals sign in a value": ("/?a=b=c&d==", {}),
    "UTF-8": ("/?\u1234=caf\u00e9", {}),
    "no UTF-8": ("/?a=%FF%00", {}),
    "space as %20": ("/?q=a%20b", {}),
    "space": ("/?q=a b", {}),
    "plus is a space": ("/?q=a+b", {}),
    "plus as %2B": ("/?q=a%2Bb", {}),
    "params": ("/", {"params": {"q": "a,b:c/d*(e)~ f+g&h=i%j?k#l"}}),
    "params in a list": ("/", {"params": [("a", "2"), ("a", "1"), ("b", "")]}),
    "params with quotes": ("/", {"params": {"filter": "name eq 'x y'"}}),
    "params beside a path to encode": ("/a b/(c)", {"params": {"q": "a b"}}),
    "comma": ("/_cat/indices?h=index,docs.count", {}),
    "colons and slashes": ("/?graph=urn:uuid:1/2&list-type=2&prefix=a/b&delimiter=/", {}),
    "star and parentheses": ("/?q=*&r=(a)", {}),
    "semicolon": ("/x?response-content-disposition=attachment; filename=a.txt", {}),
    "question mark": ("/?a?b=c?d", {}),
    "brackets": ('/?a[0]=1&b{}=2&c=|^`\\"<>', {}),
    "lower-case escapes": ("/?q=a%3ab%c3%a9", {}),
    "a percent sign alone": ("/?q=100%", {}),
}
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "a field twice": ("/", fields(("x-amz-meta-a", "1"), ("x-amz-meta-a", "2"))),
    "a field in two spellings": ("/", fields(("X-Amz-Meta-A", "b"), ("x-amz-b", "1"), ("x-amz-meta-a", "a"))),
    "commas in values": ("/", fields(("x-amz-meta-a", "1, 2"), ("x-amz-meta-a", "3,  4"))),
    "spaces in a value": ("/", fields(("x-amz-meta-a", '"a   b   c"'))),
    "a tab in a value": ("/", fields(("x-amz-meta-a", "a\tb"))),
    "an empty value": ("/", fields(("x-amz-meta-a", ""))),
    "a value in UTF-8": ("/", fields(("x-amz-meta-a", "caf\u00e9\u00a0\u3000x"))),
    "a value in Latin-1": ("/", fields(("x-amz-meta-a", b"caf\xe9\xa0x"))),
    "names that begin alike": ("/", fields(("x-amz-meta-a-b", "1"), ("x-amz-meta-a", "2"), ("x-amz-meta-a1", "3"))),
    "a host of one's own": ("/", fields(("Host", "Bucket.Example.com:8080"))),
    "a target": ("/", fields(("X-Amz-Target", "DynamoDB_20120810.ListTables"), **POST)),
    "a type with parameters": ("/", fields(("Content-Type", 'text/plain;  charset="utf-8"'), **POST)),
    "a digest": ("/", fields(("Content-MD5", "hBotaJrYa9FhFEdFPCLG/A=="), **POST)),
    "one's own signature": ("/", fields(("Authorization", "Basic YTpi"), ("X-Amz-Date", "20000101T000000Z"),
                                        ("x-amz-security-token", "mine"), ("X-Amz-Security-Token", "mine"))),
    "a date": ("/", fields(("Date", "Sat, 01 Jan 2000 00:00:00 GMT"))),
    "fields that proxies change": ("/", fields(("X-Amzn-Trace-Id", "Root=1-2-3"), ("X-Forwarded-For", "::1"))),
    "one's own hash": ("/", fields(("x-amz-content-sha256", HASH), **POST)),
    "an unsigned body": ("/", fields(("X-Amz-Content-SHA256", "UNSIGNED-PAYLOAD"), **POST)),
    "an empty hash": ("/", fields(("x-amz-content-sha256", ""))),
}  # fmt: skip
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "HEAD": ("/a?b", {"method": "HEAD"}),
    "DELETE": ("/a?versionId=1", {"method": "DELETE"}),
    "a method in small letters": ("/a", {"method": "put"}),
    "no content": ("/", {"method": "POST"}),
    "bytes": ("/", POST),
    "text": ("/", {"method": "PUT", "content": "caf\u00e9"}),
    "JSON": ("/", {"method": "POST", "json": {"\u00e9": [1, None]}}),
    "a form": ("/", {"method": "POST", "data": {"a": "b c", "d": "\u00e9&"}}),
    "a file": ("/", {"method": "POST", "files": {"f": ("a b.txt", b"content", "text/plain")}, "data": {"a": "b"}}),
    "a generator": ("/", {"method": "PUT", "content": in_parts}),
    "a generator and its length": ("/", fields(("Content-Length", "8"), method="PUT", content=in_parts)),
    "a generator and its hash": ("/", fields(("x-amz-content-sha256", hashlib.sha256(b"in parts").hexdigest()),
                                             method="PUT", content=in_parts)),
    "an empty generator": ("/", {"method": "PUT", "content": lambda: in_parts(b"")}),
    "a generator in chunks, says the caller": ("/", fields(("Transfer-Encoding", "chunked"), method="PUT",
                                                           content=in_parts)),
    "a large generator": ("/", {"method": "PUT", "content": lambda: in_parts(*[bytes(range(256)) * 256] * 20)}),
}  # fmt: skip
CASES = {
    f"{kind}: {name}": case
    for kind, table in (("path", PATHS), ("query", QUERIES), ("fields", HEADERS), ("body", BODIES))
    for name, case in table.items()
}


def a_request(service: AwsService, case: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    target, more = case
    made = {"method": "GET", "url": service.url + target, **more}
    return {**made, "content": made["content"]()} if callable(made.get("content")) else made


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("case", CASES)
async def test_signature_of_what_is_sent(service, case):
    """Signature Version 4: the service that computes it from the bytes it received accepts the request."""
    async with AwsService(service) as aws, TokenManager(keys) as tokens:
        auth = for_httpx.SigV4Auth(tokens.handle(), service=service, region="us-east-1")
        async with httpx.AsyncClient(auth=auth) as client:
            response = await client.request(**a_request(aws, CASES[case]))
            assert aws.refusals == [""]
            assert response.status_code == 200
            # The request may be sent again as it is, and is signed anew.
            if aws.last.body == b"":
                await client.send(response.request)
                assert aws.refusals == ["", ""]
    assert aws.last.all(b"x-amz-security-token") == [b"planted/session+token=="]
    assert not aws.last.all(b"transfer-encoding")


@pytest.mark.parametrize("service", SERVICES)
async def test_signature_of_what_httpx2_sends(service):
    """Signature Version 4: httpx2 writes URLs and fields in its own way, and every case verifies there too."""
    async with AwsService(service) as aws, TokenManager(keys) as tokens:
        auth = for_httpx2.SigV4Auth(tokens.handle(), service=service, region="us-east-1")
        async with httpx2.AsyncClient(auth=auth) as client:
            for case in CASES.values():
                await client.request(**a_request(aws, case))
    assert dict(zip(CASES, aws.refusals, strict=True)) == dict.fromkeys(CASES, "")


@pytest.mark.parametrize("service", SERVICES)
async def test_signature_of_each_character(service):
    """Signature Version 4: each printable character and each escape, in a path, a name and a value."""
    characters = [chr(code) for code in range(32, 127) if chr(code) not in "?#"]
    escapes = [f"%{code:02{form}}" for code in range(256) for form in "xX"]
    async with AwsService(service) as aws, TokenManager(keys) as tokens:
        auth = for_httpx.SigV4Auth(tokens.handle(), service=service, region="us-east-1")
        async with httpx.AsyncClient(auth=auth) as client:
            for one in [*characters, *escapes]:
                await client.get(f"{aws.url}/a{one}b?a{one}b=c{one}d&a=1")
            for code in range(256):
                await client.get(aws.url, params={f"a{chr(code)}b": f"c{chr(code)}d"})
    assert [refused for refused in aws.refusals if refused] == []
    assert len(aws.refusals) == len(characters) + 512 + 256


class Held:
    """A reader whose token is at hand."""

    def get_sync(self) -> AwsCredentials:
        return AwsCredentials.of("AKIDEXAMPLE", SECRET, "session")


letters = st.sampled_from([*"aB0-._~/%+&=;:,@!$'()*[]{}|^`\\\"<> ?#\u00e9\u1234", "%2F", "%e9", "%zz", "&&"])
words = st.lists(letters, max_size=12).map("".join)
values = st.lists(st.sampled_from([b"a", b",", b" ", b"\t", b"\xe9", b"\xc3\xa9", b"\xa0", b'"'])).map(b"".join)


@pytest.mark.parametrize("service", SERVICES)
@settings(deadline=None, max_examples=300)
@given(
    target=words,
    params=st.none() | st.lists(st.tuples(words, words)),
    headers=st.lists(st.tuples(st.sampled_from([b"x-amz-a", b"X-Amz-A", b"x-amz-b", b"X-Amz-B"]), values)),
    body=st.binary(max_size=9),
)
def test_signature_of_any_request(service, target, params, headers, body):
    """Signature Version 4: the bytes of the request verify, for every URL and all fields."""
    request = httpx.Request("POST", f"https://h.example/{target}", params=params, headers=headers, content=body)
    held: Any = Held()
    auth = for_httpx.SigV4Auth(held, service=service, region="us-east-1")
    sent = next(auth.sync_auth_flow(request))
    lines = [b"POST " + sent.url.raw_path + b" HTTP/1.1", *(b": ".join(one) for one in sent.headers.raw)]
    assert refusal(parse(b"\r\n".join([*lines, b"", sent.content])), service=service) == ""


@pytest.mark.parametrize("service", ["execute-api", "s3", "aoss", "vpc-lattice-svcs", "s3-outposts", "glacier"])
@pytest.mark.parametrize("kind", ["bytes", "parts", "none"])
def test_sync_client(lib, service, kind):
    """U5: a sync client in another thread than the manager's sends what verifies as well."""
    library, ours = lib
    content = {"bytes": b"in parts", "parts": in_sync_parts(), "none": b""}[kind]

    async def main() -> AwsService:
        async with AwsService(service) as aws, TokenManager(lasting_keys) as tokens:
            auth = ours.SigV4Auth(tokens.handle(), service=service, region="us-east-1")

            def in_thread() -> None:
                with library.Client(auth=auth) as client:
                    client.put(f"{aws.url}/a b?c=d,e", content=content, headers={"X-Amz-Security-Token": "mine"})

            await asyncio.to_thread(in_thread)
        return aws

    aws = asyncio.run(main())
    assert aws.refusals == [""]
    assert aws.last.body == (b"" if kind == "none" else b"in parts")
    # Keys without a session have no session token, even if the field is set elsewhere.
    assert aws.last.all(b"x-amz-security-token") == []


# x-amz-content-sha256

UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@pytest.mark.parametrize(
    ("service", "given_hash", "sent"),
    [
        ("execute-api", None, None),
        ("es", None, None),
        ("s3", None, HASH),
        ("s3-object-lambda", None, HASH),
        ("s3-outposts", None, HASH),
        ("s3express", None, HASH),
        ("aoss", None, HASH),
        ("glacier", None, HASH),
        ("vpc-lattice-svcs", None, UNSIGNED),
        ("execute-api", HASH, HASH),
        ("aoss", HASH, HASH),
        ("vpc-lattice-svcs", HASH, HASH),
        ("s3", HASH, HASH),
        ("s3", UNSIGNED, UNSIGNED),
        ("aoss", UNSIGNED, UNSIGNED),
        ("es", UNSIGNED, UNSIGNED),
        ("s3", STREAMING, STREAMING),
        ("s3", "", HASH),
        ("aoss", "", HASH),
    ],
)
async def test_content_hash(lib, service, given_hash, sent):
    """The hash of the body: sent and signed where the service wants it, and the caller's own wherever there is one."""
    library, ours = lib
    async with AwsService(service) as aws, TokenManager(keys) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service=service, region="us-east-1")
        async with library.AsyncClient(auth=auth) as client:
            headers = {} if given_hash is None else {"X-Amz-Content-SHA256": given_hash}
            response = await client.post(f"{aws.url}/index/_doc", content=b"body", headers=headers)
            await client.send(response.request)
    assert aws.refusals == ["", ""]
    for received in aws.received:
        assert received.all(b"x-amz-content-sha256") == ([] if sent is None else [sent.encode()])


@pytest.mark.parametrize(("given_hash", "sent"), [(UNSIGNED, UNSIGNED), (None, HASH)])
async def test_content_hash_after_a_redirect(lib, given_hash, sent):
    """The caller's own hash goes along with a redirect, as its other fields do, and ours is made anew."""
    library, ours = lib
    headers = {} if given_hash is None else {"x-amz-content-sha256": given_hash}
    async with AwsService("s3", elsewhere="/elsewhere") as aws, TokenManager(keys) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service="s3", region="us-east-1")
        async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
            answer = await client.put(f"{aws.url}/a", content=in_parts(b"bo", b"dy"), headers=headers)
    assert answer.status_code == 200
    assert [received.target for received in aws.received] == [b"/a", b"/elsewhere", b"/elsewhere"]
    assert aws.last.all(b"x-amz-content-sha256") == [sent.encode()]
    assert aws.last.body == b"body"


# Bodies


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({}, in_parts),
        ({"Transfer-Encoding": "chunked"}, in_parts),
        ({"x-amz-content-sha256": UNSIGNED}, in_parts),
        ({"Transfer-Encoding": "chunked", "x-amz-content-sha256": UNSIGNED}, in_parts),
    ],
    ids=["plain", "chunked", "unsigned", "unsigned and chunked"],
)
async def test_body_of_unknown_length(lib, service, headers, content):
    """A body of which nobody knew the length is read, and sent with it: S3 does not take chunks."""
    library, ours = lib
    async with AwsService(service) as aws, TokenManager(keys) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service=service, region="us-east-1")
        async with library.AsyncClient(auth=auth) as client:
            await client.put(f"{aws.url}/key", content=content(), headers=headers)
    assert aws.refusals == [""]
    assert aws.last.all(b"content-length") == [b"8"]
    assert not aws.last.all(b"transfer-encoding")
    assert aws.last.body == b"in parts"


async def test_body_without_framing(lib):
    """A stream of which the request says neither the length nor that it comes in chunks is sent with its length."""
    library, ours = lib

    class Stream(library.AsyncByteStream):
        def __aiter__(self) -> AsyncIterator[bytes]:
            return in_parts()

    async with AwsService("s3") as aws, TokenManager(keys) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service="s3", region="us-east-1")
        request = library.Request("PUT", f"{aws.url}/key", headers={"Host": f"127.0.0.1:{aws.port}"}, stream=Stream())
        async with library.AsyncClient(auth=auth) as client:
            await client.send(request)
    assert aws.refusals == [""]
    assert aws.last.body == b"in parts"


@pytest.mark.parametrize(("service", "given_hash"), [("s3", UNSIGNED), ("s3", HASH), ("vpc-lattice-svcs", None)])
async def test_body_that_is_not_read(lib, service, given_hash):
    """A body whose hash is given or not wanted, and whose length is known, is not held in memory."""
    library, ours = lib
    headers = {"Content-Length": "4", **({} if given_hash is None else {"x-amz-content-sha256": given_hash})}
    async with AwsService(service) as aws, TokenManager(keys) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service=service, region="us-east-1")
        async with library.AsyncClient(auth=auth) as client:
            response = await client.put(f"{aws.url}/key", content=in_parts(b"bo", b"dy"), headers=headers)
    assert aws.refusals == [""]
    assert aws.last.body == b"body"
    with pytest.raises(library.RequestNotRead):
        response.request.content  # noqa: B018 - it raises


@pytest.mark.parametrize(
    ("content", "kind"),
    [(in_sync_parts, "async"), (lambda: io.BytesIO(b"file"), "async"), (in_parts, "sync")],
    ids=["generator", "file", "async generator"],
)
async def test_body_that_the_client_cannot_read(lib, content, kind):
    """Bad input: a body of the other kind of client is told with what to give, and nothing is sent."""
    library, ours = lib
    async with AwsService("s3") as aws, TokenManager(keys) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service="s3", region="us-east-1")

        def in_thread() -> None:
            with library.Client(auth=auth) as client:
                client.put(f"{aws.url}/key", content=content())

        with pytest.raises(TypeError, match=f"{'an async' if kind == 'async' else 'a sync'} client cannot read this"):
            if kind == "sync":
                await asyncio.to_thread(in_thread)
            else:
                async with library.AsyncClient(auth=auth) as client:
                    await client.put(f"{aws.url}/key", content=content())
    assert aws.received == []


async def test_no_log_has_the_session_token(lib, caplog):
    """S1: signing says nothing of the session token or the key, at any level of the log."""
    library, ours = lib
    caplog.set_level(logging.DEBUG)
    async with AwsService("s3") as aws, TokenManager(keys) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service="s3", region="us-east-1")
        async with library.AsyncClient(auth=auth) as client:
            await client.put(f"{aws.url}/key", content=b"body")
    said = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
    assert aws.refusals == [""]
    assert "planted" not in said
    assert SECRET not in said

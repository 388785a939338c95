"""
A service of AWS on loopback that checks signatures, as the documentation describes them.

It shares no code with the library or with botocore, and works on the bytes that the socket received:
IAM User Guide, "Create a signed AWS API request"; Amazon S3 API Reference, "Signature Calculations for the
Authorization Header".
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import hmac
import re
import time
from dataclasses import dataclass, field
from typing import Self

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# These refuse a request that does not say what its body is.
HASH_REQUIRED = frozenset({"s3", "s3-object-lambda", "s3-outposts", "s3express", "aoss", "vpc-lattice-svcs"})
STAMP = "%Y%m%dT%H%M%SZ"


@dataclass
class Received:
    """One request, taken apart, with every byte as it came."""

    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found == name]

    def one(self, name: bytes) -> bytes | None:
        values = self.all(name)
        return values[0] if values else None


def parse(raw: bytes) -> Received:
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, _, target = first.rpartition(b" ")[0].partition(b" ")
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in b" \t":
            # RFC 9112 section 5.2: a folded line goes on with the value.
            name, value = fields.pop()
            fields.append((name, value + b" " + line.strip(b" \t")))
        else:
            name, _, value = line.partition(b":")
            fields.append((name.lower(), value.strip(b" \t")))
    received = Received(method, target, fields, rest)
    if received.one(b"transfer-encoding") == b"chunked":
        received.body = b""
        while size := int(rest.partition(b"\r\n")[0], 16):
            rest = rest.partition(b"\r\n")[2]
            received.body += rest[:size]
            rest = rest[size + 2 :]
    return received


def refusal(received: Received, *, service: str, secret: str = SECRET, now: float | None = None) -> str:
    """Return the code with which the service refuses the request, and "" where it does not."""
    match = re.fullmatch(
        rb"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([^/,]+)/([^/,]+)/aws4_request, ?"
        rb"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})",
        b",".join(received.all(b"authorization")),
    )
    if match is None:
        return "IncompleteSignature"
    _, day, region, scope, signed, signature = match.groups()
    names = signed.split(b";")
    stamps = received.all(b"x-amz-date")
    if scope.decode() != service or len(stamps) != 1 or not stamps[0].startswith(day):
        return "IncompleteSignature"
    if names != sorted(set(names)) or not all(map(received.all, names)):
        return "IncompleteSignature"
    must = {b"host", *(name for name, _ in received.fields if name.startswith(b"x-amz-") or name == b"content-type")}
    if not must <= set(names):
        return f"AccessDenied: not signed: {sorted(must - set(names))}"
    if now is not None:
        at = dt.datetime.strptime(stamps[0].decode(), STAMP).replace(tzinfo=dt.UTC).timestamp()
        if abs(at - now) > 300:
            return "RequestTimeTooSkewed" if service == "s3" else "InvalidSignatureException: Signature expired"
    said = received.one(b"x-amz-content-sha256")
    real = hashlib.sha256(received.body).hexdigest().encode()
    if said is None and service in HASH_REQUIRED:
        return "MissingContentSHA256"
    if said is not None and re.fullmatch(rb"[0-9a-f]{64}", said) and said != real:
        return "XAmzContentSHA256Mismatch"
    if service == "s3" and received.all(b"transfer-encoding"):
        return "NotImplemented"
    canonical = canonical_request(received, names, said or real, s3=service.startswith("s3"))
    text = b"\n".join(
        (
            b"AWS4-HMAC-SHA256",
            stamps[0],
            b"/".join((day, region, scope, b"aws4_request")),
            hashlib.sha256(canonical).hexdigest().encode(),
        )
    )
    key = b"AWS4" + secret.encode()
    for part in (day, region, scope, b"aws4_request"):
        key = hmac.new(key, part, hashlib.sha256).digest()
    right = hmac.new(key, text, hashlib.sha256).hexdigest().encode()
    return "" if right == signature else f"SignatureDoesNotMatch: {canonical!r}"


def canonical_request(received: Received, names: list[bytes], payload: bytes, *, s3: bool) -> bytes:
    path, _, query = received.target.partition(b"?")
    lines = [
        received.method,
        encode(decode(path), keep=b"/") if s3 else encode(without_dots(path), keep=b"/"),
        canonical_query(query),
    ]
    for name in names:
        values = [re.sub(rb" {2,}", b" ", value.strip(b" \t")) for value in received.all(name)]
        lines.append(name + b":" + b",".join(values))
    return b"\n".join([*lines, b"", b";".join(names), payload])


def canonical_query(query: bytes) -> bytes:
    if not query:
        return b""
    pairs = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        pairs.append((encode(decode(name.replace(b"+", b" "))), encode(decode(value.replace(b"+", b" ")))))
    return b"&".join(name + b"=" + value for name, value in sorted(pairs))


def encode(text: bytes, *, keep: bytes = b"") -> bytes:
    return b"".join(bytes((one,)) if one in UNRESERVED or one in keep else b"%%%02X" % one for one in text)


def decode(text: bytes) -> bytes:
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), text)


def without_dots(path: bytes) -> bytes:
    """Return *path* without dot segments (RFC 3986 section 5.2.4) and with single slashes."""
    left, done = re.sub(rb"/{2,}", b"/", path), b""
    while left:
        if left.startswith((b"/./", b"/../")) or left in (b"/.", b"/.."):
            up = left.startswith(b"/..")
            left = b"/" + left[4 if up else 3 :]
            done = done.rpartition(b"/")[0] if up else done
        else:
            end = left.find(b"/", 1)
            segment = left if end < 0 else left[:end]
            left = left[len(segment) :]
            done += segment
    return done or b"/"


@dataclass
class AwsService:
    """Answers 200 to a request with a right signature, and otherwise with the error of a real service."""

    service: str
    #: By how many seconds its clock is ahead.
    ahead: float = 0.0
    #: The whole answer to a refused request, in place of its own; "{date}" becomes the Date of its clock.
    answer: str | None = None
    #: Where a signed request is sent on to, if anywhere.
    elsewhere: str | None = None
    received: list[Received] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Received:
        return self.received[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                received = parse(await read_raw(reader))
                self.received.append(received)
                self.refusals.append(refusal(received, service=self.service, now=time.time() + self.ahead))
                writer.write(self._answer(self.refusals[-1], received))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, refused: str, received: Received) -> bytes:
        date = dt.datetime.fromtimestamp(time.time() + self.ahead, dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        if not refused and self.elsewhere and received.target != self.elsewhere.encode():
            return (
                f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {self.elsewhere}\r\nContent-Length: 0\r\n\r\n".encode()
            )
        if not refused:
            return f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode()
        code, _, message = refused.partition(": ")
        said = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        whole = self.answer or f"HTTP/1.1 403 Forbidden\r\nDate: {{date}}\r\n\r\n{said}"
        head, _, body = whole.replace("{date}", date).partition("\r\n\r\n")
        head += f"\r\nContent-Length: {len(body.encode())}\r\n\r\n"
        return head.encode() + (b"" if received.method == b"HEAD" else body.encode())


async def read_raw(reader: asyncio.StreamReader) -> bytes:
    """Return the bytes of one request, its body as it is framed."""
    raw = head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.IGNORECASE)
    if re.search(rb"\r\ntransfer-encoding: *chunked\r\n", head, re.IGNORECASE):
        while not raw.endswith(b"\r\n0\r\n\r\n"):
            line = await reader.readuntil(b"\r\n")
            raw += line + await reader.readexactly(int(line, 16) + 2)
    elif length is not None:
        raw += await reader.readexactly(int(length[1]))
    return raw

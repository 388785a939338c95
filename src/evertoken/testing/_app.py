"""The authorization server and its protected resource as a plain ASGI application."""

from __future__ import annotations

import asyncio
import base64
import binascii
import email.utils
import gzip
import json
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import parse_qsl, unquote_plus

from evertoken.testing._grants import OAuthError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping, Sequence

    from evertoken.testing._faults import Fault
    from evertoken.testing.server import TokenServer

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

__all__ = ["App"]

_HUGE: Final = 4 * 1024 * 1024
_NO_STORE: Final = [(b"cache-control", b"no-store")]


@final
class App:
    """The ASGI application of a `TokenServer`."""

    def __init__(self, server: TokenServer) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        reply = _Reply(send, receive, self._server)
        try:
            await self._answer(scope, await _read(receive), reply)
        except asyncio.CancelledError:
            # The server is stopping. Without this, uvicorn would answer 500 to all waiting clients.
            reply.abort()
            raise

    async def _answer(self, scope: Scope, body: bytes, reply: _Reply) -> None:
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        if path == "/token" and scope["method"] == "POST":
            await self._token(headers, body, reply)
        elif path == "/revoke" and scope["method"] == "POST":
            await self._revoke(headers, body, reply)
        elif path == "/.well-known/oauth-authorization-server":
            await reply.json(200, self._server.metadata())
        elif path == "/resource" or path.startswith("/resource/"):
            await self._resource(scope, headers, body, reply)
        else:
            await reply.json(404, {"error": "not found"})

    async def _token(self, headers: dict[str, str], body: bytes, reply: _Reply) -> None:
        server = self._server
        form = parse_qsl(body.decode(errors="replace"), keep_blank_values=True)
        with server.counting(form, headers) as record:
            fault = server.strike()
            if fault is not None and fault.what in {"reset", "hang"}:
                record.outcome = str(fault.what)
                await (reply.cut() if fault.what == "reset" else reply.hang())
                return
            if server.latency:
                await asyncio.sleep(server.latency)
            if fault is not None and fault.what not in {"lost", "truncated"}:
                record.outcome = str(fault.what)
                await _strike(fault, reply)
                return
            try:
                with server.lock:
                    answer = self._grant(dict(form), headers)
            except OAuthError as error:
                record.outcome = error.error
                await reply.error(error)
                return
            record.outcome = "issued" if fault is None else str(fault.what)
            if fault is None:
                await reply.json(200, answer, _NO_STORE)
            else:
                await (reply.cut() if fault.what == "lost" else reply.truncated(answer))

    def _grant(self, form: dict[str, str], headers: dict[str, str]) -> dict[str, Any]:
        server, grants = self._server, self._server.grants
        client_id = grants.authenticate(*_credentials(form, headers))
        grant_type = form.get("grant_type")
        family = None
        if grant_type == "refresh_token":
            family = grants.present(
                form.get("refresh_token", ""),
                client_id,
                rotate=server.rotate,
                grace=server.grace,
                reuse_revokes_family=server.reuse_revokes_family,
                refuse_early=server.refuse_early,
            )
        elif grant_type not in {"client_credentials", "account_credentials"}:
            error = "unsupported_grant_type"
            raise OAuthError(error, "this server knows client_credentials and refresh_token")
        token = grants.access_token(server.lifetime, exclusive=server.exclusive, repeat=server.repeat, family=family)
        left = grants.access_tokens[token] - server.now() if server.repeat else server.lifetime
        answer: dict[str, Any] = {
            "access_token": token,
            "token_type": server.token_type,
            "expires_in": _number(left) if server.expires_in is ... else server.expires_in,
        }
        if server.expires_in is None:
            del answer["expires_in"]
        if family is not None and server.rotate:
            answer["refresh_token"] = family.current
        if "scope" in form:
            answer["scope"] = form["scope"]
        return {**answer, **server.extra}

    async def _revoke(self, headers: dict[str, str], body: bytes, reply: _Reply) -> None:
        server, form = self._server, dict(parse_qsl(body.decode(errors="replace")))
        try:
            with server.lock:
                server.grants.authenticate(*_credentials(form, headers))
                token = form.get("token", "")
                server.grants.access_tokens.pop(token, None)
                family = server.grants.families.get(token)
                if family is not None:
                    server.grants.revoke(family)
        except OAuthError as error:
            await reply.error(error)
        else:
            # RFC 7009 section 2.2: the answer is 200 even if the token is unknown.
            await reply.json(200, {})

    async def _resource(self, scope: Scope, headers: dict[str, str], body: bytes, reply: _Reply) -> None:
        server = self._server
        if server.resource_latency:
            await asyncio.sleep(server.resource_latency)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        with server.lock:
            good = scheme.lower() == "bearer" and server.grants.valid(token) and not server.refuse_all
        forbidden = good and scope["path"].endswith("/forbidden")
        server.count_resource(server.forbid_with if forbidden else 200 if good else 401)
        if forbidden:
            # A server that answers 401 for a missing permission does not name it.
            told = b', error="insufficient_scope"' if server.forbid_with == 403 else b', error="invalid_token"'  # noqa: PLR2004 - RFC 6750
            challenge = b'Bearer realm="evertoken"' + told
            await reply.json(server.forbid_with, {"error": "forbidden"}, [(b"www-authenticate", challenge)])
        elif good:
            await reply.json(200, {"method": scope["method"], "path": scope["path"], "length": len(body)})
        else:
            # RFC 6750 section 3.1: a request without a token gets no error code.
            challenge = b'Bearer realm="evertoken"' + (b', error="invalid_token"' if scheme else b"")
            await reply.json(401, {"error": "invalid_token"}, [(b"www-authenticate", challenge)])


@final
class _Reply:
    """One answer."""

    def __init__(self, send: Send, receive: Receive, server: TokenServer) -> None:
        self._send = send
        self._receive = receive
        self._server = server

    async def raw(
        self, status: int, body: bytes, headers: list[tuple[bytes, bytes]], *, length: int | None = None
    ) -> None:
        date = email.utils.formatdate(self._server.now() + self._server.date_skew, usegmt=True)
        fields = [(b"content-length", str(len(body) if length is None else length).encode()), *headers]
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [(b"date", date.encode()), *fields]}
        )
        await self._send({"type": "http.response.body", "body": body, "more_body": length is not None})

    async def json(self, status: int, fields: dict[str, Any], headers: list[tuple[bytes, bytes]] | None = None) -> None:
        await self.raw(status, json.dumps(fields).encode(), [(b"content-type", b"application/json"), *(headers or [])])

    async def error(self, error: OAuthError, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        challenge = [(b"www-authenticate", b'Basic realm="evertoken"')] if error.status == 401 else []  # noqa: PLR2004 - RFC 9110
        fields = {"error": error.error, "error_description": error.description}
        await self.json(error.status, fields, [*headers, *challenge])

    async def truncated(self, fields: dict[str, Any]) -> None:
        body = json.dumps(fields).encode()
        await self.raw(200, body[: len(body) // 2], [(b"content-type", b"application/json")], length=len(body))
        await asyncio.sleep(0.01)
        await self.cut()

    async def cut(self) -> None:
        if not self.abort():
            msg = "the connection was cut"
            raise ConnectionResetError(msg)
        await self._gone()

    def abort(self) -> bool:
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is not None:
            transport.abort()
        return transport is not None

    async def hang(self) -> None:
        await self._gone()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _strike(fault: Fault, reply: _Reply) -> None:
    page = [(b"content-type", b"text/html")]
    headers = [] if fault.retry_after is None else [(b"retry-after", str(fault.retry_after).encode())]
    if isinstance(fault.what, int):
        fields = {} if fault.error is None else {"error": fault.error}
        await reply.json(fault.what, fields, headers)
    elif fault.what == "error":
        await reply.error(
            OAuthError(fault.error or "invalid_grant", fault.error_description or "", fault.status), headers
        )
    elif fault.what == "garbage":
        await reply.raw(200, b"<!doctype html><title>Please log in to the network</title>", page)
    elif fault.what == "empty":
        await reply.raw(200, b"", page)
    elif fault.what == "huge":
        await reply.raw(200, b" " * _HUGE, page)
    elif fault.what == "bomb":
        await reply.raw(200, gzip.compress(b" " * _HUGE), [*page, (b"content-encoding", b"gzip")])
    else:
        await reply.raw(307, b"", [(b"location", b"/resource/elsewhere")])


def _credentials(form: dict[str, str], headers: dict[str, str]) -> tuple[str | None, str | None]:
    scheme, _, basic = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id"), form.get("client_secret")
    if "client_secret" in form:
        error = "invalid_request"
        raise OAuthError(error, "more than one client authentication (RFC 6749 section 2.3)")
    try:
        user, _, password = base64.b64decode(basic, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    # RFC 6749 section 2.3.1: both were form-encoded before they were joined.
    return unquote_plus(user), unquote_plus(password)


def _number(seconds: float) -> float:
    # It is an int if possible, as servers answer it. Go's client, among others, does not accept 3600.0.
    return int(seconds) if float(seconds).is_integer() else seconds


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)

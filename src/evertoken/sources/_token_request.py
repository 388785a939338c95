"""
The request to a token endpoint: its content, the meaning of its failures, and the size of its answer.

It follows no redirect, keeps no cookie, requires https outside loopback, and reads a body of limited size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final
from urllib.parse import urlencode, urlsplit

import httpx

from evertoken._model.answer import Answer
from evertoken._model.errors import TokenError, TransientRefreshError
from evertoken._model.redaction import is_about_url, named_secrets, scrub
from evertoken._signing.secret import in_thread
from evertoken.sources._answer import Judge
from evertoken.sources._body import bounded_body, fields_of
from evertoken.sources._given_client import answer_in, drop_cookies, drop_defaults, with_last_hook
from evertoken.sources._sent import Sent
from evertoken.sources._url import check_url, is_near

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Mapping, Sequence

    from evertoken._model.error_response import Rejection
    from evertoken._model.hosts import Reach
    from evertoken._model.protocols import FetchRequest

__all__ = ["Content", "Endpoint", "Reader", "Seen", "form_content"]

#: A function that reads the fields of a body with a given content type.
Reader: TypeAlias = Callable[[bytes, str], "Mapping[str, Any] | None"]

#: A function that examines an answer before it is judged.
Seen: TypeAlias = Callable[[int, Any, "Mapping[str, Any]"], object]

#: Seconds for a revocation. A source receives no time limit for it. The manager sets one, `fetch_timeout`. This one
#: matters only for direct calls. It is longer than the usual limit of a manager.
REVOCATION_TIMEOUT: Final = 600.0

# No step of a request has its own time limit, because the manager limits the whole fetch. A timer of the client could
# turn a slow success into a failure. After a pause of the process it could also drop an answer that waits in the
# socket.
_STEPS: Final = ("connect", "read", "write", "pool")

# Seconds for which a connection is reused.
_KEPT_ALIVE: Final = 1.0

# The objects with which clients verify certificates, by scheme. They are made once per process.
_verify: dict[str, ssl.SSLContext | bool] = {}


@final
@dataclass(frozen=True, slots=True, repr=False)
class Content:
    """The content of a request."""

    method: str
    body: bytes | None
    type: str = ""


def form_content(form: Sequence[tuple[str, str]], /) -> Content:
    """Return the content of a request with *form*, as RFC 6749 requires it."""
    return Content("POST", urlencode(form).encode(), "application/x-www-form-urlencoded")


@final
class Endpoint:
    """
    A token endpoint (RFC 6749 section 3.2), or another that takes a form in the same way.

    Args:
        url: The URL of the endpoint.

        client:
            An `httpx.AsyncClient` (or `httpx2.AsyncClient`) to use instead of a new one for each request. It is not
            closed, and must be used on one loop.

        allow_http: Whether http is allowed outside loopback, or up to which distance.

        parameter: The user's name for the URL.

        context: A function that makes the TLS context of each request, in a thread. By default, the system's context is
            used.
    """

    def __init__(
        self,
        url: str,
        *,
        client: Any = None,
        allow_http: bool | Reach = False,
        parameter: str = "token_endpoint",
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.url: str = check_url(parameter, url, allow_http=allow_http)
        usable = callable(getattr(client, "build_request", None)) and hasattr(client, "aclose")
        if client is not None and (not usable or isinstance(client, type)):
            msg = f"client must be an httpx.AsyncClient, not {type(client).__name__}"
            raise TypeError(msg)
        self._client = client
        self._context = context

    @property
    def origin(self) -> str:
        """The scheme and authority of the URL. They name the provider."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    async def post(
        self,
        request: FetchRequest,
        form: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        *,
        secrets: Sequence[str],
        wordless: bool = False,
        codes: Collection[str | Rejection] = (),
        seen: Seen | None = None,
        keeps: bool = False,
    ) -> Answer:
        """
        Send the fields of *form*, in order, and return the answer. Otherwise it works as `send`.

        Raises:
            TransientRefreshError: It failed temporarily. It is ambiguous if the request was already sent.
            GrantRejected: The server rejected the request.
        """
        content = form_content(form)
        # If an answer has no scope, it has the requested one (RFC 6749 section 5.1).
        scope = next((value for name, value in form if name == "scope"), None)
        return await self.send(
            request,
            content,
            headers,
            secrets=secrets,
            wordless=wordless,
            codes=codes,
            seen=seen,
            keeps=keeps,
            requested_scope=scope,
        )

    async def send(
        self,
        request: FetchRequest,
        content: Content,
        headers: Mapping[str, str],
        *,
        secrets: Sequence[str],
        wordless: bool = False,
        rejections: Collection[int] = (),
        codes: Collection[str | Rejection] | None = None,
        read: Reader = fields_of,
        seen: Seen | None = None,
        keeps: bool = False,
        requested_scope: str | None = None,
    ) -> Answer:
        """
        Send *content* and return the answer.

        Args:
            request: The fetch to which the request belongs.

            content: The content and its method.

            headers: Header fields that authenticate the client.

            secrets: Texts that must not appear in an error.

            wordless: Whether a success needs no body, only its status.

            rejections: Status codes that reject the client, even if the body does not say so.

            codes: Error codes and answers that reject, besides those of the RFCs. It is None if the answer is not from
                OAuth.

            read: A function that reads the fields of a body with a given content type. It returns None if it finds no
                fields.

            seen: A function that receives status, header fields and fields of the answer, before it is judged.

            keeps: Whether the fetch returns this answer, so that it must be kept from its arrival on.

            requested_scope: The requested scope, if any.

        Raises:
            TransientRefreshError: It failed temporarily. It is ambiguous if the request was already sent.
            GrantRejected: The server rejected the request.
        """
        sent = Sent(request)
        secrets = (*secrets, *named_secrets(headers.items()))
        judge = Judge(self.url, self.origin, secrets, rejections, codes, requested_scope)

        def arrived(status: int, fields: Any, body: bytes) -> None:
            # This comes before the connection is closed, because that awaits and may be cancelled.
            if keeps:
                with contextlib.suppress(TokenError):
                    found = read(body, fields.get("content-type", ""))
                    request.received(judge.answer(status, fields, found, body))

        sent.arrived = arrived
        try:
            status, fields, body = await self._exchange(request, content, headers, sent)
        except TransientRefreshError:
            raise
        except Exception as error:  # noqa: BLE001 - a client may raise anything, and the exception holds the request
            failure = self._failure(error, sent, secrets)
        else:
            if wordless and 200 <= status < 300:  # noqa: PLR2004 - RFC 9110
                return Answer({})
            found = read(body, fields.get("content-type", ""))
            if seen is not None:
                seen(status, fields, found or {})
            return judge.answer(status, fields, found, body)
        raise failure

    def _failure(self, error: Exception, sent: Sent, secrets: Sequence[str]) -> TransientRefreshError:
        unsent = self._client is None and not sent.begun
        # If a request of our own client fails before it is sent, the environment is wrong: proxies or files. System
        # errors name a file. All other errors quote a URL, which may contain the password of a proxy.
        quotes = is_about_url(error) or (unsent and not isinstance(error, OSError | ImportError))
        words = "" if quotes else scrub(str(error), secrets)
        said = f"{type(error).__name__}{': ' if words else ''}{words}"
        if unsent:
            # Such a client depends only on the environment, and its errors do not name the variable.
            said = f"no HTTP client can be made, see HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY: {said}"
        return TransientRefreshError(f"{self.origin}: {said}", ambiguous=sent.ambiguous(error))

    async def _exchange(
        self, request: FetchRequest, content: Content, headers: Mapping[str, str], sent: Sent
    ) -> tuple[int, Any, bytes]:
        if self._client is not None:
            return await self._send(self._client, content, headers, sent)
        verify = await self._trust()
        # No proxy of the environment receives requests without TLS, to loopback, or to the machine's own link.
        secure = urlsplit(self.url).scheme == "https"
        proxied = secure and not is_near(self.url)
        # Servers close connections that are idle for longer.
        limits = httpx.Limits(keepalive_expiry=_KEPT_ALIVE)
        make = partial(httpx.AsyncClient, verify=verify, follow_redirects=False, trust_env=proxied, limits=limits)
        if request.connections is None or self._context is not None:
            # A certificate of the client is read again each time.
            async with make() as client:
                return await self._send(client, content, headers, sent)
        async with request.connections.use(("httpx", secure, proxied), make) as client:
            with contextlib.suppress(httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                return await self._send(client, content, headers, sent)
        # The server closed the connection in that moment. This request may be repeated.
        async with make() as client:
            return await self._send(client, content, headers, sent)

    async def _trust(self) -> ssl.SSLContext | bool:
        if self._context is not None:
            try:
                return await in_thread(self._context)
            except OSError as error:
                said = getattr(error, "reason", None) or error.strerror or type(error).__name__
                said = said if error.filename is None else f"{str(error.filename)!r}: {said}"
                failure = TransientRefreshError(f"{self.origin}: no TLS context can be made of the files: {said}")
            raise failure
        scheme = urlsplit(self.url).scheme
        if scheme not in _verify:
            _verify[scheme] = await in_thread(_prepare, scheme)
        return _verify[scheme]

    async def _send(
        self,
        client: Any,
        content: Content,
        headers: Mapping[str, str],
        sent: Sent,
    ) -> tuple[int, Any, bytes]:
        outgoing = client.build_request(
            content.method,
            self.url,
            content=content.body,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                **({} if content.body is None else {"Content-Type": content.type}),
                **headers,
            },
            extensions={"trace": sent.trace, "timeout": dict.fromkeys(_STEPS)},
        )
        outgoing.url = type(outgoing.url)(self.url)
        drop_defaults(outgoing, client, headers)
        before = list(client.cookies.jar)
        try:
            handed = with_last_hook(client, sent.begin, near=is_near(self.url))
            response = await handed.send(outgoing, auth=None, follow_redirects=False, stream=True)
        except Exception as error:
            answered = answer_in(error)
            if answered is None:
                raise
            return answered
        drop_cookies(response, client.cookies, before)
        try:
            body = await bounded_body(response)
            if response.is_success and sent.arrived is not None:
                sent.arrived(response.status_code, response.headers, body)
        except Exception:
            if response.is_success:
                raise
            # The status is sufficient, and Retry-After must not be lost.
            body = b""
        finally:
            await response.aclose()
        return response.status_code, response.headers, body


def _prepare(scheme: str) -> ssl.SSLContext | bool:
    # The first client imports the transport and reads certificates. That takes tens of milliseconds, so it runs in a
    # thread.
    verify = httpx.create_ssl_context() if scheme == "https" else False
    httpx.AsyncHTTPTransport(verify=verify)
    return verify

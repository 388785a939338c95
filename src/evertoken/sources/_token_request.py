"""
The one request to a token endpoint: what is sent, what may go wrong before and after, and how much is read.

It follows no redirect, keeps no cookie, wants https outside loopback, and reads a bounded body.
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

#: What reads the fields of a body, told its content type.
Reader: TypeAlias = Callable[[bytes, str], "Mapping[str, Any] | None"]

#: What looks at an answer before it is judged.
Seen: TypeAlias = Callable[[int, Any, "Mapping[str, Any]"], object]

#: Seconds for a revocation. A source is told no deadline for it. The manager sets one, `fetch_timeout`, and this one is
#: there for direct calls alone: it is longer than any that a manager is usually given.
REVOCATION_TIMEOUT: Final = 600.0

# No step of a request has a bound of its own: the manager bounds the fetch as a whole. A timer of the client's would
# turn a slow success into a failure, and after a pause of the process it would throw away an answer that waits in the
# socket.
_STEPS: Final = ("connect", "read", "write", "pool")

# Seconds for which a connection is used again.
_KEPT_ALIVE: Final = 1.0

# What clients for a scheme verify certificates with, made once a process.
_verify: dict[str, ssl.SSLContext | bool] = {}


@final
@dataclass(frozen=True, slots=True, repr=False)
class Content:
    """What a request carries."""

    method: str
    body: bytes | None
    type: str = ""


def form_content(form: Sequence[tuple[str, str]], /) -> Content:
    """Return the content of a request that carries *form* as RFC 6749 wants it."""
    return Content("POST", urlencode(form).encode(), "application/x-www-form-urlencoded")


@final
class Endpoint:
    """
    A token endpoint (RFC 6749 section 3.2), or another that takes a form in the same way.

    Args:
        url: Where it is.

        client:
            An `httpx.AsyncClient` (or `httpx2.AsyncClient`) to use instead of one made for each request. It is not
            closed, and must be used on one loop.

        allow_http: Whether http is allowed outside loopback, or how far.

        parameter: What the user calls the URL.

        context: Makes the TLS context of each request, in a thread, where the system's own will not do.
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
        """The scheme and authority of the URL, which name the provider."""
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
        Send the fields of *form*, in order, and return the answer. The rest is as in `send`.

        Raises:
            TransientRefreshError: It failed for a reason that passes; ambiguous if the request had been sent.
            GrantRejected: The server said no.
        """
        content = form_content(form)
        # Where an answer leaves the scope out, it is the one that was asked for (RFC 6749 section 5.1).
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
            request: The fetch this is for.

            content: What to send, and how.

            headers: Header fields that authenticate the client.

            secrets: What must not be seen in any error.

            wordless: Whether success needs no more than its status.

            rejections: Status codes that reject the client where the body does not say so.

            codes: Error codes and answers that reject, besides those of the RFCs; None where the answer is not one
                of OAuth.

            read: How fields are read of a body, which has a content type; None if it has none.

            seen: Told of the status, the header fields and the fields of the answer, before it is judged.

            keeps: Whether the answer is what the fetch returns, so that it is kept from its arrival on.

            requested_scope: The scope that is asked for, if one is.

        Raises:
            TransientRefreshError: It failed for a reason that passes; ambiguous if the request had been sent.
            GrantRejected: The server said no.
        """
        sent = Sent(request)
        secrets = (*secrets, *named_secrets(headers.items()))
        judge = Judge(self.url, self.origin, secrets, rejections, codes, requested_scope)

        def arrived(status: int, fields: Any, body: bytes) -> None:
            # Before the connection is closed, which takes awaits that may be cancelled.
            if keeps:
                with contextlib.suppress(TokenError):
                    found = read(body, fields.get("content-type", ""))
                    request.received(judge.answer(status, fields, found, body))

        sent.arrived = arrived
        try:
            status, fields, body = await self._exchange(request, content, headers, sent)
        except TransientRefreshError:
            raise
        except Exception as error:  # noqa: BLE001 - any client's any exception; it holds the request, so it ends here
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
        # Before a request of our own client leaves, what fails is what the environment says: proxies and files.
        # Errors of the system name a file; all others quote a URL, which may hold the password of a proxy.
        quotes = is_about_url(error) or (unsent and not isinstance(error, OSError | ImportError))
        words = "" if quotes else scrub(str(error), secrets)
        said = f"{type(error).__name__}{': ' if words else ''}{words}"
        if unsent:
            # The environment is all that such a client is made of, and what is wrong in it names no variable.
            said = f"no HTTP client can be made, see HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY: {said}"
        return TransientRefreshError(f"{self.origin}: {said}", ambiguous=sent.ambiguous(error))

    async def _exchange(
        self, request: FetchRequest, content: Content, headers: Mapping[str, str], sent: Sent
    ) -> tuple[int, Any, bytes]:
        if self._client is not None:
            return await self._send(self._client, content, headers, sent)
        verify = await self._trust()
        # No proxy of the environment sees what goes in the clear, to loopback, or to the machine's own link.
        secure = urlsplit(self.url).scheme == "https"
        proxied = secure and not is_near(self.url)
        # A server closes what is idle for longer.
        limits = httpx.Limits(keepalive_expiry=_KEPT_ALIVE)
        make = partial(httpx.AsyncClient, verify=verify, follow_redirects=False, trust_env=proxied, limits=limits)
        if request.connections is None or self._context is not None:
            # A certificate of the client's is read anew each time.
            async with make() as client:
                return await self._send(client, content, headers, sent)
        async with request.connections.use(("httpx", secure, proxied), make) as client:
            with contextlib.suppress(httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                return await self._send(client, content, headers, sent)
        # The server has closed the connection just then. What is asked here may be asked twice.
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
            # The status says enough, and Retry-After must not be lost.
            body = b""
        finally:
            await response.aclose()
        return response.status_code, response.headers, body


def _prepare(scheme: str) -> ssl.SSLContext | bool:
    # The first client imports the transport and reads the certificates: tens of milliseconds that belong in a thread.
    verify = httpx.create_ssl_context() if scheme == "https" else False
    httpx.AsyncHTTPTransport(verify=verify)
    return verify

"""
The endpoints of an authorization server. The user states them, or the server itself publishes them (RFC 8414).

A server's metadata comes from the network, so its size is limited. An endpoint must be at a public host, or as near as
the issuer. Tokens are revoked at the origin of the token endpoint, where they came from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlsplit

from evertoken._engine.clock import SystemClock
from evertoken._engine.tasks import Gate, Strays, bounded
from evertoken._model.errors import TokenError, TransientRefreshError
from evertoken._model.failures import Overdue
from evertoken._model.hosts import Reach, reach_of
from evertoken._model.protocols import FetchRequest
from evertoken._model.redaction import quoted_url
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import check_url, origin_of, url_identity, without_query

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

__all__ = ["Server"]

#: Seconds for which the metadata of a server counts as fresh.
FRESH: Final = 3600.0
#: Seconds after which a server that did not answer is asked again.
AGAIN: Final = 60.0

# After this part of a fetch's time the second address is asked too. The first one may still answer.
_PATIENCE: Final = 0.25
# If older metadata exists, the server gets this part of the time. The rest is left for the token.
_SHARE: Final = 0.5


@final
class Server:
    """
    An authorization server.

    Args:
        token_endpoint: The URL of its token endpoint.

        issuer: Alternatively its issuer identifier (RFC 8414 section 2), an https URL from which everything else is
            found.

        revocation_endpoint: The URL at which it revokes tokens (RFC 7009). With *issuer* it is found automatically.

        client: The HTTP client to use.

        allow_http: Whether http is allowed to hosts other than loopback.

        mutual_tls: Whether the client shows a certificate, which some servers accept only at special endpoints.

        context: A function that makes the TLS context with the certificate, unless the given client has it.

    Raises:
        ValueError: Both or neither of *token_endpoint* and *issuer* are given, or a URL is invalid.
    """

    def __init__(
        self,
        *,
        token_endpoint: str | None,
        issuer: str | None,
        revocation_endpoint: str | None,
        client: Any,
        allow_http: bool,
        mutual_tls: bool,
        context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        if token_endpoint is not None and issuer is not None:
            msg = "token_endpoint and issuer cannot both be given: the issuer names its token endpoint"
            raise ValueError(msg)
        self._options = {"client": client, "allow_http": allow_http, "context": context}
        self._mutual_tls = mutual_tls
        self._issuer: str | None = None
        self._token: Endpoint | None = None
        self._revocation: Endpoint | None = None
        if issuer is None:
            self._token = Endpoint(token_endpoint, **self._options)  # type: ignore[arg-type]  # checked there
        else:
            self._issuer = check_url("issuer", issuer, allow_http=allow_http)
            if urlsplit(issuer).query:
                msg = f"issuer must not have a query (RFC 8414 section 2), as that of {without_query(issuer)!r} has"
                raise ValueError(msg)
        if revocation_endpoint is not None:
            self._revocation = Endpoint(revocation_endpoint, parameter="revocation_endpoint", **self._options)
        self._found: Mapping[str, Any] = {}
        self._found_at = 0.0
        # The origins from which tokens may have come. At most two are remembered.
        self._origins: set[str] = set()
        self._clock = SystemClock()
        self._strays = Strays()
        parts = urlsplit(self._issuer if self._token is None else self._token.url)
        self.origin: str = f"{parts.scheme!s}://{parts.netloc!s}"
        #: The identity of the server.
        self.identity: str = url_identity(self._token.url if self._token is not None else str(self._issuer))

    def __repr__(self) -> str:
        return (
            f"issuer={self._shown!r}" if self._token is None else f"token_endpoint={without_query(self._token.url)!r}"
        )

    @property
    def _shown(self) -> str:
        return without_query(self._issuer or "")

    async def token_endpoint(self, timeout: float) -> Endpoint:
        """
        Return the token endpoint. If it must be looked up, that takes at most *timeout* seconds.

        Raises:
            TransientRefreshError: The server did not publish it.
        """
        if self._token is not None:
            return self._token
        return self._token_endpoint_in(await self._metadata(timeout))

    async def revocation_endpoint(self, timeout: float) -> Endpoint | None:
        """
        Return the revocation endpoint, or None if it is unknown.

        Raises:
            TransientRefreshError: The server did not publish its metadata, or names a revocation endpoint at another
                origin than its token endpoint. Otherwise an issuer that names a foreign token endpoint would receive
                the tokens from there (CVE-2025-27371).
        """
        if self._revocation is not None or self._issuer is None:
            return self._revocation
        metadata = await self._metadata(timeout)
        if "revocation_endpoint" not in metadata:
            return None
        self._token_endpoint_in(metadata)
        found = self._endpoint("revocation_endpoint", metadata)
        if self._origins == {origin_of(found.url)}:
            return found
        msg = f"the metadata of {self._issuer!r}: revocation_endpoint is at {origin_of(found.url)}, and the token "
        msg += f"endpoint at {' and '.join(sorted(self._origins))}: tokens are only revoked where they came from; "
        msg += "give revocation_endpoint= if this is intended"
        raise TransientRefreshError(msg)

    def audience(self, endpoint: Endpoint) -> str:
        """
        Return the audience for an assertion that is sent to *endpoint*.

        It is the issuer, if that is known (the draft that updates RFC 7523, CVE-2025-27370). Otherwise it is the token
        endpoint (RFC 7523 section 3), or *endpoint* itself if that is at another origin.
        """
        if self._token is None:
            return str(self._issuer)
        return self._token.url if origin_of(self._token.url) == origin_of(endpoint.url) else endpoint.url

    def _token_endpoint_in(self, metadata: Mapping[str, Any]) -> Endpoint:
        found = self._endpoint("token_endpoint", metadata)
        if len(self._origins) < 2:  # noqa: PLR2004 - a bound
            self._origins.add(origin_of(found.url))
        return found

    def _endpoint(self, name: str, metadata: Mapping[str, Any]) -> Endpoint:
        found = metadata.get(name, "")
        # RFC 8705 section 5: a client that shows a certificate must use the alias, if there is one.
        aliases = metadata.get("mtls_endpoint_aliases") if self._mutual_tls else None
        if isinstance(aliases, Mapping):
            found = aliases.get(name, found)
        try:
            endpoint = Endpoint(found, parameter=name, **self._options)
        except ValueError as error:
            said = str(error)
        else:
            here, there = reach_of(_host(self._issuer or "")), reach_of(_host(endpoint.url))
            if there in {Reach.PUBLIC, here}:
                return endpoint
            said = f"{name} must be at a public host, as the issuer is not {there} itself: "
            said += f"{without_query(endpoint.url)!r}; give token_endpoint= instead of issuer= if this is intended"
        msg = f"the metadata of {self._shown!r}: {said}"
        raise TransientRefreshError(msg)

    async def _metadata(self, timeout: float) -> Mapping[str, Any]:
        if self._found and self._clock.monotonic() - self._found_at < FRESH:
            return self._found
        failures: list[str] = []
        try:
            # Without earlier metadata there is no token either, so only the fetch's own time limit applies.
            found = await bounded(
                partial(self._ask, timeout, failures),
                timeout * _SHARE if self._found else timeout,
                clock=self._clock,
                strays=self._strays,
                name="evertoken:discovery",
            )
        except Overdue:
            found = {}
            failures.append(f"no answer within {timeout:g} s")
        if found:
            self._found, self._found_at = found, self._clock.monotonic()
        elif self._found:
            self._found_at = self._clock.monotonic() - FRESH + AGAIN
        else:
            msg = f"the issuer {self._shown!r} does not publish its endpoints: {'; '.join(failures)}"
            raise TransientRefreshError(msg)
        return self._found

    async def _ask(self, timeout: float, failures: list[str]) -> Mapping[str, Any]:
        """
        Return the metadata from one of the two addresses, or nothing. The reasons are added to *failures*.

        The second address is asked when the first one has failed or is slow.
        """
        loop = asyncio.get_running_loop()
        first, second = _places(self._issuer or "")
        asked = [loop.create_task(self._tell(first, timeout, failures))]
        late = Gate()
        try:
            if not asked[0].done():
                asked[0].add_done_callback(lambda _: late.wake())
                await late.wait(self._clock, timeout * _PATIENCE)
            if asked[0].done() and asked[0].result():
                return asked[0].result()
            asked.append(loop.create_task(self._tell(second, timeout, failures)))
            for one in asyncio.as_completed(asked):
                found = await one
                if found:
                    return found
            return {}
        finally:
            for task in asked:
                task.cancel()

    async def _tell(self, place: str, timeout: float, failures: list[str]) -> Mapping[str, Any]:
        endpoint = Endpoint(place, parameter="issuer", **self._options)
        try:
            # This has its own request object, because no grant is presented here.
            answer = await endpoint.send(FetchRequest(None, None, timeout), Content("GET", None), {}, secrets=())
        except TokenError as error:
            failures.append(f"{without_query(place)}: {error}")
            return {}
        if answer.fields.get("issuer") != self._issuer:
            # RFC 8414 section 3.3: metadata of another issuer must not be used.
            failures.append(
                f"{without_query(place)}: it names another issuer, {quoted_url(answer.fields.get('issuer'))}"
            )
            return {}
        return answer.fields


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _places(issuer: str) -> tuple[str, str]:
    # RFC 8414 section 3.1 puts the well-known name before the path. OpenID Connect Discovery section 4 puts it after.
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )

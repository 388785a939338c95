"""
What all grants at a token endpoint share: the endpoint, the client, and the parameters that go with every request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict

from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.protocols import FetchRequest
from evertoken._signing.dpop import DPoPKey
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._client_authentication import ClientAuth, TlsClientAuth, check_method, credentials
from evertoken.sources._discovery import Server
from evertoken.sources._provider_rules import Answered, as_meant, completed, endpoints_of, known
from evertoken.sources._token_request import REVOCATION_TIMEOUT

if TYPE_CHECKING:
    from evertoken._model.token import Token
    from evertoken._model.token_response import Answer
    from evertoken._signing.secret import Secret
    from evertoken.providers import Provider
    from evertoken.sources._token_request import Endpoint

__all__ = ["Grant", "GrantOptions"]

_RESERVED: Final = frozenset({
    "audience", "client_id", "client_secret", "grant_type", "refresh_token", "resource", "scope",
})  # fmt: skip


class GrantOptions(TypedDict, total=False):
    """What every grant may be given besides its own."""

    token_endpoint: str | None
    issuer: str | None
    client_id: str | None
    client_secret: Secret | None
    client_auth: ClientAuth | None
    scope: str | Iterable[str] | None
    audience: str | None
    resource: str | Iterable[str] | None
    parameters: Mapping[str, str] | None
    form_encoded_basic: bool
    client: Any
    allow_http: bool
    revocation_endpoint: str | None
    dpop: DPoPKey | None


class Grant(CarriesSecrets):
    """
    A grant of RFC 6749 at one token endpoint.

    Args:
        token_endpoint: An absolute https URL, or http to loopback.

        issuer: The server's issuer identifier instead: its endpoints are found by RFC 8414 or OpenID Connect Discovery.

        client_id: The client's identifier (RFC 6749 section 2.2).

        client_secret: Its secret, or a function that is asked for it at each fetch.

        client_auth: A method by its registered name, `PrivateKeyJwt`, `ClientSecretJwt` or `TlsClientAuth`.

        scope: Space-separated, or several strings (RFC 6749 section 3.3).

        audience: Whom the token is for, where the server wants to be told so.

        resource: One or several resource indicators (RFC 8707).

        parameters: More form fields, sent with every request.

        form_encoded_basic: Set to False for servers that expect id and secret in Basic as they are.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: Allow http outside loopback.

        revocation_endpoint: Where tokens are revoked (RFC 7009), if the server can do that.

        dpop: The key to bind tokens to (RFC 9449), for `DPoPAuth` to send them with.

    Raises:
        ValueError: An argument is missing or makes no sense; the message names it.
    """

    #: Whether a request may do without a client: the assertion in it says enough.
    anonymous = False

    def __init__(
        self,
        *,
        token_endpoint: str | None = None,
        issuer: str | None = None,
        client_id: str | None = None,
        client_secret: Secret | None = None,
        client_auth: ClientAuth | None = None,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
        form_encoded_basic: bool = True,
        client: Any = None,
        allow_http: bool = False,
        revocation_endpoint: str | None = None,
        dpop: DPoPKey | None = None,
    ) -> None:
        method: ClientAuth = client_auth or ("none" if client_secret is None else "client_secret_basic")
        self._server = Server(
            token_endpoint=token_endpoint,
            issuer=issuer,
            revocation_endpoint=revocation_endpoint,
            client=client,
            allow_http=allow_http,
            mutual_tls=isinstance(method, TlsClientAuth) or (isinstance(method, str) and "tls" in method),
            context=method.context if isinstance(method, TlsClientAuth) else None,
        )
        if not (isinstance(client_id, str) and client_id) and not (client_id is None and self.anonymous):
            msg = f"client_id must be a non-empty string, not {type(client_id).__name__}"
            raise ValueError(msg)
        check_method(method, client_secret, client)
        if client_id is None and method != "none":
            msg = "client_auth and client_secret need a client_id"
            raise ValueError(msg)
        self._client_id = client_id
        self._client_secret = client_secret
        self._method: ClientAuth = method
        self._form_encoded_basic = form_encoded_basic
        self._fields = _fields(scope, audience, resource, parameters)
        if dpop is not None and not isinstance(dpop, DPoPKey):
            msg = f"dpop must be a DPoPKey, not {type(dpop).__name__}"
            raise ValueError(msg)
        self._dpop = dpop
        self._habits: Provider | None = None
        self.provider: str = self._server.origin
        self.exclusive: bool = False

    @classmethod
    def for_provider(cls, provider: str | Provider, /, **options: Any) -> Self:
        """
        Return a source for a known provider (see `evertoken.providers`), with its endpoints and habits.

        Args:
            provider: Its name, or a `Provider` of your own.

            options: What its endpoints have in braces, such as `domain="tenant.eu.auth0.com"`, and all that the source
                itself takes. What is given here counts before what the provider says.

        Raises:
            ValueError: There is no such provider, or something is missing; the message says what.
        """
        found = known(provider)
        given = endpoints_of(found, options)
        source = cls(**{**given, **cls._habits_for(found, options), **options})
        source._habits = found
        source.exclusive = found.exclusive
        return source

    @classmethod
    def _habits_for(cls, provider: Provider, options: Mapping[str, Any]) -> dict[str, Any]:
        with_secret = options.get("client_secret") is not None and options.get("client_auth") is None
        return {"client_auth": provider.client_auth} if with_secret else {}

    async def post(self, request: FetchRequest, *own: tuple[str, str], secrets: tuple[str, ...] = ()) -> Answer:
        """Send the fields of the grant itself with those that go with every request."""
        endpoint = await self._server.token_endpoint(request.timeout)
        answered = Answered(endpoint.url, self._dpop)
        try:
            try:
                answer = await self._post(endpoint, request, own, secrets, answered)
            except TransientRefreshError:
                if not answered.wants_nonce:
                    raise
                # RFC 9449 section 8: the same again, with the nonce that came with the refusal.
                answer = await self._post(endpoint, request, own, secrets, answered)
        except (GrantRejected, TransientRefreshError) as error:
            before = None if request.began_anew else request.current
            raise as_meant(error, self._habits, answered, before) from None
        return completed(answer, self._habits)

    async def _post(
        self,
        endpoint: Endpoint,
        request: FetchRequest,
        own: tuple[tuple[str, str], ...],
        secrets: tuple[str, ...],
        answered: Answered,
    ) -> Answer:
        headers, identity, hidden = await self._identity(endpoint)
        if self._dpop is not None:
            answered.proof = self._dpop.proof("POST", endpoint.url)
            headers = {**headers, "DPoP": answered.proof}
        form = [*own, *self._fields, *identity]
        codes = () if self._habits is None else self._habits.rejections
        hidden = (*secrets, *hidden)
        return await endpoint.post(request, form, headers, secrets=hidden, codes=codes, seen=answered.seen, keeps=True)

    async def revoke(self, token: Token, /) -> None:
        """
        Tell the server that *token* is no longer needed (RFC 7009), the refresh token first.

        Nothing is sent where no revocation endpoint is known.

        Raises:
            TransientRefreshError: The server could not be told.
            GrantRejected: The server does not know the client.
        """
        endpoint = await self._server.revocation_endpoint(REVOCATION_TIMEOUT)
        if endpoint is None:
            return
        headers, identity, hidden = await self._identity(await self._server.token_endpoint(REVOCATION_TIMEOUT))
        for hint, value in (("refresh_token", token.refresh_token), ("access_token", token.access_token)):
            # A token may hold a refresh token alone.
            if value:
                form = [("token", value), ("token_type_hint", hint), *identity]
                request = FetchRequest(None, token, REVOCATION_TIMEOUT)
                await endpoint.post(request, form, headers, secrets=(value, *hidden), wordless=True)

    async def _identity(self, endpoint: Endpoint) -> tuple[dict[str, str], list[tuple[str, str]], tuple[str, ...]]:
        if self._client_id is None:
            return {}, [], ()
        headers, fields, hidden = await credentials(
            self._method,
            self._client_id,
            self._client_secret,
            form_encoded=self._form_encoded_basic,
            token_endpoint=endpoint.url,
        )
        return headers, list(fields.items()), hidden

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server!r}, client_id={self._client_id!r})"


def _fields(
    scope: str | Iterable[str] | None,
    audience: str | None,
    resource: str | Iterable[str] | None,
    parameters: Mapping[str, str] | None,
) -> tuple[tuple[str, str], ...]:
    fields: list[tuple[str, str]] = []
    if scope is not None:
        fields.append(("scope", " ".join(_strings("scope", scope))))
    if audience is not None:
        fields.append(("audience", audience))
    if resource is not None:
        fields += [("resource", one) for one in _strings("resource", resource)]
    if parameters is not None and not isinstance(parameters, Mapping):
        msg = f"parameters must be a mapping of strings, not {type(parameters).__name__}"
        raise ValueError(msg)
    taken = _RESERVED.intersection(parameters or {})
    if taken:
        msg = f"parameters must not contain {', '.join(sorted(taken))}: use the argument of that name"
        raise ValueError(msg)
    fields += (parameters or {}).items()
    for name, value in fields:
        if not isinstance(value, str):
            msg = f"{name} must be a string, not {type(value).__name__}"
            raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake
    return tuple(fields)


def _strings(parameter: str, value: object) -> list[str]:
    several: list[Any] = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    for one in several:
        if not isinstance(one, str):
            msg = f"{parameter} must be a string or several, not {type(value).__name__}"
            raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake
    return several

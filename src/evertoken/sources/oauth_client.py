"""An OAuth client: its authorization server, its identity there, and its authentication."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Self, final

from evertoken._model.error_body import codes_in
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.identity import digest_of
from evertoken._model.protocols import FetchRequest
from evertoken._model.provider_limits import Budget, RateLimit
from evertoken._model.redaction import named_secrets, quoted
from evertoken._signing.dpop import DPoPKey
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._body import object_of
from evertoken.sources._client_authentication import ClientAuth, TlsClientAuth, check_method, credentials
from evertoken.sources._discovery import Server
from evertoken.sources._provider_rules import Answered, as_meant, completed, endpoints_of, known
from evertoken.sources._token_request import REVOCATION_TIMEOUT, Content, form_content

if TYPE_CHECKING:
    from evertoken._model.answer import Answer
    from evertoken._model.token import Token
    from evertoken._signing.secret import Secret
    from evertoken.providers import Provider
    from evertoken.sources._token_request import Endpoint

__all__ = ["Fields", "OAuthClient", "strings_of"]

#: The form fields, in order.
Fields = tuple[tuple[str, str], ...]

# Codes of a revocation endpoint for a token that is no longer valid. Then there is nothing left to revoke.
_GONE: Final = frozenset({"invalid_token", "invalid_grant"})


@final
class OAuthClient(CarriesSecrets):
    """
    A client of one authorization server (RFC 6749 section 2). Make one, and share it among all its grants.

    Args:
        token_endpoint: The URL of the token endpoint: absolute, and https unless it is at loopback.

        issuer:
            Alternatively, the server's issuer identifier. Its endpoints are found by RFC 8414 or OpenID Connect
            Discovery, and looked up again every hour. The token endpoint may be at any public host, as Google's is. It
            may be at loopback, on the own link or in a private network only if the issuer is there too. The revocation
            endpoint must be at the origin of the token endpoint. Assertions have the issuer as their audience.

        client_id: The identifier of the client (RFC 6749 section 2.2). Grants with an assertion may omit it.

        client_secret:
            The secret of the client, a `pathlib.Path` to it, or a plain or async function that returns it. It is read
            for each fetch. Leave it out for public clients, and for clients that authenticate without a secret.

        client_auth:
            "client_secret_basic" (the default with a secret) or "client_secret_post" (RFC 6749 section 2.3.1),
            `PrivateKeyJwt` or `ClientSecretJwt` (RFC 7523), `TlsClientAuth`, "tls_client_auth" or
            "self_signed_tls_client_auth" (RFC 8705), or "none" (the default without a secret).

        form_encoded_basic: False for servers that expect id and secret in Basic without form encoding.

        revocation_endpoint: The URL at which `TokenManager.revoke` tells the server (RFC 7009). It takes precedence
            over that of the issuer. Without either, the server is not told.

        body: The format of requests: "form" (RFC 6749), or "json" for servers that require it.

        headers: Further header fields. They are sent with each request.

        dpop: A key to which tokens are bound (RFC 9449). Use the same key in `DPoPAuth`.

        rate_limit: The limit on requests to the server, for all grants of all its clients in a manager.

        budget: The limit on tokens of the server in a period. It holds for the same grants.

        http_client: An `httpx.AsyncClient` to use. By default connections are made as needed, and the manager closes
            them.

        allow_http: Allow http outside loopback.

    Raises:
        ValueError: An argument is missing or invalid. The message names it.
    """

    def __init__(
        self,
        *,
        token_endpoint: str | None = None,
        issuer: str | None = None,
        client_id: str | None = None,
        client_secret: Secret | None = None,
        client_auth: ClientAuth | None = None,
        form_encoded_basic: bool = True,
        revocation_endpoint: str | None = None,
        body: Literal["form", "json"] = "form",
        headers: Mapping[str, str] | None = None,
        dpop: DPoPKey | None = None,
        rate_limit: RateLimit | None = None,
        budget: Budget | None = None,
        http_client: Any = None,
        allow_http: bool = False,
    ) -> None:
        method: ClientAuth = client_auth or ("none" if client_secret is None else "client_secret_basic")
        self._server = Server(
            token_endpoint=token_endpoint,
            issuer=issuer,
            revocation_endpoint=revocation_endpoint,
            client=http_client,
            allow_http=allow_http,
            mutual_tls=isinstance(method, TlsClientAuth) or (isinstance(method, str) and "tls" in method),
            context=method.context if isinstance(method, TlsClientAuth) else None,
        )
        if client_id is not None and not (isinstance(client_id, str) and client_id):
            msg = f"client_id must be a non-empty string, not {type(client_id).__name__}"
            raise ValueError(msg)
        check_method(method, client_secret, http_client)
        if client_id is None and method != "none":
            msg = "client_auth and client_secret need a client_id"
            raise ValueError(msg)
        kinds = {"dpop": (dpop, DPoPKey), "rate_limit": (rate_limit, RateLimit), "budget": (budget, Budget)}
        for name, (value, kind) in kinds.items():
            if value is not None and not isinstance(value, kind):
                msg = f"{name} must be a {kind.__name__}, not {type(value).__name__}"
                raise ValueError(msg)
        if body not in {"form", "json"}:
            msg = f"body must be 'form' or 'json', not {quoted(body)}"
            raise ValueError(msg)
        self.client_id = client_id
        self.client_auth: ClientAuth = method
        #: Whether no authentication was given, so that it is a public client (RFC 6749 section 2.1).
        self.public: bool = client_secret is None and client_auth is None
        #: The known behaviour of the server, if its provider is known.
        self.habits: Provider | None = None
        #: The origin of the server. All grants of a provider share its limits, its pauses and its outages.
        self.provider: str = self._server.origin
        self.rate_limit: RateLimit | None = rate_limit
        self.budget: Budget | None = budget
        self._client_secret = client_secret
        self._form_encoded_basic = form_encoded_basic
        self._body = body
        self._headers = strings_of("headers", headers)
        self._dpop = dpop
        #: The server's issuer or token endpoint, and the client. It identifies the tokens, and contains no secret.
        self.identity: str = json.dumps(
            [self._server.identity, client_id, digest_of(repr(sorted(self._headers.items())))], ensure_ascii=False
        )
        # Grants that send the same fields share one object for them.
        self._fields: dict[Fields, Fields] = {}

    @classmethod
    def for_provider(cls, provider: str | Provider, /, **options: Any) -> Self:
        """
        Return a client of a known provider (see `evertoken.providers`), with its endpoints and behaviour.

        Args:
            provider: The name of the provider, or your own `Provider`.

            options: Values for the names in braces of its endpoints, such as `domain="tenant.eu.auth0.com"`, and all
                arguments of `OAuthClient`. They take precedence over the values of the provider.

        Raises:
            ValueError: The provider is unknown, or a value is missing. The message names it.
        """
        habits = known(provider)
        given: dict[str, Any] = dict(endpoints_of(habits, options))
        if options.get("client_secret") is not None and options.get("client_auth") is None:
            given["client_auth"] = habits.client_auth
        client = cls(**{**given, **options})
        client.habits = habits
        return client

    def shared(self, fields: Fields, /) -> Fields:
        """Return *fields*. Grants with the same fields receive the same object."""
        return self._fields.setdefault(fields, fields)

    async def addressee(self, timeout: float) -> tuple[str, str]:
        """
        Return the URL of the token endpoint, and the audience of assertions that are sent there.

        If they must be looked up, that takes at most *timeout* seconds.

        Raises:
            TransientRefreshError: The server did not publish them.
        """
        endpoint = await self._server.token_endpoint(timeout)
        return endpoint.url, self._server.audience(endpoint)

    async def post(self, request: FetchRequest, *own: tuple[str, str], secrets: tuple[str, ...] = ()) -> Answer:
        """
        Send the fields of a grant to the token endpoint, and return the answer.

        Args:
            request: The fetch to which the request belongs.

            own: The form fields of the grant, in order.

            secrets: Texts in them that must not appear in an error.

        Raises:
            TransientRefreshError: It failed temporarily. It is ambiguous if the request was already sent.
            GrantRejected: The server rejected the request.
        """
        endpoint = await self._server.token_endpoint(request.timeout)
        answered = Answered(endpoint.url, self._dpop)
        try:
            try:
                answer = await self._post(endpoint, request, own, secrets, answered)
            except TransientRefreshError:
                if not answered.wants_nonce:
                    raise
                # RFC 9449 section 8: repeat the request, with the nonce from the refusal.
                answer = await self._post(endpoint, request, own, secrets, answered)
        except (GrantRejected, TransientRefreshError) as error:
            before = None if request.began_anew else request.current
            raise as_meant(error, self.habits, answered, before) from None
        return completed(answer, self.habits)

    async def _post(
        self,
        endpoint: Endpoint,
        request: FetchRequest,
        own: tuple[tuple[str, str], ...],
        secrets: tuple[str, ...],
        answered: Answered,
    ) -> Answer:
        headers, identity, hidden = await self._authenticated(endpoint)
        if self._dpop is not None:
            answered.proof = self._dpop.proof("POST", endpoint.url)
            headers = {**headers, "DPoP": answered.proof}
        form = [*own, *identity]
        content = form_content(form)
        if self._body == "json":
            content = Content("POST", json.dumps(object_of(form)).encode(), "application/json")
        return await endpoint.send(
            request,
            content,
            {**self._headers, **headers},
            secrets=(*secrets, *hidden, *named_secrets(form)),
            codes=() if self.habits is None else self.habits.rejections,
            seen=answered.seen,
            keeps=True,
            # If an answer has no scope, it has the requested one (RFC 6749 section 5.1).
            requested_scope=dict(form).get("scope"),
        )

    async def revoke(self, token: Token, /) -> None:
        """
        Tell the server that *token* is no longer needed (RFC 7009): the refresh token first, then the access token.

        The second one is sent even if the first one fails. Nothing is sent if no revocation endpoint is known.

        Raises:
            TransientRefreshError: The server could not be told.
            GrantRejected: The server does not know the client.
        """
        endpoint = await self._server.revocation_endpoint(REVOCATION_TIMEOUT)
        if endpoint is None:
            return
        failure: TransientRefreshError | GrantRejected | None = None
        ended = False
        for hint, value in (("refresh_token", token.refresh_token), ("access_token", token.access_token)):
            # A token may contain only a refresh token.
            if value:
                codes, error = await self._revoke(endpoint, token, hint, value)
                # RFC 7009 section 2.2.1: some servers only revoke refresh tokens, and the access token with them.
                if error is not None and not ("unsupported_token_type" in codes and ended):
                    failure = failure or error
                ended = ended or error is None
        if failure is not None:
            raise failure

    async def _revoke(
        self, endpoint: Endpoint, token: Token, hint: str, value: str
    ) -> tuple[set[str], TransientRefreshError | GrantRejected | None]:
        # Each request is authenticated separately, because a server accepts an assertion only once.
        headers, identity, hidden = await self._authenticated(endpoint)
        form = [("token", value), ("token_type_hint", hint), *identity]
        request = FetchRequest(None, token, REVOCATION_TIMEOUT)
        codes: set[str] = set()

        def seen(_status: int, _headers: Any, fields: Mapping[str, Any]) -> None:
            codes.update(code.lower() for code in codes_in(fields))

        try:
            await endpoint.post(
                request, form, {**self._headers, **headers}, secrets=(value, *hidden), wordless=True, seen=seen
            )
        except (TransientRefreshError, GrantRejected) as error:
            return codes, None if codes & _GONE else error.with_traceback(None)
        return codes, None

    async def _authenticated(self, endpoint: Endpoint) -> tuple[dict[str, str], list[tuple[str, str]], tuple[str, ...]]:
        if self.client_id is None:
            return {}, [], ()
        headers, fields, hidden = await credentials(
            self.client_auth,
            self.client_id,
            self._client_secret,
            form_encoded=self._form_encoded_basic,
            url=endpoint.url,
            audience=self._server.audience(endpoint),
        )
        return headers, list(fields.items()), hidden

    def __repr__(self) -> str:
        return f"OAuthClient({self._server!r}, client_id={self.client_id!r})"


def strings_of(parameter: str, given: Mapping[str, str] | None) -> dict[str, str]:
    """
    Return *given*, which the user calls *parameter*.

    Raises:
        ValueError: It is not a mapping of strings.
    """
    if given is not None and not isinstance(given, Mapping):
        msg = f"{parameter} must be a mapping of strings, not {type(given).__name__}"
        raise ValueError(msg)
    for name, value in (given or {}).items():
        if not isinstance(value, str):
            msg = f"{name} must be a string, not {type(value).__name__}"
            raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake
    return dict(given or {})

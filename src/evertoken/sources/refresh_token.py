"""The refresh token grant (RFC 6749 section 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, final

from evertoken._signing.secret import check_secret, resolve
from evertoken.sources._grant import Grant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.protocols import FetchRequest
    from evertoken._model.token_response import Answer
    from evertoken._signing.dpop import DPoPKey
    from evertoken._signing.secret import Secret
    from evertoken.providers import Provider
    from evertoken.sources._client_authentication import ClientAuth

__all__ = ["RefreshToken"]


@final
class RefreshToken(Grant):
    """
    Tokens on behalf of somebody who has logged in: the refresh token grant (RFC 6749 section 6).

    The refresh token given here is the first one. The refresh token of an answer replaces it; an answer without one
    keeps it. If another one is given later, it is a new login, and is presented instead.

    Args:
        token_endpoint: An absolute https URL, or http to loopback.

        issuer:
            The server's issuer identifier instead: its endpoints are found by RFC 8414 or OpenID Connect Discovery, and
            looked up again every hour.

        client_id: The client's identifier (RFC 6749 section 2.2).

        refresh_token: The refresh token to begin with, or a `pathlib.Path` or a plain or async function that loads it.
            It is loaded at each fetch.

        client_secret: The client's secret, or a `pathlib.Path` or a function that is asked for it at each fetch; none
            for public clients.

        client_auth:
            "client_secret_basic" (the default with a secret), "client_secret_post", `PrivateKeyJwt`,
            `ClientSecretJwt`, `TlsClientAuth`, "tls_client_auth", "self_signed_tls_client_auth", or "none".

        scope: A narrower scope to ask for; leave it out to keep the one granted.

        audience: Whom the token is for, where the server wants to be told so.

        resource: One or several resource indicators (RFC 8707).

        parameters: More form fields, sent with every request.

        rotates: Whether each use brings another refresh token and spends the one before. None: to be found out.

        on_ambiguous:
            What follows a request whose answer was lost, so that the refresh token may be spent: "retry" (right
            where it does not rotate), "hold" (not presented again while the access token is valid) or "reject" (never
            again: a person must act). By default "hold" where it rotates, once the *grace* is over, else "retry".

        grace: Seconds during which the server takes a refresh token again that it has replaced.

        form_encoded_basic: Set to False for servers that expect id and secret in Basic as they are.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: Allow http outside loopback.

        revocation_endpoint: Where `TokenManager.revoke` tells the server (RFC 7009); without it the server is not told.

        dpop: The key to bind tokens to (RFC 9449), for `DPoPAuth` to send them with.

    Raises:
        ValueError: An argument is missing or makes no sense; the message names it.
    """

    def __init__(
        self,
        *,
        token_endpoint: str | None = None,
        issuer: str | None = None,
        client_id: str,
        refresh_token: Secret,
        client_secret: Secret | None = None,
        client_auth: ClientAuth | None = None,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
        rotates: bool | None = None,
        on_ambiguous: Literal["retry", "hold", "reject"] | None = None,
        grace: float = 0.0,
        form_encoded_basic: bool = True,
        client: Any = None,
        allow_http: bool = False,
        revocation_endpoint: str | None = None,
        dpop: DPoPKey | None = None,
    ) -> None:
        super().__init__(
            token_endpoint=token_endpoint,
            issuer=issuer,
            client_id=client_id,
            client_secret=client_secret,
            client_auth=client_auth,
            scope=scope,
            audience=audience,
            resource=resource,
            parameters=parameters,
            form_encoded_basic=form_encoded_basic,
            client=client,
            allow_http=allow_http,
            revocation_endpoint=revocation_endpoint,
            dpop=dpop,
        )
        check_secret("refresh_token", refresh_token)
        if on_ambiguous not in {None, "retry", "hold", "reject"}:
            msg = f"on_ambiguous must be 'retry', 'hold' or 'reject', not {on_ambiguous!r}"
            raise ValueError(msg)
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not grace >= 0.0:
            msg = f"grace must be seconds, not {grace!r}"
            raise ValueError(msg)
        self._refresh_token = refresh_token
        self.rotates = rotates
        self.on_ambiguous = on_ambiguous
        self.grace = grace

    @classmethod
    def _habits_for(cls, provider: Provider, options: Mapping[str, Any]) -> dict[str, Any]:
        # Where no refresh token is ever spent, a lost answer costs nothing.
        harmless = "retry" if provider.rotates is False else None
        habits = {"rotates": provider.rotates, "on_ambiguous": harmless, "grace": provider.grace}
        return {**super()._habits_for(provider, options), **habits}

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Present the newest refresh token, or the configured one where that is a new login."""
        token = await self._newest(request)
        return await self.post(request, ("grant_type", "refresh_token"), ("refresh_token", token), secrets=(token,))

    async def _newest(self, request: FetchRequest) -> str:
        kept = None if request.current is None else request.current.refresh_token
        try:
            initial = await resolve(self._refresh_token, "refresh_token")
        except Exception:
            # The configured one is needed for the first login and for a new one. The grant goes on without it.
            if kept is None:
                raise
            return kept
        return request.refresh_token_for(initial)

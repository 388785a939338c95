"""The client credentials grant (RFC 6749 section 4.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from evertoken.sources._grant import Grant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.protocols import FetchRequest
    from evertoken._model.token_response import Answer
    from evertoken._signing.dpop import DPoPKey
    from evertoken._signing.secret import Secret
    from evertoken.sources._client_authentication import ClientAuth

__all__ = ["ClientCredentials"]


@final
class ClientCredentials(Grant):
    """
    Tokens for the client itself: the client credentials grant (RFC 6749 section 4.4).

    Every fetch is the whole request again, with all its parameters. Such a token may be fetched freely, so a lost
    answer costs nothing but another request.

    Args:
        token_endpoint: An absolute https URL, or http to loopback.

        issuer:
            The server's issuer identifier instead: its endpoints are found by RFC 8414 or OpenID Connect Discovery, and
            looked up again every hour.

        client_id: The client's identifier (RFC 6749 section 2.2).

        client_secret: Its secret; a `pathlib.Path` or a plain or async function that is asked for it at each fetch.

        client_auth:
            "client_secret_basic" (the default) or "client_secret_post" (RFC 6749 section 2.3.1), `PrivateKeyJwt` or
            `ClientSecretJwt` (RFC 7523), or `TlsClientAuth`, "tls_client_auth" or "self_signed_tls_client_auth" (RFC
            8705).

        scope: Space-separated, or several strings (RFC 6749 section 3.3).

        audience: Whom the token is for, where the server wants to be told so.

        resource: One or several resource indicators (RFC 8707).

        parameters: More form fields, sent with every request.

        form_encoded_basic: Set to False for servers that expect id and secret in Basic as they are.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: Allow http outside loopback.

        revocation_endpoint: Where `TokenManager.revoke` tells the server (RFC 7009); without it the server is not told.

        dpop: The key to bind tokens to (RFC 9449), for `DPoPAuth` to send them with.

    Raises:
        ValueError: An argument is missing or makes no sense; the message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        *,
        token_endpoint: str | None = None,
        issuer: str | None = None,
        client_id: str,
        client_secret: Secret | None = None,
        client_auth: ClientAuth = "client_secret_basic",
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

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Ask the token endpoint for a token."""
        grant_type = "client_credentials" if self._habits is None else self._habits.grant_type
        answer = await self.post(request, ("grant_type", grant_type))
        # RFC 6749 section 4.4.3: there should be no refresh token here, and one that came would never be used.
        fields = {name: value for name, value in answer.fields.items() if name != "refresh_token"}
        return replace(answer, fields=fields)

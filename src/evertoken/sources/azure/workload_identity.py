"""Workload identity of Azure: exchanges a pod's own token for one of Microsoft's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from evertoken._model.identity import identity_from
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._client_authentication import ClientAssertion
from evertoken.sources._url import url_identity
from evertoken.sources.azure._entra import AUTHORITY, token_endpoint_of
from evertoken.sources.client_credentials import ClientCredentials
from evertoken.sources.oauth_client import OAuthClient

if TYPE_CHECKING:
    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest
    from evertoken._signing.secret import Secret

__all__ = ["WorkloadIdentity"]


@final
class WorkloadIdentity(CarriesSecrets):
    """
    Tokens in exchange for a token of another identity provider, such as Kubernetes (RFC 7523 section 2.2).

    Args:
        token: The token of that provider. A `pathlib.Path` is read for each fetch, because Kubernetes rewrites the
            file.

        tenant_id: The tenant.

        client_id: The application, or the user-assigned identity, that trusts that provider.

        scope: The scope of the token, such as "https://vault.azure.net/.default".

        authority: The authority of another cloud, such as "https://login.microsoftonline.us".

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        token: Secret,
        *,
        tenant_id: str,
        client_id: str,
        scope: str,
        authority: str = AUTHORITY,
        client: Any = None,
    ) -> None:
        endpoint = token_endpoint_of(tenant_id, authority)
        application = OAuthClient(
            token_endpoint=endpoint,
            client_id=client_id,
            client_auth=ClientAssertion(token),
            http_client=client,
        )
        self._grant = ClientCredentials(application, scope=scope)
        self.provider: str = self._grant.provider
        self.identity: str | None = identity_from("Entra", url_identity(endpoint), client_id, scope)

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Present the token of the other provider."""
        return await self._grant.fetch(request)

    def __repr__(self) -> str:
        return f"WorkloadIdentity({self.provider!r})"

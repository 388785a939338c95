"""The managed identity of a machine or a container of Azure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlencode

from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import without_query
from evertoken.sources.azure._entra import resource_of

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest
    from evertoken._model.token_response import Answer

__all__ = ["ManagedIdentity"]

ENDPOINT: Final = "http://169.254.169.254"

_PATH: Final = "/metadata/identity/oauth2/token"
_VERSION: Final = "2018-02-01"


@final
class ManagedIdentity:
    """
    Tokens of a managed identity, from the instance metadata service (IMDS) of Azure.

    Args:
        scope: What the token is for: a resource, or its ".default" scope, such as "https://vault.azure.net/.default".

        client_id: Which user-assigned identity, by its client id; the system-assigned one unless told.

        object_id: The same, by its object id.

        resource_id: The same, by its resource id.

        endpoint: Where the service is.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument makes no sense, or more than one names the identity.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        scope: str,
        *,
        client_id: str | None = None,
        object_id: str | None = None,
        resource_id: str | None = None,
        endpoint: str = ENDPOINT,
        client: Any = None,
    ) -> None:
        which = {"client_id": client_id, "object_id": object_id, "msi_res_id": resource_id}
        named = {name: value for name, value in which.items() if value is not None}
        if len(named) > 1:
            msg = "only one of client_id, object_id and resource_id may say which identity is meant"
            raise ValueError(msg)
        asked = urlencode({"api-version": _VERSION, "resource": resource_of(scope), **named})
        # The service is on the machine's own link: there is no way to it but this.
        url = f"{endpoint.rstrip('/')}{_PATH}?{asked}"
        self._endpoint = Endpoint(url, client=client, allow_http=True, parameter="endpoint")
        self.provider: str = self._endpoint.origin

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Ask the service.

        Raises:
            TransientRefreshError: It did not answer, is being updated (410), or throttles.
            GrantRejected: The machine has no such identity.
        """
        return await self._endpoint.send(request, Content("GET", None), {"Metadata": "true"}, secrets=(), codes=())

    def __repr__(self) -> str:
        return f"ManagedIdentity({without_query(self._endpoint.url)!r})"

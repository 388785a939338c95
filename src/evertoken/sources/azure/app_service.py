"""The managed identity of an app or a function of Azure App Service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlencode

from evertoken._model.hosts import Reach
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret, resolve
from evertoken.sources._detected import Patience
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import without_query
from evertoken.sources.azure._entra import identity_named, resource_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest

__all__ = ["AppServiceIdentity"]

_VERSION: Final = "2019-08-01"


@final
class AppServiceIdentity(CarriesSecrets):
    """
    Tokens of the managed identity of an app of Azure App Service, Functions or Container Apps.

    Args:
        scope: The scope of the token: a resource, or its ".default" scope, such as "https://vault.azure.net/.default".

        endpoint: The value of `IDENTITY_ENDPOINT`: https, or http within the app's own network, as the platform sets
            it. azure-identity accepts any URL, and would send *header* without encryption.

        header: The value of `IDENTITY_HEADER`, which is a secret.

        client_id: The client id of a user-assigned identity. By default, the system-assigned identity is used.

        object_id: Alternatively, the object id of that identity.

        resource_id: Alternatively, the resource id of that identity.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        scope: str,
        *,
        endpoint: str,
        header: Secret,
        client_id: str | None = None,
        object_id: str | None = None,
        resource_id: str | None = None,
        client: Any = None,
    ) -> None:
        check_secret("header", header)
        named = identity_named(client_id=client_id, object_id=object_id, mi_res_id=resource_id)
        asked = {"api-version": _VERSION, "resource": resource_of(scope), **named}
        # The endpoint belongs to the platform, and is next to the app.
        url = f"{endpoint}?{urlencode(asked)}"
        self._endpoint = Endpoint(url, client=client, allow_http=Reach.PRIVATE, parameter="endpoint")
        self._header = header
        self._patience = Patience()
        self.provider: str = self._endpoint.origin

    @classmethod
    def from_environment(
        cls, scope: str, environ: Mapping[str, str], /, *, client_id: str | None = None, client: Any = None
    ) -> AppServiceIdentity:
        """
        Return the identity that the platform announces in *environ*.

        Raises:
            LookupError: No identity is announced.
        """
        endpoint, header = environ.get("IDENTITY_ENDPOINT"), environ.get("IDENTITY_HEADER")
        if not endpoint or not header:
            msg = "IDENTITY_ENDPOINT and IDENTITY_HEADER are not both set"
            raise LookupError(msg)
        return cls(scope, endpoint=endpoint, header=header, client_id=client_id, client=client)

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Ask the platform.

        Raises:
            TransientRefreshError: The platform did not answer, or refused in its first minute.
            GrantRejected: There is no such identity.
        """
        header = await resolve(self._header, "header")
        fields = {"X-IDENTITY-HEADER": header}
        asked = self._endpoint.send(
            request, Content("GET", None), fields, secrets=(header,), rejections=(400, 401, 403), codes=()
        )
        answer: Answer = await self._patience.of(asked)
        return answer

    def __repr__(self) -> str:
        return f"AppServiceIdentity({without_query(self._endpoint.url)!r})"

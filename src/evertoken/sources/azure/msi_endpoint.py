"""Managed identities at MSI_ENDPOINT: Azure Cloud Shell, and Azure Machine Learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlencode

from evertoken._model.guarded import Guarded
from evertoken._model.hosts import Reach
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret, resolve
from evertoken.sources._detected import Patience
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import without_query
from evertoken.sources.azure._entra import resource_of

if TYPE_CHECKING:
    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest

__all__ = ["CloudShellIdentity", "MachineLearningIdentity"]

_VERSION: Final = "2017-09-01"
_REJECTIONS: Final = (400, 401, 403)


@final
class CloudShellIdentity(Guarded):
    """
    Tokens of the person who uses Azure Cloud Shell.

    Args:
        scope: The scope of the token: a resource, or its ".default" scope, such as "https://vault.azure.net/.default".

        endpoint: The value of `MSI_ENDPOINT` in the shell: https, or http within its own network.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(self, scope: str, *, endpoint: str, client: Any = None) -> None:
        self._body = urlencode({"resource": resource_of(scope)}).encode()
        # The endpoint belongs to the platform, and is on the machine.
        self._endpoint = Endpoint(endpoint, client=client, allow_http=Reach.PRIVATE, parameter="endpoint")
        self._patience = Patience()
        self.provider: str = self._endpoint.origin

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Ask the shell.

        Raises:
            TransientRefreshError: The shell did not answer, or refused in its first minute.
            GrantRejected: The shell refuses.
        """
        content = Content("POST", self._body, "application/x-www-form-urlencoded")
        asked = self._endpoint.send(
            request, content, {"Metadata": "true"}, secrets=(), rejections=_REJECTIONS, codes=()
        )
        answer: Answer = await self._patience.of(asked)
        return answer

    def __repr__(self) -> str:
        return f"CloudShellIdentity({without_query(self._endpoint.url)!r})"


@final
class MachineLearningIdentity(CarriesSecrets):
    """
    Tokens of the managed identity of a compute of Azure Machine Learning.

    Args:
        scope: The scope of the token: a resource, or its ".default" scope, such as "https://vault.azure.net/.default".

        endpoint: The value of `MSI_ENDPOINT` in the job: https, or http within its own network, as the platform sets
            it. azure-identity accepts any URL, and would send *secret* without encryption.

        secret: The value of `MSI_SECRET`.

        client_id: The client id of a user-assigned identity. By default, the system-assigned identity is used.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self, scope: str, *, endpoint: str, secret: Secret, client_id: str | None = None, client: Any = None
    ) -> None:
        check_secret("secret", secret)
        asked = {"api-version": _VERSION, "resource": resource_of(scope)}
        if client_id is not None:
            # This version of the protocol uses this spelling.
            asked["clientid"] = client_id
        self._endpoint = Endpoint(
            f"{endpoint}?{urlencode(asked)}", client=client, allow_http=Reach.PRIVATE, parameter="endpoint"
        )
        self._secret = secret
        self._patience = Patience()
        self.provider: str = self._endpoint.origin

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Ask the platform.

        Raises:
            TransientRefreshError: The platform did not answer, or refused in its first minute.
            GrantRejected: There is no such identity.
        """
        secret = await resolve(self._secret, "secret")
        asked = self._endpoint.send(
            request, Content("GET", None), {"secret": secret}, secrets=(secret,), rejections=_REJECTIONS, codes=()
        )
        answer: Answer = await self._patience.of(asked)
        return answer

    def __repr__(self) -> str:
        return f"MachineLearningIdentity({without_query(self._endpoint.url)!r})"

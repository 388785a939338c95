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
        scope: What the token is for: a resource, or its ".default" scope, such as "https://vault.azure.net/.default".

        endpoint: What the shell finds in `MSI_ENDPOINT`: https, or http within its own network.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument makes no sense; the message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(self, scope: str, *, endpoint: str, client: Any = None) -> None:
        self._body = urlencode({"resource": resource_of(scope)}).encode()
        # The endpoint is the platform's own, on the machine.
        self._endpoint = Endpoint(endpoint, client=client, allow_http=Reach.PRIVATE, parameter="endpoint")
        self._patience = Patience()
        self.provider: str = self._endpoint.origin

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Ask the shell.

        Raises:
            TransientRefreshError: It did not answer, or refuses in its first minute.
            GrantRejected: It refuses.
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
        scope: What the token is for: a resource, or its ".default" scope, such as "https://vault.azure.net/.default".

        endpoint: What the job finds in `MSI_ENDPOINT`: https, or http within its own network, where the platform has
            it. azure-identity takes any URL, and would send *secret* in the clear.

        secret: What it finds in `MSI_SECRET`.

        client_id: Which user-assigned identity; the system-assigned one unless told.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument makes no sense; the message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self, scope: str, *, endpoint: str, secret: Secret, client_id: str | None = None, client: Any = None
    ) -> None:
        check_secret("secret", secret)
        asked = {"api-version": _VERSION, "resource": resource_of(scope)}
        if client_id is not None:
            # This version of the protocol spells it so.
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
            TransientRefreshError: It did not answer, or refuses in its first minute.
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

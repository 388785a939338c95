"""The managed identity of a machine or a container of Azure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlencode

from evertoken._model.errors import GrantRejected, TokenError
from evertoken._model.guarded import Guarded
from evertoken._model.hosts import Reach
from evertoken._model.identity import identity_from
from evertoken.sources._detected import ABSENT, Patience
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import without_query
from evertoken.sources.azure._entra import identity_named, resource_of

if TYPE_CHECKING:
    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest
    from evertoken.sources._token_request import Seen

__all__ = ["ManagedIdentity"]

ENDPOINT: Final = "http://169.254.169.254"

_PATH: Final = "/metadata/identity/oauth2/token"
_VERSION: Final = "2018-02-01"

# Statuses during updates or throttling (Microsoft, "Use managed identities on an Azure VM to acquire an access token").
_BUSY: Final = (404, 410, 429)


@final
class ManagedIdentity(Guarded):
    """
    Tokens of a managed identity, from the instance metadata service (IMDS) of Azure.

    A new identity may not be known yet, so until it has worked once, a refusal is transient for a minute.

    Args:
        scope: The scope of the token: a resource, or its ".default" scope, such as "https://vault.azure.net/.default".

        client_id: The client id of a user-assigned identity. By default, the system-assigned identity is used.

        object_id: Alternatively, the object id of that identity.

        resource_id: Alternatively, the resource id of that identity.

        endpoint: The URL of the service: https, or http within the machine's own network. azure-identity accepts any
            URL.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid, or more than one names the identity.
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
        named = identity_named(client_id=client_id, object_id=object_id, msi_res_id=resource_id)
        asked = urlencode({"api-version": _VERSION, "resource": resource_of(scope), **named})
        # The service is on the machine's own link, so there is no other way to it.
        url = f"{endpoint.rstrip('/')}{_PATH}?{asked}"
        self._endpoint = Endpoint(url, client=client, allow_http=Reach.PRIVATE, parameter="endpoint")
        self._named = bool(named)
        self._patience = Patience()
        # This request lacks the field Metadata, so the service answers at once and does nothing.
        self._look: tuple[Endpoint, dict[str, str]] = (self._endpoint, {})
        self.provider: str = self._endpoint.origin
        # Each machine has a different identity of its own.
        self.identity: str | None = identity_from("Entra managed identity", scope, named or None)

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Ask the service.

        Raises:
            TransientRefreshError: The service did not answer, is being updated (404, 410), throttles, or refused in its
                first minute.
            GrantRejected: The machine has no such identity.
        """
        answer: Answer = await self._patience.of(self._ask(request))
        return answer

    async def first(self, request: FetchRequest, /) -> Answer:
        """
        Ask the service while it is unknown whether the service exists.

        Raises:
            TransientRefreshError: The service did not answer, is being updated, or throttles.
            GrantRejected: The machine does not have the named identity. With the code `ABSENT`, it has no identity, or
                another service answered.
        """
        seen: list[tuple[int, bool]] = []
        try:
            answer = await self._ask(request, lambda status, _, fields: seen.append((status, bool(fields))))
        except TokenError as error:
            status, read = seen[-1] if seen else (0, False)
            busy = status in _BUSY or status >= 500  # noqa: PLR2004 - RFC 9110
            refused = status == 400 and not self._named  # noqa: PLR2004 - no identity is assigned
            # A proxy or a portal answers in another way.
            if not seen or busy or (read and not refused):
                raise
            failure = GrantRejected(ABSENT, f"{self.provider} answered {status}: {error}")
        else:
            self._patience.worked()
            return answer
        raise failure

    async def _ask(self, request: FetchRequest, seen: Seen | None = None) -> Answer:
        content = Content("GET", None)
        return await self._endpoint.send(request, content, {"Metadata": "true"}, secrets=(), codes=(), seen=seen)

    def __repr__(self) -> str:
        return f"ManagedIdentity({without_query(self._endpoint.url)!r})"

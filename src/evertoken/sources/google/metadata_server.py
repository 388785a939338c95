"""The service account of a machine or a container of Google Cloud."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import quote, urlencode

from evertoken._model.answer import Answer
from evertoken._model.errors import TransientRefreshError
from evertoken._model.guarded import Guarded
from evertoken._model.hosts import Reach
from evertoken._model.identity import identity_from
from evertoken.sources._body import fields_of, text_of
from evertoken.sources._detected import Patience
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import check_name_in_path, without_query
from evertoken.sources.google._info import scope_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.protocols import FetchRequest

__all__ = ["FLAVOR", "MetadataServer"]

HOST: Final = "metadata.google.internal"
#: The server requires this field in a request, so that no redirect or link can cause one.
FLAVOR: Final = {"Metadata-Flavor": "Google"}


@final
class MetadataServer(Guarded):
    """
    Tokens of the service account of a machine or container in Google Cloud, from its metadata server.

    The server gives all clients on the machine the same token until its last minutes. In the first seconds of a pod or
    machine it may not know the service account yet. So until it has worked once, a 404 is transient for a minute.

    Args:
        scopes: The scopes of the token. By default, all that the machine has.

        account: One of the machine's service accounts.

        audience: The audience of an ID token, as Cloud Run requires it. If given, an ID token is requested.

        host: The host of the server. By default that of `GCE_METADATA_HOST`, or "metadata.google.internal". It is asked
            by http, and must be in the machine's own network. google-auth asks any host.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        *,
        scopes: str | Iterable[str] | None = None,
        account: str = "default",
        audience: str | None = None,
        host: str | None = None,
        client: Any = None,
    ) -> None:
        check_name_in_path("account", account, also="@")
        there = host or os.environ.get("GCE_METADATA_HOST", "").strip() or HOST
        base = f"http://{there}/computeMetadata/v1/instance/service-accounts/{quote(account, safe='@')}"
        if audience is not None:
            url = f"{base}/identity?{urlencode({'audience': audience, 'format': 'full'})}"
        elif scopes is not None:
            url = f"{base}/token?{urlencode({'scopes': scope_of(scopes).replace(' ', ',')})}"
        else:
            url = f"{base}/token"
        # The server is on the machine's own link, so there is no other way to it.
        self._endpoint = Endpoint(url, client=client, allow_http=Reach.PRIVATE, parameter="host")
        self._identity = audience is not None
        self._patience = Patience()
        self.provider: str = self._endpoint.origin
        # Each machine has a different account of its own.
        named = account if "@" in account else None
        self.identity: str | None = identity_from(
            "Google account", named, audience or (scopes and scope_of(scopes)) or ""
        )

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Ask the server.

        Raises:
            TransientRefreshError: The server did not answer, another server did, or it had no such service account in
                its first minute.
            GrantRejected: The machine has no such service account.
        """
        answer: Answer = await self._patience.of(self._ask(request))
        return answer

    async def _ask(self, request: FetchRequest) -> Answer:

        def seen(status: int, headers: Any, fields: Mapping[str, Any]) -> None:  # noqa: ARG001 - the protocol of a reader has this parameter
            if headers.get("metadata-flavor") != "Google":
                # A captive portal, or a resolver that knows every name, may answer. Such an answer has no meaning.
                msg = f"{self._endpoint.origin} does not say that it is a metadata server of Google (Metadata-Flavor)"
                raise TransientRefreshError(msg)

        answer = await self._endpoint.send(
            request,
            Content("GET", None),
            FLAVOR,
            secrets=(),
            rejections=(404,),
            read=text_of if self._identity else fields_of,
            seen=seen,
        )
        if self._identity:
            return Answer({"access_token": answer.fields["text"]}, date=answer.date)
        return answer

    def __repr__(self) -> str:
        return f"MetadataServer({without_query(self._endpoint.url)!r})"

"""The managed identity of a machine outside Azure that Azure Arc connects."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlencode

from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.guarded import Guarded
from evertoken._model.hosts import Reach
from evertoken._model.redaction import scrub
from evertoken._signing.secret import in_thread
from evertoken.sources._detected import Patience
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import without_query
from evertoken.sources.azure._entra import identity_named, resource_of

if TYPE_CHECKING:
    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest

__all__ = ["ArcIdentity"]

#: The value of IDENTITY_ENDPOINT that the agent sets.
ENDPOINT: Final = "http://localhost:40342/metadata/identity/oauth2/token"

_VERSION: Final = "2020-06-01"
_CHALLENGE: Final = re.compile(r"""basic\s+realm\s*=\s*"?([^"]+)"?""", re.IGNORECASE)
_MAX_KEY: Final = 4096


@final
class ArcIdentity(Guarded):
    """
    Tokens of the managed identity of a machine that Azure Arc connects, from the agent on the machine.

    The agent's challenge names a key file that only its group can read, and asks for its content. The process must be
    in the group `himds` (Microsoft, "Authenticate against Azure resources with Azure Arc-enabled servers").

    Args:
        scope: The scope of the token: a resource, or its ".default" scope, such as "https://vault.azure.net/.default".

        endpoint: The URL of the agent, as in `IDENTITY_ENDPOINT`.

        client_id: The client id of a user-assigned identity. By default, the system-assigned identity is used.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self, scope: str, *, endpoint: str = ENDPOINT, client_id: str | None = None, client: Any = None
    ) -> None:
        self._named = identity_named(client_id=client_id)
        asked = urlencode({"api-version": _VERSION, "resource": resource_of(scope), **self._named})
        # The agent listens on the machine itself.
        self._endpoint = Endpoint(
            f"{endpoint}?{asked}", client=client, allow_http=Reach.LINK_LOCAL, parameter="endpoint"
        )
        self._patience = Patience()
        self.provider: str = self._endpoint.origin

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Ask the agent for its challenge, and answer it.

        Raises:
            TransientRefreshError: The agent did not answer, or refused in its first minute.
            GrantRejected: The challenge is not from the agent, the key cannot be read, or there is no such identity.
        """
        key = await self._key(request)
        asked = self._endpoint.send(
            request,
            Content("GET", None),
            {"Metadata": "true", "Authorization": f"Basic {key}"},
            secrets=(key,),
            rejections=(400, 401, 403),
            codes=(),
        )
        answer: Answer = await self._patience.of(asked)
        named = self._named.get("client_id")
        if named is not None and str(answer.fields.get("client_id")).lower() != named.lower():
            said = f"the agent at {self.provider} gave the token of another identity than client_id {named!r}"
            raise GrantRejected("invalid_request", said)
        return answer

    async def _key(self, request: FetchRequest) -> str:
        challenges: list[str] = []

        def seen(status: int, headers: Any, _: object) -> None:
            if status != 401:  # noqa: PLR2004 - RFC 9110
                msg = f"{self.provider} answered {status} where Azure Arc challenges with 401"
                raise TransientRefreshError(msg)
            challenges.append(headers.get("www-authenticate", ""))

        content = Content("GET", None)
        with contextlib.suppress(GrantRejected):
            await self._endpoint.send(
                request, content, {"Metadata": "true"}, secrets=(), rejections=(401,), codes=(), seen=seen
            )
        found = _CHALLENGE.search(challenges[0]) if challenges else None
        path = Path(found[1]) if found else None
        folder = key_folder()
        if path is None or path.parent != folder or path.suffix != ".key":
            said = f"{self.provider} names no key in {str(folder)!r} (WWW-Authenticate), as Azure Arc does"
            raise GrantRejected("invalid_request", said)
        try:
            return await in_thread(_read, path)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or "it is no key"
            failure = GrantRejected(
                "invalid_request", f"{scrub(str(path))!r}: {said}; is the process in the group himds?"
            )
        raise failure

    def __repr__(self) -> str:
        return f"ArcIdentity({without_query(self._endpoint.url)!r})"


def key_folder() -> Path:
    """Return the folder of the agent's keys. No file outside it is read."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData"), "AzureConnectedMachineAgent", "Tokens")
    return Path("/var/opt/azcmagent/tokens")


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_KEY + 1)
    if len(data) > _MAX_KEY or not data.strip():
        raise ValueError
    return data.decode("ascii").strip()

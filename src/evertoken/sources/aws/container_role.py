"""The role of a container: ECS tasks and EKS pod identity."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlsplit

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import check_url, without_query
from evertoken.sources.aws._credentials import AwsCredentials, credentials_of, read_token
from evertoken.sources.aws._variables import Variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.protocols import FetchRequest

__all__ = ["ContainerRole", "container_role"]

ECS: Final = "http://169.254.170.2"

# Hosts for which plain http is safe: the agents of ECS and EKS on the container's own link.
_AGENTS: Final = ("169.254.170.2", "169.254.170.23", "fd00:ec2::23")


@final
class ContainerRole(CarriesSecrets):
    """
    The credentials of a container's role: that of an ECS task, or one from EKS pod identity.

    Args:
        url: The URL of the credentials: https, or http to loopback or to the agents' own addresses.

        authorization: The value of the Authorization field. A `pathlib.Path` is read for each fetch, because EKS
            rewrites the file.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: *url* is not an allowed URL.
    """

    credential = AwsCredentials
    rotates = False
    on_ambiguous = "retry"

    def __init__(self, url: str, *, authorization: Secret | None = None, client: Any = None) -> None:
        if authorization is not None:
            check_secret("authorization", authorization)
        self._endpoint = Endpoint(url, client=client, allow_http=_is_agent(url), parameter="url")
        self._authorization = authorization
        self.provider: str = self._endpoint.origin

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], /, *, client: Any = None) -> ContainerRole:
        """
        Return the role that ECS or EKS announces in *environ*.

        It reads `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `AWS_CONTAINER_CREDENTIALS_FULL_URI`, and
        `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` or `AWS_CONTAINER_AUTHORIZATION_TOKEN`.

        Raises:
            LookupError: No role is announced.
            ValueError: A variable has a URL that is not allowed. The message names the variable.
        """
        found = container_role(Variables(environ), client=client)
        # The frame of an exception shows its locals, and the environment contains keys.
        del environ
        if found is None:
            msg = "neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor AWS_CONTAINER_CREDENTIALS_FULL_URI is set"
            raise LookupError(msg)
        return found

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """
        Ask the agent.

        Raises:
            TransientRefreshError: The agent did not answer, or has no credentials, or the file of the authorization
                cannot be read.
            GrantRejected: The agent refuses the authorization.
        """
        # The frame below has the authorization in its locals.
        try:
            return await self._ask(request)
        except (GrantRejected, TransientRefreshError) as error:
            failure = error.with_traceback(None)
        raise failure

    async def _ask(self, request: FetchRequest) -> AwsCredentials:
        started = SystemClock.time()
        headers: dict[str, str] = {}
        if self._authorization is not None:
            headers["Authorization"] = await read_token(self._authorization, "authorization")
        answer = await self._endpoint.send(
            request, Content("GET", None), headers, secrets=tuple(headers.values()), rejections=(401, 403)
        )
        return credentials_of(answer, started=started)

    def __repr__(self) -> str:
        return f"ContainerRole({without_query(self._endpoint.url)!r})"


def container_role(environ: Variables, *, client: Any = None) -> ContainerRole | None:
    """
    Return the role that ECS or EKS announces in *environ*, or None.

    Raises:
        ValueError: A variable has a URL that is not allowed. The message names the variable.
    """
    relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = f"{ECS}{relative}" if relative else environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if url is None:
        return None
    variable = f"AWS_CONTAINER_CREDENTIALS_{'RELATIVE' if relative else 'FULL'}_URI"
    if relative and not relative.startswith("/"):
        # It would become a part of the host name.
        msg = f"{variable} must be a path, as in '/v2/credentials/id'"
        raise ValueError(msg)
    check_url(variable, url, allow_http=_is_agent(url))
    file = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    authorization = Path(file) if file else environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    return ContainerRole(url, authorization=authorization, client=client)


def _is_agent(url: object) -> bool:
    try:
        host = urlsplit(url).hostname if isinstance(url, str) else None
        return str(ipaddress.ip_address(host or "")) in _AGENTS
    except ValueError:
        return False

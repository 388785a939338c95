"""Roles that are assumed with other credentials, or with a token of an identity provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final

from evertoken._model.guarded import Guarded
from evertoken._model.identity import identity_from
from evertoken._model.token import Token
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret
from evertoken.sources.aws._credentials import AwsCredentials, read_token
from evertoken.sources.aws._sts import Sts, check_role

if TYPE_CHECKING:
    from evertoken._model.errors import GrantRejected, TransientRefreshError
    from evertoken._model.protocols import FetchRequest

__all__ = ["AssumeRole", "AssumeRoleWithWebIdentity"]

HOUR: Final = 3600


class _Reader(Protocol):
    """A key of a manager, such as a handle."""

    async def get(self) -> Any:
        """Return valid credentials."""


class _Source(Protocol):
    """A source of credentials."""

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """Return credentials."""


#: The credentials that sign: a handle of a manager, a source, or the credentials themselves.
Parent: TypeAlias = _Reader | _Source | AwsCredentials


@final
class AssumeRole(Guarded):
    """
    The credentials of a role that other credentials assume: `sts:AssumeRole`. It needs the extra `aws`.

    Args:
        credentials: The credentials that assume the role: another key of a manager (`manager.handle("base")`), a source
            of AWS credentials, or the credentials themselves.

        role_arn: The ARN of the role.

        session_name: The name of the session in the logs of AWS.

        duration: The length of the session in seconds, 900 to 43200. At most an hour if the parent is a role too.

        external_id: The external id that a third party must send along.

        policy: A session policy, in JSON.

        region: The region whose endpoint is used. By default, the global endpoint.

        endpoint: Another URL to use instead.

        client: An `httpx.AsyncClient` to use.

    Raises:
        ValueError: An argument is invalid. The message names it.
        ImportError: The extra is not installed.
    """

    credential = AwsCredentials
    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        credentials: Parent,
        role_arn: str,
        *,
        session_name: str = "evertoken",
        duration: int = HOUR,
        external_id: str | None = None,
        policy: str | None = None,
        region: str | None = None,
        endpoint: str | None = None,
        client: Any = None,
    ) -> None:
        check_role(role_arn, session_name, duration)
        if not isinstance(credentials, AwsCredentials) and not any(
            callable(getattr(credentials, name, None)) for name in ("get", "fetch")
        ):
            msg = f"credentials must be a handle, a source or AwsCredentials, not {type(credentials).__name__}"
            raise TypeError(msg)
        self._parent = credentials
        self._sts = Sts(region, endpoint=endpoint, client=client, signed=True)
        self._role_arn = role_arn
        self._parameters: dict[str, str | None] = {
            "RoleArn": role_arn,
            "RoleSessionName": session_name,
            "DurationSeconds": str(int(duration)),
            "ExternalId": external_id,
            "Policy": policy,
        }
        # A parent may come from the same service, and must not wait for a place that its children hold.
        self.provider: str = f"{self._sts.provider} {role_arn}"
        self.identity: str | None = identity_from("aws role", role_arn, session_name, policy or "")

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """
        Assume the role with the credentials that are valid now.

        If the service blames the keys of the parent, and the parent is a key of a manager, this reports it to the
        parent. Then the role is assumed once more with the parent's next keys.

        Raises:
            TransientRefreshError: It failed temporarily.
            GrantRejected: The service rejected the request.
        """
        keys = await self._keys(request)
        refusals: list[str] = []
        found = await self._sts.ask(request, "AssumeRole", self._parameters, keys=keys, refusals=refusals)
        parent: Any = self._parent
        if refusals and hasattr(parent, "refused") and await parent.refused(keys) is not None:
            keys = await self._keys(request)
            found = await self._sts.ask(request, "AssumeRole", self._parameters, keys=keys)
        if isinstance(found, AwsCredentials):
            return found
        raise found

    async def _keys(self, request: FetchRequest) -> AwsCredentials:
        found: Any = self._parent
        if not isinstance(found, Token):
            found = await (found.get() if hasattr(found, "get") else found.fetch(request))
        if not isinstance(found, AwsCredentials):
            msg = f"the parent gives {type(found).__name__}, where AWS credentials are needed to sign with"
            raise TypeError(msg)
        return found

    def __repr__(self) -> str:
        return f"AssumeRole({self._role_arn!r})"


@final
class AssumeRoleWithWebIdentity(CarriesSecrets):
    """
    The credentials of a role, in exchange for a token of an identity provider: `sts:AssumeRoleWithWebIdentity`.

    Pods of EKS (IRSA) and workflows of GitHub obtain AWS credentials in this way.

    Args:
        token: A `pathlib.Path` to the OpenID Connect token, or a function that returns it. It is read for each fetch.

        role_arn: The ARN of the role.

        session_name: The name of the session in the logs of AWS.

        duration: The length of the session in seconds, 900 to 43200.

        region: The region whose endpoint is used. By default, the global endpoint.

        endpoint: Another URL to use instead.

        client: An `httpx.AsyncClient` to use.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    credential = AwsCredentials
    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        token: Secret,
        role_arn: str,
        *,
        session_name: str = "evertoken",
        duration: int = HOUR,
        region: str | None = None,
        endpoint: str | None = None,
        client: Any = None,
    ) -> None:
        check_secret("token", token)
        check_role(role_arn, session_name, duration)
        self._token = token
        self._sts = Sts(region, endpoint=endpoint, client=client, signed=False)
        self._role_arn = role_arn
        self._parameters: dict[str, str | None] = {
            "RoleArn": role_arn,
            "RoleSessionName": session_name,
            "DurationSeconds": str(int(duration)),
        }
        self.provider: str = self._sts.provider
        self.identity: str | None = identity_from("aws role", role_arn, session_name, "")

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """
        Present the token. Nothing else is needed.

        Raises:
            TransientRefreshError: It failed temporarily, or the file of the token cannot be read.
            GrantRejected: The service rejected the request.
        """
        found = await self._ask(request)
        if isinstance(found, AwsCredentials):
            return found
        raise found

    async def _ask(self, request: FetchRequest) -> AwsCredentials | GrantRejected | TransientRefreshError:
        token = await read_token(self._token, "token")
        parameters = {**self._parameters, "WebIdentityToken": token}
        return await self._sts.ask(request, "AssumeRoleWithWebIdentity", parameters, secrets=(token,))

    def __repr__(self) -> str:
        return f"AssumeRoleWithWebIdentity({self._role_arn!r})"

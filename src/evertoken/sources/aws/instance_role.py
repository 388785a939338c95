"""The role of an EC2 instance (IMDSv2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import GrantRejected
from evertoken.sources._body import text_of
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources.aws._credentials import AwsCredentials, credentials_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.protocols import FetchRequest

__all__ = ["InstanceRole"]

ENDPOINT: Final = "http://169.254.169.254"
ON_IPV6: Final = "http://[fd00:ec2::254]"
#: Seconds that a session with the service lasts: what its clients ask for.
SESSION: Final = 21_600

_ROLES: Final = "/latest/meta-data/iam/security-credentials/"


@final
class InstanceRole:
    """
    The credentials of the role that an EC2 instance has, from its metadata service (IMDSv2).

    Only the second version is spoken, which a forged request cannot use. In a container the service answers where the
    instance's hop limit allows one hop more.

    Args:
        role: The role's name; the one the instance has, unless given.

        endpoint: Where the service is. On IPv6: "http://[fd00:ec2::254]".

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: *endpoint* is no URL.
    """

    credential = AwsCredentials
    rotates = False
    on_ambiguous = "retry"

    def __init__(self, role: str | None = None, *, endpoint: str = ENDPOINT, client: Any = None) -> None:
        self._role = role
        self._endpoint = endpoint.rstrip("/")
        self._client = client
        self.provider: str = self._at("").origin

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], /, *, client: Any = None) -> InstanceRole:
        """
        Return the role of this instance, by the service that *environ* tells of.

        That is `AWS_EC2_METADATA_SERVICE_ENDPOINT`, or the usual one of `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE`.

        Raises:
            LookupError: `AWS_EC2_METADATA_DISABLED` says that there is none.
        """
        if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            msg = "AWS_EC2_METADATA_DISABLED is true"
            raise LookupError(msg)
        on_ipv6 = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
        there = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or (ON_IPV6 if on_ipv6 else ENDPOINT)
        return cls(endpoint=there, client=client)

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """
        Open a session, ask for the role, and for its credentials.

        Raises:
            TransientRefreshError: The service did not answer, or has no credentials yet.
            GrantRejected: The instance has no role, or the service is switched off.
        """
        started = SystemClock.time()
        lasting = {"X-aws-ec2-metadata-token-ttl-seconds": str(SESSION)}
        opened = await self._at("/latest/api/token").send(
            request, Content("PUT", None), lasting, secrets=(), rejections=(403,), read=text_of
        )
        session = {"X-aws-ec2-metadata-token": opened.fields["text"]}
        hidden = tuple(session.values())
        role = self._role
        if role is None:
            found = await self._at(_ROLES).send(
                request, Content("GET", None), session, secrets=hidden, rejections=(404,), read=text_of
            )
            role = found.fields["text"].split()[0]
        answer = await self._at(f"{_ROLES}{role}").send(
            request, Content("GET", None), session, secrets=hidden, rejections=(404,)
        )
        if answer.fields.get("Code") == "AssumeRoleUnauthorizedAccess":
            raise GrantRejected("access_denied", f"the instance may not assume its role {role!r}")
        return credentials_of(answer.fields, started=started, date=answer.date)

    def _at(self, path: str) -> Endpoint:
        # The service is on the instance's own link: there is no way to it but this.
        return Endpoint(self._endpoint + path, client=self._client, allow_http=True, parameter="endpoint")

    def __repr__(self) -> str:
        return f"InstanceRole({self._role or ''!r})"

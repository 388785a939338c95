"""The role of an EC2 instance (IMDSv2)."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._engine.tasks import Strays, bounded
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.failures import Overdue
from evertoken._model.hosts import Reach
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._body import text_of
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import check_name_in_path
from evertoken.sources.aws._credentials import AwsCredentials, credentials_of
from evertoken.sources.aws._settings import METADATA, Settings
from evertoken.sources.aws._variables import Variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.protocols import Clock, FetchRequest

__all__ = ["InstanceRole"]

#: The length of a session with the service in seconds, as AWS clients request it.
SESSION: Final = 21_600
#: Seconds for which expired credentials are still used while the service has no newer ones.
OUTAGE: Final = 600.0
#: Seconds after the first request during which an instance may not have its role yet.
STARTING: Final = 60.0

_ROLES: Final = "/latest/meta-data/iam/security-credentials/"
# Further characters in names of roles (IAM User Guide, "IAM and AWS STS quotas").
_ROLE_MARKS: Final = "+=,@"
# The last credentials are extended if they end within this many seconds, so that no caller waits.
_ENDING: Final = 60.0
# The service gets this part of the fetch's time. The rest is for the last credentials, in case it is silent.
_SHARE: Final = 0.8


@final
class InstanceRole(CarriesSecrets):
    """
    The credentials of an EC2 instance's role, from its metadata service (IMDSv2).

    Only the second version of the service is used, because a forged request cannot use it. In a container the service
    answers only if the instance's hop limit allows one more hop.

    A service without a role may have one soon. Until it has worked once, that is a temporary failure for the first
    minute. If the service fails, or has only expired credentials, the last ones are used for ten more minutes at a
    time, because AWS accepts them in such an outage (AWS SDKs and Tools Reference Guide, "IMDS credential provider",
    static stability).

    Args:
        role: The name of the role. By default, the role of the instance.

        endpoint: The URL of the service: https, or http within the machine's own network. The SDKs of AWS accept any
            URL. For IPv6, use `http://[fd00:ec2::254]`.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: *endpoint* is not an allowed URL, or *role* is not a name.
    """

    credential = AwsCredentials
    rotates = False
    on_ambiguous = "retry"

    def __init__(self, role: str | None = None, *, endpoint: str = METADATA, client: Any = None) -> None:
        self._role = None if role is None else check_name_in_path("role", role, also=_ROLE_MARKS)
        self._endpoint = endpoint.rstrip("/")
        self._client = client
        self.provider: str = self._at("").origin
        self._clock: Clock = SystemClock()
        self._strays = Strays()
        self._began: float | None = None
        self._last: AwsCredentials | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], /, *, client: Any = None) -> InstanceRole:
        """
        Return the role of this instance, from the service that *environ* names.

        It reads `AWS_EC2_METADATA_SERVICE_ENDPOINT`, or else `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE`.

        Raises:
            LookupError: `AWS_EC2_METADATA_DISABLED` says that there is no service.
            ValueError: One of the two variables is invalid.
        """
        variables = Variables(environ)
        # The frame of an exception shows its locals, and the environment contains keys.
        del environ
        if variables.says("AWS_EC2_METADATA_DISABLED"):
            msg = "AWS_EC2_METADATA_DISABLED is true"
            raise LookupError(msg)
        try:
            there = Settings(variables, None).metadata()
        except GrantRejected as error:
            failure = ValueError(error.error_description)
        else:
            return cls(endpoint=there, client=client)
        raise failure

    @property
    def has_worked(self) -> bool:
        """Whether the service has given credentials before."""
        return self._last is not None

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """
        Open a session, and ask for the role and then for its credentials.

        Raises:
            TransientRefreshError: The service did not answer, or has no credentials yet.
            GrantRejected: The instance has no role, or the service is switched off.
        """
        last = self._last
        self._began = self._clock.monotonic() if self._began is None else self._began
        failure: GrantRejected | TransientRefreshError
        try:
            found = await self._ask(request) if last is None else await self._bounded(request)
        except Overdue:
            failure = TransientRefreshError(f"{self.provider}: the metadata service of the instance does not answer")
        except GrantRejected as error:
            failure = error.with_traceback(None)
            if last is None and self._clock.monotonic() - self._began < STARTING:
                failure = TransientRefreshError(f"{error}; the instance may not have its role yet")
            else:
                last = None
        except TransientRefreshError as error:
            failure = error.with_traceback(None)
        else:
            self._last = found
            return found
        now = self._clock.time()
        if last is not None and last.expires_at is not None and last.expires_at - now < _ENDING:
            return last.replace(issued_at=now, expires_at=now + OUTAGE)
        raise failure

    async def _bounded(self, request: FetchRequest) -> AwsCredentials:
        own = dataclasses.replace(request, timeout=request.timeout * _SHARE)
        return await bounded(
            partial(self._ask, own), own.timeout, clock=self._clock, strays=self._strays, name="evertoken:instance-role"
        )

    async def _ask(self, request: FetchRequest) -> AwsCredentials:
        started = self._clock.time()
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
            role = _role_in(found.fields["text"])
        answer = await self._at(f"{_ROLES}{role}").send(
            request, Content("GET", None), session, secrets=hidden, rejections=(404,)
        )
        if answer.fields.get("Code") == "AssumeRoleUnauthorizedAccess":
            raise GrantRejected("access_denied", f"the instance may not assume its role {role!r}")
        return credentials_of(answer, started=started, outage=OUTAGE)

    def _at(self, path: str) -> Endpoint:
        # The service is on the instance's own link, so there is no other way to it. Some clusters have a proxy for it.
        return Endpoint(self._endpoint + path, client=self._client, allow_http=Reach.PRIVATE, parameter="endpoint")

    def __repr__(self) -> str:
        return f"InstanceRole({self._role or ''!r})"


def _role_in(text: str) -> str:
    try:
        return check_name_in_path("role", text.split(maxsplit=1)[0], also=_ROLE_MARKS)
    except (IndexError, ValueError):
        failure = TransientRefreshError("unreadable answer: the metadata service names no role")
    raise failure

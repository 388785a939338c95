"""Finds the credentials that AWS tools would use here."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._engine.tasks import Strays, bounded
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.failures import Overdue
from evertoken._model.guarded import Guarded
from evertoken.sources.aws._credentials import AwsCredentials, environment_keys
from evertoken.sources.aws._machine import Machine
from evertoken.sources.aws._profiles import ProfileReader, no_credentials
from evertoken.sources.aws._settings import Settings, check_sts
from evertoken.sources.aws._shared_files import Locations, profile_name
from evertoken.sources.aws._variables import Variables

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest
    from evertoken.sources.aws.instance_role import InstanceRole

__all__ = ["EnvironmentChain", "from_environment"]

#: Seconds in which an existing metadata service answers. AWS_METADATA_SERVICE_TIMEOUT overrides it.
PROBE: Final = 2.0

# Files that botocore reads before it asks the machine for a role.
_OLDER: Final = ("AWS_CREDENTIAL_FILE", "BOTO_CONFIG")


def from_environment(*, sts_endpoint: str | None = None, client: Any = None) -> EnvironmentChain:
    """
    Return the credentials that AWS tools would use: the first of the following that is configured, as in botocore.

    Keys in the environment (`AWS_ACCESS_KEY_ID`), the role of the profile (`AWS_PROFILE`, or "default"), a web identity
    (`AWS_WEB_IDENTITY_TOKEN_FILE`), other settings of the profile, the container's role, the instance's role.

    The next one is used only if one is *not configured*. If a configured one fails, its error is raised, because the
    next one would be another identity. The environment and the files are read for each fetch.

    Args:
        sts_endpoint: Another URL for assuming roles.

        client: An `httpx.AsyncClient` to use.

    Raises:
        ValueError: *sts_endpoint* is not an allowed URL.
    """
    return EnvironmentChain(sts_endpoint=sts_endpoint, client=client)


@final
class EnvironmentChain(Guarded):
    """The first identity that is configured here. `from_environment` makes it."""

    credential = AwsCredentials
    rotates = False
    on_ambiguous = "retry"
    provider = "aws environment"

    def __init__(self, *, sts_endpoint: str | None, client: Any) -> None:
        check_sts(sts_endpoint, client)
        self._environ = Variables(os.environ)
        self._sts_endpoint = sts_endpoint
        self._client = client
        self._machine = Machine(self._environ, client)
        self._clock = SystemClock()
        self._strays = Strays()

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """
        Find the identity, and fetch its credentials.

        Raises:
            TransientRefreshError: The configured identity failed temporarily. Or nothing is configured, and no metadata
                service answers.
            GrantRejected: The configured identity was refused or is invalid. Or nothing is configured.
        """
        named = profile_name(self._environ)
        name = named or "default"
        files = await Locations(None, None, self._environ).read()
        said = files.get(name)
        if named is not None and said is None:
            raise no_credentials(name, f"AWS_PROFILE or AWS_DEFAULT_PROFILE names it, and it is not in {files.where}")
        keys = environment_keys(self._environ)
        if keys is not None:
            return keys
        settings = Settings(self._environ, said, sts_endpoint=self._sts_endpoint)
        reader = ProfileReader(files, settings, self._machine, self._environ, self._client)
        found = await reader.fetch(request, name, in_chain=True)
        if found is not None:
            return found
        older = next((variable for variable in _OLDER if self._environ.get(variable) is not None), None)
        if older is not None:
            raise GrantRejected(
                "invalid_request", f"{older} names a file that is not read: put its keys into a profile"
            )
        container = self._machine.container()
        if container is not None:
            return await container.fetch(request)
        instance = self._machine.instance(settings)
        profile = f"the profile {name!r} gives none" if said is not None else f"no profile {name!r} in {files.where}"
        looked = (
            "no AWS credentials are configured (AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, "
            f"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set; {profile})"
        )
        if instance is None:
            raise GrantRejected("not_configured", f"{looked}, and AWS_EC2_METADATA_DISABLED is true")
        return await self._probe(instance, request, looked)

    async def _probe(self, instance: InstanceRole, request: FetchRequest, looked: str) -> AwsCredentials:
        if instance.has_worked:
            return await instance.fetch(request)
        timeout = min(self._timeout(), request.timeout)
        failure: GrantRejected | TransientRefreshError
        try:
            # If there is no such service, nothing answers at its address, and a laptop would have to wait.
            return await bounded(
                partial(instance.fetch, request),
                timeout,
                clock=self._clock,
                strays=self._strays,
                name="evertoken:instance-role",
            )
        except Overdue:
            words = f"{instance.provider} does not answer within {timeout:g} s (AWS_METADATA_SERVICE_TIMEOUT)"
            failure = TransientRefreshError(f"{looked}, and no instance metadata: {words}")
        except TransientRefreshError as error:
            msg = f"{looked}, and no instance metadata: {error}"
            failure = TransientRefreshError(msg, retry_after=error.retry_after)
        except GrantRejected as error:
            failure = GrantRejected(error.error, f"{looked}, and no instance metadata: {error.error_description}")
        raise failure

    def _timeout(self) -> float:
        said = self._environ.get("AWS_METADATA_SERVICE_TIMEOUT")
        try:
            seconds = PROBE if said is None else float(said)
        except ValueError:
            seconds = -1.0
        if seconds > 0.0:
            return seconds
        msg = f"AWS_METADATA_SERVICE_TIMEOUT must be seconds above zero, not {said!r}"
        raise GrantRejected("invalid_request", msg)

    def __repr__(self) -> str:
        return "aws.from_environment()"

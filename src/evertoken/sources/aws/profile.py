"""A profile of the files that AWS tools share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, final

from evertoken._model.errors import TransientRefreshError
from evertoken._model.guarded import Guarded
from evertoken.sources.aws._credentials import AwsCredentials
from evertoken.sources.aws._machine import Machine
from evertoken.sources.aws._profiles import EXPORT, ProfileReader, no_credentials
from evertoken.sources.aws._settings import Settings, check_sts
from evertoken.sources.aws._shared_files import Locations, profile_name
from evertoken.sources.aws._variables import Variables

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest

__all__ = ["Profile"]


@final
class Profile(Guarded):
    """
    A profile of the shared `config` and `credentials` files (AWS SDKs and Tools Reference Guide).

    It may contain keys, name a `credential_process`, or assume a role with a `source_profile`, a `credential_source` or
    a `web_identity_token_file`. The files are read for each fetch, so that keys can be rotated in them. For a profile
    that needs an interactive login (SSO), set `credential_process` to `aws configure export-credentials`.

    The region and the endpoint of STS come from the environment (`AWS_REGION`, `AWS_ENDPOINT_URL_STS`), or else from
    the profile.

    Args:
        name: The name of the profile. By default that of `AWS_DEFAULT_PROFILE` or `AWS_PROFILE`, or "default".

        credentials_file: The file of keys. By default that of `AWS_SHARED_CREDENTIALS_FILE`, or `~/.aws/credentials`.

        config_file: The file of other settings. By default that of `AWS_CONFIG_FILE`, or `~/.aws/config`.

        sts_endpoint: Another URL for assuming roles.

        client: An `httpx.AsyncClient` to use.

    Raises:
        ValueError: *sts_endpoint* is not an allowed URL.
    """

    credential = AwsCredentials
    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        name: str | None = None,
        *,
        credentials_file: str | os.PathLike[str] | None = None,
        config_file: str | os.PathLike[str] | None = None,
        sts_endpoint: str | None = None,
        client: Any = None,
    ) -> None:
        check_sts(sts_endpoint, client)
        self._environ = Variables(os.environ)
        self._name = name or profile_name(self._environ) or "default"
        self._locations = Locations(credentials_file, config_file, self._environ)
        self._sts_endpoint = sts_endpoint
        self._client = client
        self._machine = Machine(self._environ, client)
        self.provider: str = f"profile:{self._name}"

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """
        Read the files, and follow the settings of the profile.

        Raises:
            TransientRefreshError: The files are missing or cannot be read, or the source that they name failed
                temporarily.
            GrantRejected: The profile is missing, or has no settings that give credentials.
        """
        files = await self._locations.read()
        said = files.get(self._name)
        if said is None and not files.exist:
            msg = f"the AWS profile {self._name!r} cannot be read: no file of {files.where} is there"
            raise TransientRefreshError(msg)
        if said is None:
            raise no_credentials(self._name, f"it is in neither of {files.where}")
        settings = Settings(self._environ, said, sts_endpoint=self._sts_endpoint)
        reader = ProfileReader(files, settings, self._machine, self._environ, self._client)
        found = await reader.fetch(request, self._name, in_chain=False)
        if found is None:
            what = "it has no keys, role_arn or credential_process"
            raise no_credentials(self._name, f"{what}; {EXPORT}" if said.get("sso_session") else what)
        return found

    def __repr__(self) -> str:
        return f"Profile({self._name!r})"

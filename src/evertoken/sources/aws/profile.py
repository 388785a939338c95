"""A profile of the files that AWS tools share."""

from __future__ import annotations

import configparser
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import anyio.to_thread

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken.sources.aws._credentials import AwsCredentials, credentials_of
from evertoken.sources.aws._sts import check_region, check_role
from evertoken.sources.aws.assume_role import AssumeRole, AssumeRoleWithWebIdentity
from evertoken.sources.aws.container_role import ContainerRole
from evertoken.sources.aws.instance_role import InstanceRole
from evertoken.sources.command import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.protocols import FetchRequest

__all__ = ["Profile", "environment_credentials"]

_SSO: Final = ("sso_session", "sso_start_url", "login_session")


@final
class Profile:
    """
    A profile of the shared `config` and `credentials` files (AWS SDKs and Tools Reference Guide).

    It may hold keys, name a `credential_process`, or assume a role: with a `source_profile`, a `credential_source` or
    a `web_identity_token_file`. The files are read at each fetch, so that keys may be rotated in them. For a profile
    that needs a person to log in (SSO), let `credential_process` be `aws configure export-credentials`.

    Args:
        name: Which profile; that of `AWS_PROFILE`, or "default", unless given.

        credentials_file: Where keys are; the file of `AWS_SHARED_CREDENTIALS_FILE`, or `~/.aws/credentials`.

        config_file: Where the rest is; the file of `AWS_CONFIG_FILE`, or `~/.aws/config`.

        sts_endpoint: Another URL for roles that are assumed.

        client: An `httpx.AsyncClient` to use.
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
        environ = os.environ
        self._name = name or environ.get("AWS_PROFILE") or "default"
        keys = credentials_file or environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
        rest = config_file or environ.get("AWS_CONFIG_FILE") or "~/.aws/config"
        self._files = (Path(keys).expanduser(), Path(rest).expanduser())
        self._sts_endpoint = sts_endpoint
        self._client = client
        self.provider: str = f"profile:{self._name}"

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """
        Read the files, and do what they say.

        Raises:
            TransientRefreshError: They are not there or cannot be read, or what they name failed.
            GrantRejected: The profile is not in them, or says nothing that gives credentials.
        """
        try:
            profiles = await anyio.to_thread.run_sync(_read, self._files)
        except (OSError, ValueError, configparser.Error) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            failure = TransientRefreshError(f"the AWS profile {self._name!r} cannot be read: {said}")
        else:
            return await self._follow(request, profiles, self._name, ())
        raise failure

    async def _follow(
        self, request: FetchRequest, profiles: Mapping[str, Mapping[str, str]], name: str, seen: tuple[str, ...]
    ) -> AwsCredentials:
        said = profiles.get(name)
        if said is None:
            raise self._wrong(name, f"it is in neither of {', '.join(map(str, self._files))}")
        if name in seen and not said.get("aws_access_key_id"):
            raise self._wrong(name, f"its source_profile leads back to it: {' -> '.join((*seen, name))}")
        role_arn = said.get("role_arn")
        if role_arn and name not in seen:
            return await self._assume(request, profiles, name, role_arn, seen)
        if said.get("aws_access_key_id"):
            return environment_credentials({key.upper(): value for key, value in said.items()})
        if said.get("credential_process"):
            started = SystemClock.time()
            printed = await run(shlex.split(said["credential_process"]))
            try:
                fields = json.loads(printed)
            except (ValueError, RecursionError):
                fields = None
            if not isinstance(fields, dict):
                msg = f"the credential_process of the AWS profile {name!r} printed no JSON object"
                raise TransientRefreshError(msg)
            return credentials_of(fields, started=started)
        if any(said.get(key) for key in _SSO):
            raise self._wrong(
                name, "it logs a person in; let its credential_process be `aws configure export-credentials`"
            )
        raise self._wrong(name, "it has no keys, role_arn or credential_process")

    async def _assume(
        self,
        request: FetchRequest,
        profiles: Mapping[str, Mapping[str, str]],
        name: str,
        role_arn: str,
        seen: tuple[str, ...],
    ) -> AwsCredentials:
        said = profiles[name]
        options = self._options(name, said)
        file = said.get("web_identity_token_file")
        if file:
            return await AssumeRoleWithWebIdentity(Path(file), role_arn, **options).fetch(request)
        source = said.get("credential_source")
        if said.get("source_profile"):
            parent = await self._follow(request, profiles, said["source_profile"], (*seen, name))
        elif source == "Environment":
            parent = environment_credentials(os.environ)
        elif source == "Ec2InstanceMetadata":
            parent = await InstanceRole.from_environment(os.environ, client=self._client).fetch(request)
        elif source == "EcsContainer":
            parent = await ContainerRole.from_environment(os.environ, client=self._client).fetch(request)
        else:
            raise self._wrong(name, "it has a role_arn, and no source_profile, credential_source or web identity")
        return await AssumeRole(parent, role_arn, external_id=said.get("external_id"), **options).fetch(request)

    def _options(self, name: str, said: Mapping[str, str]) -> dict[str, Any]:
        if said.get("mfa_serial"):
            raise self._wrong(name, "it wants the code of an MFA device (mfa_serial), and nobody is there to type it")
        region = said.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        try:
            session_name = said.get("role_session_name", "evertoken")
            duration = int(said.get("duration_seconds", "3600"))
            check_role(said["role_arn"], session_name, duration)
            check_region(region or None)
        except ValueError as error:
            failure = self._wrong(name, str(error))
        else:
            return {
                "session_name": session_name,
                "duration": duration,
                "region": region or None,
                "endpoint": self._sts_endpoint,
                "client": self._client,
            }
        raise failure

    def _wrong(self, name: str, what: str) -> GrantRejected:
        return GrantRejected("invalid_request", f"the AWS profile {name!r} gives no credentials: {what}")

    def __repr__(self) -> str:
        return f"Profile({self._name!r})"


def environment_credentials(environ: Mapping[str, str], /) -> AwsCredentials:
    """
    Return the keys that *environ* holds under the names AWS tools read.

    Raises:
        LookupError: There are none.
    """
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        msg = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set"
        raise LookupError(msg)
    return AwsCredentials.of(key, secret, environ.get("AWS_SESSION_TOKEN") or None)


def _read(files: tuple[Path, Path]) -> dict[str, dict[str, str]]:
    credentials_file, config_file = files
    found: dict[str, dict[str, str]] = {}
    missing: list[OSError] = []
    for path, prefix in ((config_file, "profile "), (credentials_file, "")):
        parser = configparser.RawConfigParser(default_section="", strict=False)
        try:
            parser.read_string(path.read_text("utf-8"))
        except FileNotFoundError as error:
            missing.append(error)
        for section in parser.sections():
            name = _unquoted(section.removeprefix(prefix)) if section.startswith(prefix) else section
            # What both files say, the credentials file says better.
            if section.startswith(prefix) or section == "default":
                found.setdefault(name, {}).update(parser[section])
    if len(missing) == 2:  # noqa: PLR2004 - both
        raise missing[0]
    return found


def _unquoted(name: str) -> str:
    # A name with spaces in it is quoted as in a shell.
    try:
        return " ".join(shlex.split(name))
    except ValueError:
        return name.strip()

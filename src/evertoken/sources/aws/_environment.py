"""What AWS tools would use here."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertoken._engine.callable_source import CallableSource
from evertoken.sources._unset import Unset
from evertoken.sources.aws.assume_role import AssumeRoleWithWebIdentity
from evertoken.sources.aws.container_role import ContainerRole
from evertoken.sources.aws.instance_role import InstanceRole
from evertoken.sources.aws.profile import Profile, environment_credentials
from evertoken.sources.fallback import Fallback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken.sources.aws._credentials import AwsCredentials

__all__ = ["from_environment"]


def from_environment(*, sts_endpoint: str | None = None, client: Any = None) -> Fallback[AwsCredentials]:
    """
    Return what AWS tools would use here, in their order: the first of these that works.

    Keys in the environment (`AWS_ACCESS_KEY_ID`), a web identity (`AWS_WEB_IDENTITY_TOKEN_FILE`), the shared profile
    (`AWS_PROFILE`), the container's role, the instance's role. Where all fail, the error says why each did.

    Args:
        sts_endpoint: Another URL for roles that are assumed.

        client: An `httpx.AsyncClient` to use.
    """
    environ = os.environ
    return Fallback(
        environment=_keys(environ),
        web_identity=_web_identity(environ, sts_endpoint, client),
        profile=Profile(sts_endpoint=sts_endpoint, client=client),
        container=_container(environ, client),
        instance=_instance(environ, client),
    )


def _keys(environ: Mapping[str, str]) -> Any:
    try:
        environment_credentials(environ)
    except LookupError as error:
        return Unset(str(error))
    return CallableSource(partial(environment_credentials, environ))


def _web_identity(environ: Mapping[str, str], sts_endpoint: str | None, client: Any) -> Any:
    file, role_arn = environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"), environ.get("AWS_ROLE_ARN")
    if not file or not role_arn:
        return Unset("AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not both set")
    return AssumeRoleWithWebIdentity(
        Path(file),
        role_arn,
        session_name=environ.get("AWS_ROLE_SESSION_NAME") or "evertoken",
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None,
        endpoint=sts_endpoint,
        client=client,
    )


def _container(environ: Mapping[str, str], client: Any) -> Any:
    try:
        return ContainerRole.from_environment(environ, client=client)
    except LookupError as error:
        return Unset(str(error))


def _instance(environ: Mapping[str, str], client: Any) -> Any:
    try:
        return InstanceRole.from_environment(environ, client=client)
    except LookupError as error:
        return Unset(str(error))

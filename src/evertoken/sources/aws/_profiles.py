"""Follows the settings of a profile, in the order of botocore."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from evertoken._engine.clock import SystemClock
from evertoken._model.answer import Answer
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.redaction import quoted
from evertoken.sources._program import Program
from evertoken.sources.aws._credentials import credentials_of, environment_keys
from evertoken.sources.aws._shared_files import in_home
from evertoken.sources.aws._sts import check_role
from evertoken.sources.aws._variables import Variables
from evertoken.sources.aws.assume_role import AssumeRole, AssumeRoleWithWebIdentity

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest
    from evertoken.sources.aws._credentials import AwsCredentials
    from evertoken.sources.aws._machine import Machine
    from evertoken.sources.aws._settings import Settings
    from evertoken.sources.aws._shared_files import ProfileSettings, SharedFiles

__all__ = ["EXPORT", "ProfileReader", "no_credentials"]

#: The advice for a profile with an interactive login.
EXPORT: Final = "let its credential_process be `aws configure export-credentials --profile ... --format process`"


class _WebIdentity(NamedTuple):
    """The configuration of a web identity: the values of its three settings, and where they come from."""

    file: str | None
    role_arn: str | None
    session_name: str | None
    where: str


@final
class ProfileReader:
    """
    Follows the settings of a profile.

    Args:
        files: The shared files.

        settings: The regions and endpoints.

        machine: The roles of the machine. A `credential_source` names one of them.

        environ: The environment. A `credential_source` may name it.

        client: The HTTP client to use.
    """

    def __init__(
        self, files: SharedFiles, settings: Settings, machine: Machine, environ: Variables, client: Any
    ) -> None:
        self._files = files
        self._settings = settings
        self._machine = machine
        self._environ = environ
        self._client = client

    async def fetch(self, request: FetchRequest, name: str, *, in_chain: bool) -> AwsCredentials | None:
        """
        Return the credentials of the profile, or None if it does not configure any.

        Args:
            request: The fetch to which this belongs.

            name: The name of the profile. It need not be in the files.

            in_chain: Whether the variables of a web identity count. They take precedence over the profile's settings.

        Raises:
            GrantRejected: The profile has an invalid setting, or its source was refused.
            TransientRefreshError: The source that the profile names failed temporarily.
        """
        said = self._files.get(name)
        if said is not None and _is_role(said):
            return await self._assume(request, said, (name,))
        return await self._own(request, name, said, self._environ if in_chain else Variables({}))

    async def _own(
        self, request: FetchRequest, name: str, said: ProfileSettings | None, environ: Variables
    ) -> AwsCredentials | None:
        web = _web_identity(environ, said)
        if web.file is not None:
            return await self._show(request, web)
        if said is None:
            return None
        if said.get("sso_role_name") or said.get("sso_account_id"):
            raise no_credentials(name, f"it needs a person to log in (SSO), which is not built in; {EXPORT}")
        keys = said.keys(of_config=False)
        if keys is not None:
            return keys
        if said.get("login_session"):
            raise no_credentials(name, f"it needs a person to log in (login_session), which is not built in; {EXPORT}")
        command = said.get("credential_process")
        return said.keys(of_config=True) if command is None else await _run(name, command)

    async def _show(self, request: FetchRequest, web: _WebIdentity) -> AwsCredentials:
        if web.role_arn is None:
            msg = f"{web.where} names a token file of a web identity and no role: set AWS_ROLE_ARN, or role_arn"
            raise GrantRejected("invalid_request", msg)
        options = self._settings.sts()
        try:
            source = AssumeRoleWithWebIdentity(
                in_home(web.file or ""),
                web.role_arn,
                session_name=web.session_name or "evertoken",
                client=self._client,
                **options,
            )
        except ValueError as error:
            failure = GrantRejected("invalid_request", f"the web identity of {web.where}: {error}")
        else:
            return await source.fetch(request)
        raise failure

    async def _assume(self, request: FetchRequest, said: ProfileSettings, seen: tuple[str, ...]) -> AwsCredentials:
        options = self._options(said)
        parent = await self._parent(request, said, seen)
        role_arn = said.get("role_arn") or ""
        return await AssumeRole(parent, role_arn, external_id=said.get("external_id"), **options).fetch(request)

    async def _parent(self, request: FetchRequest, said: ProfileSettings, seen: tuple[str, ...]) -> AwsCredentials:
        base, source = said.get("source_profile"), said.get("credential_source")
        if base is not None and source is not None:
            raise no_credentials(said.name, "it has a source_profile and a credential_source, which exclude each other")
        if base is not None:
            return await self._follow(request, said, base, seen)
        if source is None:
            raise no_credentials(
                said.name, "it has a role_arn, and no source_profile or credential_source for its keys"
            )
        found: AwsCredentials | None = None
        if source.lower() == "environment":
            found = environment_keys(self._environ)
        elif source.lower() in {"ec2instancemetadata", "ecscontainer"}:
            is_instance = source.lower() == "ec2instancemetadata"
            role = self._machine.instance(self._settings) if is_instance else self._machine.container()
            found = None if role is None else await role.fetch(request)
        else:
            known = "Environment, Ec2InstanceMetadata or EcsContainer"
            raise no_credentials(said.name, f"its credential_source must be {known}, not {source!r}")
        if found is None:
            missing = {
                "environment": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
                "ec2instancemetadata": "AWS_EC2_METADATA_DISABLED is true",
                "ecscontainer": "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI is not set",
            }[source.lower()]
            raise no_credentials(said.name, f"its credential_source {source} is not there: {missing}")
        return found

    async def _follow(
        self, request: FetchRequest, said: ProfileSettings, base: str, seen: tuple[str, ...]
    ) -> AwsCredentials:
        parent = self._files.get(base)
        if parent is None:
            raise no_credentials(said.name, f"its source_profile {base!r} is in neither of {self._files.where}")
        # A profile may name itself, if its own keys assume its role.
        if base in seen and not (base == said.name and parent.has_keys):
            raise no_credentials(said.name, f"its source_profile leads back: {' -> '.join((*seen, base))}")
        if _is_role(parent) and not parent.has_keys:
            return await self._assume(request, parent, (*seen, base))
        found = await self._own(request, base, parent, Variables({}))
        if found is None:
            raise no_credentials(said.name, f"its source_profile {base!r} has no credentials")
        return found

    def _options(self, said: ProfileSettings) -> dict[str, Any]:
        if said.get("mfa_serial"):
            what = f"it wants the code of an MFA device (mfa_serial), and nobody is there to type it; {EXPORT}"
            raise no_credentials(said.name, what)
        try:
            session_name = said.get("role_session_name") or "evertoken"
            duration = int(said.get("duration_seconds") or 3600)
            check_role(said.get("role_arn"), session_name, duration)
        except ValueError as error:
            failure = no_credentials(said.name, str(error))
        else:
            more = {"session_name": session_name, "duration": duration, "client": self._client}
            return {**self._settings.sts(), **more}
        raise failure


def no_credentials(name: str, what: str) -> GrantRejected:
    """Return the error that explains why a profile gives no credentials."""
    return GrantRejected("invalid_request", f"the AWS profile {name!r} gives no credentials: {what}")


def _is_role(said: ProfileSettings) -> bool:
    return said.get("role_arn") is not None and said.get("web_identity_token_file") is None


def _web_identity(environ: Variables, said: ProfileSettings | None) -> _WebIdentity:
    # Each setting is read separately, as botocore does.
    def found(variable: str, name: str) -> str | None:
        return environ.get(variable) or (None if said is None else said.get(name))

    named = environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") is not None or said is None
    return _WebIdentity(
        found("AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file"),
        found("AWS_ROLE_ARN", "role_arn"),
        found("AWS_ROLE_SESSION_NAME", "role_session_name"),
        "AWS_WEB_IDENTITY_TOKEN_FILE" if named or said is None else f"the AWS profile {said.name!r}",
    )


async def _run(name: str, command: str) -> AwsCredentials:
    try:
        program = Program(shlex.split(command))
    except ValueError as error:
        failure = no_credentials(name, f"its credential_process cannot be read: {error}")
    else:
        started = SystemClock.time()
        answer = _printed(await program.run())
        if answer is None:
            msg = f"the credential_process of the AWS profile {name!r} did not print a JSON object"
            raise TransientRefreshError(msg)
        if answer.fields.get("Version") != 1:
            what = f"credentials of the version {quoted(answer.fields.get('Version'))}, but only version 1 is supported"
            msg = f"the credential_process of the AWS profile {name!r} printed {what}"
            raise TransientRefreshError(msg)
        return credentials_of(answer, started=started)
    raise failure


def _printed(text: str) -> Answer | None:
    # An Answer does not show its content.
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return Answer(fields) if isinstance(fields, dict) else None

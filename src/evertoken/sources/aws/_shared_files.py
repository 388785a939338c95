"""The `config` and `credentials` files that AWS tools share: their locations, and the settings of a profile."""

from __future__ import annotations

import configparser
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, final

from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._signing.secret import in_thread
from evertoken.sources.aws._credentials import key_pair
from evertoken.sources.aws._variables import Variables

if TYPE_CHECKING:
    from evertoken.sources.aws._credentials import AwsCredentials

__all__ = ["Locations", "ProfileSettings", "SharedFiles", "in_home", "profile_name"]

_Sections: TypeAlias = "dict[str, dict[str, str]]"

_PREFIXED: Final = re.compile(r"(profile|services)\s+(.+)")
_COMMENT: Final = re.compile(r"(?:^|\s)[#;]")
_PROPERTY: Final = re.compile(r"[\w-]+", re.ASCII)
_SERVICES: Final = "services "


def profile_name(environ: Variables) -> str | None:
    """Return the profile that *environ* names, in the order of botocore, or None."""
    return environ.first("AWS_DEFAULT_PROFILE", "AWS_PROFILE")


@final
class Locations:
    """
    The locations of the two files.

    Args:
        credentials: The file of keys. The default is that of `AWS_SHARED_CREDENTIALS_FILE`, or `~/.aws/credentials`.

        config: The other file. The default is that of `AWS_CONFIG_FILE`, or `~/.aws/config`.

        environ: The environment.
    """

    def __init__(
        self,
        credentials: str | os.PathLike[str] | None,
        config: str | os.PathLike[str] | None,
        environ: Variables,
    ) -> None:
        credentials = credentials or environ.get("AWS_SHARED_CREDENTIALS_FILE")
        self._credentials = _located(credentials, "~/.aws/credentials")
        self._config = _located(config or environ.get("AWS_CONFIG_FILE"), "~/.aws/config")

    def __str__(self) -> str:
        return f"{self._credentials[0]}, {self._config[0]}"

    async def read(self) -> SharedFiles:
        """
        Read the files. A missing file counts as empty, and so does a file of the home that may not be read.

        Raises:
            TransientRefreshError: A file has a wrong format, or an explicitly named file cannot be read.
        """
        config = await in_thread(_read, *self._config)
        credentials = await in_thread(_read, *self._credentials)
        return SharedFiles(config, credentials, str(self))


@final
class SharedFiles:
    """The content of both files. Settings of one profile are merged. The credentials file takes precedence."""

    def __init__(self, config: _Read, credentials: _Read, where: str) -> None:
        self._config = _by_profile(config.sections)
        self._services = {
            name.removeprefix(_SERVICES): said for name, said in self._config.items() if name.startswith(_SERVICES)
        }
        self._credentials = {name: said for name, said in credentials.sections.items() if not _PREFIXED.fullmatch(name)}
        self.where = where
        self.exist = config.exists or credentials.exists

    def get(self, name: str) -> ProfileSettings | None:
        """Return the settings of the profile, or None if neither file has it."""
        if name.startswith(_SERVICES) or (name not in self._config and name not in self._credentials):
            return None
        return ProfileSettings(name, self._config.get(name, {}), self._credentials.get(name, {}), self._services)

    def __repr__(self) -> str:
        return f"SharedFiles({self.where!r})"


@final
class ProfileSettings:
    """The settings of one profile. It shows only its name, because the settings may contain keys."""

    def __init__(self, name: str, config: dict[str, str], credentials: dict[str, str], services: _Sections) -> None:
        self.name = name
        self._config = Variables(config)
        self._credentials = Variables(credentials)
        self._services = services

    def get(self, name: str) -> str | None:
        """Return the property, or None if it is missing or blank."""
        return self._credentials.get(name) or self._config.get(name)

    @property
    def has_keys(self) -> bool:
        """Whether the profile has a key pair, or half of one."""
        return any(self.get(name) for name in ("aws_access_key_id", "aws_secret_access_key"))

    def keys(self, *, of_config: bool) -> AwsCredentials | None:
        """
        Return the keys in one of the two files, or None.

        Raises:
            GrantRejected: The file has only half of a pair.
        """
        kind = "config" if of_config else "credentials"
        return key_pair(
            self._config if of_config else self._credentials,
            ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_security_token"),
            f"the AWS profile {self.name!r} of the {kind} file",
        )

    def endpoint_url(self) -> str | None:
        """
        Return the URL of STS in its `services` section, or the `endpoint_url` for all services.

        Raises:
            GrantRejected: The named section does not exist.
        """
        named = self.get("services")
        if named is None:
            return self.get("endpoint_url")
        if named not in self._services:
            msg = f"the AWS profile {self.name!r} names services = {named}, and there is no such section"
            raise GrantRejected("invalid_request", msg)
        inner = self._services[named].get("sts", "").splitlines()
        found = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in inner)}
        return found.get("endpoint_url") or self.get("endpoint_url")

    def __repr__(self) -> str:
        return f"ProfileSettings({self.name!r})"


@final
class _Read:
    """The sections of one file."""

    def __init__(self, sections: _Sections, *, exists: bool) -> None:
        self.sections = sections
        self.exists = exists

    def __repr__(self) -> str:
        return f"_Read({sorted(self.sections)})"


class _Parser(configparser.RawConfigParser):
    # Text after the bracket is a comment.
    SECTCRE = re.compile(r"\[(?P<header>[^\]]+)\]")


def in_home(path: str) -> Path:
    """Return the path, with the home directory in place of a tilde, if there is a home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib raises if there is no home


def _located(named: str | os.PathLike[str] | None, usual: str) -> tuple[Path, bool]:
    return in_home(os.path.expandvars(os.fspath(named)) if named else usual), bool(named)


def _read(path: Path, named: bool) -> _Read:  # noqa: FBT001 - run_sync passes by position
    found, failure = _parsed(path, named=named)
    if found is None:
        msg = f"the AWS file {path} cannot be read: {failure}"
        raise TransientRefreshError(msg)
    return found


def _parsed(path: Path, *, named: bool) -> tuple[_Read | None, str]:
    # The reason of a failure is returned, because the frame of an exception would show the text, which contains keys.
    parser = _Parser(default_section="", strict=False)
    try:
        parser.read_string(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        return None if named and not absent else _Read({}, exists=False), error.strerror or type(error).__name__
    except (UnicodeDecodeError, configparser.Error) as error:
        return None, _fault(error)
    sections: _Sections = {}
    for header in parser.sections():
        said = {name: _cleaned(value) for name, value in parser[header].items() if _PROPERTY.fullmatch(name)}
        sections.setdefault(header.strip(), {}).update(said)
        wrong = next((name for name, value in said.items() if value.startswith("\n") and not _nested(value)), None)
        if wrong is not None:
            return None, f"a line below {wrong} in [{header.strip()}] is not a property (name = value)"
    return _Read(sections, exists=True), ""


def _fault(error: UnicodeDecodeError | configparser.Error) -> str:
    # The errors of the parser quote lines, which may contain keys.
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"line {line} is not UTF-8"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} is before any [profile name], or its bracket is not closed"
    lines = ", ".join(str(line) for line, _ in getattr(error, "errors", ()))
    return f"line {lines} is neither a [profile name] nor a property (name = value)"


def _nested(value: str) -> bool:
    return all(line.find("=") > 0 for line in value.split("\n")[1:])


def _cleaned(value: str) -> str:
    first, *more = value.split("\n")
    # This is a comment after a value, as all SDKs but botocore read it. In later lines it belongs to the value.
    begin = _COMMENT.search(first)
    kept = first if begin is None else first[: begin.start()]
    return "\n".join([kept.strip(), *(line.strip() for line in more if line.strip())])


def _by_profile(sections: _Sections) -> _Sections:
    found: _Sections = {}
    for header, said in sections.items():
        prefixed = _PREFIXED.fullmatch(header)
        if prefixed is None:
            continue
        try:
            words = shlex.split(prefixed[2])
        except ValueError:
            continue
        if len(words) == 1:
            name = words[0] if prefixed[1] == "profile" else f"{_SERVICES}{words[0]}"
            found.setdefault(name, {}).update(said)
    # [profile default] takes precedence over [default].
    return {"default": sections["default"], **found} if "default" in sections else found

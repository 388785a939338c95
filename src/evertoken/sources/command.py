"""Use the output of a command as a token."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.errors import TransientRefreshError
from evertoken._model.parsing import is_token
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evertoken._model.protocols import FetchRequest

__all__ = ["Command"]

# How commands spell access_token, expires_in and token_type of RFC 6749. The first name that is present counts.
_TOKEN: Final = ("access_token", "accessToken", "token", "id_token")
_AT: Final = ("expires_at", "expires_on", "expirationTimestamp", "token_expiry", "expiry", "expiresOn")
_IN: Final = ("expires_in", "expiresIn")

# The number of bytes of an output that are read at a time.
_CHUNK: Final = 65_536


@final
class Command(CarriesSecrets):
    """
    The token that a command prints: as plain text, as JSON, or as a Kubernetes ExecCredential.

    It understands the JSON of `az account get-access-token` and `gcloud config config-helper --format=json`. The
    command runs without a shell. When its time is over, it is killed with all its children. It does not block the event
    loop.

    A program without a directory is looked up in PATH when it first runs. From then on `repr` shows the file. Empty and
    relative parts of PATH are ignored, because their meaning depends on the working directory.

    Args:
        arguments: The program (its absolute path or its name) and its arguments.

        lifetime: The lifetime of a token in seconds, if its expiry is not printed and it is not a JWT.

        environment: The whole environment of the command, including its PATH. By default it is that of this process,
            without variables that begin with `EVERTOKEN_`. (AWS does the same for `credential_process`, and so do
            kubectl and Google.) Give one if the command must not see the secrets of this process.

    Raises:
        ValueError: *arguments* is empty or a single string, the program is a relative path, or *lifetime* is not above
            zero.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self, arguments: Sequence[str], *, lifetime: float | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._program = Program(arguments, environment)
        if lifetime is not None and not lifetime > 0.0:
            msg = f"lifetime must be seconds above zero, not {lifetime!r}"
            raise ValueError(msg)
        self._lifetime = lifetime
        self.provider: str = f"command:{self._program.shown}"

    async def fetch(self, request: FetchRequest, /) -> dict[str, Any]:  # noqa: ARG002 - the protocol has this parameter
        """
        Run the command.

        Raises:
            TransientRefreshError: The command is not found, cannot be run, fails, or prints no token.
        """
        return self._fields(await self._program.run(), self._program.shown)

    def __repr__(self) -> str:
        return f"Command({self._program.shown!r}, ...)"

    def _fields(self, text: str, program: str) -> dict[str, Any]:
        try:
            printed = json.loads(text)
        except (ValueError, RecursionError):
            printed = text
        for wrapped in ("status", "credential"):
            # Kubernetes and gcloud wrap the token in this object.
            if isinstance(printed, dict) and isinstance(printed.get(wrapped), dict):
                printed = printed[wrapped]
        found = printed if isinstance(printed, dict) else {"token": printed}
        token = _first(found, _TOKEN)
        if not isinstance(token, str) or not token:
            msg = f"{program!r} printed no token"
            raise TransientRefreshError(msg)
        if not is_token(token):
            lines = len(token.splitlines())
            what = (
                f"{lines} lines that are no JSON" if lines > 1 else "characters that no token has, such as colour codes"
            )
            msg = f"{program!r} printed {what}; it must print only a token or JSON to stdout"
            raise TransientRefreshError(msg)
        # The first expiry that az prints, and for years its only one, is in the machine's own time zone.
        found = {**found, "expiresOn": _zoned(found.get("expiresOn"))}
        fields = {"access_token": token, "expires_at": _first(found, _AT), "expires_in": _first(found, _IN)}
        if self._lifetime is not None and fields["expires_at"] is None and fields["expires_in"] is None:
            fields["expires_in"] = self._lifetime
        return {name: value for name, value in fields.items() if value is not None}


def _first(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _zoned(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return dt.datetime.fromisoformat(value).astimezone().isoformat()
    except ValueError:
        return value

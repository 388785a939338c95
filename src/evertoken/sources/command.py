"""What a command prints, as a token."""

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

# How commands spell what RFC 6749 calls access_token, expires_in and token_type; the first that is there counts.
_TOKEN: Final = ("access_token", "accessToken", "token", "id_token")
_AT: Final = ("expires_at", "expires_on", "expirationTimestamp", "token_expiry", "expiry", "expiresOn")
_IN: Final = ("expires_in", "expiresIn")

# Bytes of an output that are read at a time.
_CHUNK: Final = 65_536


@final
class Command(CarriesSecrets):
    """
    The token that a command prints: plain, as JSON, or as a Kubernetes ExecCredential.

    JSON is understood as `az account get-access-token` and `gcloud config config-helper --format=json` print it. The
    command is run without a shell, is killed with all that it started when its time is over, and blocks nobody.

    A program that is named without its directory is looked up in PATH, once, when it is first run; `repr` shows the
    file from then on. Parts of PATH that are empty or relative are not looked at, because they mean other files in
    another working directory.

    Args:
        arguments: The program, by its absolute path or its name, and its arguments.

        lifetime: Seconds that a token lives whose expiry is not printed and which is no JWT.

        environment: All the variables that the command finds, with its PATH. Without one that is what this process has
            (as with `credential_process` of AWS, plugins of kubectl, and executables of Google), but for variables that
            begin with `EVERTOKEN_`. Give one where the command must not see the secrets of this process.

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

    async def fetch(self, request: FetchRequest, /) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        """
        Run it.

        Raises:
            TransientRefreshError: It is not found, cannot be run, fails, or prints no token.
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
            # What Kubernetes and gcloud put around it.
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
            msg = f"{program!r} printed {what}; it is to print a token or JSON to stdout, and nothing else"
            raise TransientRefreshError(msg)
        # What az says first, and said alone for years, is the time of the machine's own zone.
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

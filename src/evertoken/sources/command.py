"""What a command prints, as a token."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from evertoken._model.errors import TransientRefreshError
from evertoken._model.parsing import is_token
from evertoken._model.redaction import scrub
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._body import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import ByteReceiveStream, Process

    from evertoken._model.protocols import FetchRequest

__all__ = ["Command", "run"]

# How commands spell what RFC 6749 calls access_token, expires_in and token_type; the first that is there counts.
_TOKEN: Final = ("access_token", "accessToken", "token", "id_token")
_AT: Final = ("expires_at", "expires_on", "expirationTimestamp", "token_expiry", "expiry", "expiresOn")
# Options that are followed by a secret, and arguments that look like one: letters and digits, and no path.
_TELLING: Final = re.compile(
    r"\A-{0,2}[\w-]*(?:assertion|credential|key|pass|pin|pwd|secret|token|user)", re.IGNORECASE
)
_LOOKS_SECRET: Final = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])(?![-./~])[^\s/]{8,}")
_IN: Final = ("expires_in", "expiresIn")


@final
class Command(CarriesSecrets):
    """
    The token that a command prints: plain, as JSON, or as a Kubernetes ExecCredential.

    JSON is understood as `az account get-access-token` and `gcloud config config-helper --format=json` print it. The
    command is run without a shell, is killed with all that it started when its time is over, and blocks nobody.

    Args:
        arguments: The program and its arguments.

        lifetime: Seconds that a token lives whose expiry is not printed and which is no JWT.

        env: The environment; that of this process unless given.

    Raises:
        ValueError: *arguments* is empty or a single string, or *lifetime* is not above zero.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self, arguments: Sequence[str], *, lifetime: float | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        if isinstance(arguments, str) or not arguments:
            msg = "arguments must be the program and its arguments, as in ['vault', 'print', 'token']"
            raise ValueError(msg)
        if lifetime is not None and not lifetime > 0.0:
            msg = f"lifetime must be seconds above zero, not {lifetime!r}"
            raise ValueError(msg)
        self._arguments = list(arguments)
        self._lifetime = lifetime
        self._env = env
        self.provider: str = f"command:{_program(self._arguments)}"

    async def fetch(self, request: FetchRequest, /) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        """
        Run it.

        Raises:
            TransientRefreshError: It cannot be run, fails, or prints no token.
        """
        return self._fields(await run(self._arguments, env=self._env), _program(self._arguments))

    def __repr__(self) -> str:
        return f"Command({_program(self._arguments)!r}, ...)"

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


async def run(arguments: Sequence[str], *, env: Mapping[str, str] | None = None) -> str:
    """
    Return what a command prints, run without a shell; it is killed if this is cancelled, with all that it started.

    Raises:
        TransientRefreshError: It cannot be run, or fails; its last line is told.
    """
    program = _program(arguments)
    try:
        process = await anyio.open_process(
            list(arguments), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, start_new_session=True
        )
    except OSError as error:
        failure = TransientRefreshError(f"{program!r} cannot be run: {error.strerror or type(error).__name__}")
        raise failure from None
    said: dict[str, bytes] = {}
    try:
        async with anyio.create_task_group() as group:
            for name, stream in (("out", process.stdout), ("err", process.stderr)):
                group.start_soon(_collect, stream, said, name)
            await process.wait()
    finally:
        if process.returncode is None:
            _kill(process)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    status = process.returncode
    if status:
        # Its last line is what a person would look at.
        words = said["err"].decode(errors="replace").strip().rpartition("\n")[2]
        msg = f"{program!r} ended with {status}{': ' if words else ''}{scrub(words, _secrets_in(arguments))}"
        raise TransientRefreshError(msg)
    return said["out"].decode("utf-8-sig", errors="replace").strip()


def _program(arguments: Sequence[str]) -> str:
    """Return the program as it may be shown, without the options that some put into the same text."""
    name, *options = re.split(r"\s+(?=\S*(?:-|=|://))", str(arguments[0]), maxsplit=1)
    return f"{scrub(name)} ..." if options else scrub(name)


def _secrets_in(arguments: Sequence[str]) -> list[str]:
    """Return what of *arguments* may be a secret: programs name in errors what they were given."""
    found: list[str] = []
    for before, argument in pairwise(map(str, arguments)):
        name, equals, value = argument.partition("=")
        if equals and _TELLING.search(name):
            found.append(value)
        elif (before.startswith("-") and _TELLING.search(before)) or _LOOKS_SECRET.fullmatch(argument):
            found.append(argument)
    return found


def _first(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _zoned(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return dt.datetime.fromisoformat(value).astimezone().isoformat()
    except ValueError:
        return value


def _kill(process: Process) -> None:
    # A script that waits for another program is no reason to leave that one behind.
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # pragma: no cover - Windows
        process.kill()


async def _collect(stream: ByteReceiveStream | None, said: dict[str, bytes], name: str) -> None:
    data = bytearray()
    said[name] = b""
    if stream is not None:
        async for chunk in stream:
            # The rest is read and dropped, so that the command does not stand still.
            data += chunk[: MAX_BODY - len(data)]
    said[name] = bytes(data)

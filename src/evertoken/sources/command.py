"""What a command prints, as a token."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING, Any, Final, cast, final

from evertoken._engine.function_threads import FunctionThreads
from evertoken._model.errors import TransientRefreshError
from evertoken._model.parsing import is_token
from evertoken._model.redaction import scrub
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._body import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evertoken._model.protocols import FetchRequest

__all__ = ["Command", "run"]

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
        self.provider: str = f"command:{self._arguments[0]}"

    async def fetch(self, request: FetchRequest, /) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        """
        Run it.

        Raises:
            TransientRefreshError: It cannot be run, fails, or prints no token.
        """
        return self._fields(await run(self._arguments, env=self._env), self._arguments[0])

    def __repr__(self) -> str:
        return f"Command({self._arguments[0]!r}, ...)"

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
    program = arguments[0]
    running = _Running(arguments, env)
    try:
        # Not by asyncio's own processes: its debug mode logs what they print.
        status, out, err = await FunctionThreads(running.run).call((), starting=_nothing)
    except OSError as error:
        failure = TransientRefreshError(f"{program!r} cannot be run: {error.strerror or type(error).__name__}")
        raise failure from None
    finally:
        running.end()
    if status:
        # Its last line is what a person would look at.
        words = err.decode(errors="replace").strip().rpartition("\n")[2]
        msg = f"{program!r} ended with {status}{': ' if words else ''}{scrub(words)}"
        raise TransientRefreshError(msg)
    text: str = out.decode("utf-8-sig", errors="replace").strip()
    return text


def _first(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _zoned(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return dt.datetime.fromisoformat(value).astimezone().isoformat()
    except ValueError:
        return value


def _kill(process: subprocess.Popen[bytes]) -> None:
    # A script that waits for another program is no reason to leave that one behind.
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # pragma: no cover - Windows
        process.kill()


@final
class _Running:
    """A command on its way, which a thread starts and waits for."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str] | None) -> None:
        self._arguments = list(arguments)
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def run(self) -> tuple[int, bytes, bytes]:
        """Return its status, and what it printed to stdout and to stderr."""
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen(  # noqa: S603 - without a shell
            self._arguments, stdin=none, stdout=pipe, stderr=pipe, env=self._env, start_new_session=True
        )
        self._process = process
        if self._ended:
            _kill(process)
        said = bytearray(), bytearray()
        streams = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr)
        # Daemons: what the command leaves behind may keep a pipe open for ever.
        readers = [
            threading.Thread(target=_collect, args=pair, daemon=True) for pair in zip(streams, said, strict=True)
        ]
        for reader in readers:
            reader.start()
        status = process.wait()
        for reader in readers:
            reader.join()
        return status, bytes(said[0]), bytes(said[1])

    def end(self) -> None:
        """Kill it, if it still runs or is just being started."""
        self._ended = True
        if self._process is not None and self._process.poll() is None:
            _kill(self._process)


def _collect(stream: IO[bytes], data: bytearray) -> None:
    with stream:
        while chunk := os.read(stream.fileno(), _CHUNK):
            # The rest is read and dropped, so that the command does not stand still.
            data += chunk[: MAX_BODY - len(data)]


def _nothing() -> None:
    pass

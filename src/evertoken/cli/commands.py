"""The command-line arguments of the commands for programs that are not written in Python."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evertoken.cli.statuses import told

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["add_commands", "add_grant_actions", "complete", "number"]

_SHELLS: Final = ("bash", "zsh", "fish")
_STATUS: Final = (
    "Exit status 0: done. 1: something else failed. 2: the command line or the configuration is wrong. 3: there is no "
    "token now, try again later. 4: the server rejects the grant, a person must act."
)


def number(least: float, most: float) -> Callable[[str], float]:
    """Return a function that reads a number from *least* to *most*."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = float(text)
            if least <= value <= most:
                return value
        msg = f"must be a number from {least:g} to {most:g}, not {text!r}"
        raise argparse.ArgumentTypeError(msg)

    return read


def add_commands(commands: Any) -> None:
    """Add get, exec, agent, check, top and completion."""
    get = _command(commands, "get", "print a token", _get, f"Prints one token and nothing else. {_STATUS}")
    _name(get)
    _token_options(get)
    # These are not imported from `formats`, which is slow, so that --help and completion are quick.
    get.add_argument(
        "--format",
        choices=["token", "header", "json", "exec-credential", "aws-process", "netrc"],
        default="token",
        help="the output format (default: %(default)s)",
    )
    get.add_argument("--host", help="the host, for netrc")
    get.add_argument("--login", help="the login name, for netrc (default: oauth2)")

    more = f"The command follows after --. It replaces this process. {_STATUS} 126 and 127: it cannot be run."
    run = _command(commands, "exec", "run a command with tokens in its environment", _exec, more)
    run.usage = "evertoken exec [options] NAME=VARIABLE [NAME=VARIABLE ...] -- COMMAND [ARGUMENT ...]"
    run.add_argument("assignments", nargs="+", metavar="NAME=VARIABLE", help="a source, and the variable for its token")
    _token_options(run)

    more = "Serves until SIGTERM. SIGHUP reads the configuration again. An invalid one is refused."
    agent = _command(commands, "agent", "keep tokens fresh in files and behind a socket", _agent, more)
    agent.add_argument("--verbose", action="store_true", help="log everything that happens")

    check = _command(commands, "check", "check whether the configuration can be used", _check, _STATUS)
    check.add_argument("--fetch", action="store_true", help="also fetch a token of each source, once")
    check.add_argument("--timeout", type=number(0, 86_400), metavar="SECONDS", help="keep trying for this time")

    more = (
        "Asks the agent, or the store if no agent runs. If the output is not a terminal, it prints plain lines, once "
        "unless --count is given."
    )
    top = _command(commands, "top", "show keys, providers and failures", _top, more)
    _socket(top)
    top.add_argument("--every", type=number(0.1, 3600), default=1.0, metavar="SECONDS", help="default: %(default)g")
    top.add_argument("--count", type=_count, metavar="TIMES", help="end after this many readings")

    completion = commands.add_parser(
        "completion",
        help="print the code for shell completion of this command",
        description="For bash and zsh: eval \"$(evertoken completion bash)\". Needs pip install 'evertoken[cli]'.",
    )
    completion.add_argument("shell", choices=_SHELLS)
    completion.set_defaults(run=_completion)


def add_grant_actions(actions: Any) -> None:
    """Add revoke, import and keep-alive to the actions of `evertoken store`."""
    revoke = _command(actions, "revoke", "sign a key out, in the store and at the server", _revoke, "Running services "
                      "stop using its token. Without --yes, it only says what it would do.")  # fmt: skip
    _name(revoke, "source")
    revoke.add_argument("--key", help="the key; a JSON array for a tuple (default: that of the source)")
    revoke.add_argument("--yes", action="store_true", help="do it")

    more = (
        "Reads JSON lines with key and refresh_token, and optionally scope, extra, issued_at and expires_at (epoch "
        "seconds)."
    )
    brought = _command(actions, "import", "write logins into the store", _import, more)
    _name(brought, "source")
    brought.add_argument("file", nargs="?", type=Path, help="default: the standard input")
    brought.add_argument("--replace", action="store_true", help="also replace existing records")

    more = "Runs until SIGTERM, unless --once is given. Running services that do the same share the work."
    kept = _command(actions, "keep-alive", "refresh unused grants before they expire", _keep_alive, more)
    _name(kept, "source")
    kept.add_argument("--idle", type=number(1, 1e9), metavar="SECONDS", help="the time without use after which a grant "
                      "expires (default: as its server or provider states)")  # fmt: skip
    kept.add_argument("--once", action="store_true", help="make one pass")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, and exit. In all other cases do nothing."""
    if "_ARGCOMPLETE" in os.environ:
        from evertoken.cli.completion import autocomplete  # noqa: PLC0415 - needs an extra

        autocomplete(parser)


def _command(commands: Any, name: str, says: str, run: Callable[[Any], int], more: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=says, description=f"{says[0].upper()}{says[1:]}. {more}"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="default: what EVERTOKEN_CONFIG names, then "
        "~/.config/evertoken/evertoken.toml, then /etc/evertoken/evertoken.toml"
    )  # fmt: skip
    parser.set_defaults(run=lambda options: told(lambda: run(options)))
    return parser


def _name(parser: argparse.ArgumentParser, destination: str = "name") -> None:
    action = parser.add_argument(destination, metavar="NAME", help="a source of the configuration")
    # argcomplete looks for this attribute.
    action.completer = _names  # type: ignore[attr-defined]


def _names(*, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    import tomllib  # noqa: PLC0415 - only needed for completion

    from evertoken.cli.configuration import find  # noqa: PLC0415

    path = find(getattr(parsed_args, "config", None))
    try:
        return [] if path is None else list(tomllib.loads(path.read_text("utf-8"))["sources"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _token_options(parser: argparse.ArgumentParser) -> None:
    _socket(parser)
    parser.add_argument("--min-ttl", type=number(0, 1e9), metavar="SECONDS", help="life that it must have left")
    parser.add_argument("--timeout", type=number(0, 86_400), metavar="SECONDS", help="keep trying for this time")


def _socket(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--socket", type=Path, metavar="FILE", help="where an agent listens (default: what EVERTOKEN_SOCKET or the "
        "configuration names)"
    )  # fmt: skip


def _count(text: str) -> int:
    return int(number(1, 1e9)(text))


# Each command is imported only when it is run, so that --help and completion are quick.


def _get(options: Any) -> int:
    from evertoken.cli.get import run_get  # noqa: PLC0415

    return run_get(options)


def _exec(options: Any) -> int:
    from evertoken.cli.run_command import run_exec  # noqa: PLC0415

    return run_exec(options, options.command)


def _agent(options: Any) -> int:
    from evertoken.cli.run_agent import run_agent  # noqa: PLC0415

    return run_agent(options)


def _check(options: Any) -> int:
    from evertoken.cli.check import run_check  # noqa: PLC0415

    return run_check(options)


def _top(options: Any) -> int:
    from evertoken.cli.top import run_top  # noqa: PLC0415

    return run_top(options)


def _completion(options: Any) -> int:
    from evertoken.cli.completion import shell_code  # noqa: PLC0415 - needs an extra

    sys.stdout.write(shell_code(options.shell))
    return 0


def _revoke(options: Any) -> int:
    from evertoken.cli.store_grants import run_revoke  # noqa: PLC0415

    return run_revoke(options)


def _import(options: Any) -> int:
    from evertoken.cli.store_grants import run_import  # noqa: PLC0415

    return run_import(options)


def _keep_alive(options: Any) -> int:
    from evertoken.cli.store_grants import run_keep_alive  # noqa: PLC0415

    return run_keep_alive(options)

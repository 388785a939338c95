"""The commands for programs that are not Python, as the command line has them."""

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
    """Return what reads a number from *least* to *most*."""

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
    # Not imported from `formats`, which is slow, so that --help and completion are quick.
    get.add_argument(
        "--format",
        choices=["token", "header", "json", "exec-credential", "aws-process", "netrc"],
        default="token",
        help="how it is written (default: %(default)s)",
    )
    get.add_argument("--host", help="for netrc: for which host it is")
    get.add_argument("--login", help="for netrc: as whom one logs in (default: oauth2)")

    more = f"The command follows after --. It takes the place of this process. {_STATUS} 126 and 127: it cannot be run."
    run = _command(commands, "exec", "run a command with tokens in its environment", _exec, more)
    run.usage = "evertoken exec [options] NAME=VARIABLE [NAME=VARIABLE ...] -- COMMAND [ARGUMENT ...]"
    run.add_argument("assignments", nargs="+", metavar="NAME=VARIABLE", help="which token in which variable")
    _token_options(run)

    more = "Serves until SIGTERM. SIGHUP reads the configuration again; one that is broken is refused."
    agent = _command(commands, "agent", "keep tokens fresh in files and behind a socket", _agent, more)
    agent.add_argument("--verbose", action="store_true", help="log everything that happens")

    check = _command(commands, "check", "say whether the configuration can be used", _check, _STATUS)
    check.add_argument("--fetch", action="store_true", help="also fetch a token of each source, once")
    check.add_argument("--timeout", type=number(0, 86_400), metavar="SECONDS", help="keep trying for so long")

    more = (
        "Looks at the agent, or at the store if none runs. Where the output is no terminal it prints plain lines, once "
        "unless --count is given."
    )
    top = _command(commands, "top", "show keys, providers and failures", _top, more)
    _socket(top)
    top.add_argument("--every", type=number(0.1, 3600), default=1.0, metavar="SECONDS", help="default: %(default)g")
    top.add_argument("--count", type=_count, metavar="TIMES", help="end after so many readings")

    completion = commands.add_parser(
        "completion",
        help="print what makes a shell complete this command",
        description="For bash and zsh: eval \"$(evertoken completion bash)\". Needs pip install 'evertoken[cli]'.",
    )
    completion.add_argument("shell", choices=_SHELLS)
    completion.set_defaults(run=_completion)


def add_grant_actions(actions: Any) -> None:
    """Add revoke, import and keep-alive to those of `evertoken store`."""
    revoke = _command(actions, "revoke", "sign a key out, in the store and at the server", _revoke, "Running services "
                      "stop using its token. Only says what it would do, unless --yes is given.")  # fmt: skip
    _name(revoke, "source")
    revoke.add_argument("--key", help="which key; a JSON array for a tuple (default: that of the source)")
    revoke.add_argument("--yes", action="store_true", help="do it")

    more = (
        "Reads JSON lines with key and refresh_token; if known also scope, extra, issued_at and expires_at (epoch "
        "seconds)."
    )
    brought = _command(actions, "import", "bring logins into the store", _import, more)
    _name(brought, "source")
    brought.add_argument("file", nargs="?", type=Path, help="default: the standard input")
    brought.add_argument("--replace", action="store_true", help="also where there is a record already")

    more = "Goes on until SIGTERM, unless --once is given. Running services that do the same share the work."
    kept = _command(actions, "keep-alive", "refresh grants that nobody uses before they die of it", _keep_alive, more)
    _name(kept, "source")
    kept.add_argument("--idle", type=number(1, 1e9), metavar="SECONDS", help="after how long without use a grant dies "
                      "(default: as its server or provider says)")  # fmt: skip
    kept.add_argument("--once", action="store_true", help="make one pass")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how the line goes on, and exit; do nothing else."""
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
    # Which argcomplete looks for.
    action.completer = _names  # type: ignore[attr-defined]


def _names(*, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    import tomllib  # noqa: PLC0415 - for completion alone

    from evertoken.cli.configuration import find  # noqa: PLC0415

    path = find(getattr(parsed_args, "config", None))
    try:
        return [] if path is None else list(tomllib.loads(path.read_text("utf-8"))["sources"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _token_options(parser: argparse.ArgumentParser) -> None:
    _socket(parser)
    parser.add_argument("--min-ttl", type=number(0, 1e9), metavar="SECONDS", help="life that it must have left")
    parser.add_argument("--timeout", type=number(0, 86_400), metavar="SECONDS", help="keep trying for so long")


def _socket(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--socket", type=Path, metavar="FILE", help="where an agent listens (default: what EVERTOKEN_SOCKET or the "
        "configuration names)"
    )  # fmt: skip


def _count(text: str) -> int:
    return int(number(1, 1e9)(text))


# Each command is imported when it is run, so that --help and completion are quick.


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

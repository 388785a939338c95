"""The command line `evertoken`."""

from __future__ import annotations

import argparse
import asyncio
import functools
import io
import json
import logging
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from evertoken._model.guarded import guarded
from evertoken.cli.address import VARIABLE, without_passwords
from evertoken.cli.commands import add_commands, add_grant_actions, complete, number
from evertoken.cli.plain import PlainView
from evertoken.cli.plan import DEFAULT_RATE, DEFAULT_SECONDS, Plan
from evertoken.cli.report import report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evertoken.cli.demo import Progress, View
    from evertoken.cli.result import Result

__all__ = ["main"]

# The exit statuses that shells use for SIGINT and SIGPIPE.
INTERRUPTED = 130
BROKEN_PIPE = 141


class _Parser(argparse.ArgumentParser):
    """A parser whose errors do not quote passwords in unexpected arguments."""

    def error(self, message: str) -> NoReturn:
        super().error(without_passwords(message))


class _Intermixed(_Parser):
    """A parser that accepts options between arguments, even if the first argument may be left out."""

    _begun = False

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        if self._begun:
            return super().parse_known_args(*args, **options)
        self._begun = True
        return self.parse_known_intermixed_args(*args, **options)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    complete(parser)
    # The words after -- belong to another program, which has its own options.
    end = words.index("--") if words[:1] == ["exec"] and "--" in words else len(words)
    options = parser.parse_args(words[:end])
    options.command = words[end + 1 :]
    try:
        status: int = options.run(options)
        # It is flushed here, because at exit nobody would notice that the reader has gone.
        sys.stdout.flush()
    except ImportError as error:
        print(f"evertoken: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader has read enough. The rest must not be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="evertoken", description="Keeps access tokens fresh.")
    parser.add_argument("--version", action="version", version=f"evertoken {metadata.version('evertoken')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="compare evertoken with the snippet everyone writes, on a local server",
        description="Starts an authorization server on loopback and drives the same load at it twice, side by side: "
        "through evertoken, and through the snippet everyone writes. The token endpoint fails for a while, and at "
        "last all tokens are revoked. Exit status 0 if evertoken kept its promises, 1 if not.",
    )
    demo.add_argument(
        "--seconds",
        type=number(5, 600),
        default=DEFAULT_SECONDS,
        help="the length of the demo (default: %(default)g)",
    )
    demo.add_argument(
        "--rate",
        type=number(1, 500),
        default=DEFAULT_RATE,
        help="requests per second, for each side (default: %(default)g)",
    )
    demo.add_argument("--json", action="store_true", help="print only the result, as JSON")
    demo.add_argument("--plot", type=_picture, metavar="FILE", help="draw the latencies, as .svg or .png")
    demo.add_argument("--plot-dark", type=_picture, metavar="FILE", help="the same picture for dark pages")
    demo.set_defaults(run=_demo)
    _add_store(commands.add_parser(
        "store",
        help="inspect a store, and delete records",
        description="Shows keys, states, versions, ages and leases of a store, and fingerprints in place of tokens. "
        "URL: file:DIRECTORY, sqlite:FILE, redis://, rediss://, unix:// or postgresql://. Put a URL with "
        f"a password into the variable {VARIABLE}, or into a file.",
    ))  # fmt: skip
    add_commands(commands)
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        title="actions", required=True, metavar="ACTION", dest="action", parser_class=_Intermixed
    )
    every = {
        "list": "one line for each key",
        "show": "all facts about one key",
        "check": "check whether the store answers and all its records can be read; exit status 1 if not",
        "purge": "delete records; without --yes, only say what it would do",
    }
    for name, says in every.items():
        action = actions.add_parser(name, help=says, description=says)
        action.add_argument(
            "url", metavar="URL", nargs="?", help=f"the address of the store (default: the variable {VARIABLE})"
        )
        action.add_argument(
            "--store-file", type=Path, metavar="FILE", help="a file with the URL, which nobody else may read"
        )
        action.add_argument("--store", metavar="MODULE:NAME", help="a store of your own, or a function that makes it")
        action.add_argument("--ask-password", action="store_true", help="ask for the password that the URL leaves out")
        action.add_argument("--key-file", type=Path, metavar="FILE", help="the keys that open sealed records")
        action.add_argument("--prefix", help="the prefix of the keys in Redis (default: evertoken:)")
        action.add_argument("--table", help="the table in PostgreSQL (default: evertoken)")
        action.set_defaults(run=_store)
        if name in {"list", "show"}:
            action.add_argument("--json", action="store_true", help="print JSON, one object per line")
        if name == "show":
            action.add_argument("key", metavar="KEY", help="as `list` names it")
        if name == "purge":
            action.add_argument(
                "--key",
                metavar="KEY",
                action="append",
                default=[],
                help="a key, as `list` names it; may be repeated",
            )
            action.add_argument(
                "--expired",
                type=number(0, 1e10),
                metavar="SECONDS",
                help="records that expired this long ago, or earlier",
            )
            action.add_argument("--with-refresh-tokens", action="store_true", help="also records with a refresh token")
            action.add_argument("--yes", action="store_true", help="do it")
    add_grant_actions(actions)


def _store(options: Any) -> int:
    from evertoken.cli.store import run_store  # noqa: PLC0415 - so that the demo is quick

    return run_store(options)


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix not in {".svg", ".png"}:
        msg = f"must end in .svg or .png, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    if not path.parent.is_dir():
        msg = f"there is no folder {str(path.parent)!r}"
        raise argparse.ArgumentTypeError(msg)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        msg = f"cannot write {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return path


def _demo(options: Any) -> int:
    # A missing extra is reported before anything is started.
    from evertoken.testing._serve import require_uvicorn  # noqa: PLC0415

    require_uvicorn()
    pictures: list[tuple[Path, Callable[[Result, Progress, Path], None]]] = []
    if options.plot is not None or options.plot_dark is not None:
        from evertoken.cli import plot  # noqa: PLC0415 - matplotlib is only needed here

        for path, theme in ((options.plot, plot.LIGHT), (options.plot_dark, plot.DARK)):
            if path is not None:
                pictures.append((path, functools.partial(plot.plot, theme=theme)))
    # The views show the events, so the log is not needed.
    logging.getLogger("evertoken").addHandler(logging.NullHandler())
    logging.getLogger("evertoken").propagate = False
    plan = Plan.of(options.seconds, options.rate)
    if options.json:
        result, progress = _run(plan, PlainView(io.StringIO()))
        print(json.dumps(result.as_json(), indent=2))
    elif sys.stdout.isatty():
        from evertoken.cli.live import LiveView  # noqa: PLC0415 - rich is only needed here

        with LiveView() as view:
            result, progress = _run(plan, view)
        print(report(result))
    else:
        result, progress = _run(plan, PlainView(sys.stdout))
        print("\n" + report(result))
    for path, draw in pictures:
        try:
            draw(result, progress, path)
        except OSError as error:
            print(f"evertoken: cannot write {str(path)!r}: {error.strerror}", file=sys.stderr)
            return 1
        if not options.json:
            print(f"\n{path} shows the latency of every request.")
    if not result.complete:
        return INTERRUPTED
    return 0 if result.kept else 1


def _run(plan: Plan, view: View) -> tuple[Result, Progress]:
    from evertoken.cli.demo import run_demo  # noqa: PLC0415 - so that --help is quick

    async def whole() -> tuple[Result, Progress]:
        return await run_demo(plan, view)

    with asyncio.Runner() as runner:
        return runner.run(whole())

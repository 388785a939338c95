"""`evertoken exec`: runs a command with tokens in its environment."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

from evertoken.cli.formats import Form
from evertoken.cli.get import log_errors, tokens_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["run_exec"]

# The statuses that shells return for a missing program, and for one that cannot be run (POSIX, "Exit Status").
_NOT_FOUND: Final = 127
_NOT_RUN: Final = 126


def run_exec(options: argparse.Namespace, command: Sequence[str]) -> int:
    """
    Replace this process by *command*, with tokens in environment variables. If that fails, return the exit status.
    """
    log_errors()
    if not command:
        msg = "exec needs a command after --, as in: evertoken exec billing=TOKEN -- curl ..."
        raise ValueError(msg)
    names = []
    for assignment in options.assignments:
        name, found, variable = assignment.partition("=")
        if not found or not name or not variable.isidentifier() or not variable.isascii():
            msg = f"each argument before -- is NAME=VARIABLE, as in billing=TOKEN, not {assignment!r}"
            raise ValueError(msg)
        names.append((name, variable))
    program = shutil.which(command[0])
    if program is None:
        print(f"evertoken: there is no program {command[0]!r} to run", file=sys.stderr)
        return _NOT_FOUND
    environ = dict(os.environ)
    tokens = tokens_of([name for name, _ in names], options)
    for (_, variable), token in zip(names, tokens, strict=True):
        environ[variable] = Form("token").text(token, 0.0).rstrip("\n")
    sys.stdout.flush()
    try:
        os.execve(program, list(command), environ)  # noqa: S606 - this is the purpose of the command
    except OSError as error:
        print(f"evertoken: {command[0]!r} cannot be run: {error.strerror}", file=sys.stderr)
        return _NOT_RUN

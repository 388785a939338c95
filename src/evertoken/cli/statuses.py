"""The exit statuses of commands, and the messages of errors that end a command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from evertoken._model.errors import GrantRejected, TokenError
from evertoken._model.redaction import describe
from evertoken.cli.agent_client import AgentError
from evertoken.cli.toml_table import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FAILED", "MISUSED", "REJECTED", "UNAVAILABLE", "lines_of", "told"]

#: Another failure, such as a file that cannot be written.
FAILED: Final = 1
#: The command line, the configuration or the answer of an agent is invalid and must be corrected.
MISUSED: Final = 2
#: There is no token now: try again later.
UNAVAILABLE: Final = 3
#: The authorization server rejects the grant: a person must act.
REJECTED: Final = 4

_OF_AGENT: Final = {"unavailable": UNAVAILABLE, "rejected": REJECTED}


def told(run: Callable[[], int]) -> int:
    """Return the result of *run*. If it raises, print the error to stderr, and return its status."""
    try:
        return run()
    except (BrokenPipeError, ImportError):
        # These are handled in the same way for all commands.
        raise
    except (ConfigurationError, AgentError, TokenError, ValueError, OSError) as error:
        for line in lines_of(error):
            print(f"evertoken: {line}", file=sys.stderr)
        return _status(error)


def _status(error: Exception) -> int:
    if isinstance(error, AgentError):
        return _OF_AGENT.get(error.code, MISUSED)
    if isinstance(error, GrantRejected):
        return REJECTED
    if isinstance(error, TokenError):
        return UNAVAILABLE
    return FAILED if isinstance(error, OSError) else MISUSED


def lines_of(error: Exception) -> tuple[str, ...]:
    """Return the messages of an error that ends a command."""
    if isinstance(error, ConfigurationError):
        return error.messages
    if isinstance(error, GrantRejected) or (isinstance(error, AgentError) and error.code == "rejected"):
        return (f"a person must act: {error}",)
    if isinstance(error, OSError):
        of = "" if error.filename is None else f": {str(error.filename)!r}"
        return (f"{error.strerror}{of}" if error.strerror else describe(error),)
    return (str(error),)

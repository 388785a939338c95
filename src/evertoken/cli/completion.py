"""Shell completion, by argcomplete."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import argcomplete
    from argcomplete.shell_integration import shellcode
except ImportError as _error:
    msg = "completion needs argcomplete: pip install 'evertoken[cli]'"
    raise ImportError(msg) from _error

if TYPE_CHECKING:
    import argparse

__all__ = ["autocomplete", "shell_code"]


def autocomplete(parser: argparse.ArgumentParser) -> None:
    """Write the completions for the shell that asks, and exit."""
    argcomplete.autocomplete(parser)


def shell_code(shell: str) -> str:
    """Return the code that a shell must run to complete `evertoken`."""
    return shellcode(["evertoken"], shell=shell) + "\n"

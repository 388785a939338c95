"""Runs other programs: finds the file, makes the environment, and reads the output."""

from __future__ import annotations

import os
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from evertoken._model.errors import TransientRefreshError
from evertoken._model.redaction import scrub
from evertoken._signing.secret import in_thread
from evertoken.sources._child_process import output_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Program"]

# Variables of this library, for example with the password of a store.
_OWN: Final = "EVERTOKEN_"

# Names of variables and options whose values are hidden, and the least length of such values.
_TELLING: Final = re.compile(
    r"-{0,2}[\w-]*(?:assertion|credential|key|pass|pin|pwd|secret|session|token|user)[\w-]*", re.IGNORECASE
)
# An argument that looks like a secret: letters and digits, but not a path.
_LOOKS_SECRET: Final = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])(?![-./~])[^\s/]{8,}")
_LEAST: Final = 4


@final
class Program:
    """
    A program that is run without a shell.

    Args:
        arguments: The program (its absolute path, or a name to look up in PATH) and its arguments.

        environment: The whole environment of the program. By default it is that of this process, without the variables
            that begin with `EVERTOKEN_`.

    Raises:
        ValueError: There are no arguments, one contains a null character, or the program is a relative path.
    """

    __slots__ = ("_given", "_path", "name")

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        if isinstance(arguments, str) or not arguments or not arguments[0]:
            msg = "arguments must be the program and its arguments, as in ['vault', 'print', 'token']"
            raise ValueError(msg)
        given = [os.fspath(one) for one in arguments]
        if any("\0" in one for one in given):
            msg = "arguments must not have null characters"
            raise ValueError(msg)
        self.name: str = given[0]
        self._path: str | None = None
        path = Path(self.name)
        if path.name != self.name and not path.is_absolute():
            msg = (
                f"the program {self.shown!r} is a relative path, which means another file in another directory: give "
                "its absolute path, or a name alone, which is looked up in PATH"
            )
            raise ValueError(msg)
        # They are in a closure, because both may hold secrets, and error reporters look into objects.
        self._given = _keeper(given, environment)
        if path.is_absolute():
            self._path = self.name

    @property
    def shown(self) -> str:
        """The name, or the absolute path once it was looked up. Options in the same text are left out."""
        name, *options = re.split(r"\s+(?=\S*(?:-|=|://))", self._path or self.name, maxsplit=1)
        return f"{scrub(name)} ..." if options else scrub(name)

    async def run(self) -> str:
        """
        Return the output of the program. If this is cancelled, the program is killed, with all its children.

        Raises:
            TransientRefreshError: The program is not found, cannot be run, or fails. The message has its last line.
        """
        if self._path is None:
            self._path = await in_thread(self._found)
        arguments, environment = self._given()
        try:
            status, out, err = await output_of([self._path, *arguments[1:]], environment)
        except OSError as error:
            failure = TransientRefreshError(f"{self.shown!r} cannot be run: {error.strerror or type(error).__name__}")
        else:
            if not status:
                return out.decode("utf-8-sig", errors="replace").strip()
            failure = self._failure(status, err)
        raise failure

    def __repr__(self) -> str:
        return f"Program({self.shown!r}, ...)"

    def _found(self) -> str:
        # An empty part of PATH means the working directory, and a relative part a folder in it.
        path = self._given()[1].get("PATH", os.defpath)
        folders = [folder for folder in path.split(os.pathsep) if Path(folder).is_absolute()]
        for folder in folders:
            found = shutil.which(self.name, path=folder)
            # On Windows the file may be in the working directory.
            if found is not None and Path(found).is_absolute():
                return found
        msg = (
            f"{self.shown!r} cannot be run: it is in no directory of PATH ({os.pathsep.join(folders)}), of which "
            "relative and empty parts are not looked at; give the absolute path of the program"
        )
        raise TransientRefreshError(msg)

    def _failure(self, status: int, said: bytes) -> TransientRefreshError:
        # The last line of stderr is the one that a person would read.
        words = scrub(said.decode(errors="replace").strip().rpartition("\n")[2], self._secrets())
        return TransientRefreshError(f"{self.shown!r} ended with {status}{': ' if words else ''}{words}")

    def _secrets(self) -> list[str]:
        # The program may repeat the secrets that it received.
        arguments, environment = self._given()
        named = [*environment.items(), *(one.split("=", 1) for one in arguments if "=" in one)]
        named += [(option, value) for option, value in pairwise(arguments) if option[:1] == "-"]
        telling = [value for name, value in named if len(value) >= _LEAST and _TELLING.fullmatch(name)]
        return [*telling, *filter(_LOOKS_SECRET.fullmatch, arguments[1:])]


def _keeper(
    arguments: list[str], environment: Mapping[str, str] | None
) -> Callable[[], tuple[list[str], dict[str, str]]]:
    def given() -> tuple[list[str], dict[str, str]]:
        if environment is not None:
            return arguments, dict(environment)
        return arguments, {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}

    return given

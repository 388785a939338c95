"""Running other programs: which file is run, with what environment, and what becomes of what it prints."""

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

# Variables of ours, such as the one that holds the password of a store.
_OWN: Final = "EVERTOKEN_"

# Names of variables and options whose values are not told, and how long those values are at least.
_TELLING: Final = re.compile(
    r"-{0,2}[\w-]*(?:assertion|credential|key|pass|pin|pwd|secret|session|token|user)[\w-]*", re.IGNORECASE
)
# An argument that looks like a secret: letters and digits, and no path.
_LOOKS_SECRET: Final = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])(?![-./~])[^\s/]{8,}")
_LEAST: Final = 4


@final
class Program:
    """
    A program that is run without a shell.

    Args:
        arguments: Its absolute path, or a name that is looked up in PATH; and its arguments.

        environment: All that it finds in its environment. Without one that is what this process has, but for the
            variables that begin with `EVERTOKEN_`.

    Raises:
        ValueError: There are no arguments, one has a null character, or the program is a relative path.
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
        # Behind a function, for both may hold secrets, and those who report errors look into objects.
        self._given = _keeper(given, environment)
        if path.is_absolute():
            self._path = self.name

    @property
    def shown(self) -> str:
        """
        The absolute path, once it was looked up, and the name until then, without options in the same text.
        """
        name, *options = re.split(r"\s+(?=\S*(?:-|=|://))", self._path or self.name, maxsplit=1)
        return f"{scrub(name)} ..." if options else scrub(name)

    async def run(self) -> str:
        """
        Return what it prints. It is killed if this is cancelled, with all that it started.

        Raises:
            TransientRefreshError: It is not found, cannot be run, or fails; its last line is told.
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
        # An empty part of PATH means the working directory, and a relative one something in it.
        path = self._given()[1].get("PATH", os.defpath)
        folders = [folder for folder in path.split(os.pathsep) if Path(folder).is_absolute()]
        for folder in folders:
            found = shutil.which(self.name, path=folder)
            # On Windows it may be one in the working directory.
            if found is not None and Path(found).is_absolute():
                return found
        msg = (
            f"{self.shown!r} cannot be run: it is in no directory of PATH ({os.pathsep.join(folders)}), of which "
            "relative and empty parts are not looked at; give the absolute path of the program"
        )
        raise TransientRefreshError(msg)

    def _failure(self, status: int, said: bytes) -> TransientRefreshError:
        # Its last line is what a person would look at.
        words = scrub(said.decode(errors="replace").strip().rpartition("\n")[2], self._secrets())
        return TransientRefreshError(f"{self.shown!r} ended with {status}{': ' if words else ''}{words}")

    def _secrets(self) -> list[str]:
        # What the program was given and may repeat.
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

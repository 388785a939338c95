"""A table of a TOML file. It reads values by type, and its messages name the mistake and the place."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._signing.secret_file import read_secret_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["ConfigurationError", "Table", "nearest"]

_KINDS: Final[dict[type, str]] = {
    bool: "true or false", int: "a number", float: "a number", str: "a string", list: "an array", dict: "a table",
}  # fmt: skip

_HOW: Final = 'write { file = "/run/secrets/..." } or { env = "..." }'


class ConfigurationError(Exception):
    """
    The configuration cannot be used. The messages contain no secret.

    Args:
        messages: One message for each mistake.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


def nearest(name: str, known: Iterable[str], /) -> str:
    """Return a question with the known name that is most similar to *name*, or an empty text."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""


@final
class Table:
    """
    One table of the file. It reads each key.

    Args:
        file: The file that contains it.

        name: The name of the table, such as "sources.billing". It is empty for the top of the file.

        values: The content of the table.

        environ: The environment variables that may contain secrets.
    """

    def __init__(self, file: Path, name: str, values: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.file = file
        self.name = name
        self.values: dict[str, Any] = dict(values)
        self._environ = environ

    def __repr__(self) -> str:
        return f"Table({str(self.file)!r}, {self.name!r}, keys={sorted(self.values)})"

    def wrong(self, key: str | None, said: str, /) -> ConfigurationError:
        """Return an error about *key*, or about the whole table."""
        where = f"[{self.name}] " if self.name else ""
        return ConfigurationError(f"{self.file}: {where}{f'{key}: ' if key else ''}{said}".replace("] :", "]:"))

    def only(self, known: Sequence[str], /) -> None:
        """Raise an error unless all keys are among *known*."""
        for key in self.values:
            if key not in known:
                said = nearest(key, known) or f"; known are {', '.join(sorted(known))}"
                raise self.wrong(key, f"unknown key{said}")

    def text(self, key: str, default: str | None = None) -> str | None:
        """Return a string that is not empty."""
        value = self._of(key, str)
        if value == "":
            raise self.wrong(key, "must not be empty")
        return default if value is None else str(value)

    def needed(self, key: str) -> str:
        """Return a required string."""
        value = self.text(key)
        if value is None:
            raise self.wrong(key, "is missing")
        return value

    def choice(self, key: str, known: Sequence[str], default: str | None = None) -> str:
        """Return one of the strings in *known*. It is required, unless there is a default."""
        value = self.text(key, default)
        if value is None:
            raise self.wrong(key, f"is missing; use one of {', '.join(known)}")
        if value not in known:
            raise self.wrong(key, f"unknown value {value!r}{nearest(value, known)}; use one of {', '.join(known)}")
        return value

    def flag(self, key: str) -> bool | None:
        """Return true or false."""
        value: bool | None = self._of(key, bool)
        return value

    def number(self, key: str) -> float | None:
        """Return a finite number."""
        value = self._of(key, int, float)
        if value is not None and not math.isfinite(value):
            raise self.wrong(key, f"must be a finite number, not {value}")
        return value if value is None else float(value)

    def whole(self, key: str) -> int | None:
        """Return a whole number."""
        value = self._of(key, int, float)
        if value is not None and not isinstance(value, int):
            raise self.wrong(key, f"must be a whole number, not {value}")
        return value

    def strings(self, key: str) -> list[str] | None:
        """Return an array of strings."""
        value = self._of(key, list)
        if value is not None and not all(isinstance(one, str) for one in value):
            raise self.wrong(key, "must be an array of strings")
        return None if value is None else list(value)

    def text_or_strings(self, key: str) -> str | list[str] | None:
        """Return a string or an array of strings."""
        return self.strings(key) if isinstance(self.values.get(key), list) else self.text(key)

    def pairs(self, key: str) -> dict[str, str] | None:
        """Return a table of strings."""
        value = self._of(key, dict)
        for name, one in (value or {}).items():
            if not isinstance(one, str):
                below = f"{key}.{name}"
                raise self.wrong(below, f"must be a string, not {_kind(one)}")
        return None if value is None else dict(value)

    def path(self, key: str) -> Path | None:
        """Return a path. A relative path starts at the folder of the file."""
        value = self.text(key)
        return None if value is None else self.file.parent / Path(value).expanduser()

    def table(self, key: str) -> Table | None:
        """Return the table under *key*."""
        value = self._of(key, dict)
        return None if value is None else Table(self.file, self._under(key), value, self._environ)

    def tables(self, key: str) -> dict[str, Table]:
        """Return the tables in the table under *key*."""
        outer = self.table(key)
        if outer is None:
            return {}
        return {name: inner for name in outer.values if (inner := outer.table(name)) is not None}

    def secret(self, key: str) -> str | Path | None:
        """
        Return a secret: the path of its file, or the value of an environment variable.

        A file is only checked here. It is read for each fetch, so that the secret can be rotated.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            raise self.wrong(key, f"a secret must not be in this file; {_HOW}")
        if not isinstance(value, dict):
            raise self.wrong(key, f"must be a table that says where the secret is, not {_kind(value)}; {_HOW}")
        place = Table(self.file, f"{self.name}.{key}" if self.name else key, value, self._environ)
        place.only(["file", "env"])
        if len(value) != 1:
            raise self.wrong(key, f"must have either file or env; {_HOW}")
        if "file" in value:
            return place._secret_file()
        return place._variable()

    def _secret_file(self) -> Path:
        path = self.path("file")
        assert path is not None  # noqa: S101 - the table has exactly this key
        try:
            empty = not read_secret_file(path, 1)
        except OSError as error:
            raise self.wrong("file", f"{str(path)!r} cannot be read: {error.strerror}") from None
        if empty:
            raise self.wrong("file", f"{str(path)!r} is empty")
        return path

    def _variable(self) -> str:
        name = self.needed("env")
        value = self._environ.get(name, "")
        if not value.strip():
            raise self.wrong("env", f"the variable {name} is not set, or is empty")
        return value

    def _under(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _of(self, key: str, *kinds: type) -> Any:
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) not in kinds:
            raise self.wrong(key, f"must be {_KINDS[kinds[0]]}, not {_kind(value)}")
        return value


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")

"""Keys for sealing. They come from a value, a file or a callable, and are read again when they change."""

from __future__ import annotations

import base64
import binascii
import hashlib
import inspect
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, final

from evertoken._engine.clock import SystemClock
from evertoken._model.redaction import describe
from evertoken._signing.secret_file import read_secret_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["KeySource", "Keys", "generate_key"]

#: The number of bytes in a key: AES-256.
SIZE: Final = 32

#: The number of bytes by which a sealed record names its key.
ID_SIZE: Final = 8

#: The least number of seconds between two readings because of an unknown key.
_AT_LEAST: Final = 1.0

#: Seconds after which a callable is asked again before a record is sealed.
_AT_MOST: Final = 60.0

#: One key or several, the sealing one first: bytes, text from `generate_key`, or a file or callable that has them.
KeySource: TypeAlias = "bytes | str | Path | Callable[[], bytes | str | Iterable[bytes | str]]"

_log = logging.getLogger("evertoken")


def generate_key(file: str | os.PathLike[str] | None = None, /) -> str:
    """
    Return a new random key of 256 bits, as one line of URL-safe base64.

    Args:
        file: The path of a new file to which the key is also written. Only its owner may read it (mode 0600).

    Raises:
        FileExistsError: The file exists. It is not overwritten, because records sealed with its key would be lost.
    """
    text = base64.urlsafe_b64encode(os.urandom(SIZE)).decode()
    if file is not None:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as out:
            out.write(text + "\n")
            out.flush()
            os.fsync(fd)
    return text


@final
class SecretKey:
    """A key that does not show itself."""

    __slots__ = ("id", "value")

    def __init__(self, value: bytes) -> None:
        self.value = value
        # The id is a separate digest, so that it reveals nothing about other uses of the key.
        self.id = hashlib.sha256(b"evertoken key id\0" + value).digest()[:ID_SIZE]

    def __repr__(self) -> str:
        return f"<{self.id.hex()}>"

    def __reduce__(self) -> NoReturn:
        msg = "a key cannot be pickled"
        raise TypeError(msg)


@final
class Keys:
    """
    The keys from several sources, in order.

    Raises:
        TypeError: A source has a wrong type.
        ValueError: There is no source, or a value is not a key.
    """

    def __init__(self, sources: tuple[KeySource, ...]) -> None:
        if not sources:
            msg = "at least one key is needed; generate_key() makes one"
            raise ValueError(msg)
        # A value is checked now. A file or a vault may appear later, and is read when it is needed.
        self._sources = [_Source(source, number) for number, source in enumerate(sources, 1)]
        self._lock = threading.Lock()
        self._read_at = SystemClock.monotonic() - _AT_LEAST

    @property
    def first(self) -> SecretKey:
        """The key with which to seal. A changed file is read again, and so is a callable after a minute."""
        return self._all(again=False)[0]

    def find(self, key_id: bytes) -> SecretKey | None:
        """Return the key with that id. If it is unknown, the sources are read again, at most once a second."""
        for again in (False, True):
            for key in self._all(again=again):
                if key.id == key_id:
                    return key
        return None

    def __repr__(self) -> str:
        return ", ".join(repr(key) for source in self._sources for key in source.known or ()) or "unread"

    def _all(self, *, again: bool) -> list[SecretKey]:
        with self._lock:
            now = SystemClock.monotonic()
            if again and now - self._read_at < _AT_LEAST:
                again = False
            for source in self._sources:
                if again or source.outdated(now):
                    source.read(now)
            if again:
                self._read_at = now
            return [key for source in self._sources for key in source.known or ()]


@final
class _Source:
    """One source of keys, and the keys that it gave last."""

    def __init__(self, origin: KeySource, number: int) -> None:
        self.known: list[SecretKey] | None = None
        self._origin: Path | Callable[[], object] | None = None
        self._name = f"key {number}"
        self._read_at = 0.0
        self._seen: object = None
        if isinstance(origin, bytes | str):
            self.known = _parsed([origin], self._name)
        elif isinstance(origin, Path):
            self._origin, self._name = origin, f"the key file {origin}"
        elif callable(origin) and not inspect.iscoroutinefunction(origin):
            self._origin, self._name = origin, f"what the callable of key {number} returned"
        else:
            msg = f"key {number} must be bytes, str, a pathlib.Path or a plain callable, not {type(origin).__name__}"
            raise TypeError(msg)

    def outdated(self, now: float) -> bool:
        """Tell whether the source should be read again."""
        if self._origin is None:
            return False
        if self.known is None:
            return True
        return self._look() != self._seen if isinstance(self._origin, Path) else now - self._read_at >= _AT_MOST

    def read(self, now: float) -> None:
        """Read the source. If that fails, the known keys stay."""
        if self._origin is None:
            return
        self._read_at = now
        try:
            if isinstance(self._origin, Path):
                # The state is read first, so that a later change of the file is noticed.
                self._seen = self._look()
                self.known = _parsed(_lines(read_secret_file(self._origin)), self._name)
            else:
                self.known = _parsed(_several(self._origin()), self._name)
        except Exception as error:
            if self.known is None:
                raise
            _log.warning("evertoken: %s: the keys known so far are used; %s", self._name, describe(error))

    def _look(self) -> object:
        try:
            found = self._origin.stat() if isinstance(self._origin, Path) else None
        except OSError:
            found = None
        return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


def _parsed(given: list[object], name: str) -> list[SecretKey]:
    keys = [_key(part) for part in given]
    good = [key for key in keys if key is not None]
    # A traceback shows locals, and these may be keys with a typing error.
    given.clear()
    if not good or len(good) < len(keys):
        msg = (
            f"{name} is not a key: {SIZE} bytes are needed, or their base64 as generate_key() writes it"
            " (a file is given as a pathlib.Path)"
        )
        raise ValueError(msg)
    return good


def _several(given: object) -> list[object]:
    return list(given) if isinstance(given, list | tuple | set | frozenset) else [given]


def _lines(data: bytes) -> list[object]:
    # Exactly 32 bytes are the key itself. Any other length is text.
    if len(data) == SIZE:
        return [data]
    kept = (line.strip() for line in data.splitlines())
    return [line for line in kept if line and not line.startswith(b"#")]


def _key(given: object) -> SecretKey | None:
    if isinstance(given, bytes) and len(given) == SIZE:
        return SecretKey(given)
    if not isinstance(given, bytes | str):
        return None
    try:
        text = given.strip().encode() if isinstance(given, str) else given.strip()
        value = base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except (binascii.Error, ValueError):
        return None
    return SecretKey(value) if len(value) == SIZE else None

"""Makes the store for a URL on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import ListedStore

__all__ = ["SCHEMES", "store_at"]

#: The supported schemes.
SCHEMES: Final = ("file", "sqlite", "redis", "rediss", "unix", "postgresql", "postgres")


def store_at(
    url: str, *, key_file: Path | None, prefix: str | None, table: str | None, must_exist: bool = True
) -> ListedStore:
    """
    Return the store at *url*, without opening it.

    Args:
        url: `file:PATH` for a directory, `sqlite:PATH` for a database file, or the URL of a server.

        key_file: The file with the keys that open sealed records.

        prefix: The prefix of the keys of a Redis store.

        table: The table of a PostgreSQL store.

        must_exist: Whether the directory or the file must exist. A command that only looks must not create it.

    Raises:
        ValueError: The URL is invalid, the file does not exist, or an option is for another kind of store.
        ImportError: The extra of that store is not installed.
    """
    # urlsplit() is not used, because its errors quote an unreadable host together with the password before it.
    scheme = url.partition(":")[0].lower()
    if scheme not in SCHEMES:
        known = ", ".join(f"{one}:" for one in SCHEMES)
        msg = f"the URL of a store begins with one of {known} as in file:/var/lib/app/tokens"
        raise ValueError(msg)
    if prefix is not None and scheme not in {"redis", "rediss", "unix"}:
        msg = "--prefix is for Redis and Valkey"
        raise ValueError(msg)
    if table is not None and not scheme.startswith("postgres"):
        msg = "--table is for PostgreSQL"
        raise ValueError(msg)
    codec = None
    if key_file is not None:
        from evertoken.stores.encryption import AesGcm  # noqa: PLC0415 - needs an extra

        codec = AesGcm(key_file, accept_plain=True)
    if scheme == "file":
        from evertoken.stores.file import FileStore  # noqa: PLC0415 - each store may need an extra

        return FileStore(_path_of(url, "directory", Path.is_dir if must_exist else None), codec)
    if scheme == "sqlite":
        from evertoken.stores.sqlite import SQLiteStore  # noqa: PLC0415

        return SQLiteStore(_path_of(url, "file", Path.is_file if must_exist else None), codec)
    if scheme.startswith("postgres"):
        from evertoken.stores.postgres import PostgresStore  # noqa: PLC0415

        return PostgresStore(url, codec) if table is None else PostgresStore(url, codec, table=table)
    from evertoken.stores.redis import RedisStore  # noqa: PLC0415

    return RedisStore(url, codec) if prefix is None else RedisStore(url, codec, prefix=prefix)


def _path_of(url: str, what: str, there: Callable[[Path], bool] | None) -> Path:
    parts = urlsplit(url)
    path = Path(unquote(parts.netloc + parts.path))
    if not parts.path or (there is not None and not there(path)):
        msg = f"there is no {what} {str(path)!r}"
        raise ValueError(msg)
    return path

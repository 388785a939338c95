"""A lock between processes, which the system releases if a process dies."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

try:
    import filelock
except ImportError as error:
    msg = "evertoken.stores.FileStore needs filelock: pip install 'evertoken[file]'"
    raise ImportError(msg) from error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["locked"]

#: Seconds between two attempts. Work under the lock takes about a millisecond.
_POLL: Final = 0.005


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """
    Hold the lock on the side file *path*. The file is created, and stays.

    Raises:
        TimeoutError: The lock was not free within *timeout* seconds.
    """
    # On a system without locks, the mere existence of a file must not count, because nobody would remove it after a
    # crash.
    lock = filelock.FileLock(
        path, timeout=timeout, mode=0o600, thread_local=False, poll_interval=_POLL, fallback_to_soft=False
    )
    try:
        lock.acquire()
    except filelock.Timeout:
        msg = f"the lock {path} was not free within {timeout:g} s: its holder, or the disk, does not respond"
        raise TimeoutError(msg) from None
    try:
        yield
    finally:
        lock.release()

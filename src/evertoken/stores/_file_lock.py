"""A lock between processes, which the system takes back from whoever dies."""

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

#: Seconds between two attempts; what is done under the lock takes about a millisecond.
_POLL: Final = 0.005


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """
    Hold the lock on the side file *path*, which is made and stays.

    Raises:
        TimeoutError: It was not free within *timeout* seconds.
    """
    # No lock file that merely exists in its place, where the system has no locks: nobody would take back a dead one's.
    lock = filelock.FileLock(
        path, timeout=timeout, mode=0o600, thread_local=False, poll_interval=_POLL, fallback_to_soft=False
    )
    try:
        lock.acquire()
    except filelock.Timeout:
        msg = f"the lock {path} was not free within {timeout:g} s: who holds it is stopped, or its disk is"
        raise TimeoutError(msg) from None
    try:
        yield
    finally:
        lock.release()

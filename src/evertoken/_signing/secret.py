"""Secrets are read for each fetch, so that they can be rotated without a restart."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias, TypeVar, TypeVarTuple, cast

import anyio
import anyio.lowlevel
import anyio.to_thread

from evertoken._model.guarded import Guarded, Hidden, cut
from evertoken._model.identity import digest_of
from evertoken._signing.secret_file import read_secret_file

__all__ = ["CarriesSecrets", "Secret", "check_secret", "in_thread", "resolve", "secret_identity"]

#: A secret, a file that contains it, or a plain or async function that returns it. It is read for each fetch.
Secret: TypeAlias = str | Path | Callable[[], str | Awaitable[str]]


T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: The number of functions that may be called at a time on one loop. Hung calls use up only these threads.
THREADS: Final = 16

_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("evertoken.secrets")


class CarriesSecrets(Guarded):
    """A base for immutable objects that hold secrets. They cannot be pickled, and a copy is the object itself."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        msg = f"{type(self).__name__} carries secrets and cannot be pickled: make it in the process that uses it"
        raise TypeError(msg)


def secret_identity(secret: Secret, /) -> list[str] | None:
    """Return a value that identifies *secret* without revealing it. It is None for a function or a file."""
    return [digest_of(secret)] if isinstance(secret, str) else None


def check_secret(parameter: str, secret: object, /) -> None:
    """Raise ValueError if *secret* is not a secret. The message names *parameter*."""
    if not (callable(secret) or isinstance(secret, Path) or (isinstance(secret, str) and secret)):
        msg = f"{parameter} must be a non-empty string, a pathlib.Path, or a function that returns one"
        raise ValueError(msg)


async def resolve(secret: Secret, parameter: str, /) -> str:
    """
    Return the secret itself. A file is read in a thread, and the line break at its end is removed.

    A plain function is also called in a thread, because it may ask a vault.

    Raises:
        OSError: The file cannot be read, or others could have written it.
        TypeError: The file is empty or not text, or the function did not return a non-empty string.
    """
    if isinstance(secret, Path):
        text = _text_in(await in_thread(read_secret_file, secret))
        if not text:
            what = "is empty" if text is not None else "is not text in UTF-8 (PEM is; a PFX or DER file is not)"
            msg = f"{parameter}: the file {str(secret)!r} {what}"
            raise TypeError(msg)
        return text
    value: object = secret
    if callable(secret):
        value = secret() if _is_async(secret) else await _in_thread(secret)
    if inspect.isawaitable(value):
        value = await value
    if not isinstance(value, str) or not value:
        msg = f"{parameter} must return a non-empty string, and returned {type(value).__name__}"
        raise TypeError(msg)
    return value


def _text_in(data: bytes) -> str | None:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").rstrip("\r\n")
    except UnicodeDecodeError:
        # The error itself would contain the content.
        return None


def _is_async(function: Callable[[], object]) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - whether the instance's __call__ is async
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


async def _in_thread(function: Callable[[], object]) -> object:
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(THREADS)
        _limiter.set(limiter)
    return await in_thread(function, abandon_on_cancel=True, limiter=limiter)


async def in_thread(
    function: Callable[[*Ts], T],
    /,
    *args: *Ts,
    abandon_on_cancel: bool = False,
    limiter: anyio.CapacityLimiter | None = None,
) -> T:
    """
    Call *function* in a worker thread, and return its result.

    The result is passed in a hidden form, because asyncio's debug mode logs the arguments of a slow callback.
    """

    def call() -> Hidden[tuple[Any, BaseException | None]]:
        try:
            return Hidden((function(*args), None))
        except Exception as error:  # noqa: BLE001 - raised again below
            return Hidden((None, cut(error)))

    done = await anyio.to_thread.run_sync(call, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
    value, failure = done.value
    if failure is not None:
        try:
            raise failure
        finally:
            del failure
    return cast("T", value)

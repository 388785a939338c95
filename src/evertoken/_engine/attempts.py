"""Call a function with a token, and call it once more with another token if the server refused the first."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from evertoken._model.protocols import TokenReader

__all__ = ["Refused", "attempt", "attempt_sync", "attempt_with", "attempt_with_sync", "refusal_test"]

T = TypeVar("T")

#: The ways in which a caller says which exceptions mean that the token was refused.
Refused: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def refusal_test(refused: Refused, /) -> Callable[[Exception], bool]:
    """
    Return the function that tells whether an exception means that the token was refused.

    Raises:
        TypeError: *refused* is not an exception type, a tuple of those, or a function.
    """
    kinds = refused if isinstance(refused, tuple) else (refused,)
    if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return lambda error: isinstance(error, cast("tuple[type[Exception], ...]", kinds))
    if callable(refused) and not isinstance(refused, type):
        return refused
    msg = f"refused must be an exception type, a tuple of those, or a function of the exception, not {refused!r}"
    raise TypeError(msg)


async def attempt(reader: TokenReader, call: Callable[..., Awaitable[T]], refused: Refused) -> T:
    """The implementation of `TokenHandle.attempt`."""
    is_refusal = refusal_test(refused)
    return await attempt_with(reader, call if _takes_token(call) else lambda _: call(), is_refusal)


def attempt_sync(reader: TokenReader, call: Callable[..., T], refused: Refused) -> T:
    """The implementation of `TokenHandle.attempt_sync`."""
    is_refusal = refusal_test(refused)
    return attempt_with_sync(reader, call if _takes_token(call) else lambda _: call(), is_refusal)


async def attempt_with(
    reader: TokenReader, call: Callable[[str], Awaitable[T]], is_refusal: Callable[[Exception], bool]
) -> T:
    """Await *call* with the bare token, and once more with another token if *is_refusal* matches its exception."""
    token = await reader.get()
    try:
        return await call(token.access_token)
    except Exception as error:
        if not is_refusal(error):
            raise
        failure = error
    # This is outside the handler. Otherwise a failed fetch would carry the frames of the call, with the token in them.
    try:
        other = await reader.refused(token)
        if other is None:
            raise failure
    finally:
        del failure
    return await call(other.access_token)


def attempt_with_sync(reader: TokenReader, call: Callable[[str], T], is_refusal: Callable[[Exception], bool]) -> T:
    """Do what `attempt_with` does with a plain function."""
    token = reader.get_sync()
    try:
        return call(token.access_token)
    except Exception as error:
        if not is_refusal(error):
            raise
        failure = error
    try:
        other = reader.refused_sync(token)
        if other is None:
            raise failure
    finally:
        del failure
    return call(other.access_token)


def _takes_token(call: Callable[..., Any]) -> bool:
    """Tell whether *call* has a positional parameter without a default. A token is never passed to an optional one."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(one.kind in _POSITIONAL and one.default is one.empty for one in parameters)

"""Use any function as a source."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast, final

from evertoken._engine.function_threads import threads_of
from evertoken._model.guarded import Guarded
from evertoken._model.protocols import Answered, FetchRequest, TokenSource
from evertoken._model.redaction import quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CallableSource", "as_source"]


@final
class CallableSource(Guarded):
    """
    A source that calls a function. A plain function runs in a thread.

    All sources of one plain function share eight threads. A call that does not return keeps its thread. If all eight
    hang, a fetch fails at once. The threads do not prevent the process from ending.

    Args:
        function:
            The function to call for each fetch. If it has a parameter, it receives the previous token (or None). It
            returns a `Token`, a pair of token and lifetime in seconds, a mapping with the answer of a token endpoint,
            or a string. If it receives the token and its answer is lost, its refresh token counts as presented.

        provider: The name of the provider. Keys of one provider share its limit of concurrent fetches.

    Raises:
        TypeError: *function* is not a function, or needs more than one argument.
    """

    def __init__(
        self, function: Callable[..., Awaitable[Answered] | Answered], /, *, provider: str | None = None
    ) -> None:
        if not callable(function) or inspect.isclass(function):
            msg = f"function must be a function, not {quoted(function)}"
            raise TypeError(msg)
        self._function = function
        self._takes_current = _takes_one(function)
        # Without the previous token it has no refresh token that it could present twice.
        self.rotates: bool | None = None if self._takes_current else False
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - whether the instance's __call__ is async
        )
        self._threads = None if self._is_async else threads_of(function)
        self.provider = provider

    @property
    def function(self) -> Callable[..., Awaitable[Answered] | Answered]:
        """The function. Sources of the same function share its limits."""
        return self._function

    async def fetch(self, request: FetchRequest, /) -> Answered:
        """Call the function."""
        arguments = (request.current,) if self._takes_current else ()
        # A function that has the token may present its refresh token at any time.
        starting = request.sending if self._takes_current else None
        if self._threads is None:
            if starting is not None:
                starting()
            return await cast("Awaitable[Answered]", self._function(*arguments))
        result: Any = await self._threads.call(arguments, starting=starting)
        return cast("Answered", await result if inspect.isawaitable(result) else result)

    def __repr__(self) -> str:
        return f"CallableSource({getattr(self._function, '__qualname__', type(self._function).__qualname__)})"


def as_source(source: object, /, *, parameter: str) -> TokenSource:
    """
    Return *source* if it is a source, or make a source from it.

    Raises:
        TypeError: *source* is neither a source nor a function. The message names *parameter*.
    """
    if inspect.isclass(source):
        msg = f"{parameter} must be a source, not the class {source.__name__}; did you forget to call it?"
        raise TypeError(msg)
    if isinstance(source, TokenSource):
        return source
    if inspect.isawaitable(source):
        if inspect.iscoroutine(source):
            source.close()
        msg = f"{parameter} must be the function itself, not its result; leave out the parentheses"
        raise TypeError(msg)
    if callable(source):
        return CallableSource(cast("Callable[..., Any]", source))
    msg = (
        f"{parameter} must be a TokenSource, an async or plain function that returns a token, or a mapping of keys to "
        f"those; got {type(source).__name__}"
    )
    raise TypeError(msg)


def _takes_one(function: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.default is p.empty and p.kind in (*positional, p.KEYWORD_ONLY)]
    if len(required) > 1 or any(p.kind is p.KEYWORD_ONLY for p in required):
        msg = "function must take no argument, or one: the previous token (or None)"
        raise TypeError(msg)
    return len(required) == 1

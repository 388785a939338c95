"""
What error reporters must not find: they write down the locals of each frame, and the attributes of what is in them.

`guarded` is for functions that secrets are given to. What they raise comes out with its message and its type, and
without the frames that it came through. `Opaque` and `Guarded` are for what holds secrets.
"""

from __future__ import annotations

import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, ParamSpec, Self, TypeVar, cast, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Guarded", "Hidden", "Opaque", "cut", "guarded", "place_of"]

T = TypeVar("T")
P = ParamSpec("P")
ErrorT = TypeVar("ErrorT", bound=BaseException)

_PACKAGE: Final = __name__.partition(".")[0]
_NOTE: Final = "raised at "


def cut(error: ErrorT, /) -> ErrorT:
    """
    Return *error* without the frames that it came through, and without the contexts that have frames of their own.

    Causes and the members of groups stay, and lose theirs. Where others than this library raised it, such as a
    function of the user's, a note says where.
    """
    left: list[BaseException] = [error]
    seen = set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        place = place_of(one)
        if place is not None and isinstance(one, Exception) and not _is_ours(one):
            one.add_note(_NOTE + place)
        one.__traceback__ = one.__context__ = None
        if one.__cause__ is not None:
            left.append(one.__cause__)
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
    return error


def guarded(function: Callable[P, T], /) -> Callable[P, T]:
    """Return *function*, so that nothing which it raises shows its arguments, or what it made of them."""
    if inspect.iscoroutinefunction(function):

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            try:
                return await function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised again below
                failure = cut(error)
            # The frame of this call is all that the traceback has of the library.
            del args, kwargs
            try:
                raise failure
            finally:
                del failure

        return cast("Callable[P, T]", functools.wraps(function)(call_async))

    if inspect.isasyncgenfunction(function):

        async def iterate(*args: Any, **kwargs: Any) -> Any:
            items = function(*args, **kwargs)
            try:
                async for item in items:
                    yield item
            except BaseException as error:  # noqa: BLE001 - raised again below
                failure = cut(error)
            else:
                return
            finally:
                await items.aclose()
            del args, kwargs, items
            try:
                raise failure
            finally:
                del failure

        return cast("Callable[P, T]", functools.wraps(function)(iterate))

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure = cut(error)
        del args, kwargs
        try:
            raise failure
        finally:
            del failure

    return call


class Opaque:
    """What has slots that hold secrets: they are read by name, and no list of the class tells which there are."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__slots__" in vars(cls):
            # Serialisers go by it. The slots themselves stay.
            del cls.__slots__


class _WithAttributes:
    # Here, so that no class below adds a descriptor that shows them.
    __slots__ = ("__dict__", "__weakref__")


class Guarded(Opaque, _WithAttributes):
    """
    What works with secrets: `vars` of it is empty, and its constructor and public methods are guarded.

    That holds for each class below it, so none can be forgotten. A copy of it is itself, and it is not pickled: what is
    in it is not told, and pickles end up in queues, caches and crash reports.
    """

    __slots__ = ()

    if not TYPE_CHECKING:

        @property
        def __dict__(self) -> dict[str, object]:
            return {}

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        msg = f"{type(self).__name__} is not pickled: make it in the process that uses it"
        raise TypeError(msg)

    def __getstate__(self) -> NoReturn:
        # That of `object` has what `vars` has not.
        msg = f"{type(self).__name__} does not tell its state"
        raise TypeError(msg)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, member in list(vars(cls).items()):
            if name != "__init__" and name.startswith("_"):
                continue
            if isinstance(member, FunctionType) and not inspect.isgeneratorfunction(member):
                setattr(cls, name, guarded(member))
            elif isinstance(member, classmethod | staticmethod):
                setattr(cls, name, type(member)(guarded(member.__func__)))


@final
class Hidden(Opaque, Generic[T]):
    """
    A value on its way between frames, threads and loops, whose `repr` shows nothing.

    Args:
        value: The value.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value: T = value

    def __repr__(self) -> str:
        return "Hidden()"


def place_of(error: BaseException, /) -> str | None:
    """Return where *error* was raised, if that is known: the file's name, the line and the function."""
    trace = _innermost(error)
    if trace is None or trace.tb_frame.f_globals is globals():
        notes = (str(note) for note in getattr(error, "__notes__", ()))
        return next((note.removeprefix(_NOTE) for note in notes if note.startswith(_NOTE)), None)
    code = trace.tb_frame.f_code
    filename = code.co_filename.replace("\\", "/").rsplit("/", 1)[-1]
    return f"{filename}:{trace.tb_lineno} in {code.co_name}"


def _innermost(error: BaseException) -> TracebackType | None:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _is_ours(error: BaseException) -> bool:
    trace = _innermost(error)
    return trace is None or str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE

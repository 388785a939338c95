"""
Hide secrets from error reporters, which record the locals of each frame and the attributes of those objects.

Use `guarded` for functions that receive secrets. Their exceptions keep message and type, but lose the frames that they
passed through. `Opaque` and `Guarded` are base classes for objects that hold secrets.
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
    Return *error* without its traceback and its contexts, because both refer to frames.

    Causes and the members of groups stay, but lose their own frames too. If code outside this library raised the error,
    for example a function of the user, a note says where.
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
    """Return *function*, so that its exceptions show neither its arguments nor its locals."""
    if inspect.iscoroutinefunction(function):

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            try:
                return await function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised again below
                failure = cut(error)
            # The traceback shows no frame of the library except that of this call.
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
    """A base for objects with secrets in slots. They are read by name, and the class has no list of its slots."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__slots__" in vars(cls):
            # Serialisers use this attribute. The slots themselves stay.
            del cls.__slots__


class _WithAttributes:
    # These slots are here, so that no class below adds a descriptor that would show their content.
    __slots__ = ("__dict__", "__weakref__")


class Guarded(Opaque, _WithAttributes):
    """
    A base for objects that work with secrets.

    `vars` of it is empty, and its constructor and public methods are guarded. This applies to all subclasses, so it
    cannot be forgotten for one. A copy is the object itself. It cannot be pickled, because pickles end up in queues,
    caches and crash reports.
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
        msg = f"{type(self).__name__} cannot be pickled: make it in the process that uses it"
        raise TypeError(msg)

    def __getstate__(self) -> NoReturn:
        # The method of `object` would return what `vars` hides.
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
    A value that is passed between frames, threads and loops. Its `repr` shows nothing.

    Args:
        value: The value.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value: T = value

    def __repr__(self) -> str:
        return "Hidden()"


def place_of(error: BaseException, /) -> str | None:
    """Return where *error* was raised, if known: the name of the file, the line and the function."""
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

"""
Frozen records: dataclasses whose methods are written here once, instead of compiled for each class.

`dataclass(frozen=True, slots=True)` compiles seven methods for each class. That takes ten times as long as the rest of
the class statement. There are thirty such classes, and each program that imports the library pays for them.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeVar, cast, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature

__all__ = ["Frozen", "frozen"]

ClassT = TypeVar("ClassT", bound=type)


class _SignatureOfFields:
    """The signature that `help` shows. It is made when somebody asks for it."""

    def __get__(self, instance: object, owner: type[Frozen]) -> Signature:
        if not is_dataclass(owner):
            raise AttributeError
        from inspect import Parameter, Signature  # noqa: PLC0415 - only needed for help()

        return Signature(
            [
                Parameter(
                    field.name,
                    Parameter.KEYWORD_ONLY if field.kw_only else Parameter.POSITIONAL_OR_KEYWORD,
                    default=Parameter.empty if field.default is MISSING else field.default,
                    annotation=field.type,
                )
                for field in fields(owner)
            ],
            return_annotation="None",
        )


class Frozen:
    """
    The base of frozen records: it provides the constructor, comparison, `repr` and pickling, and forbids assignment.

    A subclass is decorated with `frozen`. It may check its values in `__post_init__`.
    """

    __slots__ = ()

    #: The field names in order, each with the function that sets its slot; the names that may be given by position; and
    #: the default values.
    _names: ClassVar[dict[str, Callable[[Any, Any], None]]] = {}
    _positional: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]
    else:
        __signature__ = _SignatureOfFields()

    def __init__(self, *values: Any, **named: Any) -> None:
        given = {**dict(zip(self._positional, values, strict=False)), **named} if values else named
        # This is false if there are too many positional values, or if a field was given twice.
        clear = len(given) == len(values) + len(named)
        if len(given) < len(self._names):
            given = {**self._defaults, **given}
        if not clear or given.keys() != self._names.keys():
            wrong = _misuse(type(self), len(values), named.keys(), given.keys())
            # A traceback shows the locals of its frames, and this record has no values to show yet.
            del self, values, named, given
            raise TypeError(wrong)
        for name, put in self._names.items():
            put(self, given[name])
        self.__post_init__()

    def __post_init__(self) -> None:
        pass

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"cannot assign to field {name!r}: {type(self).__name__} is immutable"
        raise FrozenInstanceError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        msg = f"cannot delete field {name!r}: {type(self).__name__} is immutable"
        raise FrozenInstanceError(msg)

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._names)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self._names))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__qualname__}({shown})"

    def __replace__(self, /, **changes: Any) -> Self:
        return type(self)(**{**self._values(), **changes})

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self._values())

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}


@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(*, kw_only: bool = True) -> Callable[[ClassT], ClassT]:
    """
    Return a decorator that makes a dataclass of a subclass of `Frozen`.

    Args:
        kw_only: Whether fields can only be given by name.
    """

    def decorated(cls: ClassT) -> ClassT:
        made: Any = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
        known = fields(made)
        made._names = {field.name: getattr(made, field.name).__set__ for field in known}  # noqa: SLF001 - defined in this file
        made._positional = tuple(field.name for field in known if not field.kw_only)  # noqa: SLF001
        made._defaults = {field.name: field.default for field in known if field.default is not MISSING}  # noqa: SLF001
        return cast("ClassT", made)

    return decorated


def _misuse(kind: type[Frozen], count: int, named: Any, given: Any) -> str:
    unknown = sorted(named - kind._names.keys())  # noqa: SLF001 - defined in this file
    missing = [name for name in kind._names if name not in given]  # noqa: SLF001
    positional = kind._positional  # noqa: SLF001
    if unknown:
        return f"{kind.__name__}() got an unexpected keyword argument {unknown[0]!r}"
    if count > len(positional):
        return f"{kind.__name__}() takes {len(positional)} positional arguments, but {count} were given"
    if missing:
        return f"{kind.__name__}() lacks {', '.join(map(repr, missing))}"
    twice = next(name for name in positional[:count] if name in named)
    return f"{kind.__name__}() got two values for {twice!r}"


def _restored(kind: type[Frozen], values: dict[str, Any]) -> Frozen:
    return kind(**values)

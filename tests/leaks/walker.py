"""The records that error reporters make of an exception and of a value, in three usual ways."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.traceback import Traceback

TESTS = str(Path(__file__).parent.parent)
#: How deep a serialiser goes into the attributes and items of a local.
DEPTH = 3
# Attributes and items of one value that are looked at.
_MOST = 200


def chain(error: BaseException) -> list[BaseException]:
    """Return *error* with all causes, contexts (the suppressed ones as well) and members of groups."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or any(one is other for other in found):
            continue
        found.append(one)
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
    return found


def shown(error: BaseException) -> Iterator[tuple[str, str]]:
    """
    Yield each text that a reporter could write down of *error*, with the place it was found at.

    The frames of the tests are left out: they belong to the caller, who has the secrets anyway.
    """
    for one in chain(error):
        name = type(one).__name__
        for where, text in written(one):
            yield f"{name}{where}", text
        trace = one.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if not frame.f_code.co_filename.startswith(TESTS):
                place = f"{name} in {frame.f_code.co_filename}:{trace.tb_lineno} {frame.f_code.co_name}"
                for local, value in frame.f_locals.items():
                    for where, text in written(value):
                        yield f"{place}: {local}{where}", text
            trace = trace.tb_next
        yield from _by_standard_library(one)
    yield from _by_rich(error)


def written(value: object, depth: int = DEPTH) -> Iterator[tuple[str, str]]:
    """Yield the texts that a serialiser writes of *value*: its `repr`, and its content, level by level."""
    if isinstance(value, str):
        yield "", value
        return
    if isinstance(value, bytes | bytearray | memoryview):
        yield "", bytes(value).decode("latin-1")
        return
    try:
        yield " (repr)", repr(value)
    except Exception as error:  # noqa: BLE001 - half built
        yield " (repr)", repr(error)
    if depth == 0 or isinstance(value, type):
        return
    for name, inner in _inside(value)[:_MOST]:
        for where, text in written(inner, depth - 1):
            yield f"{name}{where}", text


def _inside(value: object) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        found += [(f"[{key!r}]", inner) for key, inner in list(value.items())]
    elif isinstance(value, list | tuple | set | frozenset):
        found += [(f"[{number}]", inner) for number, inner in enumerate(list(value))]
    if isinstance(value, BaseException):
        found.append((".args", value.args))
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, Mapping):
        found += [(f".{name}", inner) for name, inner in list(attributes.items())]
    names = {name for kind in type(value).__mro__ for name in _slots_of(kind)}
    if dataclasses.is_dataclass(value):
        names |= {field.name for field in dataclasses.fields(value)}
    for name in sorted(names):
        try:
            found.append((f".{name}", getattr(value, name)))
        except Exception:  # noqa: BLE001 - not set yet
            continue
    return found


def _slots_of(kind: type) -> list[str]:
    slots = kind.__dict__.get("__slots__", ())
    return [slots] if isinstance(slots, str) else [str(slot) for slot in slots]


def _by_standard_library(error: BaseException) -> Iterator[tuple[str, str]]:
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in whole.stack:
        if not frame.filename.startswith(TESTS):
            for name, text in (frame.locals or {}).items():
                yield f"capture_locals {frame.filename}:{frame.lineno}: {name}", text
    yield "format_exception_only", "".join(whole.format_exception_only())


def _by_rich(error: BaseException) -> Iterator[tuple[str, str]]:
    trace = Traceback.extract(
        type(error), error, error.__traceback__, show_locals=True, locals_max_length=_MOST, locals_max_string=10_000
    )
    for stack in trace.stacks:
        yield "rich", stack.exc_value
        for frame in stack.frames:
            if not frame.filename.startswith(TESTS):
                for name, node in (frame.locals or {}).items():
                    yield f"rich {frame.filename}:{frame.lineno}: {name}", str(node)

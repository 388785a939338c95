"""
Header fields that are sent and never copied. It imports no HTTP library.

A client that follows a redirect copies all fields to the new request, and takes out Authorization alone where the
origin is another. So what may not travel is not among those that are copied: a request shows it to whoever sends it,
and keeps it from whoever makes a request, a copy or a pickle of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_withholding", "withholding"]

_kinds: dict[type, type] = {}


class _Withheld:
    """Header fields with some more, which no copy has."""

    #: Name, as it is sent, and value, by the lower-case name.
    withheld: dict[str, tuple[str, str]]

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = super().raw  # type: ignore[misc]  # of the library's class beside this one
        return [*found, *((name.encode(), value.encode()) for name, value in self.withheld.values())]

    def __getitem__(self, key: str) -> str:
        mine = self.withheld.get(key.lower())
        found: str = super().__getitem__(key) if mine is None else mine[1]  # type: ignore[misc]
        return found

    def __setitem__(self, key: str, value: str) -> None:
        self.withheld.pop(key.lower(), None)
        super().__setitem__(key, value)  # type: ignore[misc]

    def __delitem__(self, key: str) -> None:
        if self.withheld.pop(key.lower(), None) is None:
            super().__delitem__(key)  # type: ignore[misc]

    def __contains__(self, key: object) -> bool:
        return (isinstance(key, str) and key.lower() in self.withheld) or super().__contains__(key)  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        _, library = type(self).__bases__
        return library, (super().raw,)  # type: ignore[misc]


def withholding(headers: Any, fields: Mapping[str, str]) -> Any:
    """Return *headers* with *fields* besides, which no copy has. They replace those of the same name."""
    kind = type(headers)
    if not issubclass(kind, _Withheld):
        if kind not in _kinds:
            _kinds[kind] = type("Headers", (_Withheld, kind), {})
        headers = _kinds[kind](headers)
        headers.withheld = {}
    for name in fields:
        headers.pop(name, None)
    headers.withheld = {name.lower(): (name, value) for name, value in fields.items()}
    return headers


def check_withholding(library: Any, name: str) -> None:
    """Raise RuntimeError if copies of *library*, a class of header fields, would have the field *name*."""
    fields = withholding(library({"a": "b"}), {name: "token"})
    copied = library(fields)
    if name in copied or "a" not in copied or (name.encode(), b"token") not in fields.raw:
        msg = f"this release of {library.__module__} would carry {name} to other origins; use Authorization"
        raise RuntimeError(msg)

"""
Header fields that no redirect takes along. This module imports no HTTP library.

A client that follows a redirect copies all fields to the new request. If the origin differs, it removes only
Authorization. A field with a token is left out of that copy, but not of other copies, because transports also copy
requests and send them to the same origin. Such fields are not pickled with a request or a response either.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Unpickled", "check_withholding", "unsigned_on_failure", "withholding"]

_kinds: dict[type, type] = {}
# The results of checks, by the library's class of header fields and the name of the field.
_checked: dict[tuple[type, str], bool] = {}

# The method by which clients of httpx and httpx2 make the fields of a redirect, and its distance on the stack.
_REDIRECTING: Final = "_redirect_headers"
_NEAR: Final = 2

_CREDENTIALS: Final = ("authorization", "dpop")

# The text that the libraries show for such fields.
_HIDDEN: Final = b"[secure]"


class _Bytes(bytes):
    """Bytes that are not shown by `repr` or a pickle."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (_HIDDEN,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        return repr(_HIDDEN)


class Unpickled(str):
    """The value of a header field. A request is sent and redirected with it, but pickled without it."""

    __slots__ = ("_kept",)

    def __init__(self, _value: str) -> None:
        self._kept = _Bytes(str.encode(self))

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002 - str has this parameter
        """Return the bytes as the library keeps them in the header fields."""
        return self._kept


class _Withheld:
    """Header fields, some of which are not copied by a redirect, and not shown by `repr` or a pickle."""

    #: The names of these fields in lower case.
    withheld: frozenset[bytes]
    everything: list[Any]

    @property
    def _list(self) -> list[Any]:
        if _is_redirect():
            return [field for field in self.everything if field[1] not in self.withheld]
        return self.everything

    @_list.setter
    def _list(self, fields: list[Any]) -> None:
        self.everything = fields

    def __repr__(self) -> str:
        shown = [(name, _HIDDEN if lower in self.withheld else value) for name, lower, value in self.everything]
        _, library = type(self).__bases__
        return repr(library(shown))

    def __reduce__(self) -> tuple[Any, ...]:
        _, library = type(self).__bases__
        kept = [(name, value) for name, lower, value in self.everything if lower not in self.withheld]
        return library, (kept,)


def withholding(headers: Any, fields: Mapping[str, str]) -> Any:
    """Return *headers* with *fields* added. No redirect copies them. They replace fields of the same name."""
    kind = type(headers)
    if issubclass(kind, _Withheld):
        for name in headers.withheld.difference(name.lower().encode() for name in fields):
            headers.pop(name.decode(), None)
    else:
        if kind not in _kinds:
            _kinds[kind] = type("Headers", (_Withheld, kind), {})
        headers = _kinds[kind](headers)
    headers.withheld = frozenset(name.lower().encode() for name in fields)
    for name, value in fields.items():
        # The earlier field is removed first, because otherwise the spelling of its name would stay.
        headers.pop(name, None)
        headers[name] = value
    return headers


@contextlib.contextmanager
def unsigned_on_failure(request: Any, response: Any) -> Iterator[None]:
    """If the block raises, remove the credentials from *request* and from the requests of its redirects."""
    try:
        yield
    except BaseException:
        # The frames of the client hold these requests, although they are not sent again.
        for sent in (request, response.request, *(one.request for one in response.history)):
            withheld = (name.decode() for name in getattr(sent.headers, "withheld", ()))
            for name in (*_CREDENTIALS, *withheld):
                sent.headers.pop(name, None)
        raise


def check_withholding(library: Any, name: str) -> None:
    """
    Raise RuntimeError if, with *library*'s header fields, a redirect would carry the field *name* to other origins.
    """
    if (library, name) not in _checked:
        _checked[library, name] = _is_withheld(library, name)
    if not _checked[library, name]:
        msg = f"this release of {library.__module__} would carry {name} to other origins; use Authorization"
        raise RuntimeError(msg)


def _is_withheld(library: Any, name: str) -> bool:
    module: Any = sys.modules[library.__module__.partition(".")[0]]
    seen: list[tuple[str, str | None, str | None]] = []

    def answer(request: Any) -> Any:
        # A transport may make a new request from the request in this way.
        copied = library(request.headers)
        seen.append((request.url.host, copied.get(name), copied.get("a")))
        return module.Response(302 if len(seen) == 1 else 200, headers={"Location": "https://there.example/"})

    with module.Client(transport=module.MockTransport(answer), trust_env=False, follow_redirects=True) as client:
        request = client.build_request("GET", "https://here.example/", headers={"a": "b"})
        request.headers = withholding(request.headers, {name: "token"})
        client.send(request)
    return seen == [("here.example", "token", "b"), ("there.example", None, "b")]


def _is_redirect() -> bool:
    # These frames are the property and its caller, which is the constructor of the copy.
    frame = sys._getframe(2)  # noqa: SLF001 - the only way to find the caller
    if frame.f_code.co_name != "__init__":
        return False
    for _ in range(_NEAR):
        above = frame.f_back
        if above is None:
            return False
        if above.f_code.co_name == _REDIRECTING:
            return True
        frame = above
    return False

"""The origins to which a token may be sent. This module imports no HTTP library, and all clients share it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar, Final

from evertoken._model.errors import OriginRefused
from evertoken.clients._hidden_field import HiddenField, hidden_authorization
from evertoken.clients._long_lived import long_lived
from evertoken.clients._origin import PORTS, Origin, in_the_clear, origin_of, written
from evertoken.clients._uncopied import Uncopied

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from evertoken._model.protocols import TokenReader

__all__ = ["Binding"]

# The number of spellings of origins that are remembered.
_SPELLINGS: Final = 64


class Binding(Uncopied):
    """
    The token of a reader, and the origins that may receive it.

    Args:
        tokens: A handle of a manager, or any object with its `get` and `refused`.

        origins:
            The origins that may receive the token, such as "https://api.example.com". By default, only the first origin
            that it is used with.

        allow_http: Also send the token over plain http to hosts other than loopback.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: A text in *origins* is not an origin, or is http outside loopback; or *min_ttl* is not a valid
            number of seconds.
    """

    #: Makes the value of an Authorization field, which shows no token.
    hidden: ClassVar[Callable[[str], str]] = HiddenField

    def __init__(
        self,
        tokens: TokenReader,
        *,
        origins: Iterable[str] = (),
        allow_http: bool = False,
        min_ttl: float | None = None,
    ) -> None:
        if isinstance(origins, str):
            origins = (origins,)
        self._tokens = long_lived(tokens, min_ttl)
        self._authorization_of = hidden_authorization(type(self).hidden)
        self._origins: frozenset[Origin] = frozenset(map(self._origin_of, origins))
        self._allow_http = allow_http
        for origin in self._origins:
            if not allow_http and in_the_clear(origin):
                raise ValueError(_clear(origin))
        self._binding = threading.Lock()
        # Admitted origins, as clients write them, so that few URLs have to be parsed.
        self._admitted: set[Hashable] = set()

    def __repr__(self) -> str:
        bound = ", ".join(sorted(map(written, self._origins))) or "the first origin it is used with"
        return f"{type(self).__name__}(bound to {bound})"

    def _remember(self, written: Hashable) -> None:
        """From now on, admit origins with this spelling at once."""
        # One origin has many spellings, so their number is limited.
        if len(self._admitted) < _SPELLINGS:
            self._admitted.add(written)

    def _origin_of(self, text: str) -> Origin:
        return origin_of(text)

    def _admit_origin(self, origin: Origin) -> None:
        """Raise `OriginRefused` unless the token may be sent to *origin*. The first origin becomes the allowed one."""
        if origin in self._origins:
            return
        if origin[0] not in PORTS or not origin[1]:
            msg = f"this auth sends its token to absolute http and https URLs; scheme {origin[0]!r}, host {origin[1]!r}"
            raise OriginRefused(msg)
        if not self._allow_http and in_the_clear(origin):
            raise OriginRefused(_clear(origin))
        # If two threads come at the same time, only one of them sets the origin.
        with self._binding:
            self._origins = self._origins or frozenset({origin})
        if origin not in self._origins:
            bound = ", ".join(sorted(map(written, self._origins)))
            msg = (
                f"this auth is bound to {bound} and was asked to send its token to {written(origin)}; "
                f"name every origin that may see it: auth(origins=[...])"
            )
            raise OriginRefused(msg)


def _clear(origin: Origin) -> str:
    return (
        f"this auth would send its token to {written(origin)} in the clear; use https, or allow_http=True if that is "
        f"meant"
    )

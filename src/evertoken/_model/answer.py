"""Answer: a successful answer of a token endpoint, which a source passes to the parser."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

from evertoken._model.guarded import Guarded

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Answer"]

_PARAMETERS: Final = ("fields", "date", "default_lifetime", "not_after", "token_types", "requested_scope")
_NO_TYPES: Final[Mapping[str, str]] = MappingProxyType({})


@final
class Answer(Guarded):
    """
    A successful answer of a token endpoint (RFC 6749 section 5.1).

    Args:
        fields: The members of the JSON object.

        date: The server's time at its answer (epoch seconds, from the Date field), if known.

        default_lifetime: The lifetime in seconds to assume if neither the answer nor the token states one, if known.

        not_after: An instant (epoch seconds) at which the token ends at the latest, even if it claims a longer life.

        token_types: The server's own token types, each with the scheme that presents it (RFC 6749 section 7.1). An
            access token of any other unknown type is not used.

        requested_scope: The requested scope. An answer without a scope has granted it (RFC 6749 section 5.1). If no
            scope was requested, the scope of the previous token holds (section 6).
    """

    __slots__ = _PARAMETERS

    def __init__(  # noqa: PLR0917 - the same signature as that of a dataclass
        self,
        fields: Mapping[str, Any],
        date: float | None = None,
        default_lifetime: float | None = None,
        not_after: float = math.inf,
        token_types: Mapping[str, str] = _NO_TYPES,
        requested_scope: str | None = None,
    ) -> None:
        self.fields: Mapping[str, Any] = fields
        self.date: float | None = date
        self.default_lifetime: float | None = default_lifetime
        self.not_after: float = not_after
        self.token_types: Mapping[str, str] = token_types
        self.requested_scope: str | None = requested_scope

    def replace(self, **changes: Any) -> Answer:
        """Return a copy with the named arguments changed."""
        given = {name: getattr(self, name) for name in _PARAMETERS}
        return Answer(**{**given, **changes})

    def __repr__(self) -> str:
        return f"Answer(fields={sorted(map(str, self.fields))}, date={self.date!r})"

    def __reduce__(self) -> NoReturn:
        msg = "an Answer carries tokens and cannot be pickled"
        raise TypeError(msg)

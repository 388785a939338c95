"""
Token: an access token with absolute instants, as the authorization server issued it.

It has no clock and prints no secret. It is deliberately not a dataclass, because serialisers that walk dataclasses (and
structured loggers that use them) would write the token out.
"""

from __future__ import annotations

import math
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, final

if TYPE_CHECKING:
    from collections.abc import Mapping

from evertoken._model.guarded import Opaque, guarded
from evertoken._model.identity import digest_of

__all__ = ["KINDS", "REFUSED_BY", "SETTLES_IN", "RedactedToken", "Token", "fingerprint_of", "origin_of"]

#: The extra field with the status codes, besides 401, by which a resource server refuses the token.
REFUSED_BY: Final = "refused_by"
#: The extra field with the seconds for which some resource servers may not know a new token yet.
SETTLES_IN: Final = "settles_in"

#: The classes of credentials that contain more than a token, by their token type.
KINDS: Final[dict[str, type[Token]]] = {}

_FIELDS: Final = (
    "access_token", "expires_at", "extra", "issued_at", "refresh_at", "refresh_token", "scope", "token_type",
)  # fmt: skip

# A constant, because `int | float` creates an object at each call.
_NUMBERS: Final = (int, float)

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def fingerprint_of(secret: str, /) -> str:
    """Return eight hexadecimal digits of a digest, which identify a secret in logs."""
    return digest_of(secret)[:8]


def origin_of(refresh_token: str, /) -> str:
    """Return sixteen hexadecimal digits of a digest, which identify a configured refresh token in a record."""
    return digest_of(refresh_token)[:16]


class Token(Opaque):
    """
    An access token and its instants, scope and refresh token. Immutable.

    Its `repr`, `str` and pickle show a fingerprint and never a secret. A pickled token comes back as a `RedactedToken`.
    Read `access_token` or `authorization` to use it.

    Args:
        access_token: The secret itself (RFC 6749 section 1.4). It may be empty if the token only holds a refresh token.
            Then *refresh_token* is given, *expires_at* is not after *issued_at*, and the token is never valid.

        token_type: How to present it (RFC 6749 section 7.1), "Bearer" by default.

        issued_at: The instant (epoch seconds) from which its life is counted: the start of the request for it.

        expires_at: The instant (epoch seconds) at which it expires. It is None if the expiry is unknown.

        refresh_at: The instant (epoch seconds) from which the server wants it replaced, if it said so.

        refresh_token: The refresh token to present next (RFC 6749 section 1.5), if any.

        scope: The granted scope, separated by spaces as in the protocol (RFC 6749 section 3.3), if known.

        extra: All other fields of the answer.

    Raises:
        ValueError: The access token or its type is empty or does not fit into a header field, the refresh token is
            empty or not a string, or an instant is not a finite number.
    """

    __slots__ = _FIELDS

    access_token: str
    token_type: str
    issued_at: float
    expires_at: float | None
    refresh_at: float | None
    refresh_token: str | None
    scope: str | None
    extra: Mapping[str, Any]

    def __init_subclass__(cls, *, token_type: str) -> None:
        super().__init_subclass__()
        KINDS[token_type] = cls

    @staticmethod
    @guarded
    def restored(fields: Mapping[str, Any], /) -> Token:
        """Return the token, or the credential of another kind, from its *fields*."""
        return KINDS.get(str(fields.get("token_type")), Token)(**fields)

    @guarded
    def __init__(
        self,
        access_token: str,
        *,
        issued_at: float,
        expires_at: float | None = None,
        token_type: str = "Bearer",  # noqa: S107 - a scheme, not a secret
        refresh_at: float | None = None,
        refresh_token: str | None = None,
        scope: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        for name, text in (("access_token", access_token), ("token_type", token_type)):
            # Without an access token there is nothing to send. The instants are checked below.
            bare = name == "access_token" and text == "" and refresh_token is not None and expires_at is not None
            if not bare and not _fits_header(text):
                msg = f"{name} must be a non-empty string of printable ASCII characters"
                raise ValueError(msg)
        if refresh_token is not None and not (isinstance(refresh_token, str) and refresh_token):
            msg = f"refresh_token must be a non-empty string or None, not {type(refresh_token).__name__}"
            raise ValueError(msg)
        for name, instant in (("issued_at", issued_at), ("expires_at", expires_at), ("refresh_at", refresh_at)):
            if instant is None and name != "issued_at":
                continue
            if not _is_finite(instant):
                msg = f"{name} must be a finite number of epoch seconds, not {type(instant).__name__}"
                raise ValueError(msg)
        if not access_token and expires_at is not None and expires_at > issued_at:
            msg = "access_token may be empty only where expires_at is not after issued_at"
            raise ValueError(msg)
        put = object.__setattr__
        put(self, "access_token", access_token)
        put(self, "token_type", token_type)
        # Floats are stored, because an int may be too large for arithmetic.
        put(self, "issued_at", float(issued_at))
        put(self, "expires_at", None if expires_at is None else float(expires_at))
        put(self, "refresh_at", None if refresh_at is None else float(refresh_at))
        put(self, "refresh_token", refresh_token)
        put(self, "scope", scope)
        put(self, "extra", MappingProxyType(dict(extra)) if extra else _NOTHING)

    @property
    def authorization(self) -> str:
        """
        The value of the Authorization field: the type, a space and the token (RFC 6750 section 2.1).

        Raises:
            ValueError: There is no access token to send.
        """
        if not self.access_token:
            msg = "this token has no access token to send: it only holds a refresh token"
            raise ValueError(msg)
        return f"{self.token_type} {self.access_token}"

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that identify this token in logs."""
        return fingerprint_of(self.access_token)

    @property
    def lifetime(self) -> float | None:
        """Seconds from issue to expiry, or None where the expiry is unknown."""
        return None if self.expires_at is None else self.expires_at - self.issued_at

    @property
    def scopes(self) -> frozenset[str]:
        """The granted scope as a set, empty if it is unknown. Some servers separate scopes by commas (GitHub)."""
        return frozenset((self.scope or "").replace(",", " ").split())

    def remaining(self, now: float, /) -> float:
        """Return the seconds of life left at *now* (epoch seconds): infinite if unknown, negative if expired."""
        if self.expires_at is None:
            return math.inf
        left = self.expires_at - now
        # Without an access token no life is left, even if the clock was set back.
        return left if self.access_token else min(left, 0.0)

    def valid_at(self, now: float, /, *, min_ttl: float = 0.0) -> bool:
        """Tell whether more than *min_ttl* seconds of life are left at *now* (epoch seconds)."""
        # A token without expiry has enough life for any *min_ttl*, even an infinite one.
        return self.expires_at is None or (bool(self.access_token) and self.remaining(now) > min_ttl)

    @guarded
    def replace(self, **changes: Any) -> Self:
        """Return a copy with the named fields changed."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        return type(self)(**{**fields, **changes})

    def shifted(self, seconds: float, /) -> Self:
        """Return a copy with every instant moved by *seconds*. It is used if the local clock was stepped."""
        expires_at = None if self.expires_at is None else self.expires_at + seconds
        refresh_at = None if self.refresh_at is None else self.refresh_at + seconds
        return self.replace(issued_at=self.issued_at + seconds, expires_at=expires_at, refresh_at=refresh_at)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"Token is immutable; use token.replace({name}=...)"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        msg = "Token is immutable"
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return self is other or (
            self.access_token == other.access_token
            and all(getattr(self, name) == getattr(other, name) for name in _FIELDS)
        )

    def __hash__(self) -> int:
        return hash((self.access_token, self.issued_at, self.expires_at))

    def __repr__(self) -> str:
        refresh = "" if self.refresh_token is None else f", refresh_token=<{fingerprint_of(self.refresh_token)}>"
        scope = "" if self.scope is None else f", scope={self.scope!r}"
        access = f"<{self.fingerprint}>" if self.access_token else "no access token"
        return (
            f"{type(self).__name__}({access}, token_type={self.token_type!r}, "
            f"issued_at={self.issued_at!r}, expires_at={self.expires_at!r}{refresh}{scope})"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return RedactedToken, (self.fingerprint, self.token_type, self.issued_at, self.expires_at)


def _fits_header(text: object) -> bool:
    # A line break would begin another field. Clients refuse to send text that is not ASCII or ends with a space.
    return isinstance(text, str) and text.isascii() and text.isprintable() and text == text.strip() != ""


def _is_finite(instant: object) -> bool:
    # isfinite() is not used, because it overflows for a very large int.
    return isinstance(instant, _NUMBERS) and not isinstance(instant, bool) and abs(instant) <= sys.float_info.max


@final
class RedactedToken:
    """
    The result of unpickling a `Token`: all fields without a secret.

    A pickle ends up in queues, caches and crash reports. To move a token, write its `access_token` explicitly, or share
    it through a store.
    """

    __slots__ = ("expires_at", "fingerprint", "issued_at", "token_type")

    def __init__(self, fingerprint: str, token_type: str, issued_at: float, expires_at: float | None) -> None:
        self.fingerprint: str = fingerprint
        self.token_type: str = token_type
        self.issued_at: float = issued_at
        self.expires_at: float | None = expires_at

    @property
    def access_token(self) -> NoReturn:
        """Raise an error, because the secret was not pickled."""
        msg = "this token went through pickle, which carries no secrets; ask a TokenManager in this process"
        raise AttributeError(msg)

    def __repr__(self) -> str:
        return f"RedactedToken(<{self.fingerprint}>, expires_at={self.expires_at!r})"

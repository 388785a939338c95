"""Grant: the refresh token of somebody who logged in, before there is an access token."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, final

from evertoken._model.frozen import Frozen, frozen
from evertoken._model.grant_lifetime import GRANT_EXPIRES_AT, GRANT_ISSUED_AT
from evertoken._model.guarded import Opaque, guarded
from evertoken._model.parsing import is_finite
from evertoken._model.token import Token, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

__all__ = ["Grant", "ImportResult", "token_of"]

_FIELDS: Final = ("expires_at", "extra", "issued_at", "refresh_token", "scope")

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@final
class Grant(Opaque):
    """
    A refresh token without an access token, for example from an earlier system or a login callback. Immutable.

    `TokenManager.put`, `import_grants` and `initial=` accept it. The first fetch presents its refresh token. Its `repr`
    shows a fingerprint and never the secret, and it cannot be pickled.

    Args:
        refresh_token: The refresh token (RFC 6749 section 1.5).

        scope: The granted scope, separated by spaces, if known.

        issued_at: When the refresh token was issued or last used (epoch seconds). The default is now.

        expires_at: When it expires even if it is used (epoch seconds), if known.

        extra: Further fields of the login's answer, for `Token.extra`.

    Raises:
        ValueError: The refresh token is empty or not a string, *scope* is not a string, or an instant is not finite.
    """

    __slots__ = _FIELDS

    refresh_token: str
    scope: str | None
    issued_at: float | None
    expires_at: float | None
    extra: Mapping[str, Any]

    @guarded
    def __init__(
        self,
        refresh_token: str,
        *,
        scope: str | None = None,
        issued_at: float | None = None,
        expires_at: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        wrong = ""
        if not (isinstance(refresh_token, str) and refresh_token):
            wrong = f"refresh_token must be a non-empty string, not {type(refresh_token).__name__}"
        elif not (scope is None or isinstance(scope, str)):
            wrong = f"scope must be a string or None, not {type(scope).__name__}"
        for name, instant in (("issued_at", issued_at), ("expires_at", expires_at)):
            if not wrong and instant is not None and not is_finite(instant):
                wrong = f"{name} must be a finite number of epoch seconds or None, not {type(instant).__name__}"
        if wrong:
            # A traceback shows the locals of its frames, so the secrets are deleted first.
            del self, refresh_token, extra
            raise ValueError(wrong)
        put = object.__setattr__
        put(self, "refresh_token", refresh_token)
        put(self, "scope", scope)
        put(self, "issued_at", None if issued_at is None else float(issued_at))
        put(self, "expires_at", None if expires_at is None else float(expires_at))
        put(self, "extra", MappingProxyType(dict(extra)) if extra else _NOTHING)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = "Grant is immutable"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        msg = "Grant is immutable"
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grant):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    def __hash__(self) -> int:
        return hash((self.refresh_token, self.issued_at, self.expires_at))

    def __repr__(self) -> str:
        more = "".join(
            f", {name}={getattr(self, name)!r}"
            for name in ("scope", "issued_at", "expires_at")
            if getattr(self, name) is not None
        )
        return f"Grant(<{fingerprint_of(self.refresh_token)}>{more})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        msg = "a Grant carries a refresh token and cannot be pickled"
        raise TypeError(msg)


@final
@frozen()
class ImportResult(Frozen):
    """
    The result of an import of grants.

    Args:
        imported: How many grants were written.

        kept: How many grants were not written, because their key already has a record.

        failed: The key of each other grant, and the reason, without secrets.
    """

    imported: int
    kept: int
    failed: tuple[tuple[Hashable, str], ...] = ()


def token_of(given: Token | Grant, now: float, /) -> Token:
    """
    Return *given* as the token that memory and stores keep. A `Grant` becomes a token without an access token.

    Raises:
        TypeError: *given* is neither a `Token` nor a `Grant`.
    """
    if isinstance(given, Token):
        return given
    if not isinstance(given, Grant):
        msg = f"a Token or a Grant is needed, not {type(given).__name__}"
        # It may be the bare secret, and a traceback shows the locals of its frames.
        del given
        raise TypeError(msg)
    issued_at = now if given.issued_at is None else given.issued_at
    dies = {} if given.expires_at is None else {GRANT_EXPIRES_AT: given.expires_at, GRANT_ISSUED_AT: issued_at}
    return Token(
        "",
        issued_at=issued_at,
        expires_at=issued_at,
        refresh_token=given.refresh_token,
        scope=given.scope,
        extra={**given.extra, **dies},
    )

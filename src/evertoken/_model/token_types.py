"""Token types (RFC 6749 section 7.1): the types that the library can present, and the authentication scheme of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evertoken._model.token import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["scheme_of"]

# How servers write Bearer: Apigee sends BearerToken, Slack sends the kind of user (bot, user), others name the format
# or the type of RFC 8693 section 3. In RFC 8693 section 2.2.1, N_A means that no type applies.
_BEARER: Final = frozenset({
    "bearer", "bearer token", "bearertoken", "bot", "jwt", "jwt-bearer", "n_a", "user",
    "urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:jwt",
})  # fmt: skip


def scheme_of(token_type: str, own: Mapping[str, str], /) -> str | None:
    """
    Return the scheme that presents a token of *token_type*, or None if the library does not know the type.

    Types are compared without case (RFC 6749 section 5.1). An answer without a type means Bearer.

    Args:
        token_type: The type in the answer.

        own: The types that the source knows of its server, each with its scheme.
    """
    if not token_type.strip():
        return "Bearer"
    spelled = " ".join(token_type.split()).lower()
    schemes = {name.lower(): scheme for name, scheme in own.items()}
    if spelled in schemes:
        return schemes[spelled]
    if spelled in _BEARER:
        return "Bearer"
    return next((known for known in ("DPoP", *KINDS) if known.lower() == spelled), None)

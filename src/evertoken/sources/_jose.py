"""
Signed JSON Web Tokens, by PyJWT: assertions of clients and of those they speak for.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from evertoken._clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ALGORITHMS", "SYMMETRIC", "check_algorithm", "signed", "timed"]

#: Algorithms by registered name (RFC 7518 section 3.1, RFC 8037), the symmetric ones first.
SYMMETRIC: Final = ("HS256", "HS384", "HS512")
ALGORITHMS: Final = (
    *SYMMETRIC, "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


def check_algorithm(algorithm: str, /, *, symmetric: bool | None = None) -> None:
    """
    Raise ValueError where *algorithm* is none that fits, and ImportError where the extra is missing.
    """
    known = ALGORITHMS if symmetric is None else SYMMETRIC if symmetric else ALGORITHMS[len(SYMMETRIC) :]
    if algorithm not in known:
        msg = f"algorithm must be one of {', '.join(known)}, not {algorithm!r}"
        raise ValueError(msg)
    _library()


def timed(claims: Mapping[str, Any], /, *, lifetime: float) -> dict[str, Any]:
    """
    Return *claims* with a fresh `jti`, and with `iat` and `exp` for now (RFC 7519 section 4.1), unless they say so.
    """
    now = int(SystemClock.time())
    return {"iat": now, "exp": now + int(lifetime), "jti": secrets.token_urlsafe(24), **claims}


async def signed(claims: Mapping[str, Any], key: str, algorithm: str, /, *, key_id: str | None = None) -> str:
    """
    Return the claims as a signed JWT. Signing happens in a thread, for RSA takes a millisecond.

    Raises:
        ValueError: The key does not fit the algorithm, or is none. The message does not show it.
    """
    headers = None if key_id is None else {"kid": key_id}

    def sign() -> str:
        text: str = _library().encode(dict(claims), key, algorithm=algorithm, headers=headers)
        return text

    try:
        return await anyio.to_thread.run_sync(sign)
    except Exception as error:  # noqa: BLE001 - what a library says of a key may hold the key
        failure = f"the key does not sign with {algorithm}: {type(error).__name__}"
    raise ValueError(failure)


def _library() -> Any:
    try:
        import jwt  # noqa: PLC0415 - needed for an assertion, not for the name
    except ImportError as error:
        msg = "signed assertions need PyJWT: pip install 'evertoken[jwt]'"
        raise ImportError(msg) from error
    return jwt

"""Signed JSON Web Tokens, by PyJWT: assertions of clients and of those they speak for."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, final

import anyio.to_thread

from evertoken._engine.clock import SystemClock
from evertoken._signing.secret import CarriesSecrets, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._signing.secret import Secret

__all__ = ["KeyPair", "Signer"]

#: Algorithms by registered name (RFC 7518 section 3.1, RFC 8037), the symmetric ones first.
SYMMETRIC: Final = ("HS256", "HS384", "HS512")
ALGORITHMS: Final = (
    *SYMMETRIC, "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


@final
class Signer(CarriesSecrets):
    """
    Signs claims anew for each request.

    Args:
        key: A private key in PEM, or a secret. It is read at each signature.

        algorithm: By its registered name.

        symmetric: Whether the algorithm is to be one of shared secrets, or of key pairs; None for either.

        key_id: The `kid` of the header.

        lifetime: Seconds between `iat` and `exp`.

        header: More members of the header.

    Raises:
        ValueError: The algorithm does not fit, or *lifetime* is below a second.
        ImportError: The extra is not installed.
    """

    def __init__(
        self,
        key: Secret,
        algorithm: str,
        *,
        symmetric: bool | None,
        key_id: str | None,
        lifetime: float,
        header: Mapping[str, str] | None = None,
    ) -> None:
        known = ALGORITHMS if symmetric is None else SYMMETRIC if symmetric else ALGORITHMS[len(SYMMETRIC) :]
        if algorithm not in known:
            msg = f"algorithm must be one of {', '.join(known)}, not {algorithm!r}"
            raise ValueError(msg)
        if not lifetime >= 1.0:
            msg = f"lifetime must be at least 1 second, not {lifetime!r}"
            raise ValueError(msg)
        _library()
        self._key = key
        self._algorithm = algorithm
        self._key_id = key_id
        self._header = {**({} if key_id is None else {"kid": key_id}), **(header or {})}
        self._lifetime = int(lifetime)

    async def sign(self, claims: Mapping[str, Any], /) -> tuple[str, tuple[str, ...]]:
        """
        Return *claims* as a signed JWT, and what must not be seen: it and the key.

        It has a fresh `jti`, `iat` and `exp` (RFC 7519 section 4.1), unless the claims say others. Signing happens in a
        thread, for RSA takes a millisecond.

        Raises:
            ValueError: The key does not fit the algorithm, or is none. The message does not show it.
        """
        key = await resolve(self._key, "key")
        now = int(SystemClock.time())
        whole = {"iat": now, "exp": now + self._lifetime, "jti": secrets.token_urlsafe(24), **claims}
        headers = self._header or None

        def sign() -> str:
            text: str = _library().encode(whole, key, algorithm=self._algorithm, headers=headers)
            return text

        try:
            text = await anyio.to_thread.run_sync(sign)
        except Exception as error:  # noqa: BLE001 - what a library says of a key may hold the key
            failure = f"the key does not sign with {self._algorithm}: {type(error).__name__}"
        else:
            return text, (text, key)
        raise ValueError(failure)

    def __repr__(self) -> str:
        return f"algorithm={self._algorithm!r}, key_id={self._key_id!r}"


@final
class KeyPair(CarriesSecrets):
    """
    A key pair that stays in this process, and says with each signature which it is (RFC 7515 section 4.1.3).

    Args:
        key: A private key in PEM, or None for a new one (NIST P-256).

        algorithm: "ES256" and its like.

    Raises:
        ValueError: The algorithm is none of key pairs, or the key does not fit it.
        ImportError: The extra is not installed.
    """

    def __init__(self, key: str | None, algorithm: str) -> None:
        if algorithm not in ALGORITHMS[len(SYMMETRIC) :]:
            msg = f"algorithm must be one of {', '.join(ALGORITHMS[len(SYMMETRIC) :])}, not {algorithm!r}"
            raise ValueError(msg)
        scheme = _library().get_algorithm_by_name(algorithm)
        try:
            self._key = _new_key() if key is None else scheme.prepare_key(key)
            public = scheme.to_jwk(self._key.public_key(), as_dict=True)
        except Exception as error:  # noqa: BLE001 - what a library says of a key may hold the key
            failure = f"the key does not sign with {algorithm}: {type(error).__name__}"
        else:
            self.algorithm = algorithm
            #: The public key as a JWK (RFC 7517), by the members that make its thumbprint (RFC 7638).
            self.jwk: dict[str, str] = {
                name: public[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in public
            }
            return
        raise ValueError(failure)

    def sign(self, claims: Mapping[str, Any], *, kind: str) -> str:
        """Return *claims* as a JWT of the type *kind*, with the public key in its header."""
        text: str = _library().encode(
            dict(claims), self._key, algorithm=self.algorithm, headers={"typ": kind, "jwk": self.jwk}
        )
        return text

    def __repr__(self) -> str:
        return f"KeyPair(algorithm={self.algorithm!r})"


def _new_key() -> Any:
    # PyJWT makes no keys; what it signs with does.
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - needed for a key, not for the name

    return ec.generate_private_key(ec.SECP256R1())


def _library() -> Any:
    try:
        import jwt  # noqa: PLC0415 - needed for an assertion, not for the name
    except ImportError as error:
        msg = "signed assertions need PyJWT: pip install 'evertoken[jwt]'"
        raise ImportError(msg) from error
    return jwt

"""Signed JSON Web Tokens, made with PyJWT: assertions about a client or about a user for whom it acts."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._signing.secret import CarriesSecrets, in_thread, resolve
from evertoken._signing.server_time import dated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._signing.secret import Secret

__all__ = ["BACK", "KeyPair", "Signer", "as_meant", "pair_in", "why_not"]

#: Seconds by which an assertion is back-dated. Servers may tolerate a clock difference (RFC 7519 section 4.1.6), but
#: some do not.
BACK: Final = 10.0

_ENCRYPTED: Final = "it is encrypted with a password; give it without one (openssl pkey -in FILE -out FILE)"

#: Algorithms by their registered names (RFC 7518 section 3.1, RFC 8037), the symmetric ones first.
SYMMETRIC: Final = ("HS256", "HS384", "HS512")
ALGORITHMS: Final = (
    *SYMMETRIC, "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


# Finds a private key between other PEM blocks.
_KEY_IN: Final = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----", re.DOTALL)


@final
class Signer(CarriesSecrets):
    """
    Signs claims for each request.

    Args:
        key: A private key in PEM, or a secret. It is read for each signature.

        algorithm: The registered name of the algorithm.

        symmetric: Whether the algorithm must use a shared secret or a key pair. With None both are allowed.

        key_id: The `kid` of the header.

        lifetime: Seconds between `iat` and `exp`.

        header: Further members of the header.

    Raises:
        ValueError: The algorithm does not fit, or *lifetime* is less than a second.
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
        header: Mapping[str, Any] | None = None,
    ) -> None:
        known = ALGORITHMS if symmetric is None else SYMMETRIC if symmetric else ALGORITHMS[len(SYMMETRIC) :]
        if algorithm not in known:
            msg = f"algorithm must be one of {', '.join(known)}, not {algorithm!r}"
            raise ValueError(msg)
        if not lifetime >= 1.0:
            msg = f"lifetime must be at least 1 second, not {lifetime!r}"
            raise ValueError(msg)
        _library()
        wrong = _wrong_with(key) if isinstance(key, str) and not symmetric else None
        if wrong is not None and "-----BEGIN" in str(key):
            msg = f"the key does not sign with {algorithm}: {wrong}"
            raise ValueError(msg)
        self._key = key
        self._algorithm = algorithm
        self._key_id = key_id
        self._header = {**({} if key_id is None else {"kid": key_id}), **(header or {})}
        self._lifetime = int(lifetime)

    async def sign(self, claims: Mapping[str, Any], /, *, server: str | None = None) -> tuple[str, tuple[str, ...]]:
        """
        Return *claims* as a signed JWT, and the texts that must stay secret: the JWT and the key.

        The JWT has a fresh `jti`, `iat` and `exp` (RFC 7519 section 4.1), unless *claims* contains them. `iat` is some
        seconds in the past, because servers refuse dates ahead of their clock. If the server's clock is known, it is
        used. Signing runs in a thread, because RSA takes a millisecond.

        Args:
            claims: The claims.

            server: The URL of the server that reads the JWT. The default is the `aud` claim.

        Raises:
            ValueError: The key does not fit the algorithm, or cannot be read. The message does not show it.
        """
        key = as_meant(await resolve(self._key, "key"))
        reader = claims.get("aud") if server is None else server
        known = isinstance(reader, str) and reader.lower().startswith(("https://", "http://"))
        # The JWT is back-dated by ten seconds, or by less if its life is short.
        now = int((dated(str(reader)) if known else SystemClock.time()) - min(BACK, self._lifetime / 4.0))
        whole = {"iat": now, "exp": now + self._lifetime, "jti": secrets.token_urlsafe(24), **claims}
        headers = self._header or None

        def sign() -> str:
            text: str = _library().encode(whole, key, algorithm=self._algorithm, headers=headers)
            return text

        try:
            text = await in_thread(sign)
        except Exception as error:  # noqa: BLE001 - the library's message may contain the key
            failure = f"the key does not sign with {self._algorithm}: {why_not(key, error)}"
        else:
            return text, (text, key)
        raise ValueError(failure)

    def __repr__(self) -> str:
        return f"algorithm={self._algorithm!r}, key_id={self._key_id!r}"


@final
class KeyPair(CarriesSecrets):
    """
    A key pair that stays in this process. Each signature names its public key (RFC 7515 section 4.1.3).

    Args:
        key: A private key in PEM, or None for a new one (NIST P-256).

        algorithm: The signature algorithm, such as "ES256".

    Raises:
        ValueError: The algorithm does not use key pairs, or the key does not fit it.
        ImportError: The extra is not installed.
    """

    def __init__(self, key: str | None, algorithm: str) -> None:
        if algorithm not in ALGORITHMS[len(SYMMETRIC) :]:
            msg = f"algorithm must be one of {', '.join(ALGORITHMS[len(SYMMETRIC) :])}, not {algorithm!r}"
            raise ValueError(msg)
        scheme = _library().get_algorithm_by_name(algorithm)
        try:
            self._key = _new_key() if key is None else scheme.prepare_key(as_meant(key))
            public = scheme.to_jwk(self._key.public_key(), as_dict=True)
        except Exception as error:  # noqa: BLE001 - the library's message may contain the key
            failure = f"the key does not sign with {algorithm}: {why_not(key or '', error)}"
        else:
            self.algorithm = algorithm
            #: The public key as a JWK (RFC 7517), with the members that form its thumbprint (RFC 7638).
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


def as_meant(key: str) -> str:
    """Return *key* with real line ends, if it is a PEM whose line ends are written as a backslash and a letter."""
    # Variables of CI systems hold a backslash and a letter for each line end.
    return key.replace("\\r", "").replace("\\n", "\n") if "-----BEGIN" in key and "\\n" in key else key


def why_not(key: str, error: Exception) -> str:
    """Return the reason why *key* was not accepted, in words that do not contain it."""
    if "password" in str(error).lower():
        return _ENCRYPTED
    return _wrong_with(key) or f"{type(error).__name__}; it is of another kind, or damaged"


def _wrong_with(key: str) -> str | None:
    # This returns the reason why it is not a private key in PEM that can sign, if that is visible.
    if "-----BEGIN" not in key:
        return "it is not PEM: it has no line -----BEGIN ... PRIVATE KEY-----"
    if "-----BEGIN ENCRYPTED" in key or "Proc-Type: 4,ENCRYPTED" in key:
        return _ENCRYPTED
    if "PRIVATE KEY-----" not in key:
        return "it is a public key or a certificate, but the private key is needed"
    return "its end is missing" if "-----END" not in key else None


def pair_in(data: bytes, password: str | None) -> tuple[str, list[bytes]]:
    """
    Return the private key in PEM, and the certificates in DER, the one of the key first.

    Args:
        data: The key and certificates in PEM, or in PKCS #12 (a PFX file).

        password: The password of the key, or of the file.

    Raises:
        ValueError: They cannot be read. The message says why, and contains no part of them.
        ImportError: The extra is not installed.
    """
    _library()
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only needed for a key

    try:
        key, chain = _pair(data, password)
        # The certificate of the key comes first. The order in the file does not matter.
        own = key.public_key()
        chain.sort(key=lambda one: one.public_key() != own)
        failure = "" if chain[0].public_key() == own else "certificate holds no certificate of its private key"
        plain = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    except _MissingError as error:
        failure = f"certificate holds no {error}"
    except Exception as error:  # noqa: BLE001 - the library's message may contain the key
        failure = _why_no_pair(error, pem=b"-----BEGIN" in data, password=password is not None)
    else:
        if not failure:
            return plain.decode(), [one.public_bytes(serialization.Encoding.DER) for one in chain]
    data, password, plain, key = b"", None, b"", None
    raise ValueError(failure)


class _MissingError(Exception):
    """An expected part of the data is missing."""


def _pair(data: bytes, password: str | None) -> tuple[Any, list[Any]]:
    from cryptography import x509  # noqa: PLC0415 - only needed for a certificate
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12  # noqa: PLC0415

    secret = None if password is None else password.encode()
    if b"-----BEGIN" not in data:
        key, first, more = pkcs12.load_key_and_certificates(data, secret)
        if key is None or (first is None and not more):
            raise _MissingError("PRIVATE KEY" if key is None else "CERTIFICATE")
        return key, [*([] if first is None else [first]), *more]
    missing = [kind for kind in ("CERTIFICATE", "PRIVATE KEY") if f"{kind}-----".encode() not in data]
    if missing:
        raise _MissingError(missing[0])
    whole = as_meant(data.decode("utf-8-sig")).encode()
    found = _KEY_IN.search(whole)
    return load_pem_private_key(whole if found is None else found[0], secret), x509.load_pem_x509_certificates(whole)


def _why_no_pair(error: Exception, *, pem: bool, password: bool) -> str:
    if pem and not password and isinstance(error, TypeError):
        return "the private key of certificate is encrypted: give password="
    if pem and password and isinstance(error, TypeError):
        return "the private key of certificate is not encrypted: leave password out"
    if password:
        return f"certificate cannot be read: the password is wrong, or it is {'damaged' if pem else 'no PFX file'}"
    return f"certificate is {'damaged' if pem else 'no PEM, and no PFX file that needs no password'}"


def _new_key() -> Any:
    # PyJWT cannot make keys, so its cryptography library is used.
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - only needed for a key

    return ec.generate_private_key(ec.SECP256R1())


def _library() -> Any:
    try:
        import jwt  # noqa: PLC0415 - only needed for an assertion
    except ImportError as error:
        msg = "signed assertions need PyJWT: pip install 'evertoken[jwt]'"
        raise ImportError(msg) from error
    return jwt

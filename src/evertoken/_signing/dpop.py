"""Proofs of possession (DPoP, RFC 9449)."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import urlsplit

from evertoken._model.parsing import http_date
from evertoken._signing.jose import KeyPair
from evertoken._signing.secret import CarriesSecrets
from evertoken._signing.secret_file import read_secret_file
from evertoken._signing.server_time import dated, learn

__all__ = ["DPoPKey"]

# A server may issue a nonce for each of its origins. Beyond this number, the oldest nonce is forgotten.
_NONCES: Final = 100

# Seconds by which a proof is back-dated. Some servers accept a proof for only a few seconds.
_BACK: Final = 5.0

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


@final
class DPoPKey(CarriesSecrets):
    """
    A key with which a client signs proofs, so that a stolen token is useless (RFC 9449). It needs the extra `jwt`.

    Give the same object to the source, which requests tokens bound to it, and to `DPoPAuth`, which sends a proof with
    each request. It remembers the nonces that servers ask for. Members of a fleet that share tokens also share the key.

    Args:
        key: A private key in PEM, or a `pathlib.Path` to it. By default a new key is made for this process.

        algorithm: The signature algorithm, such as "ES256", "EdDSA" or "PS256".

    Raises:
        ValueError: The key cannot be read, or does not fit the algorithm.
        OSError: The file cannot be read.
        ImportError: The extra is not installed.
    """

    def __init__(self, key: str | Path | None = None, algorithm: str = "ES256") -> None:
        if key is None and algorithm != "ES256":
            msg = f"a new key is one for ES256; give key= for {algorithm}"
            raise ValueError(msg)
        text = read_secret_file(key).decode("utf-8-sig") if isinstance(key, Path) else key
        self._pair = KeyPair(text, algorithm)
        self._nonces: dict[str, str] = {}

    @property
    def thumbprint(self) -> str:
        """The SHA-256 thumbprint of the public key (RFC 7638). Tokens are bound to it by `jkt`."""
        canonical = json.dumps(self._pair.jwk, sort_keys=True, separators=(",", ":"))
        return _base64url(hashlib.sha256(canonical.encode()).digest())

    def proof(self, method: str, url: str, *, access_token: str | None = None) -> str:
        """
        Return the value of the DPoP field for one request.

        Args:
            method: The method of the request.

            url: The URL of the request. Query, fragment and user information are left out (RFC 9449 section 4.2).

            access_token: The token that is sent with the request, if there is one.
        """
        claims: dict[str, Any] = {
            "jti": secrets.token_urlsafe(24),
            "htm": method,
            "htu": _origin(url) + (urlsplit(url).path or "/"),
            "iat": int(dated(url) - _BACK),
        }
        if access_token is not None:
            claims["ath"] = _base64url(hashlib.sha256(access_token.encode()).digest())
        nonce = self._nonces.get(_origin(url))
        if nonce is not None:
            claims["nonce"] = nonce
        return self._pair.sign(claims, kind="dpop+jwt")

    def learn(self, url: str, nonce: str | None, proof: str) -> bool:
        """
        Keep the nonce that came with an answer from *url* (RFC 9449 section 8). Return whether *proof* had another one.

        Another request may have learnt the same nonce already. The request must still be sent again.
        """
        if not nonce:
            return False
        origin = _origin(url)
        self._nonces.pop(origin, None)
        self._nonces[origin] = nonce
        while len(self._nonces) > _NONCES:
            del self._nonces[next(iter(self._nonces))]
        return nonce != _nonce_in(proof)

    def learn_time(self, url: str, date: str | None) -> bool:
        """
        Learn the time of the server of *url* from the Date of its refusal. Return whether to sign again.

        A server refuses a proof if its `iat` differs too much from the server's time (RFC 9449 section 11.1).
        """
        return learn(url, None if date is None else http_date(date))

    def __repr__(self) -> str:
        return f"DPoPKey(thumbprint={self.thumbprint!r})"


def _origin(url: str) -> str:
    # The normal form is used (RFC 3986 section 6.2), because a server may compare it letter by letter.
    parts = urlsplit(url.lower())
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host.removesuffix(_DEFAULT_PORTS.get(parts.scheme, ''))}"


def _nonce_in(proof: str) -> object:
    claims = proof.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))).get("nonce")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

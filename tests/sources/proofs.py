"""A server that takes no token without its proof (DPoP, RFC 9449), and is as strict as the standard lets it be."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import time
from typing import Any

import jwt
from tests.sources.wire import Asked, http


class Guarded:
    """A token endpoint at /token, and a resource everywhere else."""

    def __init__(self, *, nonces: bool = False, binds: bool = True) -> None:
        self.nonce = "nonce-0" if nonces else None
        self.binds = binds
        self.bound: dict[str, str] = {}
        self.revoked: set[str] = set()
        self.seen: set[str] = set()
        self.wrong: list[str] = []
        self.url = ""
        self._numbers = itertools.count(1)

    def new_nonce(self) -> None:
        self.nonce = f"nonce-{next(self._numbers)}"

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        headers = {} if self.nonce is None else {"DPoP-Nonce": self.nonce}
        if asked.target == "/token":
            key, problem = self._proven(asked, None)
            if problem == "nonce":
                return http(400, {"error": "use_dpop_nonce", "error_description": "with a nonce"}, headers)
            if problem:
                return http(400, {"error": "invalid_dpop_proof", "error_description": problem}, headers)
            token = f"at-{next(self._numbers)}"
            self.bound[token] = key
            kind = "DPoP" if self.binds else "Bearer"
            return http(200, {"access_token": token, "token_type": kind, "expires_in": 3600}, headers)
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if not self.binds:
            return http(200 if scheme == "Bearer" and "dpop" not in asked.headers else 401)
        key, problem = self._proven(asked, token)
        if problem == "nonce":
            return http(401, b"", {"WWW-Authenticate": 'DPoP error="use_dpop_nonce"', **headers})
        if problem or scheme != "DPoP" or self.bound.get(token) != key or token in self.revoked:
            self.wrong.append(problem or "token")
            return http(401, b"", {"WWW-Authenticate": 'DPoP error="invalid_token", algs="ES256"', **headers})
        return http(200, asked.body, headers)

    def _proven(self, asked: Asked, token: str | None) -> tuple[str, str]:
        """Return the key's thumbprint and the faults of its proof (RFC 9449 section 4.3)."""
        proof = asked.headers.get("dpop", "")
        try:
            header = jwt.get_unverified_header(proof)
            claims: dict[str, Any] = jwt.decode(
                proof, jwt.PyJWK(header["jwk"], header["alg"]).key, algorithms=[header["alg"]],
                options={"require": ["jti", "htm", "htu", "iat"]},
            )  # fmt: skip
        except (jwt.PyJWTError, KeyError) as error:
            return "", f"no proof: {type(error).__name__}"
        expected = {"htm": asked.method, "htu": self.url + asked.target.partition("?")[0]}
        if token is not None:
            expected["ath"] = _base64url(hashlib.sha256(token.encode()).digest())
        wrong = [name for name, value in expected.items() if claims.get(name) != value]
        wrong += ["typ"] if header.get("typ") != "dpop+jwt" else []
        wrong += ["jwk"] if "d" in header["jwk"] else []
        wrong += ["iat"] if abs(claims["iat"] - time.time()) > 60 else []
        wrong += ["jti"] if claims["jti"] in self.seen else []
        self.seen.add(claims["jti"])
        if not wrong and claims.get("nonce") != self.nonce:
            wrong = ["nonce"]
        canonical = json.dumps(header["jwk"], sort_keys=True, separators=(",", ":"))
        return _base64url(hashlib.sha256(canonical.encode()).digest()), " ".join(wrong)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

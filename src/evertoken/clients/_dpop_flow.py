"""
The flow of tokens that are bound to a key (DPoP, RFC 9449). It imports no HTTP library.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from evertoken._dpop import DPoPKey
from evertoken.clients._bearer import BearerFlow, origin_in, replayable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evertoken._contracts import TokenReader
    from evertoken._token import Token

__all__ = ["DPoPFlow"]

_UNAUTHORIZED: Final = 401
# RFC 9449 section 9: it is the nonce that is wrong, and not the token.
_WANTS_NONCE: Final = re.compile(r"""\berror\s*=\s*"?use_dpop_nonce\b""", re.IGNORECASE)


class DPoPFlow(BearerFlow):
    """
    Sends a token with a proof of possession, learns nonces, and heals a 401 once.

    Args:
        tokens: A handle of a manager whose source was given the same key.

        key: The key that its tokens are bound to.

        origins:
            The origins that may see the token, as in "https://api.example.com". Without any, the first one it is
            used with.

    Raises:
        ValueError: An origin is not written as one.
    """

    def __init__(self, tokens: TokenReader, key: DPoPKey, *, origins: Iterable[str] = ()) -> None:
        super().__init__(tokens, origins=origins)
        if not isinstance(key, DPoPKey):
            msg = f"key must be a DPoPKey, not {type(key).__name__}"
            raise TypeError(msg)
        self._key = key

    def _sign(self, request: Any, token: Token) -> None:
        # A server that binds no tokens answers "Bearer", and the proof is none of its business (section 5).
        if token.token_type.lower() == "dpop":
            request.headers["Authorization"] = f"DPoP {token.access_token}"
            self._prove(request, token.access_token)
        else:
            request.headers["Authorization"] = token.authorization

    def _seen(self, request: Any, response: Any) -> Any | None:
        if "dpop" not in request.headers or origin_in(response.request.url) not in self._origins:
            return None
        nonce = response.headers.get("dpop-nonce")
        fresh = self._key.learn(str(response.request.url), nonce, request.headers["dpop"])
        if not fresh or not self._wants_nonce(response) or not replayable(request):
            return None
        self._prove(request, request.headers["Authorization"].partition(" ")[2])
        return request

    def _blames_token(self, response: Any) -> bool:
        return super()._blames_token(response) and not self._wants_nonce(response)

    def _wants_nonce(self, response: Any) -> bool:
        said = response.headers.get("www-authenticate", "")
        return response.status_code == _UNAUTHORIZED and _WANTS_NONCE.search(said) is not None

    def _prove(self, request: Any, access_token: str) -> None:
        request.headers["DPoP"] = self._key.proof(request.method, str(request.url), access_token=access_token)

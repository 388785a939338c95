"""The flow of tokens that are bound to a key (DPoP, RFC 9449). It imports no HTTP library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from evertoken._signing.dpop import DPoPKey
from evertoken.clients._bearer import BearerFlow
from evertoken.clients._origin import origin_in
from evertoken.clients._replayable import replayable
from evertoken.clients._withheld import check_withholding, withholding

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["DPoPFlow"]

_UNAUTHORIZED: Final = 401
# RFC 9449 sections 7.1 and 9: it is the proof or its nonce that is wrong, and not the token.
_NOT_THE_TOKEN: Final = re.compile(r"""\berror\s*=\s*"?(?:use_dpop_nonce|invalid_dpop_proof)\b""", re.IGNORECASE)
_INVALID_PROOF: Final = re.compile(r"""\berror\s*=\s*"?invalid_dpop_proof\b""", re.IGNORECASE)
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

        allow_http: Send it over plain http, and not to loopback alone.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An origin is not written as one, or is http outside loopback.
        RuntimeError: This release of the HTTP library would carry the proof to other origins.
    """

    #: All of them: any answer may bring a nonce (RFC 9449 section 8.2).
    noted: ClassVar[Container[int]] = range(1000)
    #: The library's class of header fields.
    headers: ClassVar[Any]

    def __init__(
        self,
        tokens: TokenReader,
        key: DPoPKey,
        *,
        origins: Iterable[str] = (),
        allow_http: bool = False,
        min_ttl: float | None = None,
    ) -> None:
        super().__init__(tokens, origins=origins, allow_http=allow_http, min_ttl=min_ttl)
        if not isinstance(key, DPoPKey):
            msg = f"key must be a DPoPKey, not {type(key).__name__}"
            raise TypeError(msg)
        self._key = key
        check_withholding(self.headers, "DPoP")

    def _sign(self, request: Any, token: Token) -> None:
        # A server that binds no tokens answers "Bearer", and the proof is none of its business (section 5).
        if token.token_type.lower() == "dpop":
            proof = self._key.proof(request.method, str(request.url), access_token=token.access_token)
            # The proof is for this request alone: the next hop of a redirect gets one of its own, or none.
            fields = {"Authorization": f"DPoP {token.access_token}", "DPoP": proof}
            request.headers = withholding(request.headers, fields)
        else:
            request.headers.pop("DPoP", None)
            super()._sign(request, token)

    def _seen(self, request: Any, response: Any, token: Token) -> Any | None:
        last = response.request
        if "dpop" not in request.headers:
            return super()._seen(request, response, token)
        if origin_in(last.url) not in self._origins:
            return None
        nonce = response.headers.get("dpop-nonce")
        fresh = self._key.learn(str(last.url), nonce, request.headers["dpop"])
        if response.status_code != _UNAUTHORIZED:
            return None
        if last is request:
            again = request if self._refused_proof(response, fresh=fresh) and replayable(request) else None
        else:
            # It was sent on with the proof for where it came from.
            again = self._sent_on(request, response)
        if again is not None:
            self._sign(again, token)
        return again

    def _refused_proof(self, response: Any, *, fresh: bool) -> bool:
        """Tell whether the proof was refused, and another one would have what was wrong with it: nonce or date."""
        if fresh and _says(response, _WANTS_NONCE):
            return True
        date = response.headers.get("date")
        return _says(response, _INVALID_PROOF) and self._key.learn_time(str(response.request.url), date)

    def _blames_token(self, response: Any) -> bool:
        return super()._blames_token(response) and not _says(response, _NOT_THE_TOKEN)


def _says(response: Any, what: re.Pattern[str]) -> bool:
    return what.search(response.headers.get("www-authenticate", "")) is not None

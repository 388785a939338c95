"""A manager as the callback of MONGODB-OIDC, by which PyMongo logs in at MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

try:
    from pymongo.auth_oidc import OIDCCallback, OIDCCallbackResult
except ImportError as _error:
    msg = "evertoken.clients.pymongo needs PyMongo: pip install 'evertoken[pymongo]'"
    raise ImportError(msg) from _error

from evertoken._model.guarded import Guarded

if TYPE_CHECKING:
    from pymongo.auth_oidc import OIDCCallbackContext

    from evertoken._model.protocols import TokenReader

__all__ = ["Callback"]


@final
class Callback(Guarded, OIDCCallback):
    """
    A callback of PyMongo's `MongoClient` and `AsyncMongoClient` that gives them the token of a `TokenManager`.

    Made from a handle, as in
    `MongoClient(url, authMechanism="MONGODB-OIDC", authMechanismProperties={"OIDC_CALLBACK": Callback(handle)})`. A
    client keeps a token until the server refuses it, or asks for another one because it has expired. It then asks this
    callback again: if the token that the client had is still the manager's, that is reported as a refusal, and the
    client gets another one. Only the first login of a client is not tried again by PyMongo: if it is refused, that
    operation fails, and the next one has another token. A synchronous client is used in other threads than the
    manager's. The interface is described in "Authentication mechanisms" of PyMongo, under
    MONGODB-OIDC.

    Args:
        tokens: A handle of a manager.
    """

    def __init__(self, tokens: TokenReader) -> None:
        self._tokens = tokens

    def __repr__(self) -> str:
        return "Callback()"

    def fetch(self, context: OIDCCallbackContext) -> OIDCCallbackResult:
        """
        Return a valid token, another one than the client had before.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
            RuntimeError: There is no valid token, and this is the manager's own loop, which it would block.
        """
        token = self._tokens.get_sync()
        if context.refresh_token == token.fingerprint:
            # While refusals in a row cool down there is no other, and the client is told by the server.
            token = self._tokens.refused_sync(token) or token
        # PyMongo hands the refresh token back as it asks again, and does nothing else with it. So it says which token
        # this client had, where several clients share the callback.
        return OIDCCallbackResult(access_token=token.access_token, refresh_token=token.fingerprint)

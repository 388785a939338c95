"""A manager as the credential provider of obstore's stores."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final, cast, final

try:
    from obstore.exceptions import BaseError, UnauthenticatedError
except ImportError as _error:
    msg = "evertoken.clients.obstore needs obstore: pip install 'evertoken[obstore]'"
    raise ImportError(msg) from _error

from evertoken.clients._uncopied import Uncopied

if TYPE_CHECKING:
    from evertoken._model.protocols import TokenReader
    from evertoken._signing.sigv4 import KeyPair

__all__ = ["BearerProvider", "S3Provider", "is_refusal"]

# Long past, so that obstore asks before each request and keeps no token of its own.
_ALWAYS: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

# The code that S3 gives to expired credentials, with 400 or 403.
_ENDED: Final = re.compile(r"<Code>(?:ExpiredToken|InvalidToken|InvalidAccessKeyId|TokenRefreshRequired)</Code>")


class _Provider(Uncopied):
    def __init__(self, tokens: TokenReader) -> None:
        self._tokens = tokens

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@final
class BearerProvider(_Provider):
    """
    The credential provider of an `AzureStore` or a `GCSStore`.

    `AzureStore(..., credential_provider=BearerProvider(tokens.handle()))`. obstore asks it before each request, so a
    new token is sent with the next one. It serves the synchronous and the asynchronous functions of obstore. obstore
    tells it nothing of a refused token: wrap the call in `TokenHandle.attempt`, with `refused=is_refusal`.

    Args:
        tokens: A handle of a manager.
    """

    def __call__(self) -> dict[str, Any]:
        """
        Return the token as obstore takes it.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
            RuntimeError: There is no valid token, and this is the manager's own loop, which it would block.
        """
        return {"token": self._tokens.get_sync().access_token, "expires_at": _ALWAYS}


@final
class S3Provider(_Provider):
    """
    The credential provider of an `S3Store`. It needs a manager of AWS credentials, and works like `BearerProvider`.

    Args:
        tokens: A handle of a manager with a source of `evertoken.sources.aws`.
    """

    def __call__(self) -> dict[str, Any]:
        """Return the credentials as obstore takes them. It raises what `BearerProvider` raises."""
        pair = cast("KeyPair", self._tokens.get_sync())
        return {
            "access_key_id": pair.access_key_id,
            "secret_access_key": pair.secret_access_key,
            "token": pair.session_token,
            "expires_at": _ALWAYS,
        }


def is_refusal(error: Exception, /) -> bool:
    """Tell whether *error* of obstore says that the server refused the token, or that the key of S3 has ended."""
    return isinstance(error, UnauthenticatedError) or (
        isinstance(error, BaseError) and _ENDED.search(str(error)) is not None
    )

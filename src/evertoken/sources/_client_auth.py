"""
How a client shows who it is (RFC 6749 section 2.3.1).
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import quote_plus

__all__ = ["ClientAuthMethod", "Secret", "check_method", "credentials", "resolve"]

#: Names as registered for `token_endpoint_auth_method` (RFC 7591 section 2).
ClientAuthMethod: TypeAlias = Literal["client_secret_basic", "client_secret_post", "none"]

#: A secret, or a plain or async function that is asked for it at each fetch, so that it may be rotated without restart.
Secret: TypeAlias = str | Callable[[], str | Awaitable[str]]

_METHODS: Final = get_args(ClientAuthMethod)


def check_method(method: str, secret: Secret | None) -> None:
    """
    Raise ValueError where *method* is unknown, or does not go with *secret*.
    """
    if method not in _METHODS:
        msg = f"client_auth must be one of {', '.join(map(repr, _METHODS))}, not {method!r}"
        raise ValueError(msg)
    if (method == "none") != (secret is None):
        need = "takes no client_secret" if method == "none" else "needs a client_secret"
        msg = f"client_auth={method!r} {need}"
        raise ValueError(msg)
    if secret is not None and not callable(secret) and (not isinstance(secret, str) or not secret):
        msg = "client_secret must be a non-empty string, or a function that returns one"
        raise ValueError(msg)


async def resolve(secret: Secret, parameter: str) -> str:
    """
    Return the secret itself; a function is asked for it.
    """
    value = secret() if callable(secret) else secret
    if inspect.isawaitable(value):
        value = await value
    if not isinstance(value, str) or not value:
        msg = f"{parameter} must return a non-empty string, and returned {type(value).__name__}"
        raise TypeError(msg)
    return value


def credentials(
    method: ClientAuthMethod, client_id: str, secret: str | None, *, form_encoded: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """
    Return the header fields and the form fields that authenticate the client.

    Args:
        method: How.

        client_id: The client's identifier.

        secret: Its secret, if the method has one.

        form_encoded:
            Whether id and secret are form-encoded before they are put together for Basic, as RFC 6749 section 2.3.1
            says and some servers do not expect.
    """
    if method == "client_secret_basic" and secret is not None:
        user, password = (quote_plus(client_id), quote_plus(secret)) if form_encoded else (client_id, secret)
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}, {}
    if secret is not None:
        return {}, {"client_id": client_id, "client_secret": secret}
    return {}, {"client_id": client_id}

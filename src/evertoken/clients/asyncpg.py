"""A manager as the password of asyncpg's connections, with or without a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import asyncpg
except ImportError as _error:
    msg = "evertoken.clients.asyncpg needs asyncpg: pip install 'evertoken[asyncpg]'"
    raise ImportError(msg) from _error

from evertoken._engine.attempts import attempt_with, refusal_test
from evertoken._model.guarded import guarded
from evertoken.clients._login_refusal import is_refused_login

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from evertoken._engine.attempts import Refused
    from evertoken._model.protocols import TokenReader

__all__ = ["connector"]


def connector(tokens: TokenReader, *, refused: Refused = is_refused_login) -> Callable[..., Awaitable[Any]]:
    """
    Return a function like `asyncpg.connect` that logs in with the token of a `TokenManager` as the password.

    It is for pools, as in `asyncpg.create_pool(dsn, connect=connector(tokens.handle()))`, and works alone as well. If
    the server refuses the login, the token is reported and the connection is made once more with another token.
    Connections that are open already stay as they are, because PostgreSQL checks a password once. See "Connection
    Pools" in the documentation of asyncpg.

    Args:
        tokens: A handle of a manager.

        refused:
            The exceptions by which the server refuses the login: a type, a tuple of types, or a function that is
            given the exception. The default knows the codes 28P01 and 28000.

    The function raises what asyncpg raises; TokenUnavailable or GrantRejected where there is no valid token and none
    can be fetched now.

    Raises:
        TypeError: *refused* has another type.
    """
    is_refusal = refusal_test(refused)

    # The frames of asyncpg hold the password.
    @guarded
    async def connect(*arguments: Any, **options: Any) -> Any:
        async def log_in(password: str) -> Any:
            return await asyncpg.connect(*arguments, **{**options, "password": password})

        return await attempt_with(tokens, log_in, is_refusal)

    return connect

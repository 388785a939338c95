"""A manager as the password of psycopg's connections, with or without a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

try:
    import psycopg
except ImportError as _error:
    msg = "evertoken.clients.psycopg needs psycopg: pip install 'evertoken[postgres]'"
    raise ImportError(msg) from _error

from evertoken._engine.attempts import attempt_with, attempt_with_sync, refusal_test
from evertoken._model.guarded import guarded
from evertoken.clients._login_refusal import is_refused_login

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from evertoken._engine.attempts import Refused
    from evertoken._model.protocols import TokenReader

    ConnectionT = TypeVar("ConnectionT", bound="psycopg.AsyncConnection[Any] | psycopg.Connection[Any]")

__all__ = ["connection_class"]


@overload
def connection_class(tokens: TokenReader, *, refused: Refused = ...) -> type[psycopg.AsyncConnection[Any]]: ...


@overload
def connection_class(tokens: TokenReader, base: type[ConnectionT], *, refused: Refused = ...) -> type[ConnectionT]: ...


def connection_class(
    tokens: TokenReader, base: type[Any] = psycopg.AsyncConnection, *, refused: Refused = is_refused_login
) -> type[Any]:
    """
    Return a class of connections that log in with the token of a `TokenManager` as their password.

    It is for pools, as in `AsyncConnectionPool(conninfo, connection_class=connection_class(tokens.handle()))`, and its
    `connect` works without a pool as well. If the server refuses the login, the token is reported and the connection is
    made once more with another token. Connections that are open already stay as they are, because PostgreSQL checks a
    password once. See "Connection life cycle" in the documentation of psycopg_pool.

    Args:
        tokens: A handle of a manager.

        base:
            The class to start from: `psycopg.Connection` for a `ConnectionPool`, whose threads are others than the
            manager's, or a class of your own.

        refused:
            The exceptions by which the server refuses the login: a type, a tuple of types, or a function that is
            given the exception. The default looks for the English words "authentication failed", because libpq passes
            on words alone: if your server has another language (`lc_messages`), give a function.

    `connect` raises what psycopg raises; TokenUnavailable or GrantRejected where there is no valid token and none can
    be fetched now; and RuntimeError where a synchronous connection would block the manager's own loop for a token.

    Raises:
        TypeError: *refused* has another type.
    """
    made = _asynchronous if issubclass(base, psycopg.AsyncConnection) else _synchronous
    return made(tokens, base, refusal_test(refused))


def _asynchronous(tokens: TokenReader, base: Any, is_refusal: Callable[[Exception], bool]) -> type[Any]:
    class AsyncConnection(base):  # type: ignore[misc]
        @classmethod
        # The frames of psycopg hold the password.
        @guarded
        async def connect(cls, conninfo: str = "", **options: Any) -> Any:
            async def log_in(password: str) -> Any:
                return await super(AsyncConnection, cls).connect(conninfo, **{**options, "password": password})

            return await attempt_with(tokens, log_in, is_refusal)

    return AsyncConnection


def _synchronous(tokens: TokenReader, base: Any, is_refusal: Callable[[Exception], bool]) -> type[Any]:
    class Connection(base):  # type: ignore[misc]
        @classmethod
        @guarded
        def connect(cls, conninfo: str = "", **options: Any) -> Any:
            def log_in(password: str) -> Any:
                return super(Connection, cls).connect(conninfo, **{**options, "password": password})

            return attempt_with_sync(tokens, log_in, is_refusal)

    return Connection

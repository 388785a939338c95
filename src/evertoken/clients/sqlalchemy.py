"""A manager as the password of the connections of an SQLAlchemy engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from sqlalchemy import event
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.util import await_only
except ImportError as _error:
    msg = "evertoken.clients.sqlalchemy needs SQLAlchemy: pip install 'evertoken[sqlalchemy]'"
    raise ImportError(msg) from _error

from evertoken._engine.attempts import refusal_test
from evertoken._model.guarded import guarded
from evertoken.clients._login_refusal import is_refused_login

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from evertoken._engine.attempts import Refused
    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["authenticate"]


def authenticate(engine: Engine | AsyncEngine, tokens: TokenReader, *, refused: Refused = is_refused_login) -> None:
    """
    Have *engine* open each connection with the token of a `TokenManager` as its password.

    If the server refuses the login, the token is reported and the connection is made once more with another token.
    Connections that are open already stay as they are: databases check a password once. A synchronous engine is used in
    other threads than the manager's; see `run_in_background`. Call this after you have set other listeners of
    "do_connect": those set later are not called. The hook is described in SQLAlchemy's "Engine Configuration", under
    "Generating dynamic authentication tokens".

    Args:
        engine: The engine. A password in its URL is not used.

        tokens: A handle of a manager.

        refused:
            The exceptions by which the driver reports a refused login: a type, a tuple of types, or a
            function that is given the exception. The default knows the codes of PostgreSQL (28P01, 28000), MySQL and
            MariaDB (1045), and the English words "authentication failed". libpq passes on words alone: if your
            PostgreSQL server has another language (`lc_messages`), give a function.

    Raises:
        TypeError: *refused* has another type.
    """
    is_refusal = refusal_test(refused)

    def ask_first(dialect: Any) -> Token:
        return await_only(tokens.get()) if dialect.is_async else tokens.get_sync()

    def ask_again(dialect: Any, token: Token) -> Token | None:
        return await_only(tokens.refused(token)) if dialect.is_async else tokens.refused_sync(token)

    # The frames of drivers hold the password.
    @guarded
    def connect(dialect: Any, _record: object, arguments: list[Any], options: dict[str, Any]) -> Any:
        token = ask_first(dialect)
        try:
            return _connected(dialect, arguments, options, token)
        except Exception as error:
            if not is_refusal(error):
                raise
            failure = error
        other = ask_again(dialect, token)
        if other is None:
            raise failure
        return _connected(dialect, arguments, options, other)

    event.listen(engine.sync_engine if isinstance(engine, AsyncEngine) else engine, "do_connect", connect)


def _connected(dialect: Any, arguments: list[Any], options: dict[str, Any], token: Token) -> Any:
    # A copy, because the frames of SQLAlchemy that raise hold *options*.
    return dialect.connect(*arguments, **{**options, "password": token.access_token})

"""A manager that keeps a connection of aio-pika authenticated."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

try:
    from aio_pika.exceptions import ProbableAuthenticationError
    from aiormq.exceptions import ConnectionNotAllowed
except ImportError as _error:
    msg = "evertoken.clients.aio_pika needs aio-pika: pip install 'evertoken[aio-pika]'"
    raise ImportError(msg) from _error

from evertoken._engine.observers import say
from evertoken.clients._hidden_field import HiddenField

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika import Connection

    from evertoken._model.token import Token

__all__ = ["keep_authenticated"]

# Seconds for the broker's answer to a new secret. On a connection that is lost then, aio-pika would wait for ever.
_PATIENCE: Final = 10.0


class Keeper(Protocol):
    """All that is needed of a handle."""

    async def keep(self, push: Callable[[Any], Awaitable[object]], *, known: str | None, refused: Any) -> None:
        """Push each new token."""

    async def refused(self, token: str, /, *, wait: bool) -> object:
        """Report that the broker refused *token*."""


async def keep_authenticated(connection: Connection, tokens: Keeper, *, timeout: float = _PATIENCE) -> None:
    """
    Give *connection* each new token, as its password, until it or the manager is closed. Run it in a task.

    It sends `connection.update_secret` (RabbitMQ, "OAuth 2 guide", section "Token Expiration and Refresh"). A robust
    connection takes the new password for its reconnects; a token that comes during one is pushed once the connection is
    back. If the broker refuses a new secret or the password of a reconnect, the token is reported, and the connection
    is given another one.

    Args:
        connection: The connection that `aio_pika.connect_robust` or `aio_pika.connect` opened with a token.

        tokens: A handle of a manager.

        timeout: Seconds that the broker may take to accept a token, before it is sent again.

    Raises:
        RuntimeError: The manager is not started.
    """
    tried = _password(connection)

    async def push(token: Token) -> None:
        # This comes first, because a reconnect reads the password there.
        connection.url = connection.url.with_password(token.access_token)
        if not connection.connected.is_set():
            msg = "the connection is not open: the token is pushed again once it is"
            raise ConnectionError(msg)
        await connection.update_secret(token.access_token, reason="a new token", timeout=timeout)

    async def lost(_: object, error: BaseException | None) -> None:
        nonlocal tried
        used, tried = tried, _password(connection)
        # If another one came under way, nobody knows which of them was refused. The next reconnect tells.
        if isinstance(error, ProbableAuthenticationError) and used == tried:
            await _report(tokens, tried)

    connection.close_callbacks.add(lost)
    keeping = asyncio.create_task(tokens.keep(push, known=tried, refused=ConnectionNotAllowed), name="evertoken:keep")
    closed = asyncio.create_task(_closed(connection), name="evertoken:keep-closed")
    try:
        await asyncio.wait((keeping, closed), return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            await keeping
    finally:
        connection.close_callbacks.discard(lost)
        keeping.cancel()
        closed.cancel()
        await asyncio.gather(keeping, closed, return_exceptions=True)


def _password(connection: Connection) -> HiddenField:
    return HiddenField(connection.url.password or "")


async def _report(tokens: Keeper, password: str) -> None:
    try:
        await tokens.refused(password, wait=False)
    except Exception as error:  # noqa: BLE001 - the next token is pushed when there is one
        say(logging.DEBUG, "reporting a refused token raised %s", type(error).__qualname__)


async def _closed(connection: Connection) -> None:
    await connection.closed()

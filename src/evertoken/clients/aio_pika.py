"""A manager that keeps a connection of aio-pika authenticated."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

try:
    import aio_pika  # noqa: F401 - it tells which extra is missing
    from aiormq.exceptions import ConnectionNotAllowed
except ImportError as _error:
    msg = "evertoken.clients.aio_pika needs aio-pika: pip install 'evertoken[aio-pika]'"
    raise ImportError(msg) from _error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from evertoken._model.token import Token

__all__ = ["keep_authenticated"]

# Seconds for the broker's answer to a new secret. aio-pika waits for ever on a connection that was lost meanwhile.
_PATIENCE: Final = 10.0


class Keeper(Protocol):
    """All that is needed of a handle."""

    async def keep(self, push: Callable[[Any], Awaitable[object]], *, known: str | None, refused: Any) -> None:
        """Push each new token."""


async def keep_authenticated(connection: AbstractConnection, tokens: Keeper, *, timeout: float = _PATIENCE) -> None:
    """
    Give *connection* each new token, as its password, until it or the manager is closed. Run it in a task.

    It sends `connection.update_secret` (RabbitMQ, "OAuth 2 guide: Token Refresh"). A robust connection that reconnects
    takes the new password. A token that comes while it does so is pushed again once it is back. If the broker refuses a
    new secret, the token is reported, and another one is pushed.

    A broker that refuses the password of a reconnect is not heard: aio-pika tries again, with the token that is in
    service by then. Report such a token with `handle.refused`.

    Args:
        connection: What `aio_pika.connect_robust` or `aio_pika.connect` has returned, opened with a token.

        tokens: A handle of a manager.

        timeout: Seconds that the broker may take for one token, before it is pushed again.

    Raises:
        RuntimeError: The manager is not started.
    """

    async def push(token: Token) -> None:
        # Before all else: a reconnect takes what stands there.
        connection.url = connection.url.with_password(token.access_token)
        if not connection.connected.is_set():
            msg = "the connection is not open: the token is pushed again once it is"
            raise ConnectionError(msg)
        await connection.update_secret(token.access_token, reason="a new token", timeout=timeout)

    keeping = asyncio.create_task(
        tokens.keep(push, known=connection.url.password, refused=ConnectionNotAllowed), name="evertoken:aio-pika"
    )
    closed = asyncio.create_task(_closed(connection), name="evertoken:aio-pika-closed")
    try:
        await asyncio.wait((keeping, closed), return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            await keeping
    finally:
        keeping.cancel()
        closed.cancel()
        await asyncio.gather(keeping, closed, return_exceptions=True)


async def _closed(connection: AbstractConnection) -> None:
    await connection.closed()

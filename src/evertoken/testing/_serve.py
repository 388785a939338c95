"""Serves an ASGI application from a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.tasks import next_turn

if TYPE_CHECKING:
    import socket

__all__ = ["Serving", "require_uvicorn"]

_LAST_TURNS: Final = 3


def require_uvicorn() -> Any:
    """
    Return the server library.

    Raises:
        ImportError: The library is missing. The message names the extra.
    """
    try:
        import uvicorn  # noqa: PLC0415 - needed only once a server is started
    except ImportError as error:
        msg = "a TokenServer on a socket needs uvicorn: pip install 'evertoken[testing]'"
        raise ImportError(msg) from error
    return uvicorn


@final
class Serving:
    """An ASGI application that a thread serves on a socket, until it is stopped."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        uvicorn = require_uvicorn()
        config = uvicorn.Config(
            app,
            access_log=False,
            date_header=False,
            http="h11",
            lifespan="off",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=0,
            ws="none",
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="evertoken:token-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the end of the thread."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        await self._server.serve(sockets=[self._listener])
        for _ in range(_LAST_TURNS):
            # Connections that were still open are closed in the next turns of the loop.
            await next_turn()

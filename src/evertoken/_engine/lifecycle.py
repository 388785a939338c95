"""
The life of a manager: entered, started, closed, entered again; and how it fares.
"""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, NoReturn, Self

import anyio

from evertoken._engine.inspection import health_of, snapshot_of
from evertoken._engine.loops import Home

if TYPE_CHECKING:
    from evertoken._engine.session import Engine
    from evertoken._model.snapshot import Health, Snapshot

__all__ = ["Life"]


class Life:
    """
    An async context manager around an engine, on one loop at a time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._home = Home(self._forked)
        self._closing: asyncio.Task[None] | None = None

    async def start(self) -> Self:
        """
        Start the supervisor on the running loop.

        Raises:
            RuntimeError: The manager is started already.
            TokenUnavailable: With start="require", a first token could not be fetched in time.
            GrantRejected: With start="require", a grant is rejected.
        """
        if self._home.lost:
            self._engine.abandon()
            self._home.leave()
        if self._home.loop is not None:
            msg = f"the manager is {self._engine.state} already: it runs on one loop at a time, and once"
            raise RuntimeError(msg)
        self._home.settle()
        try:
            await self._engine.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """
        Take no more callers, let fetches under way land, and stop. Does nothing if it does not run.

        Waiters get `ManagerClosed`. A cancellation does not cut this short, but is raised at its end: a refresh
        token that is being rotated must not be lost.
        """
        if self._home.loop is None:
            return
        if self._home.lost:
            self._engine.abandon()
            self._home.leave()
            return
        if asyncio.get_running_loop() is not self._home.loop:
            await self._home.call(self.aclose)
            return
        self._engine.refuse()
        if self._closing is None:
            self._closing = asyncio.create_task(self._engine.close(), name="evertoken:close")
            self._closing.add_done_callback(self._closed)
        closing = self._closing
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not closing.done():
                try:
                    await asyncio.wait({closing})
                except asyncio.CancelledError as error:
                    cancelled = error
        self._closed(closing)
        closing.result()
        if cancelled is not None:
            raise cancelled

    def snapshot(self) -> Snapshot:
        """
        Return what is, key by key, without secrets.
        """
        return snapshot_of(self._engine)

    def health(self) -> Health:
        """
        Return whether the supervisor lives and every key has a valid token, for probes.
        """
        return health_of(self._engine)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        home = getattr(self, "_home", None)
        if home is not None and home.loop is not None and not home.forked_away:
            warnings.warn("a TokenManager was not closed", ResourceWarning, source=self, stacklevel=1)

    def __reduce__(self) -> NoReturn:
        msg = "a manager cannot be pickled or copied: make one in each process, and share what they hold by a store"
        raise TypeError(msg)

    def _closed(self, closing: asyncio.Task[None]) -> None:
        if self._closing is closing:
            self._closing = None
            self._home.leave()

    def _forked(self) -> None:
        # The child has no supervisor: bar all ways in, so that the next get() says so instead of serving till expiry.
        self._engine.state = "closed"
        for entry in self._engine.registry.entries.values():
            entry.barred()

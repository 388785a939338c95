"""Starting, closing and inspecting a manager: what it is besides reading tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Self

from evertoken._engine.inspection import counts_of, health_of

if TYPE_CHECKING:
    from evertoken._engine.lifecycle import Lifecycle
    from evertoken._model.snapshot import Counts, Health

__all__ = ["SessionOwner"]


class SessionOwner:
    """An async context manager whose sessions `_life` makes and ends."""

    _life: Lifecycle

    async def start(self) -> Self:
        """
        Start the supervisor on the running loop. Concurrent calls join; one that runs here already is no error.

        Raises:
            RuntimeError: The manager runs on another loop.
            TokenUnavailable: With start="require", a first token could not be fetched in time.
            GrantRejected: With start="require", a grant is rejected.
        """
        await self._life.start(again=True)
        return self

    async def aclose(self) -> None:
        """
        Take no more callers, let fetches under way land, and stop. Does nothing if it does not run.

        Waiters get `ManagerClosed`. A cancellation does not cut this short, but is raised at its end: a refresh
        token that is being rotated must not be lost.
        """
        await self._life.close()

    async def __aenter__(self) -> Self:
        await self._life.start(again=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._life.close()

    def __del__(self) -> None:
        life: Lifecycle | None = getattr(self, "_life", None)
        if life is not None:
            life.dropped(self)

    def __reduce__(self) -> NoReturn:
        msg = "a manager cannot be pickled or copied: make one in each process, and share what they hold by a store"
        raise TypeError(msg)

    def counts(self) -> Counts:
        """Return how many keys are in which state, for metrics. From any thread."""
        life = self._life
        return counts_of(life.registry, life.session, now=life.settings.clock.time())

    def health(self) -> Health:
        """Return whether the supervisor lives and every critical key has a valid token, for probes."""
        life = self._life
        return health_of(life.registry, life.session, now=life.settings.clock.time(), restarts=life.restarts)

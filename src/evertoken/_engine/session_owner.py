"""Start, close and inspect a manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Self

from evertoken._engine.inspection import counts_of, health_of

if TYPE_CHECKING:
    from evertoken._engine.lifecycle import Lifecycle
    from evertoken._model.snapshot import Counts, Health

__all__ = ["SessionOwner"]


class SessionOwner:
    """An async context manager. `_life` makes and ends its sessions."""

    _life: Lifecycle

    async def start(self) -> Self:
        """
        Start the supervisor on the running loop. If the manager starts or runs on this loop already, join it.

        Raises:
            RuntimeError: The manager runs on another loop.
            TokenUnavailable: With start="require", a first token could not be fetched in time.
            GrantRejected: With start="require", a grant is rejected.
        """
        await self._life.start(again=True)
        return self

    async def aclose(self) -> None:
        """
        Accept no further callers, let fetches under way finish, and stop. A manager that is not running stays so.

        Waiting callers receive `ManagerClosed`. A cancellation is raised only after the close has ended, because a
        refresh token that is being rotated must not be lost.
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
        """Return the number of keys in each state, for metrics. It can be called from any thread."""
        life = self._life
        return counts_of(life.registry, life.session, now=life.settings.clock.time())

    def health(self) -> Health:
        """Return whether the supervisor is alive and every critical key has a valid token. It is meant for probes."""
        life = self._life
        return health_of(life.registry, life.session, now=life.settings.clock.time(), restarts=life.restarts)

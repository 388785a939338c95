"""Flights that wait until a member writes the record of their key."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evertoken._engine.tasks import Gate

if TYPE_CHECKING:
    from evertoken._model.protocols import Clock

__all__ = ["Notices"]


@final
class Notices:
    """Passes the reports of the store's watch to the waiting flights."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gates: dict[str, Gate] = {}

    async def wait(self, name: str, seconds: float) -> bool:
        """Wait for a write of the record *name*, for at most *seconds*. Return whether there was one."""
        gate = self._gates.setdefault(name, Gate())
        try:
            return await gate.wait(self._clock, seconds)
        finally:
            if not gate and self._gates.get(name) is gate:
                del self._gates[name]

    def written(self, name: str | None) -> None:
        """The record *name* was written. With None, any record may have been written."""
        gates = self._gates.values() if name is None else filter(None, [self._gates.get(name)])
        for gate in list(gates):
            gate.wake()

"""Flights that wait until somebody has written the record of their key."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evertoken._engine.tasks import Gate

if TYPE_CHECKING:
    from evertoken._model.protocols import Clock

__all__ = ["Notices"]


@final
class Notices:
    """What the watch of a store tells to those who wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gates: dict[str, Gate] = {}

    async def wait(self, name: str, seconds: float) -> bool:
        """Wait for a write under *name* for at most *seconds*; tell whether there was one."""
        gate = self._gates.setdefault(name, Gate())
        try:
            return await gate.wait(self._clock, seconds)
        finally:
            if not gate and self._gates.get(name) is gate:
                del self._gates[name]

    def written(self, name: str | None) -> None:
        """The record under *name* was written; with None any may have been."""
        gates = self._gates.values() if name is None else filter(None, [self._gates.get(name)])
        for gate in list(gates):
            gate.wake()

"""The managers from whose state gauges are read."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evertoken._engine.session_owner import SessionOwner

__all__ = ["Managers"]


@final
class Managers:
    """Managers by name. Watching a manager does not keep it alive."""

    def __init__(self) -> None:
        self._managers: dict[str, weakref.ref[SessionOwner]] = {}

    def add(self, manager: SessionOwner, name: str) -> None:
        """
        Watch *manager* under *name*.

        Raises:
            ValueError: Another manager that is alive has this name.
        """
        known = self._managers.get(name)
        other = None if known is None else known()
        if other is not None and other is not manager:
            msg = f"another manager is watched as {name!r}; give each manager a different name"
            raise ValueError(msg)
        self._managers[name] = weakref.ref(manager)

    def __iter__(self) -> Iterator[tuple[str, SessionOwner]]:
        """Yield each manager that is alive, with its name. It can be called from any thread."""
        for name, reference in list(self._managers.items()):
            manager = reference()
            if manager is None:
                self._managers.pop(name, None)
            else:
                yield name, manager

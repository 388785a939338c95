"""The managers whose state is read for gauges."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evertoken._engine.session_owner import SessionOwner

__all__ = ["Managers"]


@final
class Managers:
    """Managers by name. Being watched keeps no manager alive."""

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
            msg = f"another manager is watched as {name!r}; give each one a name of its own"
            raise ValueError(msg)
        self._managers[name] = weakref.ref(manager)

    def __iter__(self) -> Iterator[tuple[str, SessionOwner]]:
        """Yield each manager that is alive, with its name. From any thread."""
        for name, reference in list(self._managers.items()):
            manager = reference()
            if manager is None:
                self._managers.pop(name, None)
            else:
                yield name, manager

"""The counters of a manager, over all its sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["Counters"]


@final
@dataclass(slots=True)
class Counters:
    """The counts since the manager was made. `Snapshot` describes each of them."""

    fetches: int = 0
    refreshed: int = 0
    adopted: int = 0
    failures: int = 0
    rejections: int = 0
    refusals: int = 0

"""What a manager counts, over all its sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["Counters"]


@final
@dataclass(slots=True)
class Counters:
    """Counts since the manager was made; `Snapshot` says what each one means."""

    fetches: int = 0
    refreshed: int = 0
    adopted: int = 0
    failures: int = 0
    rejections: int = 0
    refusals: int = 0

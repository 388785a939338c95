"""
What an entry judges by, and what it remembers when not all is well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from evertoken._model.errors import GrantRejected, TransientRefreshError
    from evertoken._model.policy import RefreshPolicy, RetryPolicy
    from evertoken._model.token import Token

__all__ = ["NEVER", "Rules", "Trouble"]

#: The distant past: what is valid until then never is, and what is due then is due.
NEVER: Final = -math.inf


@final
@dataclass(slots=True)
class Rules:
    """
    What an entry needs to judge by.

    Args:
        seed: What makes this process's jitter its own. Drawn again in a forked one.

        shared: Whether a store keeps tokens, which others may refresh too.

        strict: Whether a token that the store did not keep is held back until it does.
    """

    refresh: RefreshPolicy
    retry: RetryPolicy
    seed: str
    shared: bool = False
    strict: bool = False


@final
class Trouble:
    """
    What is not as it should be with one key.
    """

    __slots__ = (
        "ambiguous_since",
        "echoes",
        "error",
        "failures",
        "refusals",
        "refused",
        "refused_at",
        "repair_at",
        "retry_at",
        "rotated",
        "told",
        "unkept",
        "withheld",
    )

    def __init__(self) -> None:
        self.failures: int = 0
        self.retry_at: float = NEVER
        self.error: TransientRefreshError | GrantRejected | None = None
        self.ambiguous_since: float | None = None
        self.refusals: int = 0
        self.refused_at: float = NEVER
        self.refused: Token | None = None
        self.echoes: int = 0
        self.rotated: bool = False
        self.told: bool = False
        self.unkept: bool = False
        self.repair_at: float = NEVER
        self.withheld: bool = False

    @property
    def over(self) -> bool:
        """
        Whether there is nothing left to remember.
        """
        return not (
            self.error
            or self.refused
            or self.echoes
            or self.refusals
            or self.rotated
            or self.unkept
            or self.ambiguous_since
        )

    def fetched(self, *, repeated: bool, rotated: bool, kept: bool) -> None:
        """
        A token came. What is left is what it says of the server, and whether a store keeps it.
        """
        self.failures = 0
        self.retry_at = NEVER
        self.error = None
        self.ambiguous_since = None
        self.told = False
        self.refused = None
        self.echoes = self.echoes + 1 if repeated else 0
        self.rotated = self.rotated or rotated
        self.unkept = not kept
        self.withheld = False

"""
What is remembered of a key when not all is well: failures, a lost answer, refusals, a token that the store lacks.

A healthy key has no such state: a hundred thousand keys would pay for each slot.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from evertoken._model.errors import GrantRejected, TransientRefreshError
    from evertoken._model.token import Token

__all__ = ["NEVER", "FailureState"]

#: The distant past: a token that is valid until then never is, and a fetch that is due then is due.
NEVER: Final = -math.inf


@final
class FailureState:
    """The failures of one key. All instants are epoch seconds."""

    __slots__ = (
        "echoes",
        "error",
        "failed_at",
        "failures",
        "not_before",
        "refusals",
        "refused",
        "refused_at",
        "rejected_at",
        "repair_at",
        "retry_at",
        "rotated",
        "sent_at",
        "told",
        "unkept",
        "withheld",
    )

    def __init__(self) -> None:
        #: Failures in a row.
        self.failures: int = 0
        #: The last failure, until a fetch succeeds.
        self.error: TransientRefreshError | GrantRejected | None = None
        #: When the last attempt failed, and the first one in a row that was rejected.
        self.failed_at: float = NEVER
        self.rejected_at: float = NEVER
        #: When the supervisor tries again.
        self.retry_at: float = NEVER
        #: Before this instant nobody tries again, whoever asks.
        self.not_before: float = NEVER
        #: When the request was sent whose answer was lost, if one was: the first of several in a row.
        self.sent_at: float | None = None
        #: Tokens refused in a row by resource servers, the last one, and when.
        self.refusals: int = 0
        self.refused: Token | None = None
        self.refused_at: float = NEVER
        #: How often in a row the source brought the very token that was in service.
        self.echoes: int = 0
        #: Whether a refresh token was seen to rotate.
        self.rotated: bool = False
        #: Whether the observers were told of the rejection.
        self.told: bool = False
        #: Whether the store lacks what memory has, and when it is offered to it again.
        self.unkept: bool = False
        self.repair_at: float = NEVER
        #: Whether the token is held back until the store keeps it.
        self.withheld: bool = False

    @property
    def over(self) -> bool:
        """Whether there is nothing left to remember."""
        return not (
            self.error
            or self.refused
            or self.echoes
            or self.refusals
            or self.rotated
            or self.unkept
            or self.sent_at is not None
        )

    def succeeded(self) -> None:
        """A token came: forget the failures, and keep what they taught about the server."""
        self.failures = 0
        self.error = None
        self.retry_at = NEVER
        self.not_before = NEVER
        self.sent_at = None
        self.refused = None
        self.told = False
        self.withheld = False

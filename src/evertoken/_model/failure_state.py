"""
FailureState: what the manager remembers of a key that is not healthy.

It holds failures, lost answers, refusals, and whether the store lacks the token. A healthy key has no such object,
because a hundred thousand keys would pay for each of its slots.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from evertoken._model.errors import GrantRejected, TransientRefreshError
    from evertoken._model.token import Token

__all__ = ["NEVER", "FailureState"]

#: The distant past. A token that is valid until then is never valid, and a fetch that is due then is due at once.
NEVER: Final = -math.inf


@final
class FailureState:
    """The failures of one key. All instants are epoch seconds."""

    __slots__ = (
        "echoes",
        "error",
        "failed_at",
        "failures",
        "files",
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
        #: The number of failures in a row.
        self.failures: int = 0
        #: The last failure, until a fetch succeeds.
        self.error: TransientRefreshError | GrantRejected | None = None
        #: When the last attempt failed, and when the first of several rejections in a row came.
        self.failed_at: float = NEVER
        self.rejected_at: float = NEVER
        #: The files that the rejected fetch has read. The next fetch starts when one of them has changed.
        self.files: Any = None
        #: When the supervisor tries again.
        self.retry_at: float = NEVER
        #: No attempt starts before this instant, even if a caller asks.
        self.not_before: float = NEVER
        #: When the request was sent whose answer was lost. If several in a row were lost, it is the first of them.
        self.sent_at: float | None = None
        #: The number of tokens in a row that resource servers refused, the last of them, and when it was refused.
        self.refusals: int = 0
        self.refused: Token | None = None
        self.refused_at: float = NEVER
        #: How often in a row the source returned the same token that was in service.
        self.echoes: int = 0
        #: Whether a refresh token was seen to rotate.
        self.rotated: bool = False
        #: Whether observers have received the rejection.
        self.told: bool = False
        #: Whether the store lacks what memory has, and when memory is offered to it again.
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
        """A token came. Forget the failures, but keep the facts that they showed about the server."""
        self.failures = 0
        self.error = None
        self.files = None
        self.retry_at = NEVER
        self.not_before = NEVER
        self.sent_at = None
        self.refused = None
        self.told = False
        self.withheld = False

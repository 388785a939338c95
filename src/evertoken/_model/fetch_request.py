"""FetchRequest: one fetch, as the source sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.guarded import Hidden, guarded
from evertoken._model.token import origin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from evertoken._model.events import Reason
    from evertoken._model.token import Token

__all__ = ["MAX_ORIGINS", "FetchRequest"]

#: A grant remembers so many refresh tokens of its configuration. Two members that are configured differently need two.
MAX_ORIGINS: Final = 8


@final
@dataclass(slots=True)
class FetchRequest:
    """
    One fetch, as the source sees it.

    Args:
        key: Which token is wanted; None for the key of a single source.

        current: The token before this one, expired or not, with the refresh token to present. None at first.

        timeout: Seconds the fetch may take in all before it is cancelled.

        origins:
            Fingerprints of the initial refresh tokens from the configuration that the grant of *current* has taken
            into account, the newest last. `refresh_token_for` adds to them.

        guard: Raises if the request must not leave any more. Called by `sending`.

        connections: What the manager's sources keep open between fetches; None outside a manager.

        reason:
            Why it is fetched, as in `FetchStarted`. A source that wraps a cache goes past that cache for "forced" and
            "refused": the token in it is not wanted any more.
    """

    key: Hashable
    current: Token | None
    timeout: float
    sent: bool = field(default=False, init=False)
    origins: tuple[str, ...] = field(default=(), kw_only=True)
    #: Whether the configuration brought a new login, so that nothing of *current* belongs to the answer.
    began_anew: bool = field(default=False, init=False)
    guard: Callable[[], object] | None = field(default=None, repr=False, compare=False, kw_only=True)
    connections: Any = field(default=None, repr=False, compare=False, kw_only=True)
    reason: Reason = field(default="absent", kw_only=True)
    #: What `received` was told, if anything.
    answer: Hidden[Any] | None = field(default=None, init=False, repr=False, compare=False)

    @guarded
    def refresh_token_for(self, initial: str, /) -> str:
        """
        Return the refresh token to present: the one of *current*, or *initial* where that is a new login.

        A login is new where the grant of *current* has never taken *initial* into account.

        Args:
            initial: The refresh token that the configuration holds now.
        """
        origin = origin_of(initial)
        kept = None if self.current is None else self.current.refresh_token
        if origin not in self.origins:
            # Without origins it is not known what the grant began with: it is not given up for that.
            self.began_anew = self.began_anew or (kept is not None and bool(self.origins))
            self.origins = (*self.origins, origin)[-MAX_ORIGINS:]
        return initial if kept is None or self.began_anew else kept

    @guarded
    def received(self, answer: object, /) -> None:
        """
        Say that the answer has arrived. From here on it is kept, even if the fetch is cancelled before it returns.

        A source that has more to await after the answer, such as the end of its connection, calls this before.

        Args:
            answer: The same as `fetch` may return.
        """
        self.answer = Hidden(answer)

    def sending(self) -> None:
        """
        Say that the request leaves now. From here on a lost answer is ambiguous.

        Raises:
            TransientRefreshError: It must not leave any more: this process was stopped for so long that the lease
                has ended, and a peer may have spent the refresh token.
        """
        if self.guard is not None:
            self.guard()
        self.sent = True

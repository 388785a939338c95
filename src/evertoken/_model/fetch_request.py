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

#: A grant remembers this many refresh tokens of its configuration. Two differently configured members need two.
MAX_ORIGINS: Final = 8


@final
@dataclass(slots=True)
class FetchRequest:
    """
    One fetch, as the source sees it.

    Args:
        key: The key of the token. It is None for the key of a single source.

        current: The previous token, expired or not, with the refresh token to present. It is None for the first fetch.

        timeout: Seconds that the whole fetch may take before it is cancelled.

        origins:
            Fingerprints of the configured initial refresh tokens that the grant of *current* has taken into account,
            the newest last. `refresh_token_for` adds to them.

        guard: A function that raises if the request may no longer be sent. `sending` calls it.

        connections: The connections that the manager keeps open between fetches. It is None outside a manager.

        reason:
            Why the token is fetched, as in `FetchStarted`. A source that wraps a cache must bypass it for "forced" and
            "refused", because the token in the cache is no longer wanted.
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
    #: The answer that `received` was given, if any.
    answer: Hidden[Any] | None = field(default=None, init=False, repr=False, compare=False)

    @guarded
    def refresh_token_for(self, initial: str, /) -> str:
        """
        Return the refresh token to present: the one of *current*, or *initial* if that is a new login.

        *initial* is a new login if the grant of *current* has never taken it into account.

        Args:
            initial: The refresh token that the configuration holds now.
        """
        origin = origin_of(initial)
        kept = None if self.current is None else self.current.refresh_token
        if origin not in self.origins:
            # Without origins the login that started the grant is unknown. The grant is kept in that case.
            self.began_anew = self.began_anew or (kept is not None and bool(self.origins))
            self.origins = (*self.origins, origin)[-MAX_ORIGINS:]
        return initial if kept is None or self.began_anew else kept

    @guarded
    def received(self, answer: object, /) -> None:
        """
        Report that the answer has arrived. From here on it is kept, even if the fetch is cancelled before it returns.

        A source that awaits something else after the answer, such as the end of its connection, calls this first.

        Args:
            answer: The same value that `fetch` may return.
        """
        self.answer = Hidden(answer)

    def sending(self) -> None:
        """
        Report that the request is sent now. From here on a lost answer is ambiguous.

        Raises:
            TransientRefreshError: The request may no longer be sent. This process was stopped for so long that the
                lease has ended, and a peer may have spent the refresh token.
        """
        if self.guard is not None:
            self.guard()
        self.sent = True

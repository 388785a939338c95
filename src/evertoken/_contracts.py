"""
What the parts promise each other. Protocols and the records they pass, no implementation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, final, runtime_checkable

from evertoken._answer import Answer
from evertoken._events import Event
from evertoken._token import Token

__all__ = [
    "Answered",
    "Clock",
    "FetchRequest",
    "Held",
    "Lease",
    "Observer",
    "Record",
    "Timer",
    "TokenReader",
    "TokenSource",
    "TokenStore",
]

#: What a source may return.
Answered: TypeAlias = Token | Answer | Mapping[str, Any] | tuple[str, float | None] | str

#: Told of each event, on the manager's own loop. It must not block; what it raises is logged and goes no further.
Observer: TypeAlias = Callable[[Event], object]


class Timer(Protocol):
    """
    A callback that may still be cancelled.
    """

    def cancel(self) -> object: ...


class Clock(Protocol):
    """
    The one door for time.
    """

    def time(self) -> float:
        """
        Return the wall clock in epoch seconds.
        """

    def monotonic(self) -> float:
        """
        Return a clock in seconds that no one sets. Only differences mean anything.
        """

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """
        Call *callback* on the running loop after *delay* seconds.
        """


@final
@dataclass(slots=True)
class FetchRequest:
    """
    One fetch, as the source sees it.

    Args:
        key: Which token is wanted; None for the key of a single source.

        current: The token before this one, expired or not, with the refresh token to present. None at first.

        timeout: Seconds the fetch may take in all before it is cancelled.
    """

    key: Hashable
    current: Token | None
    timeout: float
    sent: bool = field(default=False, init=False)

    def sending(self) -> None:
        """
        Say that the request leaves now. From here on a lost answer is ambiguous.
        """
        self.sent = True


@runtime_checkable
class TokenSource(Protocol):
    """
    Where a token comes from.

    A source remembers nothing: whatever it needs of the past is in the request. It may state habits as
    attributes, each with a safe default:

    - `rotates` (bool or None): whether each use of a refresh token returns another. None: to be found out.
    - `on_ambiguous` ("retry", "hold" or "reject"): what follows a request whose answer was lost.
    - `provider` (str): keys of one provider share its limit of concurrent fetches.
    """

    async def fetch(self, request: FetchRequest, /) -> Answered:
        """
        Fetch a token, once.

        Raises:
            TransientRefreshError: It is worth trying again. So is any other exception.
            GrantRejected: A person must act.
        """


@final
@dataclass(frozen=True, slots=True)
class Record:
    """
    What a store keeps of one key.

    Args:
        key: The store's key, carried along so that a reader can tell a mix-up.

        version: Grows by one with each write; the newest wins.

        token: The token, or None where it was revoked (a tombstone).

        sent_at:
            When a request that presents this token's refresh token was about to be sent (epoch seconds), while its
            outcome is not known. None otherwise.
    """

    key: str
    version: int
    token: Token | None
    sent_at: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Lease:
    """
    The right to fetch for one key.

    Args:
        key: The store's key.

        owner: Who holds it; unique to one attempt.

        fence: Grows with each lease given; a write with an older fence is refused.
    """

    key: str
    owner: str
    fence: int


@final
@dataclass(frozen=True, slots=True)
class Held:
    """
    The lease is somebody else's.

    Args:
        remaining: Seconds until it ends, unless it is renewed or released before.
    """

    remaining: float


class TokenStore(Protocol):
    """
    Where tokens are kept and shared.

    Writes are fenced: a record is taken only with the newest lease of its key and a version that is exactly one
    above the stored one. Every method may raise anything; the manager takes that for "store down".
    """

    async def read(self, key: str, /) -> Record | None:
        """
        Return the record of *key*, or None.
        """

    async def write(self, record: Record, lease: Lease, /) -> bool:
        """
        Keep *record* durably; return False, and change nothing, where the lease or the version is outdated.
        """

    async def acquire(self, key: str, owner: str, ttl: float, /) -> Lease | Held:
        """
        Take the lease of *key* for *ttl* seconds, or say for how long it is somebody else's.
        """

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """
        Let *lease* end *ttl* seconds from now; return False where it is no longer held.
        """

    async def release(self, lease: Lease, /) -> None:
        """
        End *lease*, if it is still held by its owner.
        """


class TokenReader(Protocol):
    """
    All that a client needs of a manager.
    """

    async def get(self) -> Token:
        """
        Return a valid token.
        """

    async def refused(self, token: Token, /, *, wait: bool = True) -> Token | None:
        """
        Report that a resource server refused *token*; return another to try with, or None where there is none.
        """

    def get_sync(self) -> Token:
        """
        `get` for callers without a loop.
        """

    def refused_sync(self, token: Token, /, *, wait: bool = True) -> Token | None:
        """
        `refused` for callers without a loop.
        """


#: A source may be as small as this.
SourceCallable: TypeAlias = Callable[[], Awaitable[Answered] | Answered]

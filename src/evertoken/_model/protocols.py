"""What the parts promise each other. Protocols and the records they pass, no implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar, final, runtime_checkable

from evertoken._model.answer import Answer
from evertoken._model.events import Event
from evertoken._model.fetch_request import FetchRequest
from evertoken._model.frozen import Frozen, frozen
from evertoken._model.leases import Begun, Held, Lease
from evertoken._model.token import Token

__all__ = [
    "LONGEST_LEASE",
    "Answered",
    "Begun",
    "BulkStore",
    "Clock",
    "CredentialSource",
    "FetchRequest",
    "Held",
    "Lease",
    "ListedStore",
    "Observer",
    "Record",
    "Timer",
    "TokenReader",
    "TokenSource",
    "TokenStore",
    "WatchedStore",
]

TokenT_co = TypeVar("TokenT_co", bound=Token, covariant=True)

#: The longest lease that a manager ever asks for, in seconds.
LONGEST_LEASE: Final = 10.0

#: What a source may return.
Answered: TypeAlias = Token | Answer | Mapping[str, Any] | tuple[str, float | None] | str

#: Told of each event, on the manager's own loop. It must not block; what it raises is logged and goes no further.
Observer: TypeAlias = Callable[[Event], object]


class Timer(Protocol):
    """A callback that may still be cancelled."""

    def cancel(self) -> object: ...


class Clock(Protocol):
    """The one door for time."""

    def time(self) -> float:
        """Return the wall clock in epoch seconds."""

    def monotonic(self) -> float:
        """Return a clock in seconds that no one sets. Only differences mean anything."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call *callback* on the running loop after *delay* seconds."""


@runtime_checkable
class TokenSource(Protocol):
    """
    Where a token comes from.

    A source remembers nothing: whatever it needs of the past is in the request. It may state habits as
    attributes, each with a safe default:

    - `rotates` (bool or None): whether each use of a refresh token returns another. None: to be found out.
    - `on_ambiguous` ("retry", "hold" or "reject"): what follows a request whose answer was lost.
    - `grace` (float): seconds after its first use during which a refresh token may be presented again.
    - `idle_lifetime` (float): after how many seconds without use a grant dies. `keep_alive=` goes by it.
    - `provider` (str): keys of one provider share its limits, its pauses and its outages.
    - `rate_limit` (`RateLimit`) and `budget` (`Budget`): what that provider allows, where the source knows.
    - `identity` (str): whose tokens it gives, and for what: issuer or endpoint, client, subject, scope, audience. It
      holds no secret. Different identities never share a record in a store. Without it a store needs a namespace.
    - `exclusive` (bool): whether a new token kills the one before. It then needs a store, and its lease.
    - `revoke` (an async method that takes the token): how the server is told that it is no longer needed.
    """

    async def fetch(self, request: FetchRequest, /) -> Answered:
        """
        Fetch a token, once.

        Raises:
            TransientRefreshError: It is worth trying again. So is any other exception.
            GrantRejected: A person must act.
        """


class CredentialSource(TokenSource, Protocol[TokenT_co]):
    """A source of credentials that are more than a bearer token."""

    @property
    def credential(self) -> type[TokenT_co]:
        """What it gives: a subclass of `Token`."""


@final
@frozen(kw_only=False)
class Record(Frozen):
    """
    What a store keeps of one key.

    Args:
        key: The store's key. A reader can tell by it that records were mixed up.

        version: Grows with each write. A write with a version that is not above the stored one is refused.

        token: The token; None where there is none yet, and where the key was signed out.

        sent_at:
            The mark: when a request that presents this token's refresh token, or the first one, was about to be sent
            (epoch seconds), while its outcome is not known. None otherwise.

        sent_by: The owner that set the mark. A member recognises its own marks by it.

        revoked: Whether the key was signed out: a tombstone.

        since:
            When a person last decided, by a login or a sign-out (epoch seconds); 0 if nobody has. Of two records the
            one with the later instant wins.

        origins:
            Fingerprints of the refresh tokens from the configuration that this grant has taken into account, the
            newest last. A configured refresh token that is not among them is a new login.

        generation:
            How many tokens this key has had: one more than that of the token which was replaced. Of two records with
            the same *since* the one with the higher generation is newer, whatever their instants and versions.
    """

    key: str
    version: int
    token: Token | None
    sent_at: float | None = None
    sent_by: str | None = None
    revoked: bool = False
    since: float = 0.0
    origins: tuple[str, ...] = ()
    generation: int = 0

    # Written out for these three, because each refresh makes some of them.
    def __init__(  # noqa: PLR0917 - as many as there are fields
        self,
        key: str,
        version: int,
        token: Token | None,
        sent_at: float | None = None,
        sent_by: str | None = None,
        revoked: bool = False,  # noqa: FBT001, FBT002 - a field
        since: float = 0.0,
        origins: tuple[str, ...] = (),
        generation: int = 0,
    ) -> None:
        put = object.__setattr__
        put(self, "key", key)
        put(self, "version", version)
        put(self, "token", token)
        put(self, "sent_at", sent_at)
        put(self, "sent_by", sent_by)
        put(self, "revoked", revoked)
        put(self, "since", since)
        put(self, "origins", origins)
        put(self, "generation", generation)


class TokenStore(Protocol):
    """
    Where tokens are kept and shared.

    A refresh takes two steps: `begin` and `commit`. Where a refresh token may be spent there is a third one, `mark`,
    between them. Each step should cost one round trip. Writes are fenced: a record is taken only with the newest
    lease of its key, and with a version above the stored one. Every method may raise anything; the manager takes
    that for "store down".

    A store may also be an async context manager: a manager enters it when it starts and leaves it when it has
    closed, so several managers (and the user) may have it entered at once, on one loop or on several.
    """

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None. No lease is needed."""

    async def begin(self, key: str, owner: str, ttl: float, /) -> Begun:
        """
        Take the lease of *key* for *ttl* seconds if it is free or *owner* holds it, and read the record.

        An owner that holds the lease already is given a new one, with a higher fence. A lease that would last longer
        than `LONGEST_LEASE` seconds from now was made by a clock that was set since then, and counts as free.
        """

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """
        Keep *record* durably under *lease*, which stays held; return False, and change nothing, where it is outdated.

        It is outdated where *lease* is not the newest of its key, or the version is not above the stored one.
        """

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Do what `mark` does and, where that is done, end *lease*."""

    async def abandon(self, lease: Lease, /) -> None:
        """End *lease* without a write, if its owner still holds it."""

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now; return False where it is no longer held."""


@runtime_checkable
class WatchedStore(TokenStore, Protocol):
    """
    A store that says when something was written, so that peers adopt a new token at once.

    A store that calls *changed* exactly once for each mark and each commit may have the attribute `tells_each_write`,
    which is True while that holds. Then the manager does not read again what it wrote itself. A store that merges
    writes into one call, as those do that look from time to time, must not have it.
    """

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* on the running loop with each key that was written, by anyone; run until cancelled.

        It is called with None first, as soon as nothing that is written from then on can be missed, and again
        whenever something may have been. An exception ends the watch; the manager begins another after a while.
        """


@runtime_checkable
class BulkStore(TokenStore, Protocol):
    """A store that reads many records in one round trip, for members that hear of many writes of their peers."""

    async def read_many(self, keys: Sequence[str], /) -> Mapping[str, Record]:
        """Return the records of those *keys* that have one. Where this raises, each is read by itself."""


@runtime_checkable
class ListedStore(TokenStore, Protocol):
    """A store that can be looked into and cleaned by an operator."""

    def keys(self) -> AsyncIterator[str]:
        """Yield the key of every record, in no order, without holding them all in memory."""

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """Return who holds the lease of *key* and for how many seconds yet, or None."""

    async def delete(self, key: str, /) -> bool:
        """Take the record of *key* out; tell whether there was one. Leases and fences stay."""


class TokenReader(Protocol):
    """All that a client needs of a manager."""

    async def get(self) -> Token:
        """Return a valid token."""

    async def refused(self, token: Token, /, *, wait: bool = True) -> Token | None:
        """Report that a resource server refused *token*; return another to try with, or None where there is none."""

    def get_sync(self) -> Token:
        """`get` for callers without a loop."""

    def refused_sync(self, token: Token, /, *, wait: bool = True) -> Token | None:
        """`refused` for callers without a loop."""


#: A source may be as small as this.
SourceCallable: TypeAlias = Callable[[], Awaitable[Answered] | Answered]

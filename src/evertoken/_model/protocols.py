"""The interfaces between the parts of the library: protocols, and the records they pass. There is no implementation."""

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

#: The types that a source may return.
Answered: TypeAlias = Token | Answer | Mapping[str, Any] | tuple[str, float | None] | str

#: A function that is called with each event on the manager's loop. It must not block. Its exceptions are only logged.
Observer: TypeAlias = Callable[[Event], object]


class Timer(Protocol):
    """A callback that can still be cancelled."""

    def cancel(self) -> object: ...


class Clock(Protocol):
    """The only source of time in the library."""

    def time(self) -> float:
        """Return the wall clock in epoch seconds."""

    def monotonic(self) -> float:
        """Return a clock in seconds that nobody can set. Only differences between its values have a meaning."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call *callback* on the running loop after *delay* seconds."""


@runtime_checkable
class TokenSource(Protocol):
    """
    The interface of a source, which fetches tokens.

    A source has no memory: the request contains all it needs of the past. It may describe its server in attributes,
    each with a safe default:

    - `rotates` (bool or None): whether each use of a refresh token returns another one. With None, the manager finds
      out.
    - `on_ambiguous` ("retry", "hold" or "reject"): the action that follows a request whose answer was lost.
    - `grace` (float): seconds after its first use during which a refresh token may be presented again.
    - `idle_lifetime` (float): seconds without use after which a grant expires. `keep_alive=` uses it.
    - `provider` (str): keys of one provider share its limits, its pauses and its outages.
    - `rate_limit` (`RateLimit`) and `budget` (`Budget`): the limits of that provider, if the source knows them.
    - `identity` (str): whose tokens it gives, and for what: issuer or endpoint, client, subject, scope, audience. It
      holds no secret. Different identities never share a record in a store. A source without it needs a namespace
      there.
    - `exclusive` (bool): whether a new token invalidates the previous one. Such a source needs a store with its lease.
    - `revoke` (an async method that takes the token): tells the server that the token is no longer needed.
    """

    async def fetch(self, request: FetchRequest, /) -> Answered:
        """
        Fetch a token, once.

        Raises:
            TransientRefreshError: The fetch is worth trying again. Any other exception means the same.
            GrantRejected: A person must act.
        """


class CredentialSource(TokenSource, Protocol[TokenT_co]):
    """A source of credentials that contain more than a bearer token."""

    @property
    def credential(self) -> type[TokenT_co]:
        """The type of its credentials: a subclass of `Token`."""


@final
@frozen(kw_only=False)
class Record(Frozen):
    """
    The record that a store keeps of one key.

    Args:
        key: The store's key. It shows a reader whether records were mixed up.

        version: A number that grows with each write. A write is refused unless its version is above the stored one.

        token: The token. It is None if no token was fetched yet, or if the key was signed out.

        sent_at:
            The mark: when a request with this token's refresh token, or with the first one, was about to be sent (epoch
            seconds). It is None once the outcome is known.

        sent_by: The owner that set the mark, so that a member recognises its own marks.

        revoked: Whether the key was signed out: a tombstone.

        since:
            When a person last decided, by a login or a sign-out (epoch seconds), or 0 if nobody has. The record with
            the later instant wins.

        origins:
            Fingerprints of the configured refresh tokens that this grant has taken into account, the newest last. Any
            other configured refresh token is a new login.

        generation:
            The number of tokens that this key has had. If two records have the same *since*, the one with the higher
            generation is newer. Their instants and versions do not matter.
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

    # These three have their own constructor, because each refresh creates some of them.
    def __init__(  # noqa: PLR0917 - one parameter for each field
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
    The interface of a store, which keeps tokens and shares them.

    A refresh takes two steps: `begin` and `commit`. If a refresh token may be spent, a third step, `mark`, comes
    between them. Each step should cost one round trip. Writes are fenced: a store accepts a record only with the newest
    lease of its key, and with a version above the stored one. Every method may raise any exception. The manager takes
    each exception to mean that the store is down.

    A store may also be an async context manager. A manager enters it at its start, and leaves it after it has closed.
    Several managers, and the user, may have entered it at once, on one loop or on several.
    """

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None. This needs no lease."""

    async def begin(self, key: str, owner: str, ttl: float, /) -> Begun:
        """
        Take the lease of *key* for *ttl* seconds if it is free or *owner* holds it, and read the record.

        An owner that already holds the lease receives a new one, with a higher fence. A lease that would last longer
        than `LONGEST_LEASE` seconds from now comes from a clock that has been set since, and counts as free.
        """

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """
        Keep *record* durably under *lease*, which stays held. Return False, and change nothing, if it is outdated.

        A record is outdated if *lease* is not the newest of its key, or if its version is not above the stored one.
        """

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Do what `mark` does. If the record was kept, also end *lease*."""

    async def abandon(self, lease: Lease, /) -> None:
        """End *lease* without a write, if its owner still holds it."""

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now. Return False if it is no longer held."""


@runtime_checkable
class WatchedStore(TokenStore, Protocol):
    """
    A store that reports each write, so that peers adopt a new token at once.

    A store may have the attribute `tells_each_write`. It is True while the store calls *changed* exactly once for each
    mark and each commit. Then the manager does not read its own writes again. A store that merges writes into one call,
    for example because it polls, must not have it.
    """

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* on the running loop with the key of each write by any member, until cancelled.

        The first call has None, as soon as no later write can be missed. Another call with None follows whenever a
        write may have been missed. An exception ends the watch, and the manager starts another one after a while.
        """


@runtime_checkable
class BulkStore(TokenStore, Protocol):
    """A store that reads many records in one round trip, for members that learn of many writes of their peers."""

    async def read_many(self, keys: Sequence[str], /) -> Mapping[str, Record]:
        """
        Return the records of those *keys* that have one. If this raises, the manager reads each record separately.
        """


@runtime_checkable
class ListedStore(TokenStore, Protocol):
    """A store that an operator can inspect and clean up."""

    def keys(self) -> AsyncIterator[str]:
        """Yield the key of every record, in no order, without holding them all in memory."""

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """Return the owner that holds the lease of *key* and the seconds until it ends, or None."""

    async def delete(self, key: str, /) -> bool:
        """Delete the record of *key*, and return whether it existed. Leases and fences stay."""


class TokenReader(Protocol):
    """The part of a manager that clients need."""

    async def get(self) -> Token:
        """Return a valid token."""

    async def refused(self, token: Token, /, *, wait: bool = True) -> Token | None:
        """Report that a resource server refused *token*. Return another token to try, or None if there is no other."""

    def get_sync(self) -> Token:
        """Do what `get` does, in code without a loop."""

    def refused_sync(self, token: Token, /, *, wait: bool = True) -> Token | None:
        """Do what `refused` does, in code without a loop."""


#: A source may also be a plain function of this type.
SourceCallable: TypeAlias = Callable[[], Awaitable[Answered] | Answered]

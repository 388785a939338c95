"""What can happen, as small frozen records. None of them carries a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, final

from evertoken._model.frozen import Frozen, frozen

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.errors import GrantRejected, TransientRefreshError

__all__ = [
    "Ambiguity",
    "Event",
    "FetchAmbiguous",
    "FetchStarted",
    "GrantExpiring",
    "KeyEvicted",
    "KeyOpened",
    "ManagerClosing",
    "ManagerStarted",
    "Reason",
    "RefreshFailed",
    "RefreshRejected",
    "ShorterThanAsked",
    "StoreFailed",
    "TokenAdopted",
    "TokenRefreshed",
    "TokenRefused",
    "TokenRevoked",
    "TokenUnpersisted",
]

#: Why a fetch was started; "peer" and "repair" only look at the store, unless it turns out that a fetch is needed.
Reason: TypeAlias = Literal[
    "absent", "due", "expired", "forced", "keep_alive", "min_ttl", "peer", "refused", "repair", "retry"
]

#: What follows a request whose answer was lost.
Ambiguity: TypeAlias = Literal["retry", "hold", "reject"]


@frozen()
class Event(Frozen):
    """
    Something that happened.

    Args:
        at: The instant (epoch seconds).

        key: The key it happened to; None for the key of a single source, and for the manager as a whole.
    """

    at: float
    key: Hashable = None


@final
@frozen()
class ManagerStarted(Event):
    """The supervisor runs."""


@final
@frozen()
class ManagerClosing(Event):
    """The manager takes no more callers."""


@final
@frozen()
class KeyOpened(Event):
    """A key was asked for the first time."""


@final
@frozen()
class KeyEvicted(Event):
    """A key was dropped, because nobody had used it or because it was forgotten on demand."""


@final
@frozen()
class FetchStarted(Event):
    """
    A source is being asked.

    Args:
        reason: Why.
    """

    reason: Reason


@final
@frozen()
class TokenRefreshed(Event):
    """
    A fetch brought a token, and it is in service.

    Args:
        fingerprint: Of the new token.

        expires_at: When it dies (epoch seconds), if known.

        due_at: When it will be replaced (epoch seconds); infinite if never by itself.

        took: Seconds from the start of the fetch to its answer.

        reason: Why it was fetched.

        repeated: True where the source brought the very token that was in service already.
    """

    fingerprint: str
    expires_at: float | None
    due_at: float
    took: float
    reason: Reason
    repeated: bool = False


@final
@frozen()
class TokenAdopted(Event):
    """
    A token that another member of the fleet had fetched is in service.

    Args:
        fingerprint: Of that token.

        expires_at: When it dies (epoch seconds), if known.

        due_at: When it will be replaced (epoch seconds).
    """

    fingerprint: str
    expires_at: float | None
    due_at: float


@final
@frozen()
class RefreshFailed(Event):
    """
    A fetch failed for a reason that passes.

    Args:
        error: What went wrong.

        failures: Failures in a row, this one included.

        retry_at: When it is tried again (epoch seconds).

        serving: Whether a valid token stays in service meanwhile.

        took: Seconds from the start of the fetch to its failure; None if no source was asked.

        reason: Why it was fetched.

        outage: Whether its provider is down, which `ProviderDown` has said for all keys.
    """

    error: TransientRefreshError
    failures: int
    retry_at: float
    serving: bool
    took: float | None
    reason: Reason
    outage: bool = False


@final
@frozen()
class RefreshRejected(Event):
    """
    The authorization server rejected the grant: a person must act. Said once, not at each probe.

    Args:
        error: The RFC's error.

        retry_at: When it is probed again (epoch seconds).

        serving: Whether a valid token stays in service meanwhile.

        took: Seconds from the start of the fetch to the rejection; None if no source was asked.

        reason: Why it was fetched.
    """

    error: GrantRejected
    retry_at: float
    serving: bool
    took: float | None
    reason: Reason


@final
@frozen()
class GrantExpiring(Event):
    """
    The refresh token dies soon, and refreshing does not put that off: a person will have to log in again.

    Args:
        expires_at: When (epoch seconds), as the server said with `refresh_expires_in` or its like.
    """

    expires_at: float


@final
@frozen()
class TokenRefused(Event):
    """
    A resource server refused the token in service (401).

    Args:
        fingerprint: Of the refused token.

        cooling: True where the cool-down holds, so that no fetch was started and the token stays.
    """

    fingerprint: str
    cooling: bool


@final
@frozen()
class ShorterThanAsked(Event):
    """
    A caller asked for more life than any token of this source has, and got the longest obtainable.

    Args:
        min_ttl: Seconds asked for.

        remaining: Seconds given.
    """

    min_ttl: float
    remaining: float


@final
@frozen()
class StoreFailed(Event):
    """
    A store did not do what was asked of it.

    Args:
        operation: "begin", "read", "mark", "commit", "abandon", "renew", "open", "close" or "watch".

        error: Its class and words, scrubbed.

        outage: Whether the same step has failed before, for any key, and not succeeded since.
    """

    operation: str
    error: str
    outage: bool = False


@final
@frozen()
class FetchAmbiguous(Event):
    """
    A request was sent, perhaps by another process, and its answer never recorded: a refresh token may be spent.

    Args:
        sent_at: When it was about to be sent (epoch seconds).

        treated: What follows, by the policy of the source.

        outage: Whether its provider was down then, or is now, which `ProviderDown` has said for all keys.
    """

    sent_at: float
    treated: Ambiguity
    outage: bool = False


@final
@frozen()
class TokenUnpersisted(Event):
    """
    A fetched token could not be kept in the store, and lives in memory alone until that succeeds.

    Args:
        fingerprint: Tells the token apart.

        serving: Whether it is in service all the same.

        outage: Whether the store fails for other keys as well.
    """

    fingerprint: str
    serving: bool
    outage: bool = False


@final
@frozen()
class TokenRevoked(Event):
    """
    The key was signed out, here or by a peer.

    Args:
        by_peer: Whether another member of the fleet did it.
    """

    by_peer: bool

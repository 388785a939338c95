"""All events, as small frozen records. They contain no secret."""

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

#: Why a fetch was started. "peer" and "repair" only look at the store, unless a fetch turns out to be necessary.
Reason: TypeAlias = Literal[
    "absent", "due", "expired", "forced", "keep_alive", "min_ttl", "peer", "refused", "repair", "retry"
]

#: The action that follows a request whose answer was lost.
Ambiguity: TypeAlias = Literal["retry", "hold", "reject"]


@frozen()
class Event(Frozen):
    """
    The base class of all events.

    Args:
        at: When it happened (epoch seconds).

        key: The key that it concerns. It is None for the key of a single source, and for the manager as a whole.
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
    """The manager is closing and accepts no further callers."""


@final
@frozen()
class KeyOpened(Event):
    """A key was asked for the first time."""


@final
@frozen()
class KeyEvicted(Event):
    """A key was dropped, because nobody used it or because `forget` was called."""


@final
@frozen()
class FetchStarted(Event):
    """
    A fetch was started: the source is asked for a token.

    Args:
        reason: Why the token is fetched.
    """

    reason: Reason


@final
@frozen()
class TokenRefreshed(Event):
    """
    A fetch brought a token, which is now in service.

    Args:
        fingerprint: The fingerprint of the new token.

        expires_at: When the token expires (epoch seconds), if known.

        due_at: When it will be refreshed (epoch seconds). Infinite if no refresh is planned.

        took: Seconds from the start of the fetch to its answer.

        reason: Why the token was fetched.

        repeated: Whether the source returned the same token that was already in service.
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
    Another member of the fleet fetched a token, and it is now in service here.

    Args:
        fingerprint: The fingerprint of that token.

        expires_at: When the token expires (epoch seconds), if known.

        due_at: When it will be refreshed (epoch seconds).
    """

    fingerprint: str
    expires_at: float | None
    due_at: float


@final
@frozen()
class RefreshFailed(Event):
    """
    A fetch failed for a temporary reason.

    Args:
        error: The failure.

        failures: The number of failures in a row, including this one.

        retry_at: When the next attempt starts (epoch seconds).

        serving: Whether a valid token is still in service.

        took: Seconds from the start of the fetch to its failure. It is None if no source was asked.

        reason: Why the token was needed.

        outage: Whether the provider is down, which `ProviderDown` has already reported for all its keys.
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
    The authorization server rejected the grant: a person must act. It is sent once, not after each probe.

    Args:
        error: The rejection, with the error code of the server.

        retry_at: When the next probe starts (epoch seconds).

        serving: Whether a valid token is still in service.

        took: Seconds from the start of the fetch to the rejection. It is None if no source was asked.

        reason: Why the token was needed.
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
    The refresh token expires soon, and a refresh does not extend it: a person will have to log in again.

    Args:
        expires_at: When it expires (epoch seconds), as the server stated in `refresh_expires_in` or a similar field.
    """

    expires_at: float


@final
@frozen()
class TokenRefused(Event):
    """
    A resource server refused the token in service (401).

    Args:
        fingerprint: The fingerprint of the refused token.

        cooling: Whether a cool-down is in force, so that no fetch was started and the token stays in service.
    """

    fingerprint: str
    cooling: bool


@final
@frozen()
class ShorterThanAsked(Event):
    """
    A caller asked for more life than any token of this source has, and received the longest obtainable token.

    Args:
        min_ttl: The seconds that the caller asked for.

        remaining: The seconds that the token had left.
    """

    min_ttl: float
    remaining: float


@final
@frozen()
class StoreFailed(Event):
    """
    An operation of the store failed.

    Args:
        operation: "begin", "read", "mark", "commit", "abandon", "renew", "open", "close" or "watch".

        error: The class and the message of the exception, without secrets.

        outage: Whether the same step has failed before, for any key, and not succeeded since.
    """

    operation: str
    error: str
    outage: bool = False


@final
@frozen()
class FetchAmbiguous(Event):
    """
    A request was sent, perhaps by another process, and its answer was not recorded: a refresh token may be spent.

    Args:
        sent_at: When the request was about to be sent (epoch seconds).

        treated: The action that follows, by the policy of the source.

        outage: Whether the provider was down then or is down now, which `ProviderDown` has reported for all its keys.
    """

    sent_at: float
    treated: Ambiguity
    outage: bool = False


@final
@frozen()
class TokenUnpersisted(Event):
    """
    A fetched token could not be written to the store. It exists only in memory until a write succeeds.

    Args:
        fingerprint: The fingerprint of the token.

        serving: Whether the token is in service meanwhile.

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

"""The state of a key for the person whose login it is: for example connected, or in need of a new login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from evertoken._model.errors import GrantRejected
from evertoken._model.frozen import Frozen, frozen
from evertoken._model.grant_lifetime import GRANT_EXPIRES_AT, GRANT_ISSUED_AT, GRANT_REJECTED
from evertoken._model.parsing import number
from evertoken._model.token import origin_of

if TYPE_CHECKING:
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Record
    from evertoken._model.token import Token

__all__ = [
    "KeyStatus",
    "Status",
    "dies_at",
    "dying_at",
    "idle_lifetime_of",
    "is_dead_grant",
    "rejection_of",
    "status_of_record",
    "status_of_state",
    "with_rejection",
]

Status: TypeAlias = Literal["pending", "connected", "expiring", "failing", "needs_reconnect", "signed_out"]

# The end of a grant is announced when this part of its life is left.
_NOTICE: Final = 0.2

# Codes that concern the client and its configuration, not the login (RFC 6749 section 5.2).
_OF_THE_CLIENT: Final = frozenset({
    "invalid_request", "invalid_scope", "invalid_target", "unsupported_grant_type",
})  # fmt: skip


@final
@frozen()
class KeyStatus(Frozen):
    """
    The status of one key, to be shown on a status page. It holds no secret.

    Args:
        status: One of these words. "pending": nothing is known yet. "connected": all is well. "expiring": the grant
            expires soon, and refreshing does not extend it. "failing": no valid token, and a login would not help.
            "needs_reconnect": the server rejects the grant, so somebody must log in again. "signed_out": on purpose.

        since: The instant of the login, the sign-out or the first rejection, if known (epoch seconds).

        reason: The reason in words, unless the status is "connected" or "pending".

        expires_at: When the grant expires, either at a fixed time or if it is not used (epoch seconds), if known.
    """

    status: Status
    since: float | None = None
    reason: str | None = None
    expires_at: float | None = None


def is_dead_grant(error: BaseException | None, /) -> bool:
    """Tell whether *error* means that somebody must log in again, and not that the client is configured wrongly."""
    if not isinstance(error, GrantRejected):
        return False
    code = error.error.lower()
    return code not in _OF_THE_CLIENT and "client" not in code


def with_rejection(token: Token, error: GrantRejected, at: float, known: Token | None, /) -> Token:
    """
    Return *token* with the note that its refresh token was rejected at the instant *at*.

    Args:
        token: The token with the refresh token.

        error: The answer of the server.

        at: The instant of the rejection (epoch seconds).

        known: The token in the record of the store. If it already has the note, that note stays.
    """
    if token.refresh_token is None or rejection_of(token) is not None:
        return token
    before = None if known is None or known.refresh_token != token.refresh_token else rejection_of(known)
    note = before or {"at": at, "error": str(error), "of": origin_of(token.refresh_token)}
    return token.replace(extra={**token.extra, GRANT_REJECTED: dict(note)})


def rejection_of(token: Token | None, /) -> dict[str, Any] | None:
    """Return the note that says that the refresh token of *token* was rejected, if there is one."""
    note = None if token is None else token.extra.get(GRANT_REJECTED)
    if token is None or token.refresh_token is None or not isinstance(note, dict):
        return None
    return note if note.get("of") == origin_of(token.refresh_token) and number(note.get("at")) is not None else None


def idle_lifetime_of(source: object, /) -> float | None:
    """Return the seconds without use after which a grant of *source* expires, if its provider is known for that."""
    return number(getattr(source, "idle_lifetime", None))


def dies_at(token: Token, idle: float | None, /) -> tuple[float, bool] | None:
    """
    Return when the grant of *token* expires, and whether a refresh extends it, or None if that is not known.

    Args:
        token: The token that was received last.

        idle: The seconds without use after which a grant of its provider expires, if known.
    """
    dies, since = number(token.extra.get(GRANT_EXPIRES_AT)), number(token.extra.get(GRANT_ISSUED_AT))
    idle_at = None if idle is None else token.issued_at + idle
    if dies is None or since is None:
        return None if idle_at is None else (idle_at, True)
    if idle_at is not None and idle_at < dies:
        return idle_at, True
    # The grant was refreshed after the server had stated its end, and the end did not move.
    return dies, since >= token.issued_at


def dying_at(token: Token, now: float, /) -> float | None:
    """Return when the grant expires, if that is soon and the last refresh did not extend it."""
    found, since = dies_at(token, None), token.extra.get(GRANT_ISSUED_AT)
    if found is None or found[1] or since is None:
        return None
    dies, _ = found
    notice = max(2.0 * (token.lifetime or 0.0), _NOTICE * (dies - since))
    return dies if dies - now <= notice else None


def status_of_state(state: KeyState, now: float, /) -> KeyStatus:
    """Return the status of a key that is open."""
    failure, token = state.failure, state.token
    error = None if failure is None else failure.error
    login = state.since or None
    if failure is not None and state.signed_out:
        return KeyStatus(status="signed_out", since=login or failure.failed_at, reason=str(error))
    if failure is not None and is_dead_grant(error):
        note = rejection_of(token)
        since = failure.rejected_at if note is None else min(float(note["at"]), failure.rejected_at)
        return KeyStatus(status="needs_reconnect", since=since, reason=str(error))
    if error is not None and state.in_service(now) is None:
        died = None if token is None or not token.access_token else token.expires_at
        return KeyStatus(status="failing", since=died, reason=str(error))
    return KeyStatus(status="pending") if token is None else _status_of_token(token, login, now, None)


def status_of_record(record: Record | None, now: float, idle: float | None, /) -> KeyStatus:
    """Return the status of a key that is only known from *record*."""
    if record is None or (record.token is None and not record.revoked):
        return KeyStatus(status="pending")
    if record.revoked or record.token is None:
        return KeyStatus(status="signed_out", since=record.since or None, reason="the key was signed out")
    return _status_of_token(record.token, record.since or None, now, idle)


def _status_of_token(token: Token, login: float | None, now: float, idle: float | None) -> KeyStatus:
    note = rejection_of(token)
    if note is not None:
        return KeyStatus(status="needs_reconnect", since=float(note["at"]), reason=str(note.get("error", "rejected")))
    found = None if token.refresh_token is None else dies_at(token, idle)
    if found is None:
        return KeyStatus(status="connected", since=login)
    dies, put_off = found
    if dies <= now:
        why = "the grant was not used in time" if put_off else "the grant has expired"
        return KeyStatus(status="needs_reconnect", since=dies, reason=why, expires_at=dies)
    soon = dies - now <= _NOTICE * idle if put_off and idle is not None else dying_at(token, now) is not None
    if not soon:
        return KeyStatus(status="connected", since=login, expires_at=dies)
    why = (
        "the grant expires soon unless it is used"
        if put_off
        else "the grant expires soon, and a refresh does not extend it"
    )
    return KeyStatus(status="expiring", since=login, reason=why, expires_at=dies)

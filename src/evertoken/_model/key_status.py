"""How a key stands in the eyes of the person whose login it is: connected, to be connected again, signed out."""

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

# The part of a grant's life for which its end is announced.
_NOTICE: Final = 0.2

# Codes that are about the client and its configuration, and not about the login (RFC 6749 section 5.2).
_OF_THE_CLIENT: Final = frozenset({
    "invalid_request", "invalid_scope", "invalid_target", "unsupported_grant_type",
})  # fmt: skip


@final
@frozen()
class KeyStatus(Frozen):
    """
    How one key stands, for a status page. It holds no secret.

    Args:
        status: "pending" (nothing is known yet), "connected", "expiring" (the grant dies soon, and refreshing does not
            put that off), "failing" (no valid token, for a reason that no login cures), "needs_reconnect" (the server
            rejects the grant: somebody must log in again) or "signed_out" (on purpose).

        since: Since when, as far as is known (epoch seconds): of the login, the sign-out or the first rejection.

        reason: Why, in words, where it is not "connected" or "pending".

        expires_at: When the grant dies unless it is used, or whatever is done (epoch seconds), if known.
    """

    status: Status
    since: float | None = None
    reason: str | None = None
    expires_at: float | None = None


def is_dead_grant(error: BaseException | None, /) -> bool:
    """Tell whether *error* says that somebody must log in again, and not that the client is set up wrongly."""
    if not isinstance(error, GrantRejected):
        return False
    code = error.error.lower()
    return code not in _OF_THE_CLIENT and "client" not in code


def with_rejection(token: Token, error: GrantRejected, at: float, known: Token | None, /) -> Token:
    """
    Return *token* with the note that its refresh token was rejected at the instant *at*.

    Args:
        token: What holds the refresh token.

        error: What the server said.

        at: When (epoch seconds).

        known: What is on record. If it has the note already, that one stays.
    """
    if token.refresh_token is None or rejection_of(token) is not None:
        return token
    before = None if known is None or known.refresh_token != token.refresh_token else rejection_of(known)
    note = before or {"at": at, "error": str(error), "of": origin_of(token.refresh_token)}
    return token.replace(extra={**token.extra, GRANT_REJECTED: dict(note)})


def rejection_of(token: Token | None, /) -> dict[str, Any] | None:
    """Return the note that the refresh token of *token* was rejected, if there is one."""
    note = None if token is None else token.extra.get(GRANT_REJECTED)
    if token is None or token.refresh_token is None or not isinstance(note, dict):
        return None
    return note if note.get("of") == origin_of(token.refresh_token) and number(note.get("at")) is not None else None


def idle_lifetime_of(source: object, /) -> float | None:
    """Return after how many seconds without use a grant of *source* dies, if its provider is known for that."""
    return number(getattr(source, "idle_lifetime", None))


def dies_at(token: Token, idle: float | None, /) -> tuple[float, bool] | None:
    """
    Return when the grant of *token* dies, and whether a refresh puts that off; None where that is not known.

    Args:
        token: What was received last.

        idle: After how many seconds without use a grant of its provider dies, if known.
    """
    dies, since = number(token.extra.get(GRANT_EXPIRES_AT)), number(token.extra.get(GRANT_ISSUED_AT))
    idle_at = None if idle is None else token.issued_at + idle
    if dies is None or since is None:
        return None if idle_at is None else (idle_at, True)
    if idle_at is not None and idle_at < dies:
        return idle_at, True
    # A refresh that came after the server had said it did not put it off.
    return dies, since >= token.issued_at


def dying_at(token: Token, now: float, /) -> float | None:
    """Return when the grant dies, if that is soon and the last refresh did not put it off."""
    found, since = dies_at(token, None), token.extra.get(GRANT_ISSUED_AT)
    if found is None or found[1] or since is None:
        return None
    dies, _ = found
    notice = max(2.0 * (token.lifetime or 0.0), _NOTICE * (dies - since))
    return dies if dies - now <= notice else None


def status_of_state(state: KeyState, now: float, /) -> KeyStatus:
    """Return how a key that is open stands."""
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
    """Return how a key stands of which only the *record* is known."""
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
    why = "the grant dies soon unless it is used" if put_off else "the grant dies soon, and no refresh puts that off"
    return KeyStatus(status="expiring", since=login, reason=why, expires_at=dies)

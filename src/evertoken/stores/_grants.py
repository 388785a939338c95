"""
Records whose tokens stand in places that the user's program reads and writes too: columns of a table, fields of a dict.

The rest of a record stands beside them, with a digest of each secret that it lacks. So it shows whether the program has
written other tokens since: a login, or a sign-out.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from evertoken._model.identity import digest_of
from evertoken._model.key_state import TICK
from evertoken._model.protocols import Record
from evertoken._model.token import Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["PLAIN", "SECRETS", "found_login", "joined", "plain_of", "without_secrets"]

#: The fields of a token that a user's program may have in places of its own.
SECRETS: Final = ("access_token", "refresh_token")
PLAIN: Final = (*SECRETS, "expires_at", "scope", "token_type")


def plain_of(record: Record, names: Iterable[str], /) -> dict[str, Any]:
    """Return the fields of the token of *record* that have these *names*. Without a token, each of them is None."""
    return {name: getattr(record.token, name, None) or None for name in names}


def without_secrets(record: Record, names: Iterable[str], /) -> Record:
    """Return *record* with a digest in place of each secret that *names* has."""
    token = record.token
    if token is None:
        return record
    held = {name: getattr(token, name) for name in SECRETS if name in names}
    digests = {name: digest_of(value) for name, value in held.items() if value}
    return dataclasses.replace(record, token=token.replace(**digests))


def joined(record: Record, plain: Mapping[str, Any], /) -> Record | None:
    """
    Return *record* with the secrets that *plain* has.

    If they differ from the secrets that it was written with, return None.
    """
    token = record.token
    values = {name: plain[name] or None for name in SECRETS if name in plain}
    for name, value in values.items():
        if (getattr(token, name, None) or None) != (None if value is None else digest_of(value)):
            return None
    if token is None:
        return record
    return dataclasses.replace(record, token=token.replace(**{name: value for name, value in values.items() if value}))


def found_login(
    key: str, before: Record | None, plain: Mapping[str, Any], now: float, /, *, since: float
) -> Record | None:
    """
    Return the record that stands for what the user's program wrote.

    New tokens are a login. No tokens, where there were some, are a sign-out. None means that there is no grant.

    Args:
        key: The store's key.

        before: The record that was there before.

        plain: The fields of a token that the program wrote. *expires_at* is an instant.

        now: When that was noticed (epoch seconds).

        since: When the person decided at the latest, if that can be kept: each who notices must say the same.
    """
    access, refresh = plain.get("access_token") or "", plain.get("refresh_token") or None
    if before is None:
        before = Record(key, 0, None)
        if not access and refresh is None:
            return None
    since = max(since, before.since + TICK)
    if not access and refresh is None:
        return dataclasses.replace(
            before, version=before.version + 1, token=None, sent_at=None, sent_by=None, revoked=True, since=since
        )
    if "refresh_token" not in plain and before.token is not None:
        refresh = before.token.refresh_token
    # Without an access token only the refresh token is of use.
    expires_at = plain.get("expires_at") if access else now
    token = Token(
        access,
        issued_at=now if expires_at is None else min(now, expires_at),
        expires_at=expires_at,
        refresh_token=refresh,
        token_type=plain.get("token_type") or "Bearer",
        scope=plain.get("scope") or None,
    )
    return Record(key, before.version + 1, token, since=since, origins=before.origins, generation=before.generation + 1)

"""
An authorization server that revokes a whole grant when a spent refresh token is presented, and what members know of it.

A refresh token is named `key|login|number`. Each use of number *n* gives number *n + 1* of the same login.
"""

from __future__ import annotations

import asyncio
from typing import Any

from evertoken import GrantRejected, Token


class Server:
    """Issues tokens. With `rotating` each refresh token is good once."""

    def __init__(self, *, rotating: bool, lifetime: float = 60.0) -> None:
        self.rotating = rotating
        self.lifetime = lifetime
        self.issued = 0
        self.taken = 0
        self.current: dict[str, int] = {}
        self.revoked: set[str] = set()
        self.replays: list[str] = []
        #: When each access token expires, by the loop's clock, which no fault sets.
        self.expiry: dict[str, float] = {}

    def log_in(self, key: object, login: int) -> str:
        """Begin a grant, and return its first refresh token."""
        grant = f"{key}|{login}"
        self.current.setdefault(grant, 0)
        return f"{grant}|0"

    def take(self, presented: str | None) -> dict[str, Any]:
        """Answer a request. From here on the refresh token that it presents is spent."""
        self.taken += 1
        answer: dict[str, Any] = {"token_type": "Bearer", "expires_in": self.lifetime}
        if presented is not None:
            grant, number = split(presented)
            if grant not in self.revoked and number != self.current[grant]:
                self.replays.append(presented)
                self.revoked.add(grant)
            if grant in self.revoked:
                raise GrantRejected("invalid_grant", "the refresh token is spent")
            self.current[grant] = number + 1
            answer["refresh_token"] = f"{grant}|{number + 1}"
        self.issued += 1
        access_token = f"at-{self.issued}"
        self.expiry[access_token] = asyncio.get_running_loop().time() + self.lifetime
        return {**answer, "access_token": access_token}


def split(refresh_token: str) -> tuple[str, int]:
    """Return the grant and the number of a refresh token."""
    grant, _, number = refresh_token.rpartition("|")
    return grant, int(number)


class Knowledge:
    """The newest refresh token of each grant that one process has received or read, and the request that it lacks."""

    def __init__(self) -> None:
        self.newest: dict[str, int] = {}
        #: Access tokens that it has received itself. Their instants are of its own clocks.
        self.own: set[str] = set()
        self.unanswered: set[str] = set()

    def learn(self, refresh_token: str | None) -> None:
        if refresh_token is not None:
            grant, number = split(refresh_token)
            self.newest[grant] = max(number, self.newest.get(grant, 0))

    def forget(self, key: object, kept: Token | None) -> None:
        """Know nothing of *key* any more but the token that was kept."""
        for grant in [grant for grant in self.newest if grant.startswith(f"{key}|")]:
            del self.newest[grant]
        # The store gives it back with the instants of a clock that may have been set since.
        self.own.clear()
        self.learn(None if kept is None else kept.refresh_token)


def not_to_be_presented(presented: str, known: Knowledge, stored: str | None) -> str | None:
    """
    Return why *presented* must not be presented, or None if nobody in this position could have known that it is spent.

    This is the whole rule. A process knows the answers that it has received and the records that it has read. It could
    know the content of the store at the moment when the request leaves. It cannot know of an answer that only another
    process has (which was killed, or is stopped, or finds the store down), nor of one that a flush has destroyed.
    """
    grant, number = split(presented)
    if known.newest.get(grant, 0) > number:
        return f"presented {presented}, although it knew number {known.newest[grant]}"
    if stored is not None and split(stored)[0] == grant and split(stored)[1] > number:
        return f"presented {presented}, although the store had {stored}"
    return None

"""
An authorization server whose refresh tokens are good once, and a source for which each answer has a fate of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from evertoken import GrantRejected, Token, TokenError, TokenManager

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evertoken import FetchRequest
    from evertoken.testing import VirtualClock

#: The possible fates of an answer that left the server with the next refresh token.
KEPT: dict[str, dict[str, Any]] = {
    "whole": {},
    "dead": {"expires_in": 0},
    "negative": {"expires_in": -60},
    "ended long ago": {"expires_in": None, "expires_at": 1000.0},
    "of a type that is not understood": {"token_type": "mac"},
    "without an access token": {"access_token": None},
    "with an empty access token": {"access_token": ""},
    "with an access token that is a number": {"access_token": 17},
    "with an access token no header can carry": {"access_token": "a\r\nb"},
    "of a type that is a list": {"token_type": ["Bearer"]},
}


class Server:
    """Each use of a refresh token brings another. A spent one that is presented again ends the whole family."""

    def __init__(self, clock: VirtualClock, *, lifetime: float = 100.0) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.presented: list[str] = []
        self.replays: list[str] = []
        self.issued = 0
        self._good: dict[str, str] = {}
        self._spent: dict[str, str] = {}

    def login(self, family: str = "family") -> str:
        """Begin a family, and return its first refresh token."""
        first = f"{family}-0"
        self._good[first] = family
        return first

    def good_of(self, family: str = "family") -> str | None:
        """Return the refresh token of *family* that is good now."""
        return next((token for token, one in self._good.items() if one == family), None)

    def exchange(self, presented: str) -> dict[str, Any]:
        """Spend *presented*, and return the fields of the answer."""
        self.presented.append(presented)
        if presented in self._spent:
            self.replays.append(presented)
            family = self._spent[presented]
            self._good = {token: one for token, one in self._good.items() if one != family}
            raise GrantRejected("invalid_grant", "reused")
        if presented not in self._good:
            raise GrantRejected("invalid_grant", "unknown")
        family = self._good.pop(presented)
        self._spent[presented] = family
        self.issued += 1
        following = f"{family}-{self.issued}"
        self._good[following] = family
        return {
            "access_token": f"access-{self.issued}",
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "refresh_token": following,
        }


class Source:
    """
    Presents the refresh token. `fates` says, by the number of the fetch, what becomes of its answer.

    Besides those of `KEPT` there are: "lost" (it never comes), "late" (it comes although the fetch was cancelled),
    "stubborn" (it comes 3 s after the fetch was cancelled), "received" (it came, and its connection never ends),
    "broken" (it came, and its connection then breaks), and "down" (the request never left).
    """

    def __init__(
        self,
        server: Server,
        initial: str,
        *,
        fates: dict[int, str] | None = None,
        latency: float = 0.3,
        rotates: bool | None = True,
        on_ambiguous: str | None = None,
    ) -> None:
        self.server = server
        self.initial = initial
        self.fates = {} if fates is None else fates
        self.latency = latency
        self.rotates = rotates
        self.on_ambiguous = on_ambiguous
        self.fetches = 0
        self.revoked: list[str | None] = []
        self.asked_at: list[float] = []

    async def fetch(self, request: FetchRequest, /) -> Any:
        self.fetches += 1
        self.asked_at.append(self.server.clock.time())
        fate = self.fates.get(self.fetches, "whole")
        if fate == "down":
            raise ConnectionRefusedError
        presented = request.refresh_token_for(self.initial)
        request.sending()
        await asyncio.sleep(self.latency / 2.0)
        fields = self.server.exchange(presented)
        if fate in KEPT:
            await asyncio.sleep(self.latency / 2.0)
            return fields | KEPT[fate]
        if fate == "received":
            request.received(fields)
        if fate == "broken":
            request.received(fields)
            raise ConnectionResetError
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if fate == "late":
                return fields
            if fate == "stubborn":
                await asyncio.sleep(3.0)
                return fields
            raise

    async def revoke(self, token: Token, /) -> None:
        self.revoked.append(token.refresh_token)


async def ask(tokens: TokenManager[Any, Any], *key: Any) -> Token | None:
    """Ask as a caller would. Return None if there is no token."""
    with contextlib.suppress(TokenError):
        return await tokens.get(*key)
    return None


async def live(clock: VirtualClock, tokens: Iterable[TokenManager[Any, Any]], seconds: float) -> Token | None:
    """Let time pass, while somebody asks each member every few seconds; return the last token of the last one."""
    found: Token | None = None
    end = clock.time() + seconds
    members = list(tokens)
    while clock.time() < end:
        await clock.advance(7.0)
        for one in members:
            found = await ask(one)
    return found


def scheduled(tokens: TokenManager[Any, Any], key: Any = None) -> bool:
    """Tell whether the key has a flight or a deadline."""
    state = tokens._life.registry.keys[key]
    return state.flight is not None or state.deadline is not None

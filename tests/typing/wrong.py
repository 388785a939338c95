"""Mistakes that a type checker must find. Each line is marked as an error, and an unused mark is one too."""

from __future__ import annotations

from evertoken import FetchRequest, RefreshPolicy, Token, TokenManager
from evertoken.sources import OAuthClient


async def pair() -> tuple[str, float]:
    return "token", 3600.0


class Number:
    async def fetch(self, request: FetchRequest, /) -> int:
        return 7


async def single(tokens: TokenManager[Token, None]) -> None:
    await tokens.get("key")  # type: ignore[call-overload]
    await tokens.get(min_ttl="600")  # type: ignore[call-overload]
    assert tokens.start_mode  # type: ignore[attr-defined]
    text: str = await tokens.get()  # type: ignore[assignment]
    await tokens.put("token")  # type: ignore[arg-type]
    assert text


async def keyed(tokens: TokenManager[Token, str]) -> None:
    await tokens.get()  # type: ignore[call-arg]
    await tokens.get(7)  # type: ignore[arg-type]


def made_wrong() -> None:
    TokenManager(7)  # type: ignore[call-overload]
    TokenManager(Number())  # type: ignore[call-overload]
    TokenManager(pair, start="eager")  # type: ignore[call-overload]
    TokenManager(pair, lead_time=300)  # type: ignore[call-overload]
    TokenManager(pair, store=object(), namespace="")  # type: ignore[call-overload]
    TokenManager({"a": 7})  # type: ignore[arg-type]
    RefreshPolicy(300)  # type: ignore[call-arg]
    OAuthClient(token_endpoint="https://as.example.com/token", client_id="id", client_auth="basic")  # type: ignore[arg-type]

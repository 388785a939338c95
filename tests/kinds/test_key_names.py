"""K5: different keys never share a token, and a key that a store cannot keep is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from evertoken import Token, TokenManager
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])

KEYS: list[Any] = [
    "a", "A", "", " ", "a ", "a\x00", "\x00", "\xe9", "e\u0301", "\U0001f600", "\ud7ff", "1", 1, 1.5, "1.5", "null",
    "true", "[1]", '"a"', '["",1]', ("a",), ("a", "b"), ("a", ("b",)), (("a", "b"),), ("a,b",), (), ((),), ("",),
    "()", "a" * 5000, "a" * 5001, "a/b", "../a", "a:b", "%41", 1000000000000000000000000000000,
    "1000000000000000000000000000000", -1, "-1", "\n", "\r\n", "'", "\\", "\\u00e9", "\U0010ffff",
]  # fmt: skip


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
async def test_each_key_has_its_own_token(clock, shared):
    """K5: no two different keys share a token, whatever they are made of."""

    def source_for(key):
        async def fetch():
            return f"token-{KEYS.index(key)}", 600.0

        return fetch

    store = MemoryStore(clock=clock) if shared else None
    for _ in range(2):
        async with TokenManager(source_for=source_for, clock=clock, store=store, namespace="") as tokens:
            for at, key in enumerate(KEYS):
                assert (await tokens.get(key)).access_token == f"token-{at}"
            for at, key in enumerate(KEYS):
                assert tokens.peek(key).access_token == f"token-{at}"


WRONG = {
    "half a pair": ("\ud83d", ValueError),
    "the other half": ("\ude00", ValueError),
    "both halves": ("\ud83d\ude00", ValueError),
    "inside a tuple": (("a", ("\ud83d",)), ValueError),
    "bytes": (b"a", TypeError),
    "a set": (frozenset({"a"}), TypeError),
    "an object": (object(), TypeError),
    "bytes in a tuple": (("a", b"a"), TypeError),
    "a function": (len, TypeError),
}


@plain
@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("call", ["get", "refresh", "subscribe", "put"])
async def test_keys_that_no_store_can_keep(clock, case, call):
    """K5: with a store a key that it cannot tell from others is refused, and without one it is as good as any."""
    key, error = WRONG[case]

    async def use(tokens):
        if call == "subscribe":
            return await anext(tokens.subscribe(key))
        if call == "put":
            now = clock.time()
            await tokens.put(Token("token", issued_at=now, expires_at=now + 60.0), key)
            return tokens.peek(key)
        return await getattr(tokens, call)(key)

    async with TokenManager(source_for=lambda _: lambda: ("token", 60.0), clock=clock) as tokens:
        assert (await use(tokens)).access_token == "token"
    async with TokenManager(
        source_for=lambda _: lambda: ("token", 60.0), clock=clock, store=MemoryStore(clock=clock), namespace=""
    ) as tokens:
        with pytest.raises(error):
            await use(tokens)
        assert tokens.snapshot().keys in ((), {}, [])

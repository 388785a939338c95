"""K5: different keys never share a token, and what may be equal to another key is refused by its type."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from evertoken import Token, TokenManager
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])

KEYS: list[Any] = [
    "a", "A", "", " ", "a ", "a\x00", "\x00", "\xe9", "e\u0301", "\U0001f600", "\ud7ff", "1", 1, 0, "1.5", "null",
    "true", "[1]", '"a"', '["",1]', ("a",), ("a", "b"), ("a", ("b",)), (("a", "b"),), ("a,b",), (), ((),), ("",),
    "()", "a" * 5000, "a" * 5001, "a/b", "../a", "a:b", "%41", 1000000000000000000000000000000, (1,), ("1",), (0,),
    "1000000000000000000000000000000", -1, "-1", "\n", "\r\n", "'", "\\", "\\u00e9", "\U0010ffff", (None,), ("a", None),
    "None", ("None",), ("null",), "\ufb01", "fi", "\u212a", "K", "k", "\u0130", "i", "I", "\xdf", "ss", "\u200b",
    "\ufeff",
]  # fmt: skip


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
async def test_each_key_has_its_own_token(clock, shared):
    """K5: two different keys never share a token, for all types of keys."""

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
                token = tokens.peek(key)
                assert token is not None
                assert token.access_token == f"token-{at}"


class Text(str):
    """Equal to the text that it is made of."""

    __slots__ = ()


class Number(int):
    """Equal to the number that it is made of."""


class Anything:
    """Equal to everything, under the hash of a key."""

    def __init__(self, hashed: object) -> None:
        self.hashed = hashed

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(self.hashed)


class Shouting(str):
    """Equal to a text that is spelled in another case."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str(other).lower() == self.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


@dataclass(frozen=True)
class Tenant:
    name: object


class Level(enum.IntEnum):
    ONE = 1


class Name(enum.StrEnum):
    A = "a"


class Kind(enum.Enum):
    A = "a"


Pair = namedtuple("Pair", "one two")  # noqa: PYI024 - equal to a tuple

# Objects that equal a key in use, and the key. All types that are not the built-in ones are refused with them.
EQUAL: dict[str, tuple[Any, Any]] = {
    "True": (True, 1),
    "False": (False, 0),
    "float": (1.0, 1),
    "minus zero": (-0.0, 0),
    "large float": (2.0**70, 2**70),
    "Decimal": (Decimal(1), 1),
    "Decimal with digits": (Decimal("1.00"), 1),
    "Fraction": (Fraction(3, 3), 1),
    "complex": (1 + 0j, 1),
    "str subclass": (Text("a"), "a"),
    "str subclass of another case": (Shouting("A"), "a"),
    "int subclass": (Number(1), 1),
    "IntEnum": (Level.ONE, 1),
    "StrEnum": (Name.A, "a"),
    "equal to all": (Anything("a"), "a"),
    "equal to a tuple": (Anything(("a", 1)), ("a", 1)),
    "named tuple": (Pair("a", 1), ("a", 1)),
    "True in a tuple": (("a", True), ("a", 1)),
    "float in a tuple": ((1.0,), (1,)),
    "deep in a tuple": (((("a", (Decimal(1),)),),), ((("a", (1,)),),)),
    "subclass in a tuple": ((Text("a"), 1), ("a", 1)),
    "member in a tuple": ((Name.A, Level.ONE), ("a", 1)),
    "equal to all, in a tuple": (("a", Anything(1)), ("a", 1)),
    "equal to nothing asked for": (Anything(None), "a"),
}


async def asked(tokens: TokenManager[Any, Any], call: str, key: Any, now: float) -> Any:
    if call == "subscribe":
        return await anext(tokens.subscribe(key))
    if call == "put":
        return await tokens.put(Token("token", issued_at=now, expires_at=now + 60.0), key)
    if call == "refused":
        return await tokens.refused(Token("token", issued_at=now), key)
    if call == "invalidate":
        return await tokens.invalidate("token", key)
    found = getattr(tokens, call)(key)
    return await found if hasattr(found, "__await__") else found


CALLS = [
    "get", "peek", "get_sync", "refresh", "refused", "invalidate", "forget", "revoke", "put", "subscribe", "handle",
    "auth",
]  # fmt: skip


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("case", EQUAL)
async def test_what_is_equal_to_a_key_is_not_the_key(clock, case, shared):
    """K5: a value of another type that is equal to a key in use is refused by every call, and served by none."""
    wrong, right = EQUAL[case]
    store = MemoryStore(clock=clock) if shared else None

    async with TokenManager(
        source_for=lambda _: lambda: ("token", 600.0), clock=clock, store=store, namespace=""
    ) as tokens:
        served = await tokens.get(right)
        for call in CALLS:
            with pytest.raises(TypeError, match="a key must be a str, an int or a tuple of these, not a "):
                await asked(tokens, call, wrong, clock.time())
        assert await tokens.get(right) is served
        assert list(tokens.snapshot().keys) == [right]
    with pytest.raises(TypeError, match="a key must be"):
        TokenManager({wrong: lambda: ("token", 60.0)}, store=store, namespace="", clock=clock)


DEEP: Any = ()
for _ in range(5000):
    DEEP = (DEEP,)
WRONG = {
    "half a pair": ("\ud83d", ValueError, "has half a surrogate pair"),
    "the other half": ("\ude00", ValueError, "has half a surrogate pair"),
    "both halves": ("\ud83d\ude00", ValueError, "has half a surrogate pair"),
    "inside a tuple": (("a", ("\ud83d",)), ValueError, "has half a surrogate pair"),
    "a number of 5,000 digits": (10**5000, ValueError, "can be written"),
    "a tuple in a tuple in a tuple": (DEEP, ValueError, "can be written"),
    "bytes": (b"a", TypeError, "not a bytes"),
    "NaN": (float("nan"), TypeError, "not a float"),
    "a number with a fraction": (1.5, TypeError, "not a float"),
    "infinity": (float("inf"), TypeError, "not a float"),
    "a set": (frozenset({"a"}), TypeError, "not a frozenset"),
    "a UUID": (UUID(int=1), TypeError, "not a UUID"),
    "an object": (object(), TypeError, "not a object"),
    "a frozen dataclass": (Tenant("a"), TypeError, "not a Tenant"),
    "one that holds a bool": (Tenant(True), TypeError, "not a Tenant"),
    "a member of an enum": (Kind.A, TypeError, "not a Kind"),
    "bytes in a tuple": (("a", b"a"), TypeError, "not a bytes, which is in a tuple"),
    "NaN in a tuple": ((float("nan"),), TypeError, "not a float, which is in a tuple"),
    "a function": (len, TypeError, "not a builtin_function_or_method"),
}


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("case", WRONG)
async def test_what_is_no_key(clock, case, shared):
    """K5: an invalid key is refused with the reason, with and without a store, and opens nothing."""
    key, error, says = WRONG[case]
    store = MemoryStore(clock=clock) if shared else None
    async with TokenManager(
        source_for=lambda _: lambda: ("token", 60.0), clock=clock, store=store, namespace=""
    ) as tokens:
        for call in CALLS:
            with pytest.raises(error, match=says):
                await asked(tokens, call, key, clock.time())
        assert tokens.snapshot().keys == {}


@pytest.mark.parametrize("namespace", ["\ud83d", "a\ude00", "\ud83d\ude00"])
def test_what_is_no_namespace(namespace):
    """K5: a namespace that looks like another once it is written is refused."""
    with pytest.raises(ValueError, match="namespace must be text that UTF-8 can write"):
        TokenManager(lambda: ("token", 60.0), namespace=namespace)


@plain
async def test_a_single_token_takes_no_key(clock):
    """K5: if there is one token, no key finds it, not even an object that equals None."""
    async with TokenManager(lambda: ("token", 60.0), clock=clock) as tokens:
        await tokens.get()
        wrong: list[Any] = ["a", 0, False, (), Anything(None)]
        for key in wrong:
            with pytest.raises(TypeError, match="takes no key"):
                await tokens.get(key)
            with pytest.raises(TypeError, match="takes no key"):
                tokens.peek(key)

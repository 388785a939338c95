"""K5: different namespaces, keys and identities, of any type, have different names and tokens."""

from __future__ import annotations

import asyncio
import unicodedata
from typing import Any

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from evertoken import TokenManager
from evertoken._coordination.store_client import store_key
from evertoken._model.identity import digest_of, identity_from
from evertoken._model.key import check_key, is_key
from evertoken.stores import MemoryStore
from evertoken.stores._files import _name_of
from evertoken.testing import VirtualClock
from evertoken.testing.loop import VirtualTimeLoop

# Text with everything in it, halves of surrogate pairs and characters that are spelled in several ways included.
ANY_TEXT = st.text(st.characters(categories=None) | st.sampled_from('\ud83d\ude00\U0001f600\\",[]{}u\xe9e\u0301\x00'))
TEXT = st.text() | st.text(st.sampled_from('aA\xe9e\u0301K\u212a\\",[]{}:/.\x00 '))
NUMBER = st.integers() | st.integers(-3, 3)
KEY = st.recursive(TEXT | NUMBER, lambda inner: st.lists(inner | st.none(), max_size=4).map(tuple), max_leaves=8)
LEAF = (
    TEXT | NUMBER | st.booleans() | st.floats() | st.decimals() | st.fractions() | st.binary() | st.uuids()
    | st.frozensets(NUMBER)
)  # fmt: skip
ANYTHING = st.recursive(LEAF | st.none(), lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)
NAMED = st.tuples(TEXT, st.none() | KEY, st.none() | ANY_TEXT)


@settings(max_examples=500)
@given(NAMED, NAMED)
@example(("", "a", None), ("", ("a",), None))
@example(("a", "b", None), ("a", ("b", None), None))
@example(("", 1, None), ("", "1", None))
@example(("", None, "x"), ("", None, None))
@example(("", "a", "\ud83d\ude00"), ("", "a", "\U0001f600"))
@example(("", "\xe9", None), ("", "e\u0301", None))
def test_different_names_in_a_store(one, other):
    """K5: namespace, key and identity can be told from a name; it is ASCII, so no collation takes two for one."""
    names = store_key(*one), store_key(*other)
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert name.isascii()
        assert name.isprintable()
        assert unicodedata.normalize("NFKC", name) == name
    files = [_name_of(name) for name in names]
    assert (files[0].casefold() == files[1].casefold()) == (names[0] == names[1])


@settings(max_examples=500)
@given(ANYTHING, ANYTHING)
@example(1, True)
@example((1,), (1.0,))
@example(0, -0.0)
def test_keys_that_are_equal_are_the_same(one, other):
    """K5: of two values that a dict takes for one, both are of the same types, or one of them is no key."""
    if is_key(one) and is_key(other):
        assert (one == other) == (repr(one) == repr(other))
    for value in (one, other):
        if is_key(value):
            check_key(value)
        else:
            with pytest.raises(TypeError):
                check_key(value)


@settings(max_examples=300)
@given(st.lists(ANY_TEXT, max_size=4), st.lists(ANY_TEXT, max_size=4))
@example(["\ud83d\ude00"], ["\U0001f600"])
@example(["a", "b"], ["a,b"])
@example(['a","b'], ["a", "b"])
def test_different_identities(one, other):
    """K5: sources whose parts differ state different identities, which have different digests."""
    stated = identity_from("kind", *one), identity_from("kind", *other)
    assert (stated[0] == stated[1]) == (one == other)
    digests = [digest_of(str(identity)) for identity in stated]
    assert (digests[0] == digests[1]) == (one == other)
    mappings = [identity_from("kind", dict(enumerate_text(parts))) for parts in (one, other)]
    assert (mappings[0] == mappings[1]) == (one == other)


def enumerate_text(parts: list[str]) -> list[tuple[str, str]]:
    return [(str(at), part) for at, part in enumerate(parts)]


class Source:
    """One whose tokens say whose they are."""

    rotates = False

    def __init__(self, token: str, identity: str | None) -> None:
        self.token = token
        if identity:
            self.identity = identity

    async def fetch(self, _request: object) -> dict[str, Any]:
        return {"access_token": self.token, "expires_in": 600}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, KEY, st.text(min_size=1)), min_size=2, max_size=5))
def test_different_tokens(named):
    """K5: managers of any namespaces, keys and identities on one store serve each its own token, and no other's."""
    unique = list({repr(one): one for one in named}.values())
    assume(len(unique) > 1)

    async def check() -> None:
        clock = VirtualClock()
        store = MemoryStore(clock=clock)
        for _ in range(2):
            for at, (namespace, key, identity) in enumerate(unique):
                source = Source(f"token-{at}", identity)
                async with TokenManager({key: source}, store=store, namespace=namespace, clock=clock) as tokens:
                    assert (await tokens.get(key)).access_token == f"token-{at}"

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(check())

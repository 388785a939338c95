"""A client's memory of the tokens that it was given, and objects that refuse to be copied."""

from __future__ import annotations

import copy
import pickle

import pytest

from evertoken import Token
from evertoken.clients._given import Given
from evertoken.clients._uncopied import Uncopied

TOKENS = [Token(f"secret-{number}", issued_at=0.0) for number in range(9)]


def test_the_last_tokens_are_found():
    """U1: A late refusal is of a token before this one. The eighth before is forgotten."""
    given = Given()
    assert given.last is None
    assert given.find("secret-0") is None
    for token in TOKENS:
        assert given.note(token) is token
    assert given.last is TOKENS[8]
    assert given.find("secret-0") is None
    assert all(given.find(token.access_token) is token for token in TOKENS[1:])


def test_a_token_that_comes_again_takes_one_place():
    """U1: Two loops that are given an old and a new token in turn do not make others forgotten."""
    given = Given()
    for _ in range(9):
        for token in TOKENS[:2]:
            given.note(token)
    assert given.find("secret-0") is TOKENS[0]
    assert given.last is TOKENS[1]
    given.note(TOKENS[2])
    assert given.find("secret-1") is TOKENS[1]


def test_no_token_is_shown():
    """S1: The attributes show fingerprints."""
    given = Given()
    given.note(TOKENS[0])
    assert "secret" not in repr(vars(given))


def test_a_copy_is_the_same():
    """U1: A copy of the options of a client holds the same object, and each process has an object of its own."""
    one = Uncopied()
    assert copy.copy(one) is copy.deepcopy(one) is one
    with pytest.raises(TypeError, match="Uncopied refers to a manager and cannot be pickled: make one in each process"):
        pickle.dumps(one)

"""The tree of errors, and what each carries."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import evertoken
from evertoken import (
    GrantRejected,
    ManagerClosed,
    OriginRefused,
    TokenError,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken._model import errors

LEAVES = [GrantRejected, ManagerClosed, OriginRefused, TokenUnavailable, TransientRefreshError]
EXAMPLES = [
    GrantRejected("invalid_grant"),
    GrantRejected("invalid_grant", "gone", "https://as.example/why"),
    GrantRejected(error="invalid_grant", error_description="gone"),
    ManagerClosed("closed"),
    OriginRefused("elsewhere"),
    TokenError("any"),
    TokenUnavailable("none"),
    TokenUnavailable("none", retry_at=7.5),
    TransientRefreshError("down"),
    TransientRefreshError("down", retry_after=30, ambiguous=True),
]


def test_tree():
    """F4: all errors are siblings under TokenError, none is a kind of another, and none is a kind of misuse."""
    defined = {
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if found.__module__ == "evertoken._model.errors"
    }
    assert defined == {TokenError, *LEAVES}
    for leaf in LEAVES:
        assert leaf.__bases__ == (TokenError,)
        assert leaf.__final__ is True
        assert not issubclass(leaf, RuntimeError | LookupError | ValueError | TypeError | OSError)
    assert TokenError.__bases__ == (Exception,)


def test_all_are_public():
    """R4: every error a caller may meet can be imported from the root, and is listed in its module."""
    assert set(errors.__all__) == {error.__name__ for error in (TokenError, *LEAVES)}
    assert set(errors.__all__) <= set(evertoken.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=[f"{n}-{type(one).__name__}" for n, one in enumerate(EXAMPLES)])
@pytest.mark.parametrize("via", ["copy", "deepcopy", *range(pickle.HIGHEST_PROTOCOL + 1)])
def test_round_trips(error, via):
    """S1: an error survives pickling and copying with all it carries, which is scalars alone."""
    again = pickle.loads(pickle.dumps(error, via)) if isinstance(via, int) else getattr(copy, via)(error)
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert all(value is None or isinstance(value, str | int | float | bool) for value in vars(error).values())


def test_no_foreign_exception_travels_along():
    """S1: what is pickled of an error takes no cause and no context with it."""
    error = TokenUnavailable("none", retry_at=1.0)
    error.__cause__ = error.__context__ = OSError("s3cr3t")
    assert b"s3cr3t" not in pickle.dumps(error)


def test_messages():
    """F4: a rejection says the RFC's code and the server's words; the attributes hold them apart."""
    assert str(GrantRejected("invalid_grant")) == "invalid_grant"
    error = GrantRejected("invalid_grant", "gone", "https://as.example/why")
    assert str(error) == "invalid_grant: gone"
    assert (error.error, error.error_description, error.error_uri) == (
        "invalid_grant",
        "gone",
        "https://as.example/why",
    )
    assert TokenUnavailable("x").retry_at is None
    transient = TransientRefreshError("x")
    assert (transient.retry_after, transient.ambiguous) == (None, False)


@pytest.mark.parametrize("odd", ["30", b"30", True, [], object, 1j], ids=repr)
def test_retry_after_is_a_number(odd):
    """F3: a source that passes on a header's text as seconds is told so at once, by name."""
    with pytest.raises(TypeError, match="retry_after must be a number of seconds"):
        TransientRefreshError("429", retry_after=odd)

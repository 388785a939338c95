"""The tree of errors, and what each carries."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import evertoken
from evertoken import (
    FetchRequest,
    GrantRejected,
    ManagerClosed,
    OriginRefused,
    Token,
    TokenError,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken._model import errors
from evertoken._model.failures import failure_of

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
    """F4: all errors are siblings under TokenError. No error inherits from another one, or from an error for misuse."""
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
    """S1: the pickle of an error contains no cause and no context."""
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


UNSEEN = [
    "\x00", "\x07", "\x1b[31m", "\x7f", "\x85", "\x9b", "\r\n", "\t", "\xad", "\u034f", "\u061c", "\u115f", "\u180e",
    "\u200b", "\u200d", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2060", "\u2066", "\u2069",
    "\u206f", "\u2800", "\u3164", "\ud800", "\ufe0f", "\ufeff", "\ufff9", "\U000e0001", "\U000e0020", "\U000e0100",
]  # fmt: skip


@pytest.mark.parametrize("sign", UNSEEN, ids=ascii)
def test_what_cannot_be_seen_is_left_out(sign):
    """S1: no message and no attribute of an error has a control character, a direction override or an unseen one."""
    text = f"a{sign}b" * 3
    rejected = GrantRejected(text, text, f"https://as.example/{text}")
    shown = [
        rejected.error, rejected.error_description, rejected.error_uri, rejected, TransientRefreshError(text),
        TokenUnavailable(text), GrantRejected(text).again(), pickle.loads(pickle.dumps(rejected)),
    ]  # fmt: skip
    request = FetchRequest(None, None, 30.0)
    shown += [failure_of(error, request) for error in (rejected, ValueError(text), TransientRefreshError(text))]
    for one in shown:
        said = str(one or "")
        assert said.isprintable()
        assert sign not in said


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("https://as.example/errors", "https://as.example/errors"),
        ("http://as.example:8080/errors", "http://as.example:8080/errors"),
        ("https://as.example/e?token=planted", "https://as.example/e"),
        ("https://as.example/e?a=1&code=700016", "https://as.example/e"),
        ("https://as.example/error?code=700016", "https://as.example/error?code=700016"),
        ("https://as.example/error?code=planted", "https://as.example/error"),
        ("https://as.example/e#planted", "https://as.example/e"),
        ("https://as.example/e;sid=planted/f", "https://as.example/e/f"),
        ("https://app:planted@as.example/e", "https://as.example/e"),
        ("https://app:planted/x@as.example/e", None),
        ("https://app:123/planted@as.example/e", None),
        ("javascript:alert('planted')", None),
        ("data:text/html,planted", None),
        ("file:///planted", None),
        ("ftp://as.example/planted", None),
        ("//as.example/planted", None),
        ("planted", None),
        ("", None),
        (None, None),
        (["https://planted"], None),
        ("https://", None),
        ("https://as.example:port/planted", None),
        ("https://[::1/planted", None),
    ],
)
def test_error_uris(uri, kept):
    """S1: of the page about an error, an http or https URL is kept without what may be a secret in it."""
    assert GrantRejected("invalid_grant", "no", uri).error_uri == kept


def test_lengths_are_bounded():
    """F5: an error keeps a bounded part of the text of a server or a source."""
    long = "words " * 100_000
    rejected = GrantRejected(long, long, "https://as.example/" + "a" * 100_000)
    assert len(rejected.error) == 200
    assert len(rejected.error_description or "") == 1000
    assert len(rejected.error_uri or "") == 500
    assert len(str(rejected)) < 1300
    assert len(str(TransientRefreshError(long))) == len(str(TokenUnavailable(long))) == 2000


def test_secrets_in_what_a_source_raises():
    """S1: the tokens that a source was asked with are taken out of all that its rejection says, its page included."""
    current = Token("planted-access-1", issued_at=0.0, refresh_token="planted-refresh-2")
    raised = GrantRejected("planted-access-1", "no planted-refresh-2", "https://as.example/e/planted-refresh-2/f")
    told = failure_of(raised, FetchRequest(None, current, 30.0))
    assert isinstance(told, GrantRejected)
    assert (told.error, told.error_description) == ("***", "no ***")
    assert told.error_uri == "https://as.example/e/***/f"


def test_many_failures_are_told_in_part():
    """F5: of a group of thousands of failures a few are told."""
    group = ExceptionGroup("all", [ValueError(f"number {number}") for number in range(5_000)])
    told = str(failure_of(group, FetchRequest(None, None, 30.0)))
    assert "number 9" in told
    assert "number 10" not in told

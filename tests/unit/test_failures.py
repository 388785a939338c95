"""The exception that a fetch raised, and the failure that is made of it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from evertoken import FetchRequest, GrantRejected, Token, TransientRefreshError
from evertoken._model.failures import Overdue, failure_of

SECRET = "s3cr3t-refresh-0123"
GONE = GrantRejected("invalid_grant", f"{SECRET} is gone")


def passing(**options: Any) -> TransientRefreshError:
    return TransientRefreshError(f"try later {SECRET}", **options)


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("unhandled errors in a TaskGroup", list(errors))


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def judged(error: BaseException, *, sent: bool = False) -> TransientRefreshError | GrantRejected:
    request = FetchRequest("key", Token("a" * 20, issued_at=0.0, refresh_token=SECRET), 5.0)
    request.sent = sent
    failure = failure_of(error, request)
    assert SECRET not in str(failure)
    assert failure.__cause__ is None
    assert failure.__context__ is None
    assert failure.__traceback__ is None
    return failure


def deep(error: BaseException, depth: int = 5000) -> BaseException:
    for _ in range(depth):
        error = group(error)
    return error


REJECTED: dict[str, BaseException] = {
    "itself": GONE,
    "group": group(GONE),
    "second": group(ValueError(), GONE),
    "beside a transient": group(passing(retry_after=5.0, ambiguous=True), GONE),
    "nested": group(OSError(), group(KeyError(), group(GONE))),
    "deeply nested": deep(GONE),
    "beside a cancellation": group(asyncio.CancelledError(), GONE),
    "beside a generator exit": group(GeneratorExit(), group(GONE)),
    "two": group(GONE, GrantRejected("access_denied")),
    "cause": caused(RuntimeError("login failed"), GONE),
    "cause of a cause": caused(RuntimeError(), caused(OSError(), GONE)),
    "cause in a group": group(caused(RuntimeError(), GONE)),
    "group as cause": caused(RuntimeError(), group(ValueError(), GONE)),
    "cause beside a transient": group(passing(), caused(KeyError(), GONE)),
}


@pytest.mark.parametrize("name", REJECTED)
def test_a_rejection_wherever_it_is(name):
    """F4: a rejection inside a group, or as the cause of another exception, is a rejection."""
    failure = judged(REJECTED[name], sent=True)
    assert isinstance(failure, GrantRejected)
    assert (failure.error, failure.error_description) == ("invalid_grant", "*** is gone")


TRANSIENT: list[tuple[str, BaseException, float | None, bool, bool]] = [
    # The exception, the longest wait, and whether it is ambiguous: unsent, and sent.
    ("itself", passing(retry_after=5.0, ambiguous=True), 5.0, True, True),
    ("not ambiguous", passing(), None, False, False),
    ("group", group(passing(retry_after=5.0, ambiguous=True)), 5.0, True, True),
    ("longest", group(passing(retry_after=5.0), group(passing(retry_after=60.0)), passing()), 60.0, False, False),
    ("any ambiguous", group(passing(), passing(ambiguous=True), passing()), None, True, True),
    ("beside a foreign one", group(passing(retry_after=1.0), OSError("o")), 1.0, False, True),
    ("foreign", OSError("o"), None, False, True),
    ("foreign group", group(OSError("o"), group(ValueError("v"))), None, False, True),
    ("cause", caused(RuntimeError("r"), passing(retry_after=7.0)), 7.0, False, False),
    ("cause in a group", group(caused(RuntimeError("r"), passing(ambiguous=True))), None, True, True),
    ("foreign cause", caused(RuntimeError("r"), KeyError("k")), None, False, True),
    ("overdue", Overdue(), None, False, True),
    ("overdue in a group", group(Overdue(), asyncio.CancelledError()), None, False, True),
    ("cancellations", group(asyncio.CancelledError(), asyncio.CancelledError()), None, False, True),
    ("says so itself", caused(passing(), GONE), None, False, False),
    ("deep", deep(passing(retry_after=3.0)), 3.0, False, False),
    ("nan", passing(retry_after=math.nan), None, False, False),
    ("nan beside a number", group(passing(retry_after=math.nan), passing(retry_after=2)), 2.0, False, False),
    ("negative", passing(retry_after=-5), 0.0, False, False),
]


@pytest.mark.parametrize(
    ("error", "wait", "unsent", "sent"), [case[1:] for case in TRANSIENT], ids=[c[0] for c in TRANSIENT]
)
def test_transient_failures_in_a_group(error, wait, unsent, sent):
    """F4: of several failures the longest wait counts, and one that is ambiguous makes all of them so."""
    for was_sent, ambiguous in ((False, unsent), (True, sent)):
        failure = judged(error, sent=was_sent)
        assert isinstance(failure, TransientRefreshError)
        assert (failure.retry_after, failure.ambiguous) == (wait, ambiguous)
        assert str(failure).strip()


@pytest.mark.parametrize("huge", [10**400, math.inf, 1e308])
def test_a_wait_that_is_too_long_to_calculate_with(huge):
    """F3: a wait is a number to calculate with, however long it was meant to be."""
    failure = judged(group(passing(retry_after=huge), passing(retry_after=1)))
    assert isinstance(failure, TransientRefreshError)
    assert failure.retry_after is not None
    assert 86_400.0 < failure.retry_after < math.inf


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), SystemExit(1)], ids=["interrupt", "exit"])
def test_the_end_of_the_process_in_a_group(ending):
    """F5: a request to end the process is no failure of a fetch, also inside a group."""
    for error in (group(ending), group(GONE, group(ending))):
        with pytest.raises(type(ending)):
            judged(error)


def test_a_ring_of_causes_ends():
    """F5: exceptions that name each other as their cause, or hold themselves, are still classified."""
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    assert "one" in str(judged(one))
    inner = ValueError("inner")
    inner.__cause__ = group(inner, OSError("beside"))
    assert str(judged(inner.__cause__))


def test_the_words_tell_of_each():
    """F3: the message of a group names its members, and not the group."""
    said = str(judged(group(OSError("disk"), group(ValueError("shape")))))
    assert "OSError: disk" in said
    assert "ValueError: shape" in said
    assert "TaskGroup" not in said

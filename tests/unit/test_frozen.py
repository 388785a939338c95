"""Frozen records behave as frozen dataclasses do."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import pydoc
import traceback
from typing import Any

import pytest

from evertoken import Begun, Held, Lease, RefreshPolicy, RetryPolicy, events
from evertoken._model.snapshot import Health

RECORDS: list[Any] = [
    events.ManagerStarted(at=1.0),
    events.SupervisorRestarted(at=1.0, key="k", error="ValueError", restarts=2),
    Health(alive=True, ready=False, last_beat_at=None, restarts=0, failing=("a",), rejected=()),
    Held(2.5),
    Lease("key", "owner", 3),
    RefreshPolicy(lead_time=30),
    RetryPolicy(first=1.0),
]
# Typed so that a type checker lets wrong calls pass.
LEASE: Any = Lease
HELD: Any = Held
STARTED: Any = events.ManagerStarted
NAMES = [type(record).__name__ for record in RECORDS]


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_nothing_can_be_assigned(record):
    """L2: a record that was handed out stays as it was."""
    name = dataclasses.fields(record)[0].name
    for name_ in (name, "other"):
        with pytest.raises(dataclasses.FrozenInstanceError, match="immutable"):
            setattr(record, name_, 1)
        with pytest.raises(dataclasses.FrozenInstanceError, match="immutable"):
            delattr(record, name_)
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_copies_are_equal(record):
    """L2: a record can be copied, pickled, replaced and compared."""
    for same in (
        copy.copy(record),
        copy.deepcopy(record),
        pickle.loads(pickle.dumps(record)),
        dataclasses.replace(record),
        type(record)(**dataclasses.asdict(record)),
    ):
        assert same == record
        assert hash(same) == hash(record)
        assert repr(same) == repr(record)
    assert record != object()


def test_differences_count():
    """L2: records are equal only where they are of one class and have the same values."""
    assert events.ManagerStarted(at=1.0) != events.ManagerStarted(at=2.0)
    assert events.ManagerStarted(at=1.0) != events.ManagerClosing(at=1.0)
    assert dataclasses.replace(Lease("k", "o", 1), fence=2) == Lease("k", "o", 2)


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_help_shows_parameters(record):
    """Section 7: `help` shows each field with its default, as the constructor takes it."""
    kind = type(record)
    shown = inspect.signature(kind).parameters
    assert list(shown) == [field.name for field in dataclasses.fields(kind)]
    for field in dataclasses.fields(kind):
        parameter = shown[field.name]
        assert (parameter.kind is parameter.KEYWORD_ONLY) == field.kw_only
        assert (parameter.default is parameter.empty) == (field.default is dataclasses.MISSING)
        assert parameter.annotation == field.type
    assert f"{kind.__name__}(" in pydoc.plain(pydoc.render_doc(kind)).splitlines()[2]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (STARTED, "lacks 'at'"),
        (lambda: STARTED(1.0), "takes 0 positional arguments, but 1 were given"),
        (lambda: STARTED(at=1.0, by=2), "unexpected keyword argument 'by'"),
        (lambda: LEASE("k"), "missing 2 required positional arguments: 'owner' and 'fence'"),
        (HELD, "lacks 'remaining'"),
        (lambda: HELD(1.0, 2.0), "takes 1 positional arguments, but 2 were given"),
        (lambda: HELD(1.0, remaining=2.0), "two values for 'remaining'"),
    ],
)
def test_misuse_is_explained(make, said):
    """Section 7: a wrong call raises a TypeError that names the class and the field."""
    with pytest.raises(TypeError, match=said):
        make()


def test_misuse_shows_no_value():
    """S1: the frame of a constructor that was called wrongly holds none of its values."""
    with pytest.raises(TypeError) as caught:
        STARTED(at=1.0, by="the-secret")
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert len(frames) > 1
    assert "the-secret" not in repr(frames[-1].f_locals)
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize("name", events.__all__)
def test_every_event_is_a_record(name):
    """L2: each event takes all that its class names, and shows it."""
    kind = getattr(events, name)
    if not isinstance(kind, type):
        return
    given = {
        field: 1.0 for base in reversed(kind.__mro__) for field in inspect.get_annotations(base) if field[0] != "_"
    }
    event = kind(**given)
    assert {field: getattr(event, field) for field in given} == given
    assert set(given) == set(inspect.signature(kind).parameters)


def test_matching():
    """L2: an event is matched by its attributes, and a record of a store by position too."""
    match events.KeyOpened(at=1.0, key="k"):
        case events.KeyOpened(at=at, key="k"):
            assert at == 1.0
        case _:
            pytest.fail("it did not match")
    match Begun(Held(1.0), None):
        case Begun(Held(remaining), None):
            assert remaining == 1.0
        case _:
            pytest.fail("it did not match")

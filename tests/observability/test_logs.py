"""Events in logs: stable names, plain fields, and no secret (L2, S1)."""

from __future__ import annotations

import inspect
import json
import logging

import pytest
import structlog
from tests.gated import GatedSource, virtual

from evertoken import GrantRejected, TokenManager, TransientRefreshError, events
from evertoken.observability.structlog import StructlogObserver

AT = 1_893_456_000.0
FIELDS = {
    "an instant": (
        events.TokenRefreshed(
            at=AT, fingerprint="f", expires_at=AT + 60.5, due_at=float("inf"), took=0.1, reason="due"
        ),
        "token_refreshed",
        {
            "key": None, "fingerprint": "f", "expires_at": "2030-01-01T00:01:00.500+00:00", "due_at": None, "took": 0.1,
            "reason": "due", "repeated": False,
        },
    ),
    "a failure": (
        events.RefreshFailed(
            at=AT, key="k", error=TransientRefreshError("503"), failures=2, retry_at=AT, serving=True, took=1.0,
            reason="due",
        ),
        "refresh_failed",
        {
            "key": "k", "error": "503", "error_type": "TransientRefreshError", "failures": 2,
            "retry_at": "2030-01-01T00:00:00.000+00:00", "serving": True, "took": 1.0, "reason": "due", "outage": False,
        },
    ),
    "a rejection": (
        events.RefreshRejected(
            at=AT, key=("t", 1), error=GrantRejected("invalid_grant", "gone"), retry_at=AT, serving=False, took=None,
            reason="due",
        ),
        "refresh_rejected",
        {
            "key": "('t', 1)", "error": "invalid_grant: gone", "error_type": "GrantRejected",
            "error_code": "invalid_grant",
            "retry_at": "2030-01-01T00:00:00.000+00:00", "serving": False, "took": None, "reason": "due",
        },
    ),
    "a year beyond the calendar": (
        events.GrantExpiring(at=AT, expires_at=1e18), "grant_expiring", {"key": None, "expires_at": "1e+18"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("event", "name", "fields"), FIELDS.values(), ids=FIELDS)
def test_fields(event, name, fields):
    """L2: the fields of an event are plain data, which JSON can hold."""
    assert events.event_name(event) == name
    assert events.event_fields(event) == fields
    assert json.loads(json.dumps(events.event_fields(event))) == fields


def test_every_event_has_its_own_name():
    """L2: names are stable and differ."""
    kinds = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, events.Event)]
    names = {events.event_name(kind.__new__(kind)) for kind in kinds}
    assert len(names) == len(kinds)
    assert all(name == name.lower() for name in names)


@virtual
async def test_records_carry_fields(clock, caplog):
    """L2: a record of the log has the event's name and fields as `extra`."""
    source = GatedSource(clock, open_=True)
    source.error = TransientRefreshError("the server is down")
    with caplog.at_level(logging.DEBUG, logger="evertoken"):
        async with TokenManager({"partner": source}, clock=clock) as tokens:
            with pytest.raises(Exception, match="down"):
                await tokens.get("partner")
    (record,) = [one for one in caplog.records if getattr(one, "evertoken_event", "") == "refresh_failed"]
    assert record.levelno == logging.WARNING
    assert record.evertoken_key == "partner"
    assert record.evertoken_error == "the server is down"
    assert record.evertoken_failures == 1
    assert record.getMessage().startswith("RefreshFailed key='partner' error='the server is down'")


@virtual
async def test_structlog(clock):
    """L2: structlog is told the name, the fields and the level of each event."""
    source = GatedSource(clock, open_=True)
    source.error = GrantRejected("invalid_client")
    with structlog.testing.capture_logs() as told:
        async with TokenManager(source, observers=[StructlogObserver()], clock=clock) as tokens:
            with pytest.raises(GrantRejected):
                await tokens.get()
    (rejected,) = [one for one in told if one["event"] == "refresh_rejected"]
    assert rejected["error_code"] == "invalid_client"
    assert rejected["log_level"] == "error"
    assert {one["log_level"] for one in told if one["event"] == "manager_started"} == {"debug"}

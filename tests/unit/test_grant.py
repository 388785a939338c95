"""Grants: their content, that they show no secret, and the status of a login."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from evertoken import Grant, GrantRejected, KeyStatus, Record, Token
from evertoken._model.grant import token_of
from evertoken._model.grant_lifetime import GRANT_EXPIRES_AT, GRANT_ISSUED_AT, GRANT_REJECTED
from evertoken._model.key_status import is_dead_grant, rejection_of, status_of_record, with_rejection
from evertoken._model.policy import KeepAlivePolicy

NOW = 1_893_456_000.0
DAY = 86_400.0


def token(**changes):
    return Token("a", **{"issued_at": NOW, "expires_at": NOW + 3600.0, "refresh_token": "r", **changes})


def record(held, **changes):
    return Record("k", 1, held, **{"since": NOW - DAY, "generation": 1, **changes})


@pytest.mark.parametrize(
    ("fields", "issued_at", "extra"),
    [
        ({}, NOW, {}),
        ({"issued_at": NOW - DAY}, NOW - DAY, {}),
        ({"scope": "a b", "extra": {"site": "eu"}}, NOW, {"site": "eu"}),
        ({"expires_at": NOW + DAY}, NOW, {GRANT_EXPIRES_AT: NOW + DAY, GRANT_ISSUED_AT: NOW}),
    ],
)
def test_a_grant_is_a_token_without_an_access_token(fields, issued_at, extra):
    """K6: the kept part of a grant presents its refresh token, and is never valid."""
    kept = token_of(Grant("r", **fields), NOW)
    assert (kept.refresh_token, kept.issued_at, kept.scope, kept.extra) == ("r", issued_at, fields.get("scope"), extra)
    assert not kept.valid_at(issued_at)
    assert not kept.valid_at(0.0)


@pytest.mark.parametrize(
    ("arguments", "fields", "names"),
    [
        ((), {}, "refresh_token"),
        (("",), {}, "refresh_token"),
        ((b"bytes",), {}, "refresh_token"),
        ((None,), {}, "refresh_token"),
        (("secret-refresh",), {"scope": 5}, "scope"),
        (("secret-refresh",), {"issued_at": "yesterday"}, "issued_at"),
        (("secret-refresh",), {"expires_at": float("nan")}, "expires_at"),
        (("secret-refresh",), {"expires_at": True}, "expires_at"),
    ],
)
def test_a_grant_that_cannot_be_names_what_is_wrong(arguments, fields, names):
    """S1: the message names the argument, and no frame that the error can reach has the secret."""
    with pytest.raises((ValueError, TypeError), match=names) as caught:
        Grant(*arguments, **fields)
    frames = [entry.frame for entry in caught.traceback[1:]]
    assert all("secret-refresh" not in repr(frame.f_locals) for frame in frames)


def test_a_grant_shows_no_secret():
    """S1: repr, str, vars and pickle; a copy is the grant."""
    grant = Grant("secret-refresh", scope="a", issued_at=1.0)
    assert "secret" not in repr(grant) + str(grant)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(grant)
    with pytest.raises(TypeError):
        vars(grant)
    with pytest.raises(AttributeError):
        grant.refresh_token = "another"
    assert copy.copy(grant) is copy.deepcopy(grant) is grant
    assert grant == Grant("secret-refresh", scope="a", issued_at=1.0)
    assert grant != Grant("another", scope="a", issued_at=1.0)
    assert len({grant, Grant("secret-refresh", scope="a", issued_at=1.0)}) == 1


@pytest.mark.parametrize("given", ["secret-refresh", None, 5, {"refresh_token": "secret-refresh"}])
def test_what_is_no_grant(given):
    """S1: an object that is neither a token nor a grant is named by its type alone."""
    with pytest.raises(TypeError) as caught:
        token_of(given, NOW)
    assert "secret" not in str(caught.value)
    assert all("secret" not in repr(entry.frame.f_locals) for entry in caught.traceback[1:])


@pytest.mark.parametrize(
    ("code", "dead"),
    [
        ("invalid_grant", True),
        ("interaction_required", True),
        ("access_denied", True),
        ("bad_refresh_token", True),
        ("inactive_user", True),
        ("invalid_client", False),
        ("unauthorized_client", False),
        ("incorrect_client_credentials", False),
        ("BAD_CLIENT_SECRET", False),
        ("invalid_scope", False),
        ("invalid_request", False),
        ("unsupported_grant_type", False),
    ],
)
def test_which_rejections_a_login_cures(code, dead):
    """L2: a wrong secret is not taken for a dead login, of ten thousand customers at once."""
    assert is_dead_grant(GrantRejected(code)) is dead


def test_a_rejection_is_noted_once_and_belongs_to_its_refresh_token():
    """L2: the note keeps the first instant, also that of a peer, and is void for another refresh token."""
    error = GrantRejected("invalid_grant", "gone")
    noted = with_rejection(token(), error, NOW, None)
    assert rejection_of(noted)["at"] == NOW
    assert with_rejection(noted, error, NOW + 60.0, None) == noted
    assert with_rejection(token(), error, NOW + 60.0, noted) == noted
    assert rejection_of(with_rejection(token(refresh_token="s"), error, NOW + 60.0, noted))["at"] == NOW + 60.0
    assert rejection_of(noted.replace(refresh_token="s")) is None
    bare = token(refresh_token=None)
    assert with_rejection(bare, error, NOW, None) is bare


GONE = with_rejection(token(), GrantRejected("invalid_grant"), NOW - 60.0, None)


@pytest.mark.parametrize(
    ("held", "idle", "wanted"),
    [
        (None, None, KeyStatus(status="pending")),
        (record(None), None, KeyStatus(status="pending")),
        (
            record(None, revoked=True),
            None,
            KeyStatus(status="signed_out", since=NOW - DAY, reason="the key was signed out"),
        ),
        (record(token()), None, KeyStatus(status="connected", since=NOW - DAY)),
        (record(token(), since=0.0), None, KeyStatus(status="connected")),
        (
            record(token(expires_at=NOW - 60.0, issued_at=NOW - DAY)),
            None,
            KeyStatus(status="connected", since=NOW - DAY),
        ),
        (record(GONE), None, KeyStatus(status="needs_reconnect", since=NOW - 60.0, reason="invalid_grant")),
        (record(GONE.replace(refresh_token="s")), None, KeyStatus(status="connected", since=NOW - DAY)),
        (
            record(token()),
            60.0 * DAY,
            KeyStatus(status="connected", since=NOW - DAY, expires_at=NOW + 60.0 * DAY),
        ),
        (
            record(token(issued_at=NOW - 50.0 * DAY)),
            60.0 * DAY,
            KeyStatus(
                status="expiring",
                since=NOW - DAY,
                reason="the grant expires soon unless it is used",
                expires_at=NOW + 10.0 * DAY,
            ),
        ),
        (
            record(token(issued_at=NOW - 61.0 * DAY)),
            60.0 * DAY,
            KeyStatus(
                status="needs_reconnect",
                since=NOW - DAY,
                reason="the grant was not used in time",
                expires_at=NOW - DAY,
            ),
        ),
        (
            record(token(extra={GRANT_EXPIRES_AT: NOW + DAY, GRANT_ISSUED_AT: NOW - 29.0 * DAY})),
            None,
            KeyStatus(
                status="expiring",
                since=NOW - DAY,
                reason="the grant expires soon, and a refresh does not extend it",
                expires_at=NOW + DAY,
            ),
        ),
        # A grant of eleven days ends before the idle time does, and not soon enough to tell.
        (
            record(token(extra={GRANT_EXPIRES_AT: NOW + 3.0 * DAY, GRANT_ISSUED_AT: NOW - 8.0 * DAY})),
            60.0 * DAY,
            KeyStatus(status="connected", since=NOW - DAY, expires_at=NOW + 3.0 * DAY),
        ),
        (
            record(token(extra={GRANT_EXPIRES_AT: NOW - DAY, GRANT_ISSUED_AT: NOW - 29.0 * DAY})),
            None,
            KeyStatus(
                status="needs_reconnect",
                since=NOW - DAY,
                reason="the grant has expired",
                expires_at=NOW - DAY,
            ),
        ),
        # A stranger's note says nothing.
        (record(token(extra={GRANT_REJECTED: "yes"})), None, KeyStatus(status="connected", since=NOW - DAY)),
        (record(token(extra={GRANT_REJECTED: {"of": 1}})), None, KeyStatus(status="connected", since=NOW - DAY)),
    ],
)
def test_how_a_record_stands(held, idle, wanted):
    """L2: the states that a status page needs, since when and why."""
    assert status_of_record(held, NOW, idle) == wanted


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("policy", [KeepAlivePolicy(), KeepAlivePolicy(lead_fraction=0.5, jitter=1.0)])
def test_a_grant_is_due_before_it_dies_and_not_at_once(policy, share):
    """F1: a grant is due within its own life, before its end, and never right after its use with the default."""
    due = policy.due_at(NOW, NOW + 100.0, share)
    lead = policy.lead_fraction * 100.0
    assert NOW + 100.0 - 2.0 * lead < due <= NOW + 100.0 - lead


@pytest.mark.parametrize(
    "wrong", [{"idle": 0.0}, {"idle": -1.0}, {"lead_fraction": 0.0}, {"lead_fraction": 0.6}, {"jitter": 1.5}]
)
def test_a_policy_out_of_range(wrong):
    """F1: the message names the parameter."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        KeepAlivePolicy(**wrong)


@pytest.mark.parametrize("extra", [1.5, "text", [1], object()])
def test_a_grant_that_cannot_be_made_shows_nothing(extra):
    """S1: for every mistake in an argument, no frame of the library shows the refresh token."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Grant("the-refresh-token", extra=extra)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert not [line for line in shown.format() if "the-refresh-token" in line and "test_grant" not in line]

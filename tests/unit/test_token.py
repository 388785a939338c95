"""Token: its fields, and its secrets that do not show."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import sys
from typing import Any

import pytest

from evertoken import RedactedToken, Token
from evertoken._model.protocols import Record
from evertoken._model.token import fingerprint_of, origin_of
from evertoken.stores._record import dump, load

ACCESS = "access-s3cr3t-alpha"
REFRESH = "refresh-s3cr3t-beta"
EXTRA = "extra-s3cr3t-gamma"


def token(**changes: Any) -> Token:
    fields: dict[str, Any] = {
        "issued_at": 1000.0,
        "expires_at": 4600.0,
        "refresh_token": REFRESH,
        "scope": "a b",
        "extra": {"id_token": EXTRA},
    }
    return Token(ACCESS, **{**fields, **changes})


@pytest.mark.parametrize("show", [repr, str, ascii, "{}".format, "%s".__mod__])
def test_shows_no_secret(show):
    """S1: however a token is shown, it shows fingerprints and no secret."""
    shown = show(token())
    assert not any(secret in shown for secret in (ACCESS, REFRESH, EXTRA))
    assert fingerprint_of(ACCESS) in shown
    assert fingerprint_of(REFRESH) in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_carries_no_secret(protocol):
    """S1: a pickled token comes back without its secrets, and says so when they are asked for."""
    pickled = pickle.dumps(token(), protocol)
    assert not any(secret.encode() in pickled for secret in (ACCESS, REFRESH, EXTRA))
    if protocol < 2:
        return
    back = pickle.loads(pickled)
    assert isinstance(back, RedactedToken)
    assert (back.fingerprint, back.token_type) == (token().fingerprint, "Bearer")
    assert (back.issued_at, back.expires_at) == (1000.0, 4600.0)
    with pytest.raises(AttributeError, match="pickle"):
        back.access_token  # noqa: B018 - asking is the test
    assert token().fingerprint in repr(back)
    assert repr(pickle.loads(pickle.dumps(back))) == repr(copy.deepcopy(back)) == repr(back)


def test_copies_stay_usable():
    """S1: a token is immutable, so its copies are itself, secrets included."""
    one = token()
    assert copy.copy(one) is one
    assert copy.deepcopy([one])[0] is one
    assert one.replace().access_token == ACCESS


def test_walkers_find_nothing_to_write_out():
    """S1: serialisers that walk dataclasses or a __dict__ find neither, and json refuses."""
    one = token()
    assert not dataclasses.is_dataclass(one)
    assert not hasattr(one, "__dict__")
    with pytest.raises(TypeError):
        json.dumps(one)


@pytest.mark.parametrize("name", [*Token.__slots__, "made_up"])
def test_immutable(name):
    """R5: nothing of a token in service can be changed or deleted, and the error says what to do instead."""
    one = token()
    with pytest.raises(AttributeError, match="immutable"):
        setattr(one, name, "x")
    with pytest.raises(AttributeError, match="immutable"):
        delattr(one, name)
    assert one == token()


def test_extra_cannot_be_changed():
    """R5: the other fields of an answer are read-only, and apart from the mapping they came in."""
    given = {"id_token": EXTRA}
    one = token(extra=given)
    given["id_token"] = "changed"
    assert one.extra == {"id_token": EXTRA}
    with pytest.raises(TypeError):
        one.extra["id_token"] = "changed"
    assert token(extra=None).extra == token(extra={}).extra == {}


@pytest.mark.parametrize("name", ["issued_at", "expires_at", "refresh_at"])
@pytest.mark.parametrize("instant", [math.nan, math.inf, -math.inf, True, "now", b"1", [], 1j, 10**400, -(10**400)])
def test_instants_are_finite_numbers(name, instant):
    """T1: an instant that is not a finite number is refused by name, a huge int included."""
    with pytest.raises(ValueError, match=name):
        token(**{name: instant})


def test_each_instant_is_looked_at():
    """T1: an instant behind one that is unknown is looked at too."""
    with pytest.raises(ValueError, match="refresh_at"):
        token(expires_at=None, refresh_at=math.nan)


def test_issue_is_known_and_expiry_may_not_be():
    """T1: a token knows when it was issued; its expiry may be unknown, and then it lives until a 401."""
    with pytest.raises(ValueError, match="issued_at"):
        token(issued_at=None)
    one = token(expires_at=None)
    assert one.lifetime is None
    assert one.remaining(1e12) == math.inf
    assert one.valid_at(1e12, min_ttl=1e9)


@pytest.mark.parametrize(
    "value", ["", None, 7, b"bytes", " ", "a\n", "a\r\nX-Evil: 1", "a\x00b", "täg", "\ud800", " a"]
)
def test_access_token_fits_in_a_header(value):
    """S1: an access token that would break the header field is refused, and the error does not show it."""
    with pytest.raises(ValueError, match="access_token must be") as caught:
        Token(value, issued_at=0.0)
    assert "Evil" not in str(caught.value)


def bare(**changes: Any) -> Token:
    return token(**{"expires_at": 1000.0, **changes}).replace(access_token="")


def test_a_token_may_hold_a_refresh_token_alone():
    """K1: a token without access token keeps the refresh token of an answer, is never valid and is not sent."""
    one = bare()
    assert (one.access_token, one.refresh_token, one.extra["id_token"]) == ("", REFRESH, EXTRA)
    assert not any(one.valid_at(now, min_ttl=ttl) for now in (0.0, 999.0, 1000.0, 1e9) for ttl in (-1e9, 0.0))
    assert all(one.remaining(now) <= 0.0 for now in (0.0, 999.0, 1000.0, 1e9))
    with pytest.raises(ValueError, match="no access token"):
        one.authorization  # noqa: B018 - asking is the test
    assert "no access token" in repr(one)
    assert REFRESH not in repr(one)
    assert one == one.replace() == bare() != token()
    assert len({one, bare()}) == 1
    assert one.shifted(500.0).shifted(-500.0) == one
    assert one.replace(access_token="a").authorization == "Bearer a"
    assert one.lifetime == 0.0
    back = pickle.loads(pickle.dumps(one))
    assert isinstance(back, RedactedToken)
    assert "no access token" not in repr(pickle.loads(pickle.dumps(token())))


@pytest.mark.parametrize(
    "changes",
    [
        {"refresh_token": None}, {"expires_at": None}, {"expires_at": 1000.1}, {"issued_at": 999.0},
        {"refresh_token": ""}, {"refresh_token": 7},
    ],
)  # fmt: skip
def test_an_empty_access_token_needs_a_refresh_token_and_no_life(changes):
    """K1: an access token may be empty only where there is a refresh token and nothing could be taken for valid."""
    with pytest.raises(ValueError, match=r"access_token|refresh_token"):
        bare(**changes)


@pytest.mark.parametrize(
    "kept", [bare(), bare(issued_at=5e9, expires_at=-5e9), bare(scope=None, extra=None)], ids=range(3)
)
def test_a_record_holds_a_token_without_access_token(kept):
    """K1: a store keeps a refresh token that has no access token."""
    assert load("k", dump(Record("k", 3, kept))).token == kept


@pytest.mark.parametrize("value", ["", 7, b"r", [], False])
def test_refresh_token_is_text(value):
    """S1: a refresh token that is no text, or empty, is refused, and the error does not show it."""
    with pytest.raises(
        ValueError, match=f"refresh_token must be a non-empty string or None, not {type(value).__name__}"
    ):
        token(refresh_token=value)


@pytest.mark.parametrize("min_ttl", [0.0, 1e9, math.inf, 10**400])
def test_a_token_without_expiry_outlives_any_bound(min_ttl):
    """R2: a token that never expires is long enough for any `min_ttl`, infinity included."""
    assert token(expires_at=None).valid_at(1e12, min_ttl=min_ttl)
    assert not token().valid_at(4000.0, min_ttl=max(min_ttl, 600.0))


@pytest.mark.parametrize("huge", [10**300, -(10**300), int(sys.float_info.max)])
def test_huge_instants_can_be_calculated_with(huge):
    """T1: an instant is a float, so that no instant is too large to calculate with."""
    one = token(issued_at=huge, expires_at=huge, refresh_at=huge)
    assert all(type(at) is float for at in (one.issued_at, one.expires_at, one.refresh_at))
    assert one.lifetime == 0.0
    assert one.shifted(1.0) == one


def test_origin_of():
    """S1: a refresh token of the configuration is remembered by sixteen hexadecimal digits, and not by itself."""
    assert len(origin_of(REFRESH)) == len(origin_of("\ud800")) == 16
    assert int(origin_of(REFRESH), 16)
    assert origin_of(REFRESH) != origin_of(REFRESH + "x")


@pytest.mark.parametrize("value", ["", None, 7, "Bearer\r\nX-Evil: 1", "Bearer\n", "Bärer"])
def test_token_type_fits_in_a_header(value):
    """S1: a token type that would break the header field is refused."""
    with pytest.raises(ValueError, match="token_type"):
        Token("a", issued_at=0.0, token_type=value)


def test_odd_refresh_token_is_shown_all_the_same():
    """S1: a refresh token with a lone surrogate, as JSON can carry it, breaks neither repr nor fingerprint."""
    one = token(refresh_token="\ud800")
    assert "refresh_token=<" in repr(one)
    assert len(fingerprint_of("\ud800")) == 8


@pytest.mark.parametrize(
    ("now", "min_ttl", "valid"),
    [
        (4599.999, 0.0, True),
        (4600.0, 0.0, False),
        (4600.001, 0.0, False),
        (4000.0, 599.9, True),
        (4000.0, 600.0, False),
    ],
)
def test_validity_has_a_sharp_edge(now, min_ttl, valid):
    """R2: a token is valid strictly before its expiry, whole seconds or not, with more than min_ttl left."""
    assert token().valid_at(now, min_ttl=min_ttl) is valid


def test_shifted():
    """T2: after a step of the clock every instant moves along, and the lifetime stays."""
    one = token(refresh_at=2000.0).shifted(-500.0)
    assert (one.issued_at, one.refresh_at, one.expires_at) == (500.0, 1500.0, 4100.0)
    assert one.lifetime == token().lifetime
    assert token(expires_at=None).shifted(9.0).expires_at is None
    assert one.shifted(500.0) == token(refresh_at=2000.0)


def test_authorization_and_scopes():
    """U1: the header is type, space, token; the scope is a set of its words, empty where the server did not say."""
    assert token(token_type="DPoP").authorization == f"DPoP {ACCESS}"
    assert token().scopes == {"a", "b"}
    assert token(scope=None).scopes == frozenset()


def test_equality_and_hash():
    """R5: tokens are values: equal by all they hold, usable in sets, and equal to nothing else."""
    assert token() == token()
    assert len({token(), token()}) == 1
    assert token() != token(scope="other")
    assert token() != ACCESS
    with pytest.raises(TypeError):
        token().replace(made_up=1)


def test_subclassing_is_not_needed_to_grow():
    """R5: a token is small: it has slots alone, with any content."""
    assert sys.getsizeof(Token("a", issued_at=0.0)) <= 120

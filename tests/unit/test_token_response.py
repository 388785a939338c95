"""The answer of a token endpoint in every odd form, and the one outcome of each."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from evertoken import Answer, GrantRejected, Token, TransientRefreshError
from evertoken._model.error_response import REJECTIONS, failure_from
from evertoken._model.lifetime import MAX_LIFETIME
from evertoken._model.parsing import http_date, instant, number, parse_retry_after
from evertoken._model.token_response import Response, read_response
from evertoken.sources import aws

NOW = 1_893_456_000.0  # 2030-01-01T00:00:00Z
HOUR = 3600.0
UNKNOWN = None
DEAD = "dead on arrival"


def ids(values: Iterable[object]) -> list[str]:
    return [f"{index}-{str(value)[:24].partition(' at 0x')[0]!r}" for index, value in enumerate(values)]


def usable(answer: object, **options: Any) -> Token:
    """Return the token of an answer, or raise why it cannot be used."""
    response = read_response(answer, **{"requested_at": NOW, **options})
    if response.failure is not None:
        assert not response.token.valid_at(max(NOW, options.get("received_at") or NOW))
        raise response.failure
    return response.token


def answered(**fields: Any) -> Token:
    return usable({"access_token": "a", **fields})


def jwt(claims: object) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"


MISSING = object()

EXPIRES_IN: list[tuple[Any, Any]] = [
    # A lifetime.
    (3600, HOUR), (3600.0, HOUR), (0.5, 0.5), (3599.75, 3599.75), ("3600", HOUR), (" 3600 ", HOUR), ("\t3600\n", HOUR),
    ("3600.0", HOUR), ("3.6e3", HOUR), ("36E+2", HOUR), ("+3600", HOUR), ("0003600", HOUR), (1, 1.0), ("1e-3", 1e-3),
    (int(MAX_LIFETIME), MAX_LIFETIME), (MAX_LIFETIME, MAX_LIFETIME), (2**31 - 1, UNKNOWN),
    (86_400 * 365, 86_400.0 * 365),
    # Dead on arrival.
    (0, DEAD), (0.0, DEAD), (-0.0, DEAD), ("0", DEAD), ("0.0", DEAD), ("-0", DEAD), (-1, DEAD), ("-1", DEAD),
    (-1.5, DEAD), (-1e300, DEAD), (-(2**63), DEAD), (5e-324, DEAD),
    # Says nothing.
    (MISSING, UNKNOWN), (None, UNKNOWN), ("", UNKNOWN), (" ", UNKNOWN), ("3600s", UNKNOWN), ("1 hour", UNKNOWN),
    ("PT1H", UNKNOWN), ("0x10", UNKNOWN), ("3,600", UNKNOWN), ("null", UNKNOWN), ("true", UNKNOWN), (True, UNKNOWN),
    (False, UNKNOWN), (math.nan, UNKNOWN), (math.inf, UNKNOWN), (-math.inf, UNKNOWN), ("NaN", UNKNOWN),
    ("nan", UNKNOWN), ("inf", UNKNOWN), ("-inf", UNKNOWN), ("Infinity", UNKNOWN), ("1e400", UNKNOWN), (1e18, UNKNOWN),
    (1e308, UNKNOWN), (MAX_LIFETIME + 1, UNKNOWN), (9223372036854775807, UNKNOWN), ("9223372036854775807", UNKNOWN),
    (10**400, UNKNOWN), (-(10**400), UNKNOWN), ("9" * 400, UNKNOWN), ("9" * 5000, UNKNOWN), ([], UNKNOWN),
    ([3600], UNKNOWN), ({}, UNKNOWN), ({"seconds": 3600}, UNKNOWN), (b"3600", UNKNOWN), (1j, UNKNOWN),
    (dt.timedelta(hours=1), UNKNOWN), (dt.datetime(2030, 1, 1, 1, tzinfo=dt.UTC), UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(("value", "outcome"), EXPIRES_IN, ids=ids(value for value, _ in EXPIRES_IN))
@pytest.mark.parametrize("form", ["mapping", "answer", "pair"])
def test_every_odd_expires_in(value, outcome, form):
    """T1: each odd `expires_in` has one outcome: a lifetime from the start of the request, a failure, or nothing."""
    fields = {"access_token": "a"} if value is MISSING else {"access_token": "a", "expires_in": value}
    answer: object = Answer(fields) if form == "answer" else fields
    if form == "pair":
        answer = ("a", None if value is MISSING else value)
    if outcome is DEAD:
        token, failure = read_response(answer, requested_at=NOW, default_lifetime=60.0)
        assert (token.access_token, token.issued_at, token.valid_at(NOW)) == ("a", NOW, False)
        assert "already expired" in str(failure)
        # Its answer arrived.
        assert not failure.ambiguous
        return
    token = usable(answer)
    assert token.issued_at == NOW
    assert token.expires_at == (None if outcome is None else NOW + outcome)
    fallback = usable(answer, default_lifetime=60.0)
    assert fallback.expires_at == (NOW + 60.0 if outcome is None else NOW + outcome)


ABSOLUTE: list[tuple[Any, Any]] = [
    (NOW + HOUR, HOUR), (int(NOW + HOUR), HOUR), (str(int(NOW + HOUR)), HOUR), (f" {NOW + HOUR} ", HOUR),
    ((NOW + HOUR) * 1000, HOUR), (int(NOW + HOUR) * 1000, HOUR), (str(int(NOW + HOUR) * 1000), HOUR),
    (int(NOW + HOUR) * 10**6, HOUR), (str(int(NOW + HOUR) * 10**6), HOUR), (int(NOW + HOUR) * 10**9, HOUR),
    (str(int(NOW + HOUR) * 10**9), HOUR), ((NOW + HOUR) * 1e9, HOUR),
    (f"/Date({int(NOW + HOUR) * 1000})/", HOUR), (f"/Date({int(NOW + HOUR) * 1000}+0200)/", HOUR),
    ("/Date(0)/", DEAD), ("/Date(-1)/", DEAD), ("/Date()/", UNKNOWN), ("/Date(x)/", UNKNOWN),
    (f"/Date({'9' * 18})/", UNKNOWN), (f"/Date({'9' * 5000})/", UNKNOWN),
    ("01/01/2030 01:00:00 AM +00:00", HOUR), ("1/1/2030 1:00:00 AM +00:00", HOUR),
    ("01/01/2030 02:00:00 AM +01:00", HOUR),
    ("12/31/2029 11:59:59 PM +00:00", DEAD), ("13/01/2030 01:00:00 AM +00:00", UNKNOWN),
    ("01/01/2030 01:00:00 AM", UNKNOWN),
    ("2030-01-01T01:00:00Z", HOUR), ("2030-01-01T01:00:00+00:00", HOUR), ("2030-01-01T02:00:00+01:00", HOUR),
    ("2029-12-31T20:00:00-05:00", HOUR), ("2030-01-01T01:00:00", HOUR), ("2030-01-01 01:00:00", HOUR),
    ("2030-01-01T01:00:00.250Z", HOUR + 0.25), ("20300101T010000Z", HOUR), (" 2030-01-01T01:00:00Z ", HOUR),
    ("Tue, 01 Jan 2030 01:00:00 GMT", HOUR), ("Tue, 01 Jan 2030 01:00:00 -0000", HOUR),
    ("Tue, 01 Jan 2030 02:00:00 +0100", HOUR), ("Tuesday, 01-Jan-30 01:00:00 GMT", HOUR),
    ("Tue Jan  1 01:00:00 2030", HOUR),
    (dt.datetime(2030, 1, 1, 1, tzinfo=dt.UTC), HOUR),
    (dt.datetime(2030, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1))), HOUR),
    (NOW, DEAD), (NOW - 1, DEAD), (0, DEAD), (-1, DEAD), ("2029-12-31T23:59:59Z", DEAD), ("0001-01-01T00:00:00Z", DEAD),
    (None, UNKNOWN), ("", UNKNOWN), ("soon", UNKNOWN), (True, UNKNOWN), (math.nan, UNKNOWN), (math.inf, UNKNOWN),
    ("nan", UNKNOWN), ([], UNKNOWN), ({}, UNKNOWN), (10**400, UNKNOWN), ("9" * 400, UNKNOWN), (1e300, UNKNOWN),
    ("9999-12-31T23:59:59Z", UNKNOWN), ("9999-12-31T23:59:59-14:00", UNKNOWN), (NOW + MAX_LIFETIME + 1, UNKNOWN),
    ("Tue, 01 Jan 99999 00:00:00 GMT", UNKNOWN), ("Tue, 99 Jan 2030 00:00:00 GMT", UNKNOWN),
    (dt.datetime.max.replace(tzinfo=dt.UTC), UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize("name", ["expires_at", "expires_on"])
@pytest.mark.parametrize(("value", "outcome"), ABSOLUTE, ids=ids(value for value, _ in ABSOLUTE))
def test_every_odd_instant(name, value, outcome):
    """T1: an absolute expiry may be written in any form that servers use. Any other form counts as missing."""
    if outcome is DEAD:
        with pytest.raises(TransientRefreshError, match="already expired"):
            answered(**{name: value})
        return
    expires_at = answered(**{name: value}).expires_at
    assert expires_at == (None if outcome is None else pytest.approx(NOW + outcome, abs=1e-3))


@pytest.mark.parametrize("name", ["expires_at", "refresh_on"])
def test_naive_datetime_is_an_error_that_says_why(name):
    """T1: a datetime without time zone names no instant; it fails with the remedy instead of meaning local time."""
    with pytest.raises(TransientRefreshError, match="time zone"):
        answered(**{name: dt.datetime(2030, 1, 1, 1)})  # noqa: DTZ001 - naive is the test


def test_order_of_what_tells_the_expiry():
    """T1: `expires_in` goes before `expires_at`, `expires_on`, the JWT and the default, in this order."""
    everything = {
        "access_token": jwt({"exp": NOW + 40}),
        "expires_in": 10,
        "expires_at": NOW + 20,
        "expires_on": NOW + 30,
    }
    left = []
    while everything:
        left.append(usable(dict(everything), default_lifetime=50.0).remaining(NOW))
        name = next((name for name in ("expires_in", "expires_at", "expires_on") if name in everything), None)
        if name is None:
            break
        del everything[name]
    left.append(usable("opaque", default_lifetime=50.0).remaining(NOW))
    left.append(usable("opaque").remaining(NOW))
    assert left == [10, 20, 30, 40, 50, math.inf]


JWTS: list[tuple[str, Any]] = [
    (jwt({"exp": NOW + HOUR}), HOUR),
    (jwt({"exp": int(NOW + HOUR)}), HOUR),
    (jwt({"exp": str(int(NOW + HOUR))}), HOUR),
    (jwt({"exp": NOW + HOUR, "pad": "?>~"}), HOUR),
    (jwt({"exp": NOW - 1}), DEAD),
    (jwt({"exp": 0}), DEAD),
    (jwt({"exp": 1e18}), UNKNOWN),
    (jwt({"exp": 10**400}), UNKNOWN),
    (jwt({"exp": True}), UNKNOWN),
    (jwt({"exp": None}), UNKNOWN),
    (jwt({"exp": [1]}), UNKNOWN),
    (jwt({"iat": 1}), UNKNOWN),
    (jwt([1, 2]), UNKNOWN),
    (jwt("text"), UNKNOWN),
    (jwt(7), UNKNOWN),
    (jwt(None), UNKNOWN),
    (jwt(b'{"exp": NaN}'), UNKNOWN),
    (jwt(b'{"exp": 1' + b"0" * 5000 + b"}"), UNKNOWN),
    (jwt(b"\xff\xfe\x00"), UNKNOWN),
    (jwt(b"[" * 100_000), UNKNOWN),
    (jwt(b"{"), UNKNOWN),
    ("a.b.c", UNKNOWN),
    ("a..c", UNKNOWN),
    ("..", UNKNOWN),
    ("a.b", UNKNOWN),
    ("a.b.c.d.e", UNKNOWN),
    ("a.====.c", UNKNOWN),
]


@pytest.mark.parametrize(("access_token", "outcome"), JWTS, ids=ids(value for value, _ in JWTS))
def test_jwt_exp(access_token, outcome):
    """T1: a JWT's `exp` tells the expiry where the answer does not; what cannot be read says nothing."""
    if outcome is DEAD:
        with pytest.raises(TransientRefreshError, match="already expired"):
            usable(access_token)
        return
    expires_at = usable(access_token).expires_at
    assert expires_at == (None if outcome is None else NOW + outcome)


@pytest.mark.parametrize("skew", [7200.0, -7200.0, 30.0, -30.0, 3.0, -3.0])
@pytest.mark.parametrize("how", ["expires_at", "expires_on", "jwt"])
def test_skew_both_ways(skew, how):
    """T2: an absolute expiry is the server's clock. The Date of the same answer corrects it, in both directions."""
    fields = {"access_token": jwt({"exp": NOW + skew + HOUR})} if how == "jwt" else {"access_token": "a"}
    if how != "jwt":
        fields[how] = NOW + skew + HOUR
    token = usable(Answer(fields, date=NOW + skew), received_at=NOW)
    assert token.expires_at == NOW + HOUR


@pytest.mark.parametrize(
    ("date", "took"),
    [(NOW + 2.0, 0.0), (NOW - 2.0, 0.0), (NOW + 1, 0.5), (NOW - 5.0, 10.0), (NOW + 15.0, 10.0), (None, 9.0)],
)
def test_noise_is_no_skew(date, took):
    """T2: a Date has whole seconds and an answer takes time; a difference within both is no skew."""
    answer = Answer({"access_token": "a", "expires_at": NOW + HOUR}, date=date)
    assert usable(answer, received_at=NOW + took).expires_at == NOW + HOUR


def test_skew_moves_no_relative_lifetime():
    """T2: `expires_in` and `refresh_in` count from our own start of the request, independent of the server's clock."""
    answer = Answer({"access_token": "a", "expires_in": 60, "refresh_in": 30}, date=NOW + 1e6)
    token = usable(answer, received_at=NOW + 1)
    assert (token.expires_at, token.refresh_at) == (NOW + 60, NOW + 30)


@pytest.mark.parametrize(
    ("fields", "refresh_at"),
    [
        ({"refresh_in": 1800}, NOW + 1800),
        ({"refresh_in": "1800"}, NOW + 1800),
        ({"refresh_in": 0}, None),
        ({"refresh_in": -5}, None),
        ({"refresh_in": None}, None),
        ({"refresh_in": True}, None),
        ({"refresh_in": math.nan}, None),
        ({"refresh_in": 10**400}, None),
        ({"refresh_on": NOW + 900}, NOW + 900),
        ({"refresh_on": int(NOW + 900) * 1000}, NOW + 900),
        ({"refresh_on": "2030-01-01T00:15:00Z"}, NOW + 900),
        ({"refresh_on": NOW - 900}, None),
        ({"refresh_on": "soon"}, None),
        ({"refresh_in": 0, "refresh_on": NOW + 900}, NOW + 900),
        ({"refresh_in": 60, "refresh_on": NOW + 900}, NOW + 60),
    ],
)
def test_hints(fields, refresh_at):
    """F1: `refresh_in` and `refresh_on` tell when the server wants the token replaced; nonsense says nothing."""
    assert answered(expires_in=3600, **fields).refresh_at == refresh_at


@pytest.mark.parametrize(
    ("value", "token_type"),
    [
        ("Bearer", "Bearer"), ("bearer", "Bearer"), ("BEARER", "Bearer"), (" bearer ", "Bearer"),
        ("BearerToken", "Bearer"), ("bearertoken", "Bearer"), ("Bearer  Token", "Bearer"), ("jwt", "Bearer"),
        ("JWT-bearer", "Bearer"), ("N_A", "Bearer"), ("user", "Bearer"), ("bot", "Bearer"),
        ("urn:ietf:params:oauth:token-type:access_token", "Bearer"), ("DPoP", "DPoP"), ("dpop", "DPoP"),
        (None, "Bearer"), ("", "Bearer"), ("  ", "Bearer"), (7, "Bearer"), (["Bearer"], "Bearer"),
    ],
)  # fmt: skip
def test_token_type(value, token_type):
    """U1: the type is one that the library knows, however it is spelled, and Bearer where it is missing."""
    assert answered(token_type=value).token_type == token_type


# Until now any type was taken for the scheme of the Authorization field. RFC 6749 section 7.1 forbids that: "the client
# MUST NOT use an access token if it does not understand the token type".
@pytest.mark.parametrize("value", ["mac", "MAC", "pop", "Basic", "x", "Bearer2", "bearer,mac", "x" * 500, "two words"])
def test_a_token_of_an_unknown_type_is_not_used(value):
    """U1: an access token of a type that the library does not know is not used, and the failure names the type."""
    with pytest.raises(TransientRefreshError, match=f"type '{value[:60]}'") as caught:
        answered(access_token="opaque", token_type=value)
    assert caught.value.ambiguous
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("said", ["Application Access Token", "application  access token", "APPLICATION ACCESS TOKEN"])
def test_a_source_may_know_more_types(said):
    """U1: a source names the types of its server, and the scheme of each; they go before the library's own."""
    own = {"Application Access Token": "Bearer", "bearer": "Token"}
    assert usable(Answer({"access_token": "a", "token_type": said}, token_types=own)).token_type == "Bearer"
    assert usable(Answer({"access_token": "a", "token_type": "Bearer"}, token_types=own)).token_type == "Token"
    with pytest.raises(TransientRefreshError, match="type 'mac'"):
        usable(Answer({"access_token": "opaque", "token_type": "mac"}, token_types=own))
    with pytest.raises(TransientRefreshError, match="token_type must be"):
        usable(Answer({"access_token": "a", "token_type": "x"}, token_types={"x": "a\r\nb"}))


def test_the_type_of_a_credential_of_ours():
    """U1: the types of the library's own credentials are known, and the token is of their class."""
    token = answered(token_type="aws4-hmac-sha256", secret_access_key="k")
    assert (type(token), token.token_type) == (aws.AwsCredentials, "AWS4-HMAC-SHA256")


def test_a_secret_is_not_quoted_as_a_type():
    """S1: a type that repeats the access token or the refresh token is named without it."""
    with pytest.raises(TransientRefreshError) as caught:
        answered(access_token="s3cr3t-access", token_type="s3cr3t-access")
    assert "s3cr3t" not in str(caught.value)
    failure = read_response(
        {"access_token": "a", "token_type": "r-s3cr3t", "refresh_token": "r-s3cr3t"}, requested_at=NOW
    ).failure
    assert "s3cr3t" not in str(failure)


CURRENT = Token("before", issued_at=0.0, refresh_token="r1")

BROKEN: dict[str, dict[str, Any]] = {
    "missing": {}, "null": {"access_token": None}, "empty": {"access_token": ""}, "number": {"access_token": 7},
    "list": {"access_token": ["a"]}, "object": {"access_token": {}}, "bytes": {"access_token": b"a"},
    "line break": {"access_token": "a\r\nX-Evil: 1"}, "space": {"access_token": "a b"}, "umlaut": {"access_token": "ä"},
    "surrogate": {"access_token": "\ud800"}, "nul": {"access_token": "a\0"},
    "type": {"access_token": "a", "token_type": "mac"},
    "type with line break": {"access_token": "a", "token_type": "x\ny"},
    "naive expiry": {"access_token": "a", "expires_at": dt.datetime(2030, 1, 1)},  # noqa: DTZ001 - naive is the test
    "naive hint": {"access_token": "a", "refresh_on": dt.datetime(2030, 1, 1)},  # noqa: DTZ001
}  # fmt: skip


@pytest.mark.parametrize("current", [None, CURRENT], ids=["first", "later"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_refresh_token_is_kept_beside_an_access_token_that_cannot_be_used(name, current):
    """K1: the refresh token of an answer that arrived is kept, for every fault of the access token beside it."""
    fields = {**BROKEN[name], "refresh_token": "r2", "scope": "a", "id_token": "i", "refresh_expires_in": 60}
    for answer in (fields, Answer(fields, date=NOW)):
        token, failure = read_response(answer, requested_at=NOW, received_at=NOW + 5, current=current)
        assert (token.access_token, token.refresh_token, token.scope) == ("", "r2", "a")
        assert token.extra["id_token"] == "i"
        assert token.extra["refresh_token_expires_at"] == NOW + 60
        assert not any(token.valid_at(now) for now in (0.0, NOW - 1, NOW, NOW + 1))
        assert isinstance(failure, TransientRefreshError)
        assert not failure.ambiguous
        assert "Evil" not in str(failure)


@pytest.mark.parametrize("name", BROKEN)
def test_without_a_refresh_token_there_is_nothing_to_keep(name):
    """K4: where the answer has no refresh token, the one before may be spent: the failure is ambiguous, as it was."""
    for odd in ({}, {"refresh_token": None}, {"refresh_token": ""}, {"refresh_token": 7}):
        with pytest.raises(TransientRefreshError) as caught:
            read_response({**BROKEN[name], **odd}, requested_at=NOW, current=CURRENT)
        assert caught.value.ambiguous is not name.startswith("naive")


DYING: dict[str, Any] = {
    "expires_in is 0": {"access_token": "a", "expires_in": 0},
    "expires_in is negative": {"access_token": "a", "expires_in": -1e300},
    "expires_at is past": {"access_token": "a", "expires_at": NOW - 1},
    "expires_at is long past": {"access_token": "a", "expires_at": -1e308},
    "expires_on is past": {"access_token": "a", "expires_on": "2001-01-01T00:00:00Z"},
    "JWT is past": {"access_token": jwt({"exp": 1})},
    "slept through": {"access_token": "a", "expires_in": 9},
    "not_after": Answer({"access_token": "a", "expires_in": 3600}, not_after=NOW),
    "not_after is long past": Answer({"access_token": "a"}, not_after=-1e308),
    "default": Answer({"access_token": "a"}, default_lifetime=-5.0),
}


@pytest.mark.parametrize("name", DYING)
def test_a_refresh_token_is_kept_beside_an_access_token_that_is_expired(name):
    """K1: a token that is dead on arrival is returned with its refresh token, or with the one before."""
    given = DYING[name]
    fields = given.fields if isinstance(given, Answer) else given
    for told, kept in (({}, "r1"), ({"refresh_token": "r2"}, "r2")):
        answer: Any = {**fields, **told}
        if isinstance(given, Answer):
            answer = given.replace(fields=answer)
        token, failure = read_response(answer, requested_at=NOW, received_at=NOW + 9, current=CURRENT)
        # The dead access token itself is never used, even if the clock is set back later.
        assert (token.access_token, token.refresh_token) == ("", kept)
        assert not token.valid_at(NOW + 9)
        assert math.isfinite(token.remaining(NOW))
        assert "already expired" in str(failure)
        assert not failure.ambiguous


def test_an_error_answer_is_an_error_also_beside_a_refresh_token():
    """F4: an error that the server answers is raised: it did not grant anything."""
    with pytest.raises(GrantRejected):
        read_response({"error": "invalid_grant", "refresh_token": "r2"}, requested_at=NOW, current=CURRENT)


LIMITS = [10**400, -(10**400), 10**5000, 2**63, -(2**63), 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan, True,
    False, "1e400", "9" * 5000, "nan", "-inf", "", "x", None, [], {}, b"1", 1j]  # fmt: skip
NUMBERS = [
    "expires_in", "expires_at", "expires_on", "refresh_in", "refresh_on", "refresh_expires_in", "scope",
    "refresh_token_expires_in", "x_refresh_token_expires_in", "refresh_token_expires_at", "refresh_token_issued_at",
]  # fmt: skip


@pytest.mark.parametrize("value", LIMITS, ids=range(len(LIMITS)))
def test_numbers_at_their_limits(value):
    """T1: every number of an answer has a defined outcome at its limits: a token with finite instants, or a failure."""
    answers: list[Any] = [Answer({"access_token": "a", name: value}) for name in NUMBERS]
    answers += [Answer({"access_token": "a", name: value}, date=NOW + 1e9) for name in NUMBERS]
    answers += [
        ("a", value),
        Answer({"access_token": "a", "expires_at": NOW, "scope": [value]}, date=value),
        Answer({"access_token": "a"}, default_lifetime=value),
        Answer({"access_token": "a"}, not_after=value),
    ]
    current = Token(
        "a", issued_at=0, refresh_token="r", extra={"refresh_token_expires_at": value, "refresh_token_issued_at": value}
    )
    answers.append({"access_token": "a", "refresh_expires_in": 60})
    for answer in answers:
        for default in (None, value):
            token, failure = read_response(answer, requested_at=NOW, current=current, default_lifetime=default)
            assert (failure is None) is token.valid_at(NOW)
            for at in (token.issued_at, token.expires_at, token.refresh_at, token.shifted(1.0).expires_at):
                assert at is None or math.isfinite(at)
            again, _ = read_response(answer, requested_at=NOW, current=token)
            assert again.refresh_token == "r"


@pytest.mark.parametrize("fields", [{10**5000: 1}, {7: "x"}, {None: 1}, {("a",): 1}], ids=range(4))
def test_names_that_are_no_strings(fields):
    """T1: a member whose name is no string, as a function may return it, is left out."""
    assert usable({"access_token": "a", **fields}).extra == {}


def test_a_response_shows_no_secret():
    """S1: the response of the parser shows the token as the token shows itself."""
    response = read_response({"access_token": "s3cr3t-a", "refresh_token": "s3cr3t-r"}, requested_at=NOW)
    assert isinstance(response, Response)
    assert "s3cr3t" not in repr(response)


@pytest.mark.parametrize("name", ["access_token", "token_type"])
@pytest.mark.parametrize("value", ["x\r\nX-Evil: 1", "x\ny", "x\x00y", "x\ty", "x\x7fy", "täg", "x\u2028y", "\ud800"])
def test_header_injection(name, value):
    """S1: what would break out of the Authorization field is an unreadable answer, and is not repeated in the error."""
    with pytest.raises(TransientRefreshError, match="unreadable") as caught:
        answered(**{name: value})
    assert value not in str(caught.value)
    assert caught.value.ambiguous


@pytest.mark.parametrize("value", [None, "", 0, 7, [], {}, b"bytes", False])
def test_no_access_token(value):
    """
    F4: an answer without an access token is unreadable: transient, and ambiguous because it may have spent something.
    """
    with pytest.raises(TransientRefreshError, match="no access_token") as caught:
        answered(access_token=value)
    assert caught.value.ambiguous


@pytest.mark.parametrize("answer", [None, 7, b"token", ("a",), ("a", 1, 2), ["a", 1], object(), {"a"}, 3.5])
def test_no_answer_at_all(answer):
    """
    F4: a forbidden result of a source is a transient failure that names its type and the allowed ones, not its value.
    """
    with pytest.raises(TransientRefreshError, match=f"returned {type(answer).__name__}"):
        usable(answer)


@pytest.mark.parametrize("answer", ["", ("", 10), (None, 10), {}, {"access_token": "a b"}, "two\nlines"])
def test_unreadable_short_forms(answer):
    """F4: the short forms of an answer are read as strictly as the long one."""
    with pytest.raises(TransientRefreshError, match="unreadable"):
        usable(answer)


@pytest.mark.parametrize("empty", [{}, {"access_token": None}, {"access_token": ""}])
def test_error_with_status_200(empty):
    """F4: an error answered with status 200 is the error it names, also beside an empty access token."""
    with pytest.raises(GrantRejected) as caught:
        usable(Answer({**empty, "error": "invalid_grant", "error_description": "gone"}))
    assert (caught.value.error, caught.value.error_description) == ("invalid_grant", "gone")
    with pytest.raises(TransientRefreshError, match="slow_down"):
        usable({**empty, "error": "slow_down"})


@pytest.mark.parametrize("error", [None, "", False, 0, []])
def test_empty_error_beside_a_token(error):
    """F4: an `error` member that says nothing takes no token away."""
    assert answered(error=error).access_token == "a"


def test_error_beside_a_token_is_ignored():
    """F4: an answer with a token is a success, with any other content."""
    assert answered(error="invalid_grant").access_token == "a"


def test_refresh_token_kept_when_omitted():
    """K1: an answer without a refresh token keeps the one before; one with another replaces it."""
    current = Token("before", issued_at=0.0, refresh_token="r1")
    for answer in ({"access_token": "a"}, {"access_token": "a", "refresh_token": None}, "a", ("a", 10)):
        assert usable(answer, current=current).refresh_token == "r1"
    for odd in ("", 7, [], {}):
        answer = {"access_token": "a", "refresh_token": odd}
        assert usable(answer, current=current).refresh_token == "r1"
    answer = {"access_token": "a", "refresh_token": "r2"}
    assert usable(answer, current=current).refresh_token == "r2"
    given = Token("a", issued_at=NOW)
    assert usable(given, current=current).refresh_token == "r1"
    assert usable(given) is given


@pytest.mark.parametrize(
    ("value", "scope", "scopes"),
    [
        ("a b", "a b", {"a", "b"}), ("", "", set()), (["a", "b"], "a b", {"a", "b"}), (("a",), "a", {"a"}),
        ([], "", set()), ([1, 2], "1 2", {"1", "2"}), (None, None, set()), (7, None, set()), ({}, None, set()),
    ],
)  # fmt: skip
def test_scope(value, scope, scopes):
    """T1: a scope is one string as on the wire; a list of them is joined, and anything else says nothing."""
    token = answered(scope=value)
    assert (token.scope, token.scopes) == (scope, scopes)


def test_other_fields_are_kept_apart():
    """R5: what the answer holds beside the RFC's fields is in `extra`, and nowhere shown."""
    token = answered(expires_in=5, id_token="s3cr3t", instance_url="https://x", **{"7": 8})
    assert token.extra == {"id_token": "s3cr3t", "instance_url": "https://x", "7": 8}
    assert "s3cr3t" not in repr(token)
    assert "s3cr3t" not in repr(Answer({"access_token": "s3cr3t", 7: "s3cr3t"}))


def test_a_token_that_is_dead_is_not_taken():
    """R2: a Token a source made itself is held to the same rule: dead on arrival is a failure."""
    with pytest.raises(TransientRefreshError, match="already expired"):
        usable(Token("a", issued_at=0.0, expires_at=NOW))
    assert usable(Token("a", issued_at=0.0, expires_at=NOW + 0.1)).expires_at == NOW + 0.1


def test_lifetime_counts_from_the_start_of_the_request():
    """T1: a slow answer has lived as long as it took: 20 s of latency take 20 s of life."""
    token = usable(("a", 60), received_at=NOW + 20)
    assert (token.issued_at, token.remaining(NOW + 20)) == (NOW, 40.0)


@pytest.mark.parametrize(
    "code", [*sorted(REJECTIONS), "slow_down", "temporarily_unavailable", "server_error", None, 7, ""]
)
@pytest.mark.parametrize("status", [None, 200, 302, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504, 599])
def test_failure_by_status_and_code(status, code):
    """F4: a known code is a rejection, unless the status says that it passes; all else is transient."""
    error = failure_from({"error": code, "error_description": "why"}, status=status, retry_after=7.0)
    if code in REJECTIONS and status not in {429, 500, 502, 503, 504, 599}:
        assert isinstance(error, GrantRejected)
        assert (error.error, error.error_description, error.error_uri) == (code, "why", None)
    else:
        assert isinstance(error, TransientRefreshError)
        assert error.retry_after == 7.0
        assert error.ambiguous == (status in {500, 502, 504, 599})
        said = " ".join(str(part) for part in ("the token endpoint answered", status, code) if part not in {None, ""})
        assert str(error) == f"{said}: why"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "https://as.example/problems/invalid-grant"}, "invalid_grant"),
        ({"type": "https://as.example/errors#InvalidGrant"}, "invalid_grant"),
        ({"error": "urn:example:InvalidClient"}, "invalid_client"),
        ({"type": "tag:as.example,2020:Invalid Grant"}, "invalid_grant"),
        ({"error": "http://as.example/invalid_grant"}, "invalid_grant"),
    ],
)
def test_a_code_that_is_a_uri(fields, code):
    """F4: the last part of a URI that names the error is its code (RFC 9457), in any spelling."""
    error = failure_from(fields, status=400)
    assert isinstance(error, GrantRejected)
    assert error.error == code


@pytest.mark.parametrize(
    ("ids", "shown"),
    [
        ([50196, 7], " (error_codes 50196"),
        (50196, " (error_codes 50196)"),
        ("E17", " (error_codes E17)"),
        ([], ""),
        ([1, 2, 3, 4], ""),
        ([1, None], ""),
        ([1, {"a": 2}], ""),
        ([1, ""], ""),
        ([1, "x" * 101], ""),
        (True, ""),
        (10**21, ""),
        (None, ""),
    ],
    ids=range(12),
)
def test_ids_of_an_error(ids, shown):
    """F4: what support asks for is quoted: up to three numbers or short texts, and nothing else."""
    error = failure_from({"error": "invalid_grant", "error_description": "why", "error_codes": ids}, status=400)
    assert isinstance(error, GrantRejected)
    assert str(error.error_description).startswith(f"why{shown}")
    assert shown or "error_codes" not in str(error.error_description)


def test_the_number_of_ids_of_an_error():
    """F4: ten ids are quoted at most, however many an answer has."""
    words = ("trace", "request", "correlation", "debug")
    names = [f"{word}{end}" for word in words for end in ("_id", "Id", "-id")]
    error = failure_from(
        {"error": "invalid_grant", **{name: number for number, name in enumerate(names, 100)}}, status=400
    )
    assert isinstance(error, GrantRejected)
    assert sum(name in str(error.error_description) for name in names) == 10


def test_words_of_an_error_are_tame():
    """S1: what a server writes into an error is cut short and kept to one line."""
    error = failure_from({"error": "invalid_grant", "error_description": "a\r\n\x1b[31mb " + "c" * 5000})
    assert isinstance(error, GrantRejected)
    assert error.error_description is not None
    assert len(error.error_description) <= 600
    assert error.error_description.startswith("a [31mb")
    odd = failure_from({"error": "x\r\ny" * 500})
    assert len(str(odd)) <= 700
    assert str(odd).isprintable()
    for value in (7, [], {}, None, ""):
        empty = failure_from({"error": "invalid_grant", "error_description": value, "error_uri": value})
        assert isinstance(empty, GrantRejected)
        assert empty.error_description is empty.error_uri is None


@pytest.mark.parametrize(
    ("value", "now", "seconds"),
    [
        ("120", None, 120.0), ("0", None, 0.0), (" 5 ", None, 5.0), ("1.5", None, 1.5), ("-5", None, 0.0),
        ("1e9", None, 1e9), (None, NOW, None), ("", NOW, None), ("soon", NOW, None), ("nan", NOW, None),
        ("inf", NOW, None), ("9" * 400, NOW, None), ("Tue, 01 Jan 2030 00:01:00 GMT", NOW, 60.0),
        ("Tue, 01 Jan 2030 00:01:00 GMT", NOW + 90, 0.0), ("Tue, 01 Jan 2030 00:01:00 GMT", None, None),
        ("Tue, 99 Jan 2030 00:01:00 GMT", NOW, None), ("5 minutes", NOW, None),
    ],
)  # fmt: skip
def test_retry_after(value, now, seconds):
    """F3: Retry-After is seconds or a date by the server's own clock; garbage says nothing, the past means now."""
    assert parse_retry_after(value, now) == seconds


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    "access_token", "token_type", "expires_in", "expires_at", "expires_on", "refresh_in", "refresh_on",
    "refresh_token", "scope", "error", "error_description", "error_uri",
]  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    fields=st.dictionaries(st.sampled_from(NAMES), JSON),
    date=st.none() | st.floats(-1e12, 1e12),
    took=st.floats(0, 99),
)
def test_whatever_comes_is_a_token_or_one_of_two_errors(fields, date, took):
    """F4: no JSON object breaks the parser: it is a living token, a transient failure or a rejection."""
    try:
        token = usable(Answer(fields, date=date), received_at=NOW + took)
    except (TransientRefreshError, GrantRejected) as error:
        said = str(error)
        assert said.isprintable()
    else:
        assert token.valid_at(NOW)
        assert token.issued_at == NOW
        assert token.expires_at is None or math.isfinite(token.expires_at)
        assert token.refresh_at is None or token.refresh_at > NOW
        assert repr(token)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.none()
    | st.booleans()
    | st.datetimes(timezones=st.timezones())
)
def test_numbers_and_instants_are_finite_or_nothing(value):
    """T1: the readers of numbers and instants return a finite number or None, and raise nothing."""
    for found in (number(value), instant(value)):
        assert found is None or math.isfinite(found)
    if isinstance(value, str):
        found = http_date(value)
        assert found is None or math.isfinite(found)
        waited = parse_retry_after(value, NOW)
        assert waited is None or 0.0 <= waited < math.inf


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Za-z]{3} \d{1,6} \d{1,3}:\d{1,3}(:\d{1,3})? ([A-Z]{1,4}|[+-]\d{1,6})"))
def test_almost_dates_raise_nothing(value):
    """F3: what looks like an HTTP date is one, or says nothing."""
    found = http_date(value)
    assert found is None or math.isfinite(found)

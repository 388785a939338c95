"""Taking secrets out of what others wrote."""

from __future__ import annotations

import string
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings, strategies as st

from evertoken._model.redaction import describe, scrub

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.s1gn4tur3"


@settings(deadline=None)
@given(secret=st.text(min_size=1, max_size=80), before=st.text(max_size=50), after=st.text(max_size=50))
def test_given_secrets_never_show(secret, before, after):
    """S1: a secret that is known is taken out wherever it stands, as it is and as a URL or a form spells it."""
    marked = f"\x02{secret}\x03"
    for spelled in (marked, quote(marked, safe="", errors="surrogatepass"), quote_plus(marked, errors="surrogatepass")):
        assert spelled not in scrub(before + spelled + after, [marked])
    assert len(scrub(before + secret + after, [secret])) <= 1000


def test_longer_secrets_go_first():
    """S1: a secret that contains another leaves no rest behind."""
    assert scrub("abc-def-ghi", ["abc", "abc-def-ghi", None, ""]) == "***"


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        ("a", "a bad name: a", "*** bad name: ***"),
        ("me", "some name is 'me'", "some name is '***'"),
        ("abc", "abc_abcd", "***_abcd"),
        ("pin1", "xpin1x", "x***x"),
    ],
)
def test_short_secrets(secret, text, shown):
    """S1: a secret of a few letters is taken out where it stands alone, and not out of the words around it."""
    assert scrub(text, [secret]) == shown


@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"bad token {JWT}!",
        f"https://api/x?access_token={JWT}&a=b",
        "Zk3JQ9c1Xp0aLm7TqRs2",
        "no such thing: ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "ya29.a0AfH6SMBx1y2z3w4v5u6t7s8",
        "sk-proj-a0AfH6SMBx1y2z3w4v5u6t7s8",
        "a0AfH6SMBx1y2z3w4v5u6t7s8-0a1b2c3d-aaaa-bbbb-cccc-1234567890ab",
    ],
)
def test_what_looks_secret(text):
    """S1: a JWT, and a long run of letters and digits, are taken out although nobody named them."""
    shown = scrub(text)
    assert "***" in shown
    assert not any(part in shown for part in ("eyJ", "Zk3JQ9", "16C7e42F", "a0AfH6", "s1gn4tur3"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("authorization: Basic dTpw", "authorization: Basic ***"),
        ("{'Authorization': 'Bearer xyzzy'}", "{'Authorization': 'Bearer ***'}"),
        ("Authorization: xyzzy", "Authorization: ***"),
        ("DPoP xyzzy", "DPoP ***"),
        ("client_secret=hunter", "client_secret=***"),
        ('{"client_secret": "hunter", "a": 1}', '{"client_secret": "***", "a": 1}'),
        ("refresh_token = hunter;", "refresh_token = ***;"),
        ("token=hunter&x=1", "token=***&x=1"),
        ("api_key=hunter", "api_key=***"),
        ("x-api-key: hunter", "x-api-key: ***"),
        ("accessToken: hunter", "accessToken: ***"),
        ("password: hunter", "password: ***"),
        ("client_assertion=hunter", "client_assertion=***"),
        ("wrong password: hunter", "wrong password: ***"),
        ("refresh token=hunter", "refresh token=***"),
        ("refresh token: hunter2", "refresh token: ***"),
        ("Invalid refresh token: 6f18f21e-a743-4509-b7fd-1a5e632fffa1", "Invalid refresh token: ***"),
        ("token: hunter", "token: ***"),
    ],
)
def test_named_secrets(text, shown):
    """S1: however short, what stands after a telling name is taken out, and what stands before is kept."""
    assert scrub(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "unreadable answer: no access_token in it",
        "unreadable answer: access_token has characters that RFC 6750 does not allow",
        "the assertion is expired",
        "unsupported_grant_type",
        "[Errno 111] Connect call failed ('127.0.0.1', 8080)",
        "https://as.example.com/oauth2/token: ConnectError",
        "client_secret must be a non-empty string, or a function that returns one",
        "wrong password",
        "Invalid refresh token: expired",
        "Invalid token: revoked.",
        "The basic authentication failed",
        "Bearer token is missing",
        "Refresh token: revoked by admin",
        "Refresh token: superseded",
        "client_secret: the file '/run/secret' is empty",
        "Client 'svc-payments-2024-production' is disabled",
        "Unknown client: billing-prod-eu-west-1",
        "no role app_reader_3_of_account-123456789012",
        "Trace ID: 0a1b2c3d-aaaa-bbbb-cccc-1234567890ab Correlation ID: 9F8E7D6C-DDDD-EEEE-FFFF-BA0987654321",
        "",
    ],
)
def test_plain_words_stay(text):
    """F4: what is no secret stays readable, our own messages first."""
    assert scrub(text) == text


@settings(deadline=None)
@given(st.text(alphabet=string.printable, max_size=2000))
def test_one_short_line(text):
    """S1: whatever comes in, one printable line of at most 1,000 characters goes out."""
    shown = scrub(text)
    assert len(shown) <= 1000
    assert shown == "" or shown.isprintable()


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "a1" * 100_000, "a-" * 100_000, "eyJ" * 70_000, "token" * 40_000, "=" * 200_000]
)
def test_no_text_takes_long(text):
    """F5: no text, however long, makes the expressions slow."""
    begun = time.process_time()
    assert len(scrub(text)) <= 1000
    assert time.process_time() - begun < 2.0


def test_describe():
    """S1: an error is described by its class, its scrubbed words and the place it was raised at."""

    def culprit() -> None:
        hidden = "another-s3cr3t-local"
        raise ValueError(f"no such key hunter2 {len(hidden)}")

    with pytest.raises(ValueError) as caught:
        culprit()
    described = describe(caught.value, ["hunter2"])
    assert described.startswith("ValueError: no such key *** 20 (at test_redact.py:")
    assert described.endswith(" in culprit)")
    assert describe(KeyError()) == "KeyError"
    assert describe(RuntimeError("x")) == "RuntimeError: x"


def test_describe_survives_an_exception_that_cannot_be_printed():
    """F5: an exception whose words raise is named all the same."""

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("s3cr3t")

    assert "Unprintable" in describe(Unprintable())
    assert "s3cr3t" not in describe(Unprintable())

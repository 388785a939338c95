"""Taking secrets out of what others wrote."""

from __future__ import annotations

import base64
import html
import json
import re
import string
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import httpx
import pytest
from hypothesis import assume, given, settings, strategies as st

from evertoken._model.redaction import describe, quoted, quoted_url, scrub
from evertoken._model.spellings import ORDINARY

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.s1gn4tur3"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("breads", "breads"), ("two breads", "two breads"), ("reads", "***s"), ("bread", "b***"), ("read", "***")],
)
def test_a_short_secret_inside_a_word(text, shown):
    """S1: a short word that is a secret is found at the ends of another word, and not in its middle."""
    assert scrub(text, ["read"]) == shown


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("after", range(4))
def test_a_short_secret_inside_base64(before, after):
    """S1: six characters are found wherever they stand in a text in base64, though they share digits with others."""
    text = _b64("a:"[:before] + "N-h2MY" + ":bc"[:after])
    assert scrub(f"the server said {text} and no more", ["N-h2MY"]) == "the server said *** and no more"


@settings(deadline=None)
@given(secret=st.text(min_size=1, max_size=80), before=st.text(max_size=50), after=st.text(max_size=50))
def test_given_secrets_never_show(secret, before, after):
    """S1: a secret that is known is taken out wherever it stands, as it is and as a URL or a form spells it."""
    marked = f"\x02{secret}\x03"
    for spelled in (marked, quote(marked, safe="", errors="surrogatepass"), quote_plus(marked, errors="surrogatepass")):
        assert spelled not in scrub(before + spelled + after, [marked])
    assert len(scrub(before + secret + after, [secret])) <= 1000


def _each(spell: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "".join(map(spell, text))


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _unpadded_url(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _utf16(character: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(character.encode("utf-16-le")).cast("H"))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, all escaped": _each(_utf16),
    "JSON, all escaped, upper case": lambda text: _each(_utf16)(text).upper().replace("\\U", "\\u"),
    "JSON, slashes too": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, not ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "repr": lambda text: repr(text)[1:-1],
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "HTML": html.escape,
    "HTML, quotes left": lambda text: html.escape(text, quote=False),
    "HTML, numbers": _each(lambda one: f"&#{ord(one)};"),
    "HTML, long numbers": _each(lambda one: f"&#{ord(one):05d};"),
    "HTML, hexadecimal": _each(lambda one: f"&#x{ord(one):x};"),
    "HTML, hexadecimal, upper case": _each(lambda one: f"&#X{ord(one):04X};"),
    "HTML, signs by name": _each(
        lambda one: {"/": "&sol;", "+": "&plus;", "&": "&amp;", "<": "&lt;", "'": "&apos;"}.get(one, one)
    ),
    "HTML twice": lambda text: html.escape(html.escape(text)),
    "URL": lambda text: quote(text, safe=""),
    "URL, slashes left": quote,
    "URL, lower case": lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text, safe="")),
    "URL, all of it": lambda text: "".join(f"%{octet:02X}" for octet in text.encode()),
    "URL, as scripts do": lambda text: quote(text, safe="!'()*"),
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "URL three times": lambda text: quote(quote(quote(text, safe=""), safe=""), safe=""),
    "form": quote_plus,
    "form in a URL": lambda text: quote(quote_plus(text)),
    "JSON in HTML": lambda text: html.escape(json.dumps(text)[1:-1]),
    "HTML in JSON": lambda text: json.dumps(html.escape(text))[1:-1],
    "base64": _b64,
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 for URLs, unpadded": _unpadded_url,
    "base64 in a URL": lambda text: quote(_b64(text), safe=""),
    "base64 in JSON": lambda text: json.dumps(_b64(text))[1:-1].replace("/", "\\/"),
    "Basic": lambda text: _b64(f"client-7:{text}"),
    "Basic for URLs, unpadded": lambda text: _unpadded_url(f"a:{text}"),
    "Basic, form-encoded": lambda text: _b64(f"{quote_plus('my client')}:{quote_plus(text)}"),
    "Basic, quoted": lambda text: _b64(f"id:{quote(text, safe='')}"),
    "a form in base64": lambda text: _b64(urlencode({"grant_type": "x", "client_secret": text, "scope": "a"})),
    "JSON in base64": lambda text: _b64(json.dumps({"a": text, "b": 1})),
    "base64, cut short": lambda text: _b64(f"id:{text}")[:-5],
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal, upper case": lambda text: text.encode().hex().upper(),
    "upper case": str.upper,
    "lower case": str.lower,
    "other case": str.swapcase,
    "start": lambda text: text[:8].rstrip(),
    "longer start": lambda text: text[:11].rstrip(),
    "all but the last": lambda text: text[:-1].rstrip(),
    "end": lambda text: text[-8:].lstrip(),
    "longer end": lambda text: text[-11:].lstrip(),
    "all but the first": lambda text: text[1:].lstrip("+"),
    "start in a URL": lambda text: quote(text[:10], safe=""),
    "wrapped": lambda text: f"{text[:5]}\r\n {text[5:10]}\n\t{text[10:]}",
    "base64, wrapped": lambda text: "\r\n".join(textwrap.wrap(_b64(text), 12)),
    "spaces in between": " ".join,
    "unseen in between": "\u200b".join,
    "UTF-8 taken for ISO 8859-1": lambda text: text.encode().decode("latin-1"),
    "UTF-8 taken for Windows-1252": lambda text: text.encode().decode("cp1252", "replace"),
    "ISO 8859-1 taken for UTF-8": lambda text: text.encode("latin-1", "replace").decode(errors="replace"),
    "UTF-8 taken for ASCII": lambda text: text.encode().decode("ascii", "replace"),
    "in ASCII": lambda text: text.encode("ascii", "replace").decode(),
    "in ASCII, and escaped": lambda text: quote(text.encode("ascii", "replace").decode(), safe=""),
    "direction turned": lambda text: f"{text[:3]}\u202e{text[3:]}\u2069",
}  # fmt: skip

PASSWORDS = [
    "p&ss<w>o'rd-1", "a+b/c d%e~fgh", "planted secret/+&=?", 'Tr0ub4dor&3-"quoted"', "gehéim-Straße-€42",
    "%2Fx%41&amp;\\u0041", "correct horse battery staple", "hunter2-Sup3rSecret", "dGhpcyBpcyBzZWNyZXQ_-8",
    "Zk3JQ9c1Xp0aLm7TqRs2",
    "\U0001d52d\U0001d51e\U0001d530-\U0001d534word-7",
]  # fmt: skip


@pytest.mark.parametrize("secret", PASSWORDS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_echoes_in_every_spelling(spelling, secret):
    """S1: a secret that is echoed in another spelling, in other case or in part is taken out, and nothing else is."""
    spelled = SPELLINGS[spelling](secret)
    for before, after in (("The client sent [", "] and is unknown to us."), ("unknown: ", ""), ("", " is no client")):
        shown = scrub(before + spelled + after, [secret])
        assert shown == f"{before}***{after}"


@settings(deadline=None)
@given(
    secret=st.text(
        alphabet=string.ascii_letters + string.digits + "-._~!$&'()*,;=:@/?%<>\"\\", min_size=8, max_size=60
    ),
    spelling=st.sampled_from([name for name in SPELLINGS if not re.search("start|end|all but|cut", name)]),
)
def test_echoes_of_any_secret(secret, spelling):
    """S1: no spelling of a secret shows, with any characters in it."""
    spelled = SPELLINGS[spelling](secret)
    shown = scrub(f"The client sent {spelled} and is unknown to us.", [secret])
    # A secret of signs alone may be spelled by the sentence itself.
    assert spelled not in shown or not any(map(str.isalnum, secret))
    assert shown.startswith("The client sent ")
    assert shown.endswith(" and is unknown to us.")


@settings(deadline=None)
@given(secret=st.text(alphabet=string.ascii_letters + string.digits + "-._~", min_size=9, max_size=40), data=st.data())
def test_echoes_cut_short(secret, data):
    """S1: eight characters or more from the start or the end of a secret do not show."""
    size = data.draw(st.integers(8, len(secret)))
    for part in (secret[:size], secret[-size:]):
        # Sentences about errors contain such words too.
        assume(part.rstrip(".").lower() not in ORDINARY)
        assert scrub(f"wrong: <{part}|...>", [secret]) == "wrong: <***|...>"


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("authentication-for-tests", "authentication failed: the client is unknown"),
        ("password1234", "The password is wrong."),
        ("my-very-credentials", "invalid client credentials, ask your administrator"),
        ("https://hooks.example/T0/B0", "see https://as.example/errors about it"),
        ("client_secret-1", "client_secret must be given"),
        ("production", "no client of that name in the development system"),
        ("secrets", "one secret is enough"),
        ("a.b", "a b, a-b and a/b"),
        ("....", "wait..."),
        ("\u00e4\u00f6\u00fc\u00df", "what????"),
    ],
)
def test_sentences_stay(secret, text):
    """S1: words of a sentence stay, although a secret starts or ends with one of them."""
    assert scrub(text, [secret]) == text


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        ("client", "the client is not known here", "the *** is not known here"),
        (
            "the",
            "the client is not known, neither is there another",
            "*** client is not known, neither is there another",
        ),
        (" ", "there are words", "there are words"),
        (".", "a sentence. And one more.", "a sentence. And one more."),
        ("secret", "The Secret is wrong", "The *** is wrong"),
        ("read", "already read by nobody", "already *** by nobody"),
        ("hunter", "svc-hunter, hunter2 and 1hunter", "svc-***, ***2 and 1***"),
    ],
)
def test_secrets_that_are_words(secret, text, shown):
    """S1: a secret that is a word or a sign costs a message that word, and not the others."""
    assert scrub(text, [secret]) == shown


@pytest.mark.parametrize(
    "spelling", ["as it is", "URL", "JSON, all escaped", "HTML, numbers", "URL, all of it", "URL twice"]
)
@pytest.mark.parametrize("secret", ["Zk3-JQ", "a-very-long-planted-secret-" * 3, "x" * 5000])
def test_where_a_long_text_is_cut(secret, spelling):
    """S1: a secret that lies across the place where a long text is cut is not shown in part."""
    spelled = SPELLINGS[spelling](secret)
    filler = "eyJhbGciOiJIUzI1NiJ9" * 404
    for at in range(len(filler) - 300, len(filler) + 120, 17):
        text = f"{filler[:at]} {spelled} and more {'z ' * 200_000}"
        shown = scrub(text, [secret])
        assert len(shown) <= 1000
        assert secret[:3] not in shown
        assert spelled[:9] not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://app:hunter2@proxy.example:3128/", "https://***@proxy.example:3128/"),
        ("'http://hunter2@proxy.example'", "'http://***@proxy.example'"),
        ("cannot connect to http://app:hun/ter2@proxy.example", "cannot connect to http://***@proxy.example"),
        ("redis://:hun?ter2@cache:6379/0 is down", "redis://***@cache:6379/0 is down"),
        ("http://a%3Ahunter2@proxy", "http://***@proxy"),
        ("Invalid port: 'hunter2'", "Invalid port: '***'"),
        ("Port could not be cast to integer value as 'hunter2/x'", "Port could not be cast to integer value as '***'"),
        ('nonnumeric port: "hunter2"', 'nonnumeric port: "***"'),
    ],
)
def test_user_information_of_urls(text, shown):
    """S1: of a URL in a text, the user information is taken out, also where a slip makes another part of it."""
    assert scrub(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://as.example:8443/realms/a@b",
        "Invalid port: '70000'",
        "mail to admin@as.example about https://as.example/help",
        "https://iam.example/v1/serviceAccounts/sa@project.example:act",
        "no port in as.example",
    ],
)
def test_urls_without_user_information_stay(text):
    """F4: an @ in a path or a sentence is no user information."""
    assert scrub(text) == text


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
        "the client is unknown: client_id=my-app-prod-1 kid=rsa-2024-key-01",
        "tenant_id=0a1b2c3d-aaaa-bbbb-cccc-1234567890ab has no such application",
        "client_assertion: aud claim does not match; password: incorrect",
        "Trace ID: 0a1b2c3d-aaaa-bbbb-cccc-1234567890ab Correlation ID: 9F8E7D6C-DDDD-EEEE-FFFF-BA0987654321",
        "",
    ],
)
def test_plain_words_stay(text):
    """F4: text without secrets stays readable, our own messages first."""
    assert scrub(text) == text


@pytest.mark.parametrize("name", ["secret_id", "session_id", "sid", "token_id", "id", "key"])
def test_ids_that_are_secrets(name):
    """S1: the id of a client or a key is told, and that of a login or a session is not."""
    assert scrub(f"unknown {name}=0a1b2c3d-aaaa-bbbb-cccc-1234567890ab here") == "unknown *** here"


@settings(deadline=None)
@given(st.text(alphabet=string.printable, max_size=2000))
def test_one_short_line(text):
    """S1: for any input, the output is one printable line of at most 1,000 characters."""
    shown = scrub(text)
    assert len(shown) <= 1000
    assert shown == "" or shown.isprintable()


class Huge(str):
    """A text that is too long for anything but to be cut."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        raise AssertionError

    def __contains__(self, _: object) -> bool:
        raise AssertionError

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)


def test_a_text_is_cut_before_anything_else():
    """F5: of a text of any length only the first part is looked at."""
    assert scrub(Huge("why " * 3_000_000), ["secret", "other"]).startswith("why why why")


HOSTILE = {
    "one letter": "a",
    "pairs": "a1",
    "joined": "a-",
    "JWTs": "eyJ",
    "names": "token",
    "named": "token=a ",
    "names and spaces": "password     ",
    "equals": "=",
    "percent signs": "%",
    "escaped": "%41",
    "escaped twice": "%2541",
    "percent signs escaped": "%25",
    "ampersands": "&",
    "entities": "&amp;",
    "entities of entities": "&amp;amp;",
    "no entities": "&noentityofthislengthatallaaaaaa;",
    "large numbers": "&#9999999999;",
    "backslashes": "\\",
    "JSON": "\\u0061",
    "surrogates": "\\ud83d",
    "almost a secret": "secret-0",
    "almost the end": "0-tail-of-it",
    "secrets": "secret-1-with-the-tail-of-it",
    "base64 of almost a secret": base64.b64encode(b"secret-1-").decode(),
    "URLs": "://",
    "user information": "://a:b",
    "ports": "port ",
    "spaces": " ",
    "lines": "\n",
    "unseen": "\u200b",
    "letters of other scripts": "é",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_takes_long(name):
    """F5: no text, however long, costs more than a bounded number of steps, or holds the loop."""
    secrets = ["secret-1-with-the-tail-of-it", "a" * 500, "%41" * 50, "e" * 40]
    text = HOSTILE[name] * (10_000_000 // len(HOSTILE[name]))
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        scrub(text, secrets)
    finally:
        sys.setprofile(None)
    assert calls < 150_000
    took = []
    for _ in range(3):
        begun = time.process_time()
        assert len(scrub(text, secrets)) <= 1000
        took.append(time.process_time() - begun)
    # A twentieth of a second on a machine that measures nothing else.
    assert min(took) < 0.25


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain-name_1.x", "'plain-name_1.x'"),
        (None, "None"),
        (3, "3"),
        (True, "True"),
        (1.5, "1.5"),
        (len, "builtin_function_or_method len"),
        (scrub, "function scrub"),
        (["hunter2"], "a value of type list"),
        (b"hunter2", "a value of type bytes"),
        pytest.param(10**5000, "a value of type int", id="a very large number"),
        ("https://app:hunter2@as.example", "a text of 30 characters that is not shown, as it may hold a secret"),
        ("x" * 61, "a text of 61 characters that is not shown, as it may hold a secret"),
        ("Zk3JQ9c1Xp0aLm7TqRs2", "'***'"),
    ],
)
def test_what_is_quoted(value, shown):
    """S1: a value in the wrong place is quoted if it is a plain name or a number, and described if it is not."""
    assert quoted(value) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://as.example/a?key=hunter2#hunter2", "'https://as.example/a'"),
        ("https://as.example/a;key=hunter2/b;hunter2", "'https://as.example/a/b'"),
        ("https://app:hunter2@as.example/a", "a text of 32 characters that is not shown, as it may hold a secret"),
        ("https://app/hunter2@as.example/a", "a text of 32 characters that is not shown, as it may hold a secret"),
        ("as.example", "'as.example'"),
        (["https://hunter2"], "a value of type list"),
    ],
)
def test_which_urls_are_quoted(url, shown):
    """S1: of a URL in the wrong place, no user information, query, fragment or parameter of the path is quoted."""
    assert quoted_url(url) == shown


def test_an_error_about_a_url_is_told_by_its_class():
    """S1: what a library cannot read of a URL may be a password, and is not repeated."""
    with pytest.raises(httpx.InvalidURL) as caught:
        httpx.URL("http://app:hunter2/x@proxy.example")
    assert describe(caught.value).startswith("InvalidURL (at ")


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
    """F5: an exception whose text raises is still named."""

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("s3cr3t")

    assert "Unprintable" in describe(Unprintable())
    assert "s3cr3t" not in describe(Unprintable())

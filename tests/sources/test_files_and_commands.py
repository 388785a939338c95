"""
Tokens from files that others rewrite, from commands, from logins that are not OAuth, and from the first that works.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import httpx
import httpx2
import pytest
from tests.gated import until
from tests.sources.wire import Wire, always, granted, http

from evertoken import FetchRequest, GrantRejected, Token, TokenManager, TransientRefreshError
from evertoken.sources import ClientCredentials, Command, Fallback, LoginEndpoint, OAuthClient, RefreshToken, TokenFile


def a_request(timeout: float = 5.0) -> FetchRequest:
    return FetchRequest(None, None, timeout)


def a_jwt(**claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.{part('signature')}"


async def test_file(tmp_path):
    """T1: the file is read without its white space, again in a minute, and the JWT in it says when it dies."""
    path = tmp_path / "token"
    exp = time.time() + 3600.0
    path.write_text(a_jwt(exp=exp) + "\n")
    async with TokenManager(TokenFile(path)) as tokens:
        token = await tokens.get()
        assert token.expires_at == pytest.approx(exp, abs=1.0)
        assert token.refresh_at == pytest.approx(time.time() + 60.0, abs=5.0)
        path.write_bytes(b"\xef\xbb\xbfopaque\r\n")
        token = await tokens.refresh()
        assert (token.access_token, token.expires_at) == ("opaque", None)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\xff\xfe", "UnicodeDecodeError"),
        (b"one\ntwo", "has 2 lines"),
        (b"one two", "has characters that no token has"),
        ("tök".encode(), "has characters that no token has"),
    ],
)
async def test_bad_file(tmp_path, content, says):
    """F4: a file that is missing, empty or garbled for a moment is tried again, and named."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TransientRefreshError, match=says) as caught:
        await TokenFile(path).fetch(a_request())
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("printed", "fields"),
    [
        ("opaque", {"access_token": "opaque"}),
        ('{"access_token": "a", "expires_in": 60}', {"access_token": "a", "expires_in": 60}),
        ('{"accessToken": "a", "expires_on": 1800000000}', {"access_token": "a", "expires_at": 1800000000}),
        ('{"accessToken": "a", "expiresOn": "who knows"}', {"access_token": "a", "expires_at": "who knows"}),
        ('{"accessToken": "a", "expiresOn": 1800000000}', {"access_token": "a", "expires_at": 1800000000}),
        (
            '{"kind": "ExecCredential", "status": {"token": "t", "expirationTimestamp": "2030-01-01T00:00:00Z"}}',
            {"access_token": "t", "expires_at": "2030-01-01T00:00:00Z"},
        ),
        (
            '{"credential": {"access_token": "ya29", "id_token": "i", "token_expiry": "2030-01-01T00:00:00Z"}}',
            {"access_token": "ya29", "expires_at": "2030-01-01T00:00:00Z"},
        ),
    ],
)
async def test_command(printed, fields):
    """The output of commands is understood: plain, az, gcloud, and an ExecCredential."""
    source = Command([sys.executable, "-c", f"print({printed!r})"])
    assert await source.fetch(a_request()) == fields


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Los_Angeles"])
async def test_time_of_the_machine_s_own_zone(zone, monkeypatch):
    """T1: the instant that older releases of az print is one of the local zone; a zone that is told counts."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        at = 2051222400.0
        local = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.localtime(at))
        for printed in (local, "2035-01-01T00:00:00Z"):
            code = f"print({json.dumps({'accessToken': 'a', 'expiresOn': printed})!r})"
            async with TokenManager(Command([sys.executable, "-c", code])) as tokens:
                assert (await tokens.get()).expires_at == at
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_lifetime_of_a_plain_token():
    """A token whose life nobody tells lives as long as the user says."""
    source = Command([sys.executable, "-c", "print('opaque')"], lifetime=90.0)
    assert await source.fetch(a_request()) == {"access_token": "opaque", "expires_in": 90.0}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/nowhere/at/all"], "cannot be run: No such file"),
        ([sys.executable, "-c", "import sys; sys.exit('token=planted-1 no session')"], r"ended with 1: .*no session"),
        ([sys.executable, "-c", ""], "printed no token"),
        ([sys.executable, "-c", "print('{}')"], "printed no token"),
    ],
)
async def test_command_that_fails(arguments, says):
    """F4: a command that cannot be run, fails or prints nothing is tried again; its last words are told."""
    with pytest.raises(TransientRefreshError, match=says) as caught:
        await Command(arguments).fetch(a_request())
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("behind", [False, True])
async def test_command_that_hangs_is_killed(tmp_path, behind):
    """
    F7: a command that never ends is killed with the fetch, together with its children. The loop goes on meanwhile.
    """
    mark = tmp_path / "pid"
    code = f"import os, time, pathlib; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(60)"
    if behind:
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    task = asyncio.create_task(Command([sys.executable, "-c", code]).fetch(a_request()))
    while not mark.exists() or not mark.read_text():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task], timeout=10.0)
    assert task.cancelled()
    async with asyncio.timeout(10.0):
        while _runs(int(mark.read_text())):
            await asyncio.sleep(0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX's")
@pytest.mark.parametrize("pipes", ["", ">/dev/null", "2>/dev/null"])
async def test_what_a_command_leaves_behind_is_killed(tmp_path, pipes):
    """F7: a child with a pipe of a command that has ended is killed at the deadline, and leaves no thread."""
    note = tmp_path / "pid"
    slow = Command(["/bin/sh", "-c", f"sleep 60 {pipes} & echo $! >{note}; echo token"])
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow.fetch(FetchRequest(None, None, 9.0)), 1.0)
        await until(lambda: not _runs(int(note.read_text())))
    await until(lambda: threading.active_count() <= before + 1)


def _runs(process: int) -> bool:
    """Tell whether it does; one that is dead and was not waited for does not."""
    try:
        os.kill(process, 0)
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return True


async def test_command_that_talks_too_much():
    """S2: at most as much of a command's output is kept as of an answer. An endless command ends with its fetch."""
    code = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    tracemalloc.start()
    try:
        task = asyncio.create_task(Command([sys.executable, "-c", code]).fetch(a_request()))
        await asyncio.wait([task], timeout=0.4)
        assert not task.done()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    task.cancel()
    await asyncio.wait([task], timeout=10.0)
    assert task.cancelled()
    assert peak < 16 * 1024 * 1024


async def test_login_endpoint(tmp_path):
    """
    A login that answers JSON: the request, the place of the token and its expiry, and the form in which it is sent on.
    """
    (tmp_path / "password").write_text("pass word\n")
    answer = {"data": {"auth": {"jwt": "the-token"}, "valid_until": "2030-01-01T00:00:00Z"}}
    async with Wire(always(http(200, answer))) as wire:
        source = LoginEndpoint(
            wire.url("/login"),
            json={"user": "alice", "password": tmp_path / "password", "remember": True, "nested": {"n": 1}},
            headers={"X-App": lambda: "app-1"},
            token="data.auth.jwt",
            expires_at="data.valid_until",
            token_type="Token",
        )
        async with TokenManager(source) as tokens:
            token = await tokens.get()
        (asked,) = wire.asked
    assert json.loads(asked.body) == {
        "user": "alice", "password": "pass word", "remember": True, "nested": {"n": 1},
    }  # fmt: skip
    assert (asked.method, asked.headers["content-type"], asked.headers["x-app"]) == (
        "POST", "application/json", "app-1",
    )  # fmt: skip
    assert token.authorization == "Token the-token"
    assert token.expires_at == pytest.approx(1893456000.0, abs=60.0)


@pytest.mark.parametrize("library", [None, httpx, httpx2])
@pytest.mark.parametrize(
    ("fields", "logged"),
    [
        ({"X-Subject-Token": "planted-token-1"}, ["x-subject-token"]),
        ({"X-SUBJECT-TOKEN": "planted-token-1", "Set-Cookie": "sid=planted"}, ["set-cookie"]),
        ({"X-Subject-Token": "t", "Authentication-Info": "planted", "Location": "/?code=planted"}, ["location"]),
        ({"X-Subject-Token": "t", "Retry-After": "17", "Content-Type": "application/x-odd"}, ["17", "x-odd"]),
    ],
)
async def test_what_the_debug_log_of_a_client_has(library, fields, logged, caplog):
    """S1: HTTP libraries log the header fields of each answer: those that may hold a token by their names alone."""
    caplog.set_level(logging.DEBUG)
    async with Wire(always(http(200, b"{}", fields))) as wire:
        client = None if library is None else library.AsyncClient()
        source = LoginEndpoint(wire.url("/login"), token_header="X-Subject-Token", client=client)
        answer = await source.fetch(a_request())
        if client is not None:
            await client.aclose()
    assert answer.fields["access_token"] == fields.get("X-Subject-Token", "planted-token-1")
    log = caplog.text.lower()
    assert "receive_response_headers.complete" in log
    assert "planted" not in log
    assert all(one in log for one in logged)


async def test_login_by_form_and_by_get():
    """A form, or nothing but headers; a lifetime that the user knows."""
    async with Wire(always(http(200, {"token": "t"}))) as wire:
        by_form = LoginEndpoint(wire.url(), form={"user": "a b", "pin": "1"}, lifetime=60.0)
        assert (await by_form.fetch(a_request())).fields["expires_in"] == 60.0
        by_get = LoginEndpoint(wire.url(), method="GET", headers={"X-Key": "k"}, lifetime=60.0)
        await by_get.fetch(a_request())
        first, second = wire.asked
    assert first.form == [("user", "a b"), ("pin", "1")]
    assert (second.method, second.body, "content-type" in second.headers) == ("GET", b"", False)


@pytest.mark.parametrize(
    ("answer", "raised", "says"),
    [
        (http(401, {"message": "no"}), GrantRejected, "answered 401"),
        (http(403, {"message": "slow down"}), TransientRefreshError, "403"),
        (http(200, {"data": {}}), TransientRefreshError, "no token at 'data.token'"),
        (http(200, b"<html>"), TransientRefreshError, "not a JSON object"),
        (http(503, b""), TransientRefreshError, "503"),
    ],
)
async def test_login_refused(answer, raised, says):
    """F4: 401 means the credentials, unless told otherwise; anything else is tried again."""
    async with Wire(always(answer)) as wire:
        source = LoginEndpoint(wire.url(), json={"password": "planted-secret"}, token="data.token")
        with pytest.raises(raised, match=says) as caught:
            await source.fetch(a_request())
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("secret", ["abc\nplantedsecret", "abc\x00plantedsecret", "abc\x7f\rplantedsecret", "plänted"])
async def test_secret_that_no_header_field_can_have(secret):
    """S1: a secret that cannot be sent, such as a file of two lines, is not shown by the client that refuses it."""
    async with Wire(always(granted())) as wire:
        with pytest.raises(TransientRefreshError) as caught:
            await LoginEndpoint(wire.url(), headers={"X-Key": secret}).fetch(a_request())
        assert wire.asked == []
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LoginEndpoint("http://api.example.com"), "url must use https"),
        (lambda: LoginEndpoint("https://api.example.com", json={}, form={}), "cannot both be sent"),
        (lambda: LoginEndpoint("https://api.example.com", method="GET", json={"a": 1}), "method must be"),
        (lambda: LoginEndpoint("https://api.example.com", expires_in="a", expires_at="b"), "cannot both be given"),
        (lambda: LoginEndpoint("https://api.example.com", lifetime=0.0), "lifetime must be"),
        (lambda: TokenFile(""), "path must name"),
        (lambda: TokenFile("x", reread=0.0), "reread must be"),
        (lambda: Command("gcloud auth"), "arguments must be"),
        (lambda: Command([]), "arguments must be the program"),
        (lambda: Command(["x"], lifetime=-1.0), "lifetime must be seconds"),
        (lambda: Fallback(TokenFile("x")), "at least two"),
        (lambda: Fallback(TokenFile("x"), a_rotating()), "source '2' may rotate"),
    ],
)
def test_bad_arguments(make, says):
    """Bad input is refused when it is given, and named."""
    with pytest.raises(ValueError, match=says):
        make()


def a_rotating() -> RefreshToken:
    return RefreshToken(OAuthClient(token_endpoint="https://as.example.com", client_id="a"), refresh_token="b")


async def test_fallback_remembers_what_worked(tmp_path):
    """The first that works is used, and asked first from then on; when it fails, the others are tried again."""
    async with Wire(always(granted(access_token="from-the-endpoint"))) as wire:
        endpoint = ClientCredentials(OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret"))
        source = Fallback(file=TokenFile(tmp_path / "token"), endpoint=endpoint)
        async with TokenManager(source) as tokens:
            assert (await tokens.get()).access_token == "from-the-endpoint"
            (tmp_path / "token").write_text("from-the-file")
            assert (await tokens.refresh()).access_token == "from-the-endpoint"
            wire.handler = always(http(500))
            assert (await tokens.refresh()).access_token == "from-the-file"


async def test_fallback_signs_out_where_it_came_from(tmp_path):
    """RFC 7009: the server whose token it is is told that it is no longer needed; one that cannot be told is not."""
    async with Wire(always(granted())) as wire:
        endpoint = ClientCredentials(
            OAuthClient(
                token_endpoint=wire.url(),
                revocation_endpoint=wire.url("/gone"),
                client_id="svc",
                client_secret="s3cret",
            )
        )
        async with TokenManager(Fallback(file=TokenFile(tmp_path / "token"), endpoint=endpoint)) as tokens:
            await tokens.get()
            await tokens.revoke()
        (tmp_path / "token").write_text("from-the-file")
        async with TokenManager(Fallback(file=TokenFile(tmp_path / "token"), endpoint=endpoint)) as tokens:
            await tokens.get()
            await tokens.revoke()
    assert [asked.target for asked in wire.asked] == ["/token", "/gone"]


class Granting:
    """A source that gives one token, and records the tokens to revoke."""

    rotates = False
    on_ambiguous = "retry"

    def __init__(self, token: str) -> None:
        self.token: str | None = token
        self.told: list[str] = []

    async def fetch(self, request: FetchRequest) -> dict[str, str]:
        if self.token is None:
            raise TransientRefreshError("down")
        return {"access_token": self.token}

    async def revoke(self, token: Token) -> None:
        self.told.append(token.access_token)


@pytest.mark.parametrize(
    "tokens",
    [("tok-25250", "tok-61579"), ("tok-61579", "tok-25250"), ("tok-1", "tok-2")],
    ids=["alike", "alike too", "not"],
)
async def test_fallback_tells_tokens_apart(tokens):
    """S2: a token is revoked at its own source, also where another's has the same fingerprint, of 32 bits."""
    one, other = sources = [Granting(token) for token in tokens]
    fallback = Fallback(*sources)
    await fallback.fetch(FetchRequest("k1", None, 5.0))
    one.token = None
    await fallback.fetch(FetchRequest("k2", None, 5.0))
    for token in tokens:
        await fallback.revoke(Token(token, issued_at=0.0))
    assert (one.told, other.told) == ([tokens[0]], [tokens[1]])


async def test_fallback_tells_all_it_tried(tmp_path):
    """Where none works, the error lists each with its reason; all rejected is rejected, otherwise it is tried again."""
    async with Wire(always(http(400, {"error": "invalid_client"}))) as wire:
        endpoint = ClientCredentials(OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret"))
        with pytest.raises(TransientRefreshError) as caught:
            await Fallback(file=TokenFile(tmp_path / "token"), endpoint=endpoint).fetch(a_request())
        assert "file (TokenFile)" in str(caught.value)
        assert "endpoint (ClientCredentials): invalid_client" in str(caught.value)
        with pytest.raises(GrantRejected, match="none of 2 sources worked"):
            await Fallback(endpoint, endpoint).fetch(a_request())


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_fallback_past_one_that_hangs():
    """F7: a source that never answers has its share of the time, and then it is the next one's turn."""

    async def hangs():
        await asyncio.Event().wait()

    async def works():
        return "opaque", 60.0

    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert await Fallback(hangs, works).fetch(a_request(timeout=40.0)) == ("opaque", 60.0)
    assert loop.time() - begun == pytest.approx(20.0, abs=0.1)

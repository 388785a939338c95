"""The token server that users test against: its grants, its refusals, its faults, and its counts."""

from __future__ import annotations

import asyncio
import email.utils
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.gated import until

from evertoken import RateLimit, TokenManager
from evertoken.sources import ClientCredentials
from evertoken.testing import Fault, TokenServer

CLIENT = ("svc", "s3cret")


@pytest.fixture
def server():
    with TokenServer() as server:
        yield server


def ask(server: TokenServer, /, auth: tuple[str, str] | None = None, **form: str) -> httpx.Response:
    return httpx.post(server.token_endpoint, data=form, auth=CLIENT if auth is None else auth, timeout=2.0)


def refresh(server: TokenServer, refresh_token: str) -> httpx.Response:
    return ask(server, grant_type="refresh_token", refresh_token=refresh_token)


def use(server: TokenServer, access_token: str, path: str = "") -> httpx.Response:
    return httpx.get(f"{server.resource}{path}", headers={"Authorization": f"Bearer {access_token}"})


def test_client_credentials(server):
    """RFC 6749 section 4.4: the client gets a token that the resource takes, and no refresh token."""
    answer = ask(server, grant_type="client_credentials", scope="read").json()

    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 3600, "read")
    assert isinstance(answer["expires_in"], int)
    assert "refresh_token" not in answer
    assert use(server, answer["access_token"]).status_code == 200
    assert use(server, answer["access_token"], "/deep/forbidden").status_code == 403


@pytest.mark.parametrize("auth", [("nobody", "secret"), (CLIENT[0], "wrong"), ("", "")])
def test_wrong_client(server, auth):
    """RFC 6749 section 5.2: 401 with invalid_client and the scheme that was used."""
    refused = ask(server, auth, grant_type="client_credentials")

    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["www-authenticate"].startswith("Basic")


def test_two_authentications_are_one_too_many(server):
    """RFC 6749 section 2.3: a client must not use more than one method."""
    assert ask(server, grant_type="client_credentials", client_secret="x").json()["error"] == "invalid_request"


def test_public_client(server):
    """RFC 6749 section 2.1: a client without a secret is known by its id, in the form."""
    server.add_client("public")
    form = {"grant_type": "client_credentials", "client_id": "public"}

    assert httpx.post(server.token_endpoint, data=form).status_code == 200


def test_unknown_grant_type(server):
    """RFC 6749 section 5.2: an unknown name is reported by its error code."""
    assert ask(server, grant_type="password").json()["error"] == "unsupported_grant_type"


def test_rotation_and_replay(server):
    """RFC 9700 section 4.14: each use brings another refresh token, and a spent one ends the family."""
    first = server.issue_grant()
    second = refresh(server, first).json()
    assert second["refresh_token"] != first
    third = refresh(server, second["refresh_token"]).json()

    assert refresh(server, first).json()["error"] == "invalid_grant"
    assert refresh(server, third["refresh_token"]).json()["error"] == "invalid_grant"
    assert use(server, third["access_token"]).status_code == 401
    assert server.stats.replays == 1


def test_replay_without_consequences(server):
    """`reuse_revokes_family=False`: a spent refresh token is refused, and the newest still works."""
    server.reuse_revokes_family = False
    first = server.issue_grant()
    second = refresh(server, first).json()["refresh_token"]

    assert refresh(server, first).status_code == 400
    assert refresh(server, second).status_code == 200


def test_grace(server):
    """`grace=`: for so many seconds of the server's clock a spent refresh token brings the newest."""
    now = time.time()
    server.clock, server.grace = lambda: now, 10.0
    first = server.issue_grant()
    second = refresh(server, first).json()["refresh_token"]

    assert refresh(server, first).json()["refresh_token"] == second
    now += 10.0
    assert refresh(server, first).json()["error"] == "invalid_grant"


def test_without_rotation(server):
    """`rotate=False`: the answer has no refresh token, and the first is good for ever."""
    server.rotate = False
    first = server.issue_grant()

    assert ["refresh_token" in refresh(server, first).json() for _ in range(3)] == [False] * 3


def test_grant_of_another_client(server):
    """RFC 6749 section 6: a refresh token is bound to the client that it was given to."""
    server.add_client("other", "secret")
    refresh_token = server.issue_grant(client_id="other")

    assert refresh(server, refresh_token).json()["error"] == "invalid_grant"


def test_lifetime_and_exclusive(server):
    """A token dies by the server's clock; with `exclusive=True` the next one kills it."""
    now = time.time()
    server.clock, server.lifetime = lambda: now, 5.0
    token = ask(server, grant_type="client_credentials").json()["access_token"]
    assert use(server, token).status_code == 200
    now += 5.0
    dead = use(server, token)
    assert dead.headers["www-authenticate"].endswith('error="invalid_token"')

    server.exclusive = True
    one, other = (ask(server, grant_type="client_credentials").json()["access_token"] for _ in range(2))
    assert (use(server, one).status_code, use(server, other).status_code) == (401, 200)


def test_revocation(server):
    """RFC 7009: access tokens and whole grants are revoked by their holder, by `revoke_all` and by `revoke_grant`."""
    endpoint = server.metadata()["revocation_endpoint"]
    token = ask(server, grant_type="client_credentials").json()["access_token"]
    assert httpx.post(endpoint, data={"token": token}, auth=("no", "one")).status_code == 401
    assert use(server, token).status_code == 200
    assert httpx.post(endpoint, data={"token": token}, auth=CLIENT).status_code == 200
    assert use(server, token).status_code == 401
    assert httpx.post(endpoint, data={"token": "unknown"}, auth=CLIENT).status_code == 200

    newer = refresh(server, server.issue_grant()).json()
    assert httpx.post(endpoint, data={"token": newer["refresh_token"]}, auth=CLIENT).status_code == 200
    assert refresh(server, newer["refresh_token"]).json()["error"] == "invalid_grant"

    third = refresh(server, server.issue_grant()).json()
    server.revoke_all()
    assert use(server, third["access_token"]).status_code == 401
    fourth = refresh(server, third["refresh_token"]).json()
    server.revoke_grant(fourth["refresh_token"])
    assert use(server, fourth["access_token"]).status_code == 401
    with pytest.raises(LookupError):
        server.revoke_grant("unknown")


def test_metadata(server):
    """RFC 8414: every published endpoint exists."""
    published = httpx.get(f"{server.url}/.well-known/oauth-authorization-server").json()

    assert published == server.metadata()
    assert published["token_endpoint"] == server.token_endpoint
    assert httpx.get(f"{server.url}/elsewhere").status_code == 404


@pytest.mark.parametrize("announced", [None, "3600", 0, -1, "soon"])
def test_announced_lifetime(server, announced):
    """`expires_in=` is announced unchanged, and None leaves it out. `extra=` adds the fields of a provider."""
    server.expires_in, server.extra = announced, {"refresh_in": 60}
    answer = ask(server, grant_type="client_credentials").json()

    assert answer.get("expires_in") == announced
    assert ("expires_in" in answer) is (announced is not None)
    assert answer["refresh_in"] == 60


def test_wrong_date(server):
    """`date_skew=`: the Date field is off by so much."""
    server.date_skew = 90.0
    date = email.utils.parsedate_to_datetime(ask(server, grant_type="client_credentials").headers["date"])

    assert 85.0 < date.timestamp() - time.time() < 95.0


def test_status_with_retry_after(server):
    """A status, so many times, with Retry-After and a code; then it works."""
    server.fail(503, times=2, retry_after=7, error="temporarily_unavailable")

    answers = [ask(server, grant_type="client_credentials") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[0].json() == {"error": "temporarily_unavailable"}
    assert server.stats.by_outcome == {"503": 2, "issued": 1}


def test_error_of_the_rfc(server):
    """RFC 6749 section 5.2: any error, with words and status."""
    with server.fail("error", error="invalid_scope", error_description="no such scope", status=403):
        refused = ask(server, grant_type="client_credentials")
    assert (refused.status_code, refused.json()) == (
        403,
        {"error": "invalid_scope", "error_description": "no such scope"},
    )
    assert ask(server, grant_type="client_credentials").status_code == 200


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("reset", httpx.RemoteProtocolError),
        ("lost", httpx.RemoteProtocolError),
        ("truncated", httpx.RemoteProtocolError),
        ("hang", httpx.ReadTimeout),
    ],
)
def test_cut(server, what, error):
    """Each way to lose an answer looks like it to the client; "lost" and "truncated" have spent the refresh token."""
    first = server.issue_grant()
    server.fail(what, times=1)
    with pytest.raises((error, httpx.ReadError)):
        httpx.post(
            server.token_endpoint,
            data={"grant_type": "refresh_token", "refresh_token": first},
            auth=CLIENT,
            timeout=httpx.Timeout(20.0, read=0.1 if what == "hang" else 20.0),
        )
    # A client that stops waiting may be gone before the server has looked.
    while not server.stats.by_outcome[what]:
        time.sleep(0.001)
    assert refresh(server, first).status_code == (400 if what in {"lost", "truncated"} else 200)
    assert server.stats.by_outcome[what] == 1


@pytest.mark.parametrize(
    ("what", "seen"),
    [
        ("garbage", lambda answer: b"<!doctype" in answer.content),
        ("empty", lambda answer: answer.content == b""),
        ("huge", lambda answer: len(answer.content) > 1_000_000),
        ("bomb", lambda answer: len(answer.content) > 1_000_000 and int(answer.headers["content-length"]) < 100_000),
        ("redirect", lambda answer: answer.is_redirect),
    ],
)
def test_nonsense(server, what, seen):
    """Each way to answer nonsense is what its name says, until it is healed."""
    server.fail(what)
    assert seen(ask(server, grant_type="client_credentials"))
    server.heal()
    assert ask(server, grant_type="client_credentials").status_code == 200


def test_a_form_that_is_none(server):
    """RFC 6749 section 5.2: bytes that are no form come from an unknown client, and break nothing."""
    for url in (server.token_endpoint, server.metadata()["revocation_endpoint"]):
        assert httpx.post(url, content=b"\xff=\xfe&&").json()["error"] == "invalid_client"


def test_unknown_fault(server):
    """A misspelt fault, or an invalid status, is refused at once, with the list of the valid ones."""
    with pytest.raises(ValueError, match=r"'hang'.*not 'hung'"):
        server.fail("hung")
    for status in (99, 600, 5000, True):
        with pytest.raises(ValueError, match=f"a status code or .*not {status}"):
            server.fail(status)
    assert Fault("hang", times=0).active is False


async def test_counters(server):
    """It counts requests by grant and by outcome, and simultaneous ones. `reset_stats` begins anew."""
    form = {"grant_type": "client_credentials"}
    async with httpx.AsyncClient(auth=CLIENT, timeout=20.0) as client:
        with server.fail("hang"):
            hung = [asyncio.create_task(client.post(server.token_endpoint, data=form)) for _ in range(3)]
            await until(lambda: server.stats.by_outcome.get("hang") == 3)
        for task in hung:
            task.cancel()
        await asyncio.wait(hung)
        for _ in range(3):
            await client.post(server.token_endpoint, data=form)
    await asyncio.to_thread(use, server, "unknown")

    stats = server.stats
    assert (stats.token_requests, stats.tokens_issued, stats.max_in_flight) == (6, 3, 3)
    assert (stats.by_grant, stats.resource_requests, stats.resource_401) == ({"client_credentials": 6}, 1, 1)
    assert stats.by_outcome == {"hang": 3, "issued": 3}
    assert [request.grant_type for request in server.requests] == ["client_credentials"] * 6
    assert CLIENT[1] not in repr(server.requests)
    server.reset_stats()
    assert server.stats.token_requests == server.stats.resource_requests == 0


async def test_without_a_socket():
    """`app` is the same server as an ASGI application."""
    server = TokenServer()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(server.app))
    async with client, TokenManager(ClientCredentials(server.oauth_client(http_client=client))) as tokens:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server.app), auth=tokens.auth()) as api:
            assert (await api.get(server.resource)).status_code == 200
            server.refuse_all = True
            assert (await api.get(server.resource)).status_code == 401


def test_stopping_cuts_what_is_under_way():
    """A server that is stopped cuts a request that hangs, may be stopped twice, and started again."""
    server = TokenServer()
    for turn in range(1, 3):
        with ThreadPoolExecutor(1) as pool:
            with server, server.fail("hang"):
                url = server.token_endpoint
                hung = pool.submit(httpx.post, url, timeout=None)
                while server.stats.by_outcome.get("hang") != turn:
                    time.sleep(0.001)
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                hung.result()
        server.stop()
        with pytest.raises(httpx.ConnectError):
            httpx.post(url)


def test_a_server_that_limits_the_rate():
    """F8: in any window it takes so many token requests; others are told how long to wait, and are not counted."""
    now = [1000.0]
    with TokenServer(rate_limit=RateLimit(requests=2, per=6), clock=lambda: now[0]) as server:
        found = []
        for at in (0.0, 1.0, 2.5, 5.9, 6.0, 6.5, 7.0):
            now[0] = 1000.0 + at
            answer = ask(server, grant_type="client_credentials")
            found.append((answer.status_code, answer.headers.get("retry-after")))
        assert found == [(200, None), (200, None), (429, "4"), (429, "1"), (200, None), (429, "1"), (200, None)]
        server.rate_limit = None
        assert ask(server, grant_type="client_credentials").status_code == 200

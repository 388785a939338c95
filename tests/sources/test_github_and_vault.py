"""Installation tokens of a GitHub App, and logins at OpenBao and Vault."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from tests.sources.keys import certificate, ec_pem, rsa_key, rsa_pem, rsa_public_pem
from tests.sources.wire import Asked, Wire, a_request, always, http

from evertoken import GrantRejected, TokenManager, TransientRefreshError
from evertoken._engine.clock import SystemClock
from evertoken.clients.httpx import HeaderAuth
from evertoken.sources import GitHubApp
from evertoken.sources.vault import AppRole, JwtLogin

# GitHub


async def test_installation(tmp_path):
    """The assertion verifies, is of the past, and lives for less than ten minutes; the token's date is read."""
    (tmp_path / "key.pem").write_text(rsa_pem())
    answer = {"token": "ghs_1", "expires_at": "2035-01-01T00:00:00Z", "permissions": {"contents": "read"}}
    async with Wire(always(http(201, answer))) as wire:
        source = GitHubApp(
            "Iv1.app",
            7,
            tmp_path / "key.pem",
            repositories=["a"],
            permissions={"contents": "read"},
            api=wire.url("/api/v3/"),
        )
        async with TokenManager(source) as tokens:
            token = await tokens.get()
    assert (token.authorization, token.expires_at) == ("Bearer ghs_1", pytest.approx(2051222400.0, abs=5.0))
    assert token.extra["permissions"] == {"contents": "read"}
    (asked,) = wire.asked
    assert (asked.method, asked.target) == ("POST", "/api/v3/app/installations/7/access_tokens")
    assert json.loads(asked.body) == {"repositories": ["a"], "permissions": {"contents": "read"}}
    claims = jwt.decode(asked.headers["authorization"].removeprefix("Bearer "), rsa_public_pem(), algorithms=["RS256"])
    assert claims["iss"] == "Iv1.app"
    assert claims["iat"] <= time.time() - 50
    assert claims["exp"] <= time.time() + 600


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (http(401, {"message": "A JSON web token could not be decoded"}), GrantRejected, "could not be decoded"),
        (http(404, {"message": "Not Found"}), GrantRejected, "Not Found"),
        (http(422, {"message": "The permissions requested are not granted"}), GrantRejected, "not granted"),
        (http(403, {"message": "This installation has been suspended"}), GrantRejected, "access_denied: This inst"),
        (http(403, {"message": "API rate limit exceeded"}, {"Retry-After": "60"}), TransientRefreshError, "403"),
        (http(500, {"message": "Server Error"}), TransientRefreshError, "500"),
    ],
)
async def test_github_that_refuses(answer, error, says):
    """F4: what a person must mend is a rejection, with GitHub's words; a rate limit passes."""
    async with Wire(always(answer)) as wire:
        with pytest.raises(error, match=says):
            await GitHubApp(1, 7, rsa_pem(), api=wire.url("")).fetch(a_request())


IAT = "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
EXP = "'Expiration time' claim ('exp') is too far in the future"
OVER = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which it expires"


@pytest.mark.parametrize("ahead", [-3600.0, -700.0, 70.0, 200.0, 86_400.0])
async def test_clock_that_is_off(ahead):
    """T3: where GitHub refuses the times, its Date corrects the clock, and the request goes out once more."""

    async def service(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        now = time.time() - ahead
        date = {"Date": formatdate(now, usegmt=True)}
        sent = jwt.decode(asked.headers["authorization"].removeprefix("Bearer "), options={"verify_signature": False})
        if sent["iat"] > now:
            return http(401, {"message": IAT}, date)
        if not now < sent["exp"] <= now + 600:
            return http(401, {"message": OVER if sent["exp"] <= now else EXP}, date)
        return http(201, {"token": "ghs_1", "expires_at": "2099-01-01T00:00:00Z"}, date)

    async with Wire(service) as wire:
        source = GitHubApp(1, 7, rsa_pem(), api=wire.url(""))
        assert (await source.fetch(a_request())).fields["access_token"] == "ghs_1"
        assert len(wire.asked) == 2
        # The learnt values are kept.
        await source.fetch(a_request())
    assert len(wire.asked) == 3


@pytest.mark.parametrize("words", [IAT, EXP, OVER])
@pytest.mark.parametrize("date", [-200.0, 0.0, None])
async def test_clock_that_stays_off(words, date):
    """F4: a refusal of the times passes, and is not asked about for ever."""
    fields = {} if date is None else {"Date": formatdate(time.time() + date, usegmt=True)}
    async with Wire(always(http(401, {"message": words}, fields))) as wire:
        with pytest.raises(TransientRefreshError, match=r"401.*claim"):
            await GitHubApp(1, 7, rsa_pem(), api=wire.url("")).fetch(a_request())
    assert len(wire.asked) == (2 if date else 1)


async def test_new_tokens_of_github():
    """U1: the token says for how long servers of GitHub may not know it."""
    answer = {"token": "ghs_1", "expires_at": "2099-01-01T00:00:00Z"}
    async with (
        Wire(always(http(201, answer))) as wire,
        TokenManager(GitHubApp(1, 7, rsa_pem(), api=wire.url(""))) as tokens,
    ):
        assert (await tokens.get()).extra["settles_in"] == 5


KEYS: dict[str, tuple[Callable[[], str], str | None]] = {
    # A key, and its error message, or None if the key is good.
    "pem": (rsa_pem, None),
    "line ends spelled out": (lambda: rsa_pem().replace("\n", "\\n"), None),
    "line ends of Windows spelled out": (lambda: rsa_pem().replace("\n", "\\r\\n"), None),
    "line ends of Windows": (lambda: rsa_pem().replace("\n", "\r\n"), None),
    "encrypted": (lambda: _encrypted(PrivateFormat.PKCS8), "encrypted with a password"),
    "encrypted, the old way": (lambda: _encrypted(PrivateFormat.TraditionalOpenSSL), "encrypted with a password"),
    "public": (rsa_public_pem, "a public key or a certificate"),
    "a certificate": (lambda: certificate().partition("-----BEGIN PRIVATE")[0], "a public key or a certificate"),
    "no pem": (lambda: "planted-key", "not PEM"),
    "base64 alone": (lambda: "".join(rsa_pem().splitlines()[1:-1]), "not PEM"),
    "one line": (lambda: rsa_pem().replace("\n", ""), None),
    "of another kind": (ec_pem, "of another kind, or damaged"),
    "damaged": (lambda: rsa_pem().replace("MII", "planted"), "of another kind, or damaged"),
}


def _encrypted(form: PrivateFormat) -> str:
    return rsa_key().private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"planted")).decode()


@pytest.mark.parametrize("name", KEYS)
async def test_keys_in_all_forms(name):
    """K19: every common form of a key works. If a key is wrong, the message says why, and shows nothing of it."""
    content, says = KEYS[name]
    key = content()
    async with Wire(always(http(201, {"token": "ghs_1", "expires_at": "2099-01-01T00:00:00Z"}))) as wire:
        if says is None:
            source = GitHubApp(1, 7, key, api=wire.url(""))
            assert (await source.fetch(a_request())).fields["access_token"] == "ghs_1"
            return
        with pytest.raises(ValueError, match=says) as caught:
            await GitHubApp(1, 7, key, api=wire.url("")).fetch(a_request())
    assert not [line for line in key.splitlines() if len(line) > 30 and line in str(caught.value)]
    assert "planted" not in str(caught.value)
    assert wire.asked == []


async def test_key_file_that_is_no_text(tmp_path):
    """K19: a PFX or DER file where PEM is needed is named, and its content is in no error."""
    (tmp_path / "key.pfx").write_bytes(b"planted\xff\x00")
    with pytest.raises(TypeError, match=r"key.pfx' is not text in UTF-8 \(PEM is") as caught:
        await GitHubApp(1, 7, tmp_path / "key.pfx").fetch(a_request())
    assert "planted" not in f"{caught.value!r} {caught.value.__context__!r}"


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"X-RateLimit-Reset": "1767225690", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 90.0),
        ({"X-RateLimit-Reset": "1"}, 0.0),
        ({"X-RateLimit-Reset": "soon"}, None),
        ({"X-RateLimit-Reset": "1767225690", "Retry-After": "7"}, 7.0),
    ],
)
async def test_limit_of_an_hour(status, headers, wait):
    """F3: where GitHub says when its limit ends that is when it is asked again, by its own clock."""
    answer = http(status, {"message": "API rate limit exceeded"}, {"X-RateLimit-Remaining": "0", **headers})
    async with Wire(always(answer)) as wire:
        with pytest.raises(TransientRefreshError, match=str(status)) as caught:
            await GitHubApp(1, 7, rsa_pem(), api=wire.url("")).fetch(a_request())
    assert caught.value.retry_after == wait


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GitHubApp("", 7, "k"), "client_id must be"),
        (lambda: GitHubApp("a", "7", "k"), "installation_id must be"),  # type: ignore[arg-type]
        (lambda: GitHubApp("a", 7, ""), "private_key must be"),
        (lambda: GitHubApp("a", 7, "k", repositories="owner/name"), "repositories must be"),
        (lambda: AppRole("nowhere", "r"), "address must be"),
        (lambda: AppRole("https://v.example.com", ""), "role_id must be"),
        (lambda: AppRole("https://v.example.com", "r", mount="/"), "mount must be"),
        (lambda: AppRole("https://v.example.com", "r", wrapped=True), "wrapped=True needs a secret_id"),
        (lambda: JwtLogin("https://v.example.com", "", "j"), "role must be"),
    ],
)
def test_bad_arguments(make, says):
    """Bad input: a mistake is told at construction, by the parameter's name."""
    with pytest.raises(ValueError, match=says):
        make()


# OpenBao and Vault


@pytest.mark.parametrize(
    "mount", ["..", ".", "team/../../sys", "team/.", "team/%2e%2e", "a//b", "a\\b", "a b", "a?b", "a#b", "a\n"]
)
def test_mounts_that_leave_their_path(mount):
    """Bad input: a mount may have several names, and none of them leads to another path."""
    for make in (AppRole, JwtLogin):
        with pytest.raises(ValueError, match="mount must be"):
            make("https://v.example.com", "r", "planted", mount=mount)
        assert "team" in repr(make("https://v.example.com", "r", "planted", mount="/team/prod-1/"))


class Bao:
    """The part of an OpenBao server that logins and leases are."""

    def __init__(self) -> None:
        self.leases = itertools.repeat(100)
        self.renewable = True
        self.refuses_renewal = False
        self.problem: bytes | None = None
        self.logins = 0
        self.renewals = 0
        self.ended: list[str] = []

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if self.problem is not None:
            return self.problem
        token = asked.headers.get("x-vault-token")
        if asked.target.endswith("/login"):
            self.logins += 1
            return self._answer(f"hvs.{self.logins}")
        if token != f"hvs.{self.logins}":
            return http(403, {"errors": ["permission denied"]})
        if asked.target == "/v1/auth/token/revoke-self":
            self.ended.append(token)
            return http(204)
        if asked.target == "/v1/auth/token/renew-self" and not self.refuses_renewal:
            self.renewals += 1
            return self._answer(token)
        return http(403 if self.refuses_renewal else 200, {"errors": ["lease is not renewable"]})

    def _answer(self, token: str) -> bytes:
        auth = {
            "client_token": token,
            "lease_duration": next(self.leases),
            "renewable": self.renewable,
            "policies": ["p"],
        }
        return http(200, {"request_id": "1", "auth": auth})


async def test_login_and_renewal(tmp_path):
    """A token is renewed by its lease as long as it can be, and then a login brings another."""
    bao = Bao()
    bao.leases = iter([100, 100, 100, 30, 100])
    (tmp_path / "secret").write_text("planted")
    async with Wire(bao) as wire:
        source = AppRole(wire.url("/"), "role-1", tmp_path / "secret", namespace="team")
        async with TokenManager(source) as tokens:
            first = await tokens.get()
            assert (first.access_token, first.lifetime) == ("hvs.1", pytest.approx(100.0))
            assert (await tokens.refresh()).access_token == "hvs.1"
            assert (await tokens.refresh()).access_token == "hvs.1"
            assert (bao.logins, bao.renewals) == (1, 2)
            # Near the end of its renewable time, its lease is short: a login is due.
            assert (await tokens.refresh()).access_token == "hvs.2"
            async with httpx.AsyncClient(auth=HeaderAuth(tokens.handle(), "X-Vault-Token")) as client:
                await client.get(wire.url("/v1/secret/data/a"))
            await tokens.revoke()
    assert wire.asked[-2].headers["x-vault-token"] == "hvs.2"
    assert bao.ended == ["hvs.2"]
    assert json.loads(wire.asked[0].body) == {"role_id": "role-1", "secret_id": "planted"}
    assert {asked.headers["x-vault-namespace"] for asked in wire.asked if "login" in asked.target} == {"team"}
    assert wire.asked[0].target == "/v1/auth/approle/login"


@pytest.mark.parametrize("how", ["not renewable", "renewal refused"])
async def test_token_that_cannot_be_renewed(how):
    """A token that cannot be renewed is replaced by a login."""
    bao = Bao()
    bao.renewable, bao.refuses_renewal = how != "not renewable", how == "renewal refused"
    async with Wire(bao) as wire, TokenManager(AppRole(wire.url(""), "role-1")) as tokens:
        await tokens.get()
        assert (await tokens.refresh()).access_token == "hvs.2"
    assert (bao.logins, bao.renewals) == (2, 0)


async def test_dead_token():
    """U1: Vault answers 403 for a token that has ended: a login replaces it, once for all that come late."""
    bao = Bao()
    async with Wire(bao) as wire, TokenManager(AppRole(wire.url(""), "role-1")) as tokens:
        await tokens.get()
        bao.logins = 7
        for auth in (HeaderAuth(tokens.handle(), "X-Vault-Token"), tokens.auth()):
            async with httpx.AsyncClient(auth=auth) as client:
                answers = await asyncio.gather(*(client.get(wire.url("/v1/secret/data/a")) for _ in range(9)))
            if auth.field == "x-vault-token":
                assert {answer.status_code for answer in answers} == {200}
                assert bao.logins == 8
        # Sent in Authorization, which this server does not read, every token is refused.
        assert {answer.status_code for answer in answers} == {403}


async def test_token_without_a_lease(tmp_path):
    """T1: a token with a lease of 0 seconds never ends."""
    bao = Bao()
    bao.leases = itertools.repeat(0)
    (tmp_path / "jwt").write_text("pod-token")
    async with Wire(bao) as wire:
        async with TokenManager(JwtLogin(wire.url(""), "web", tmp_path / "jwt", mount="kubernetes")) as tokens:
            assert (await tokens.get()).expires_at is None
    assert json.loads(wire.asked[0].body) == {"role": "web", "jwt": "pod-token"}
    assert wire.asked[0].target == "/v1/auth/kubernetes/login"


REFUSED = http(403, {"errors": ["permission denied"]})


@pytest.mark.parametrize(
    "answers",
    [
        # Seconds, the answer (None for a token), and the outcome.
        [(0, REFUSED, TransientRefreshError), (5, None, None)],
        [(0, REFUSED, TransientRefreshError), (59, REFUSED, TransientRefreshError), (60, REFUSED, GrantRejected)],
        [(0, None, None), (500, REFUSED, TransientRefreshError), (561, REFUSED, GrantRejected)],
        [(0, REFUSED, TransientRefreshError), (50, None, None), (70, REFUSED, TransientRefreshError)],
        [(0, http(400, {"errors": ["role could not be found"]}), GrantRejected)],
    ],
)
@pytest.mark.parametrize("mount", ["kubernetes", "jwt"])
async def test_login_that_the_cluster_does_not_answer(answers, mount, monkeypatch):
    """F4: "permission denied" passes for a minute, for Vault says the same where it cannot ask the cluster."""
    now = [0.0]
    monkeypatch.setattr(SystemClock, "monotonic", lambda: now[0])
    bao: Any = Bao()
    async with Wire(bao) as wire:
        source = JwtLogin(wire.url(""), "web", "pod", mount=mount)
        for after, answer, error in answers:
            now[0], bao.problem = 1000.0 + after, answer
            if error is None:
                await source.fetch(a_request())
            else:
                with pytest.raises(error):
                    await source.fetch(a_request())


async def test_standby_that_sends_to_the_active_node():
    """A standby's 307 is followed once, with the same path: the login, its renewal and its end."""
    bao = Bao()
    async with Wire(bao) as active:

        async def standby(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
            return http(307, b"", {"Location": active.url(asked.target)})

        async with Wire(standby) as wire, TokenManager(AppRole(wire.url(""), "role-1", "planted")) as tokens:
            await tokens.get()
            await tokens.refresh()
            await tokens.revoke()
    assert (bao.logins, bao.renewals, bao.ended) == (1, 1, ["hvs.1"])
    assert json.loads(active.asked[0].body)["secret_id"] == "planted"


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://127.0.0.1:9/v1/sys/other", "another place"),
        ("https://127.0.0.1:9/v1/auth/approle/login", "another place"),
        ("http://127.0.0.1:9/v1/auth/approle/login?x=1", "another place"),
        ("/v1/auth/approle/login", "another place"),
        ("", "another place"),
        ("http://active.example.com/v1/auth/approle/login", "names no active node"),
        ("http://user:pass@127.0.0.1:9/v1/auth/approle/login", "names no active node"),
        ("self", "a redirect to .*, which is not followed"),
    ],
)
async def test_standby_that_sends_elsewhere(location, says):
    """S2: the secret id goes to the same path of the same scheme alone, and is sent on once."""

    async def standby(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return http(307, b"", {"Location": wire.url(asked.target) if location == "self" else location})

    async with Wire(standby) as wire:
        with pytest.raises(TransientRefreshError, match=says) as caught:
            await AppRole(wire.url(""), "role-1", "planted").fetch(a_request())
    assert len(wire.asked) == (2 if location == "self" else 1)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "followed"),
    [
        ("https://10.1.2.3:8200", True),
        ("https://active.example.com", True),
        ("https://127.0.0.1:8200", False),
        ("https://[::1]:8200", False),
        ("https://0.0.0.0:8200", False),
        ("https://localhost:8200", False),
        ("https://vault.localhost", False),
        ("https://169.254.169.254", False),
        ("https://127.1:8200", False),
        ("https://2130706433:8200", False),
        ("https://0x7f000001:8200", False),
        ("https://[::ffff:127.0.0.1]:8200", False),
        ("https://2852039166", False),
        ("https://[fd00:ec2::254]", False),
        ("https://metadata.google.internal", False),
    ],
)
async def test_active_node_that_calls_itself_local(host, followed):
    """S2: a standby elsewhere cannot send the secret id to this machine, or to its own link."""
    asked: list[str] = []

    def server(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if request.url.host == "standby.example.com":
            return httpx.Response(307, headers={"Location": f"{host}{request.url.path}"})
        return httpx.Response(200, json={"auth": {"client_token": "hvs.1", "lease_duration": 100}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as client:
        source = AppRole("https://standby.example.com", "role-1", "planted", client=client)
        if followed:
            assert (await source.fetch(a_request())).fields["access_token"] == "hvs.1"
        else:
            with pytest.raises(TransientRefreshError, match=r"calls itself https://.* \(api_addr\)"):
                await source.fetch(a_request())
    assert len(asked) == 1 + followed


async def test_wrapped_secret_id(tmp_path):
    """A wrapping token is unwrapped once, and its content serves for all logins until there is another one."""
    bao = Bao()
    unwrapped: list[str] = []

    async def server(asked: Asked, writer: asyncio.StreamWriter) -> bytes | None:
        if asked.target == "/v1/sys/wrapping/unwrap":
            token = asked.headers["x-vault-token"]
            if token in unwrapped:
                return http(400, {"errors": ["wrapping token is not valid or does not exist"]})
            unwrapped.append(token)
            return http(200, {"data": {"secret_id": f"of-{token}", "secret_id_accessor": "a"}})
        return await bao(asked, writer)

    file = tmp_path / "wrapped"
    async with Wire(server) as wire:
        source = AppRole(wire.url(""), "role-1", file, wrapped=True)
        for token in ("planted-1", "planted-1", "planted-2"):
            file.write_text(token)
            await source.fetch(a_request())
        sent = [json.loads(asked.body)["secret_id"] for asked in wire.asked if asked.target.endswith("/login")]
        assert sent == ["of-planted-1", "of-planted-1", "of-planted-2"]
        assert unwrapped == ["planted-1", "planted-2"]
        with pytest.raises(GrantRejected, match=r"not valid.*somebody has used it") as caught:
            await AppRole(wire.url(""), "role-1", "planted-1", wrapped=True).fetch(a_request())
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("data", [None, {}, {"secret_id": ""}, {"value": "x"}])
async def test_wrapped_thing_that_is_no_secret_id(data):
    """Bad input: a wrapping token of something else is told."""
    async with Wire(always(http(200, {"data": data}))) as wire:
        with pytest.raises(GrantRejected, match="wraps no secret_id"):
            await AppRole(wire.url(""), "role-1", "planted-1", wrapped=True).fetch(a_request())


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (http(400, {"errors": ["invalid role or secret ID"]}), GrantRejected, "invalid role or secret ID"),
        (http(403, {"errors": ["permission denied"]}), GrantRejected, "permission denied"),
        (http(503, {"errors": ["Vault is sealed"]}), TransientRefreshError, "503"),
        (http(429, {"errors": ["too many"]}), TransientRefreshError, "429"),
        (http(200, {"auth": None}), TransientRefreshError, "no auth in it"),
    ],
)
async def test_vault_that_refuses(answer, error, says):
    """F4: a wrong role needs a person, with the server's words; a sealed server is asked again."""
    bao: Any = Bao()
    bao.problem = answer
    async with Wire(bao) as wire:
        with pytest.raises(error, match=says) as caught:
            await AppRole(wire.url(""), "role-1", "planted").fetch(a_request())
    assert "planted" not in str(caught.value)

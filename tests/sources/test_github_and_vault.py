"""Installation tokens of a GitHub App, and logins at OpenBao and Vault."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import httpx
import jwt
import pytest
from tests.sources.keys import rsa_pem, rsa_public_pem
from tests.sources.wire import Asked, Wire, a_request, always, http

from evertoken import GrantRejected, TokenManager, TransientRefreshError
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
        (lambda: JwtLogin("https://v.example.com", "", "j"), "role must be"),
    ],
)
def test_bad_arguments(make, says):
    """Bad input: a mistake is told at construction, by the parameter's name."""
    with pytest.raises(ValueError, match=says):
        make()


# OpenBao and Vault


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
            # Near the end of what it may be renewed for, its lease is short: a login is due.
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

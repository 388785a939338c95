"""F4: a secret in a file that was corrected after a rejection is tried at once, and only then."""

from __future__ import annotations

import base64
import urllib.parse
from pathlib import Path

import httpx
import pytest
from tests.gated import virtual

from evertoken import GrantRejected, TokenManager
from evertoken.sources import (
    ClientAssertion,
    ClientCredentials,
    Fallback,
    JwtBearer,
    OAuthClient,
    RefreshToken,
    TokenExchange,
)

RIGHT = "the-right-secret"


class Server:
    """A token endpoint that knows RIGHT only, whatever it is called; and which requests it received."""

    def __init__(self):
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        basic = request.headers.get("Authorization", "Basic ").removeprefix("Basic ")
        seen = base64.b64decode(basic).decode() + urllib.parse.unquote(request.content.decode())
        if RIGHT not in seen:
            return httpx.Response(400, json={"error": "invalid_grant"})
        return httpx.Response(200, json={"access_token": "token", "token_type": "Bearer", "expires_in": 3600})


def sources(http: httpx.AsyncClient, path: Path):
    """Return one source of each kind that reads *path* for each fetch."""
    secret, plain = {"client_id": "a", "client_secret": path}, {"client_id": "a"}

    def client(**options):
        return OAuthClient(token_endpoint="https://as.example/token", http_client=http, **options)

    return {
        "client_secret": ClientCredentials(client(**secret)),
        "client_secret_post": ClientCredentials(client(**secret, client_auth="client_secret_post")),
        "client assertion": ClientCredentials(client(**plain, client_auth=ClientAssertion(path))),
        "assertion": JwtBearer(client(**plain), path),
        "subject_token": TokenExchange(client(**plain), path),
        "actor_token": TokenExchange(client(**plain), "subject", actor_token=path),
        "refresh_token": RefreshToken(client(**plain), path, rotates=False),
        "fallback": Fallback(ClientCredentials(client(**secret)), TokenExchange(client(**plain), "subject")),
    }


KINDS = list(sources(httpx.AsyncClient(), Path("secret")))


@virtual
@pytest.mark.parametrize("kind", KINDS)
async def test_a_corrected_file_is_tried_at_once(kind, tmp_path, clock):
    """F4: the next caller after the correction is served. Before it, callers cost no request, and a touch none."""
    path, server = tmp_path / "secret", Server()
    path.write_text("wrong")
    path.chmod(0o600)
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        async with TokenManager(sources(http, path)[kind], clock=clock) as tokens:
            with pytest.raises(GrantRejected):
                await tokens.get()
            asked = server.requests
            for content in ("wrong", "wrong", None):
                await clock.advance(2.0)
                path.write_text(content) if content else path.unlink()
                with pytest.raises(GrantRejected):
                    await tokens.get()
            assert server.requests == asked
            await clock.advance(2.0)
            path.write_text(RIGHT)
            path.chmod(0o600)
            assert (await tokens.get()).access_token == "token"


@virtual
async def test_each_correction_costs_one_request(tmp_path, clock):
    """F4: a file that is corrected badly is rejected again, once, and then looked at once a second."""
    path, server = tmp_path / "secret", Server()
    path.write_text("wrong")
    path.chmod(0o600)
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        async with TokenManager(sources(http, path)["client_secret"], clock=clock) as tokens:
            for number in range(5):
                path.write_text(f"wrong-{number}")
                for _ in range(30):
                    with pytest.raises(GrantRejected):
                        await tokens.get()
                    await clock.advance(0.1)
            assert server.requests == 5
            with pytest.raises(GrantRejected):
                await tokens.get()
            path.write_text(RIGHT)
            with pytest.raises(GrantRejected):
                await tokens.get()
            await clock.advance(1.0)
            assert (await tokens.get(timeout=5.0)).access_token == "token"

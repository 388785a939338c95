"""The sources against an authorization server that others wrote, over a real socket."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from evertoken import GrantRejected, TokenManager
from evertoken.sources import ClientCredentials, LegacyPassword, LoginEndpoint, OAuthClient, RefreshToken

if TYPE_CHECKING:
    from tests.thirdparty.conftest import DjangoServer


def machine(server: DjangoServer, **options: Any) -> ClientCredentials:
    client_id, client_secret = server.machine
    return ClientCredentials(
        OAuthClient(token_endpoint=server.token_endpoint, client_id=client_id, client_secret=client_secret, **options),
        scope="read",
    )


def login(server: DjangoServer, grant: str, **options: Any) -> RefreshToken:
    client_id, client_secret = server.login
    return RefreshToken(
        OAuthClient(token_endpoint=server.token_endpoint, client_id=client_id, client_secret=client_secret, **options),
        refresh_token=grant,
    )


@pytest.mark.parametrize("client_auth", ["client_secret_basic", "client_secret_post"])
async def test_client_credentials_are_understood(django_server: DjangoServer, client_auth: str):
    """An id and a secret full of reserved characters get through, by either method (RFC 6749 section 2.3.1)."""
    async with TokenManager(machine(django_server, client_auth=client_auth), start="require") as tokens:
        async with httpx.AsyncClient(auth=tokens.auth()) as client:
            response = await client.get(django_server.resource)

    assert response.json() == {"client_id": django_server.machine[0]}


async def test_wrong_secret_is_a_rejection(django_server: DjangoServer):
    """F4: a wrong secret is rejected with the RFC's code."""
    source = ClientCredentials(
        OAuthClient(
            token_endpoint=django_server.token_endpoint, client_id=django_server.machine[0], client_secret="wrong"
        )
    )
    async with TokenManager(source) as tokens:
        with pytest.raises(GrantRejected) as caught:
            await tokens.get()

    assert caught.value.error == "invalid_client"


async def test_endpoints_are_found_by_the_issuer(django_server: DjangoServer):
    """RFC 8414 section 3: its metadata are found and trusted. A revocation goes to its endpoint (RFC 7009)."""
    client_id, client_secret = django_server.machine
    source = ClientCredentials(
        OAuthClient(issuer=django_server.issuer, client_id=client_id, client_secret=client_secret), scope="read"
    )
    async with TokenManager(source) as tokens, httpx.AsyncClient() as client:
        token = await tokens.get()
        headers = {"Authorization": token.authorization}
        assert (await client.get(django_server.resource, headers=headers)).status_code == 200
        await tokens.revoke()
        assert (await client.get(django_server.resource, headers=headers)).status_code == 401


async def test_name_and_password(django_server: DjangoServer):
    """RFC 6749 section 4.3: a password full of reserved characters gets through, and a wrong one is a rejection."""
    name, password = django_server.alice
    endpoint = django_server.token_endpoint
    options: Any = {"token_endpoint": endpoint, "client_id": "password-client"}
    async with TokenManager(LegacyPassword(OAuthClient(**options), name, password, scope="read")) as tokens:
        async with httpx.AsyncClient(auth=tokens.auth()) as client:
            assert (await client.get(django_server.resource)).status_code == 200
    async with TokenManager(LegacyPassword(OAuthClient(**options), name, "wrong", scope="read")) as tokens:
        with pytest.raises(GrantRejected, match="invalid_grant"):
            await tokens.get()


async def test_described_and_not_programmed(django_server: DjangoServer):
    """The same login as a declaration: a form, where the token lies in the answer, and for how long it lives."""
    name, password = django_server.alice
    form = {"grant_type": "password", "username": name, "password": password, "client_id": "password-client"}
    source = LoginEndpoint(
        django_server.token_endpoint,
        form={**form, "scope": "read"},
        token="access_token",
        expires_in="expires_in",
        rejections=(400, 401),
    )
    async with TokenManager(source) as tokens:
        assert (await tokens.get()).lifetime == pytest.approx(3.0)
        async with httpx.AsyncClient(auth=tokens.auth()) as client:
            assert (await client.get(django_server.resource)).status_code == 200


async def test_rotating_grant_lives_through_many_refreshes(django_server: DjangoServer):
    """K1: with rotation and reuse protection on, the grant is alive after several lifetimes of concurrent use."""
    grant = django_server.refresh_tokens[0]
    async with TokenManager(login(django_server, grant), start="require") as tokens:
        async with httpx.AsyncClient(auth=tokens.auth()) as client:
            end = time.monotonic() + 7
            seen = set()
            while time.monotonic() < end:
                responses = await asyncio.gather(*(client.get(django_server.resource) for _ in range(5)))
                assert {response.status_code for response in responses} == {200}
                seen.add((await tokens.get()).fingerprint)
                await asyncio.sleep(0.05)

        assert len(seen) >= 3
        assert tokens.snapshot().rejections == 0


async def test_revocation_of_the_token_in_service_is_healed(django_server: DjangoServer):
    """U1: a token revoked at the server (RFC 7009) costs one fetch, and each request ends well."""
    client_id, client_secret = django_server.machine
    async with TokenManager(machine(django_server), start="require") as tokens:
        token = await tokens.get()
        async with httpx.AsyncClient(auth=tokens.auth()) as client:
            revoked = await client.post(
                f"{django_server.url}/o/revoke_token/",
                data={"token": token.access_token, "client_id": client_id, "client_secret": client_secret},
            )
            assert revoked.status_code == 200
            responses = await asyncio.gather(*(client.get(django_server.resource) for _ in range(20)))

        assert {response.status_code for response in responses} == {200}
        assert tokens.snapshot().fetches == 2


async def test_replay_by_a_stranger_ends_the_grant_with_one_loud_event(django_server: DjangoServer):
    """F4: when somebody else replays a spent refresh token the server revokes the family, and get() says so."""
    client_id, client_secret = django_server.login
    grant = django_server.refresh_tokens[1]
    async with TokenManager(login(django_server, grant), start="require") as tokens:
        async with httpx.AsyncClient(auth=(client_id, client_secret)) as stranger:
            replay = await stranger.post(
                django_server.token_endpoint,
                data={"grant_type": "refresh_token", "refresh_token": grant},
            )
        assert replay.status_code == 400

        with pytest.raises(GrantRejected) as caught:
            await tokens.refresh()

    assert caught.value.error == "invalid_grant"

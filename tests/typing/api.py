"""Programs of users, as a type checker sees them. Checked, not run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

import aiohttp
import httpx
import httpx2
import requests

from evertoken import (
    Answer,
    Answered,
    Begun,
    CredentialSource,
    DPoPKey,
    FetchRequest,
    Health,
    Held,
    Lease,
    Record,
    RefreshPolicy,
    RetryPolicy,
    Snapshot,
    Subscription,
    Token,
    TokenHandle,
    TokenManager,
    TokenSource,
    TokenStore,
    events,
    run_in_background,
)
from evertoken.clients.aiohttp import BearerMiddleware
from evertoken.clients.httpx import BearerAuth, DPoPAuth, HeaderAuth, SigV4Auth
from evertoken.clients.requests import BearerAuth as RequestsAuth
from evertoken.sources import ClientCredentials, Fallback, OAuthClient, RefreshToken, aws
from evertoken.stores import MemoryStore


async def pair() -> tuple[str, float]:
    return "token", 3600.0


async def endless() -> tuple[str, None]:
    return "token", None


async def text() -> str:
    return "token"


async def whole() -> Token:
    return Token("token", issued_at=0.0)


async def mapping() -> dict[str, Any]:
    return {"access_token": "token", "expires_in": 3600}


async def given(token: str) -> int:
    return len(token)


async def pushed(token: Token) -> None:
    assert_type(token, Token)


def plain() -> tuple[str, float]:
    return "token", 3600.0


async def chained(current: Token | None) -> tuple[str, float]:
    return "token" if current is None else current.access_token, 3600.0


class Source:
    async def fetch(self, request: FetchRequest, /) -> Mapping[str, Any]:
        return {"access_token": request.key}


class Store:
    async def read(self, key: str, /) -> Record | None:
        return None

    async def begin(self, key: str, owner: str, ttl: float, /) -> Begun:
        return Begun(Held(1.0), None)

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        return False

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        return False

    async def abandon(self, lease: Lease, /) -> None:
        return None

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        return False


def watch(event: events.Event) -> None:
    match event:
        case events.TokenRefreshed(took=took, reason=reason):
            assert_type(took, float)
            assert_type(reason, events.Reason)
        case events.RefreshFailed(retry_at=retry_at):
            assert_type(retry_at, float)


async def single() -> None:
    for source in (pair, endless, text, whole, mapping, plain, chained, Source()):
        TokenManager(source)
    manager = TokenManager(pair, policy=RefreshPolicy(lead_time=300), retry=RetryPolicy(first=1.0), observers=[watch])
    assert_type(manager, TokenManager[Token, None])
    async with manager as tokens:
        assert_type(tokens, TokenManager[Token, None])
        assert_type(await tokens.get(), Token)
        assert_type(await tokens.get(min_ttl=600, timeout=2), Token)
        assert_type(tokens.peek(), Token | None)
        assert_type(await tokens.refresh(), Token)
        assert_type(await tokens.invalidate("value"), bool)
        assert_type(await tokens.forget(), bool)
        assert_type(tokens.handle(), TokenHandle[Token])
        assert_type(await tokens.handle().get(), Token)
        assert_type(await tokens.access_token(min_ttl=600), str)
        assert_type(tokens.access_token_sync(timeout=2), str)
        assert_type(await tokens.refused("value"), Token | None)
        handle = tokens.handle()
        assert_type(await handle.get(min_ttl=600, timeout=2), Token)
        assert_type(await handle.access_token(), str)
        assert_type(await handle.attempt(pair, refused=ValueError), tuple[str, float])
        assert_type(await handle.attempt(given, refused=(ValueError, OSError)), int)
        assert_type(handle.attempt_sync(plain, refused=lambda error: bool(error.args)), tuple[str, float])
        await handle.keep(pushed, known="value", refused=ValueError)
        assert_type(tokens.auth(), BearerAuth)
        httpx2.AsyncClient(auth=tokens.auth())
        httpx2.Client(auth=handle.auth())
        aiohttp.ClientSession(middlewares=[BearerMiddleware(handle)])
        requests.Session().auth = RequestsAuth(handle, origins=["https://api.example.com"])
        assert_type(tokens.subscribe(), Subscription[Token])
        assert_type(tokens.snapshot(), Snapshot)
        assert_type(tokens.health(), Health)
        async for token in tokens.subscribe():
            assert_type(token, Token)
        httpx.AsyncClient(auth=tokens.auth(origins=["https://api.example.com"]))
        httpx.Client(auth=tokens.auth(allow_http=True, min_ttl=600))


async def keyed() -> None:
    by_name = TokenManager({"billing": pair, "crm": Source()})
    assert_type(by_name, TokenManager[Token, str])
    assert_type(await by_name.get("billing"), Token)
    assert_type(by_name.peek("crm"), Token | None)
    httpx.AsyncClient(auth=by_name.auth("crm"))

    def source_for(tenant: int) -> RefreshToken:
        return RefreshToken(
            OAuthClient(token_endpoint="https://as.example.com/token", client_id="id"),
            refresh_token=str(tenant),
            rotates=True,
        )

    by_number = TokenManager(source_for=source_for, store=MemoryStore(), namespace="", idle_after=60)
    assert_type(by_number, TokenManager[Token, int])
    assert_type(await by_number.get(7), Token)
    assert_type(by_number.get_sync(7), Token)
    await by_number.put(await whole(), 7)
    await by_number.revoke(7)


def parts() -> None:
    source: TokenSource = ClientCredentials(
        OAuthClient(token_endpoint="https://as.example.com/token", client_id="id", client_secret=lambda: "secret"),
        scope=["read", "write"],
        parameters={"tenant": "a"},
    )
    store: TokenStore = Store()
    answered: list[Answered] = [Answer({"access_token": "a"}), Token("a", issued_at=0.0), ("a", 1.0), "a"]
    TokenManager(source, store=store, namespace="", strict_persist=True, start="warm")
    with run_in_background(TokenManager(pair)) as tokens:
        assert_type(tokens.get_sync(), Token)
    assert answered


async def credentials() -> None:
    only = TokenManager(aws.InstanceRole())
    assert_type(only, TokenManager[aws.AwsCredentials, None])
    assert_type(await only.get(), aws.AwsCredentials)
    assert_type(only.peek(), aws.AwsCredentials | None)
    assert_type(only.handle(), TokenHandle[aws.AwsCredentials])
    assert_type(await only.handle().get(), aws.AwsCredentials)
    sources: dict[str, CredentialSource[aws.AwsCredentials]] = {
        "instance": aws.InstanceRole(),
        "pod": aws.ContainerRole("https://a.example.com"),
    }
    by_key = TokenManager(sources)
    assert_type((await by_key.get("pod")).secret_access_key, str)
    named: TokenManager[aws.AwsCredentials] = TokenManager(source_for=aws.Profile)
    assert_type(await named.get("deploy"), aws.AwsCredentials)
    anywhere = TokenManager(aws.from_environment())
    assert_type(await anywhere.get(), aws.AwsCredentials)
    plain = TokenManager(Fallback(pair, Source()))
    assert_type(await plain.get(), Token)
    async for credential in only.subscribe():
        assert_type(credential, aws.AwsCredentials)
    httpx.AsyncClient(auth=SigV4Auth(only.handle(), service="s3", region="eu-west-1"))
    httpx.AsyncClient(auth=HeaderAuth(plain.handle(), "X-Api-Key"))
    key = DPoPKey()
    bound = ClientCredentials(OAuthClient.for_provider("auth0", domain="a.example.com", client_id="id", dpop=key))
    assert_type(bound, ClientCredentials)
    httpx.Client(auth=DPoPAuth(TokenManager(bound).handle(), key))

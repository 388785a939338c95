"""Providers by name: their endpoints, and each habit, in the source, in the engine, and played by the test server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from tests.sources.wire import Wire, a_request, always, divided, granted, http

from evertoken import (
    GrantRejected,
    RefreshPolicy,
    Token,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
    events,
)
from evertoken.providers import PROVIDERS, Provider
from evertoken.sources import ClientCredentials, LegacyPassword, OAuthClient, RefreshToken
from evertoken.stores import MemoryStore
from evertoken.testing import TokenServer
from evertoken.testing.clock import VirtualClock

virtual = pytest.mark.asyncio(loop_factories=["virtual"])

NAMES = {"domain": "tenant.example.com", "realm": "main", "server": "default", "tenant": "tenant-id"}


def of(provider: Provider | str, **options: Any) -> Any:
    client, grant = divided(options)
    known = OAuthClient.for_provider(provider, client_id="svc", client_secret="s3cret", **client)
    return ClientCredentials(known, **grant)


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider(name):
    """Section 7 of the sources: each provider makes both kinds of sources, with https endpoints and its habits."""
    found = PROVIDERS[name]
    given = {key: NAMES[key] for key in found.names}
    machine = of(name, **given)
    person = RefreshToken(OAuthClient.for_provider(name, client_id="svc", **given), refresh_token="rt-1")
    assert "https://" in repr(machine)
    assert "{" not in repr(machine)
    assert (machine.rotates, machine.on_ambiguous) == (False, "retry")
    assert person.rotates == found.rotates
    assert (person.on_ambiguous, person.grace) == ("retry" if found.rotates is False else None, found.grace)
    assert machine.exclusive == person.exclusive == found.exclusive
    server = TokenServer.like(name)
    assert (server.rotate, server.grace, server.exclusive) == (found.rotates is not False, found.grace, found.exclusive)


@pytest.mark.parametrize(
    ("provider", "options", "says"),
    [
        ("nobody", {}, "provider must be one of atlassian, auth0, "),
        ("auth0", {}, "domain is missing: the provider's token endpoint is 'https://{domain}/oauth/token'"),
        ("auth0", {"domain": "a/b"}, "domain must be a plain name"),
        ("auth0", {"domain": "a@b"}, "domain must be a plain name"),
        ("auth0", {"domain": "a.example.com", "parameters": 7}, "parameters must be"),
    ],
)
def test_bad_names(provider, options, says):
    """Bad input: a name that is unknown or missing is told, with what there is."""
    with pytest.raises(ValueError, match=says):
        of(provider, **options)


async def test_client_authentication_of_the_provider():
    """
    The parameters that the provider accepts are sent, unless the user overrides them. A URL may be pasted as a domain.
    """
    assert "https://tenant.example.com/oauth/token" in repr(of("auth0", domain="https://tenant.example.com/"))
    async with Wire(always(granted())) as wire:
        own = Provider(token_endpoint=wire.url(), client_auth="client_secret_post", grant_type="account_credentials")
        await of(own, parameters={"account_id": "7"}).fetch(a_request())
        await of(own, client_auth="client_secret_basic").fetch(a_request())
        await ClientCredentials(OAuthClient.for_provider(own, client_id="svc", client_auth="none")).fetch(a_request())
    posted, basic, none = (asked for asked in wire.asked)
    assert dict(posted.form) == {
        "grant_type": "account_credentials", "account_id": "7", "client_id": "svc", "client_secret": "s3cret",
    }  # fmt: skip
    assert "authorization" in basic.headers
    assert "authorization" not in none.headers


# Habits


async def test_omits_expires_in():
    """T1: where the answer does not say how long the token lives, the provider's usual is taken."""
    async with Wire(always(http(200, {"access_token": "at-1"}))) as wire:
        own = Provider(token_endpoint=wire.url(), default_lifetime=7200.0)
        for source in (of(own), LegacyPassword(OAuthClient.for_provider(own), username="alice", password="planted")):
            async with TokenManager(source, policy=RefreshPolicy(default_lifetime=60.0)) as tokens:
                assert (await tokens.get()).lifetime == pytest.approx(7200.0)
    async with Wire(always(granted(expires_in=90))) as wire:
        async with TokenManager(of(Provider(token_endpoint=wire.url(), default_lifetime=7200.0))) as tokens:
            assert (await tokens.get()).lifetime == pytest.approx(90.0)


@pytest.mark.parametrize(
    ("error", "description", "passes"),
    [
        ("invalid_grant", "Login RATE exceeded", True),
        ("invalid_grant", "expired access/refresh token", False),
        ("invalid_client", "login rate exceeded", False),
    ],
)
async def test_throttles_with_400(error, description, passes):
    """F4: where the provider throttles with a rejection, that is told apart by its words, and Retry-After counts."""
    body = {"error": error, "error_description": description}
    async with Wire(always(http(400, body, {"Retry-After": "7"}))) as wire:
        own = Provider(token_endpoint=wire.url(), throttles=PROVIDERS["salesforce"].throttles)
        with pytest.raises(TransientRefreshError if passes else GrantRejected) as caught:
            await of(own).fetch(a_request())
    assert getattr(caught.value, "retry_after", None) == (7.0 if passes else None)


def virtual_server(provider: Provider | str, clock: VirtualClock, **settings: Any) -> Any:
    """Return a server in virtual time, without a socket, and the client that reaches it."""
    server = TokenServer.like(provider, clock=clock.time, **settings)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(server.app), timeout=5.0)
    return SimpleNamespace(server=server, client=client)


@pytest.fixture
async def played(clock) -> AsyncIterator[Any]:
    """Make servers that play a provider, and close their clients."""
    made: list[Any] = []

    def make(provider: Provider | str, **settings: Any) -> Any:
        made.append(virtual_server(provider, clock, **settings))
        return made[-1]

    yield make
    for one in made:
        await one.client.aclose()


def person(played: Any, provider: Provider, **options: Any) -> RefreshToken:
    client, grant = divided(options)
    known = OAuthClient.for_provider(
        provider, client_id="svc", client_secret="s3cret", http_client=played.client, **client
    )
    return RefreshToken(known, played.server.issue_grant(), **grant)


def at(server: Any, **habits: Any) -> Provider:
    return Provider(token_endpoint=server.token_endpoint, **habits)


@virtual
async def test_refuses_early_refresh(clock, played):
    """If a provider refuses early refreshes, a token is due at its end, and an early refusal is transient."""
    habits = {"refuses_early_refresh": True, "rotates": True}
    one = played(Provider(token_endpoint="https://as.example.com", **habits), lifetime=600.0)
    seen: list[events.Event] = []
    source = person(one, at(one.server, **habits))
    async with TokenManager(source, clock=clock, observers=[seen.append]) as tokens:
        await tokens.get()
        await clock.advance(6000.0)
        assert await tokens.get(timeout=5.0)
        with pytest.raises(Exception, match="refuses to refresh a token that is still valid"):
            await tokens.refresh()
        assert tokens.peek() is not None
    assert not [event for event in seen if isinstance(event, events.RefreshRejected)]
    outcomes = one.server.stats.by_outcome
    assert outcomes["issued"] in {10, 11, 12}
    assert outcomes["invalid_request"] <= 12


@virtual
@pytest.mark.parametrize(
    ("name", "code", "word"), [(name, *one) for name, habits in PROVIDERS.items() for one in habits.throttles]
)
async def test_throttles(clock, played, name, code, word):
    """A rejection that means "slow down" is no rejection: it passes, and the server says when to ask again."""
    one = played(name, lifetime=3600.0)
    said = {"error": code, "error_description": f"Your {word.upper()}, please", "status": 403, "retry_after": 40}
    one.server.fail("error", times=1, **said)
    async with TokenManager(
        of(at(one.server, throttles=PROVIDERS[name].throttles), client=one.client), clock=clock
    ) as tokens:
        with pytest.raises(TokenUnavailable):
            await tokens.get()
        await clock.advance(35.0)
        assert one.server.stats.token_requests == 1
        await clock.advance(15.0)
        assert tokens.peek() is not None


@virtual
@pytest.mark.parametrize(
    ("name", "code"),
    sorted((name, one) for name, p in PROVIDERS.items() for one in p.rejections if isinstance(one, str)),
)
async def test_codes_of_its_own(clock, played, name, code):
    """F4: a code of the provider's own that needs a person is one loud event and a slow probe, and no hot retry."""
    one = played(name)
    one.server.fail("error", error=code, error_description="why")
    seen: list[events.Event] = []
    source = of(at(one.server, rejections=PROVIDERS[name].rejections), client=one.client)
    async with TokenManager(source, clock=clock, observers=[seen.append]) as tokens:
        with pytest.raises(GrantRejected, match=f"{code}: why"):
            await tokens.get()
        await clock.advance(1000.0)
    assert len([event for event in seen if isinstance(event, events.RefreshRejected)]) == 1
    assert one.server.stats.token_requests <= 5


@virtual
async def test_repeats(clock, played):
    """A server that answers the same token until it expires is asked less and less often, and not in a storm."""
    one = played("paypal", lifetime=3600.0)
    source = of(at(one.server, repeats=True), client=one.client)
    async with TokenManager(source, clock=clock) as tokens:
        await tokens.get()
        await clock.advance(36_000.0)
        assert tokens.peek() is not None
    assert one.server.stats.token_requests <= 10 * 30


@virtual
async def test_new_token_kills_the_old(clock, played):
    """Exclusive: a store is asked for, for two processes would take turns in killing each other's token."""
    one = played("zoom", lifetime=3600.0)
    source = person(one, at(one.server, exclusive=True, rotates=True))
    with pytest.raises(ValueError, match="exclusive"):
        TokenManager(source, clock=clock)
    store = MemoryStore()
    async with (
        TokenManager(source, clock=clock, store=store, namespace="") as ours,
        TokenManager(source, clock=clock, store=store, namespace="") as peer,
    ):
        assert (await ours.get()).access_token == (await peer.get()).access_token
        await clock.advance(3600.0 * 5)
        assert (await ours.get()).access_token == (await peer.get()).access_token
    assert one.server.stats.tokens_issued <= 7


@virtual
@pytest.mark.parametrize("grace", [0.0, 1800.0])
async def test_reuse_and_grace(clock, played, grace):
    """K4: within a grace a lost answer is asked for again at once; without one the spent token is not presented."""
    habits = {"rotates": True, "reuse_revokes_family": True, "grace": grace}
    one = played(Provider(token_endpoint="https://as.example.com", **habits), lifetime=3600.0)
    async with TokenManager(person(one, at(one.server, **habits)), clock=clock) as tokens:
        await tokens.get()
        one.server.fail("lost", times=1)
        with pytest.raises(Exception, match="cut"):
            await tokens.refresh()
        await clock.advance(600.0)
        assert tokens.peek() is not None
    assert one.server.stats.replays == 0
    assert one.server.stats.tokens_issued == (2 if grace else 1)


@virtual
@pytest.mark.parametrize("fault", [503, "reset"])
@pytest.mark.parametrize("shared", [False, True])
async def test_grace_that_is_over(clock, played, shared, fault):
    """K4: once the grace is over, a spent refresh token is not presented, for any outcome of the attempts within it."""
    habits = {"rotates": True, "reuse_revokes_family": True, "grace": 30.0}
    one = played(Provider(token_endpoint="https://as.example.com", **habits), lifetime=3600.0)
    store: dict[str, Any] = {"store": MemoryStore(), "namespace": ""} if shared else {}
    async with TokenManager(person(one, at(one.server, **habits)), clock=clock, **store) as tokens:
        token = await tokens.get()
        one.server.fail("lost", times=1)
        with pytest.raises(TokenUnavailable):
            await tokens.refresh()
        one.server.fail(fault)
        await clock.advance(120.0)
        attempts = one.server.stats.token_requests
        assert attempts >= 3
        one.server.heal()
        await clock.advance(1800.0)
        assert one.server.stats.token_requests == attempts
        assert tokens.peek() is token
        assert one.server.grants.valid(token.access_token)
    assert one.server.stats.replays == 0


@virtual
async def test_grace_counts_from_the_request(clock, played):
    """K4: a grace that went by while the answer was waited for is over, and does not begin with the failure."""
    habits = {"rotates": True, "reuse_revokes_family": True, "grace": 30.0}
    one = played(Provider(token_endpoint="https://as.example.com", **habits), lifetime=3600.0)
    slow = False

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await one.server.app(scope, receive, send if not slow else swallow)
        if slow:
            await asyncio.Event().wait()

    async def swallow(message: Any) -> None:
        """Let nothing of the answer through."""

    async with httpx.AsyncClient(transport=httpx.ASGITransport(late), timeout=None) as client:
        one.client = client
        async with TokenManager(person(one, at(one.server, **habits)), clock=clock, fetch_timeout=28.0) as tokens:
            token = await tokens.get()
            slow = True
            refreshing = asyncio.create_task(tokens.refresh())
            await clock.advance(28.5)
            with pytest.raises(TokenUnavailable):
                await refreshing
            slow = False
            await clock.advance(600.0)
            assert tokens.peek() is token
            assert one.server.grants.valid(token.access_token)
        assert one.server.stats.token_requests == 2


@virtual
async def test_401_for_a_missing_permission(clock, played):
    """U1: where 401 means "not allowed", a client that goes on asking costs no more than the cool-down lets through."""
    one = played("salesforce", expires_in=7200.0, lifetime=7200.0)
    source = of(at(one.server, forbids_with=401), client=one.client)
    api = httpx.ASGITransport(one.server.app)
    async with (
        TokenManager(source, clock=clock) as tokens,
        httpx.AsyncClient(transport=api, auth=tokens.auth()) as client,
    ):
        for _ in range(600):
            assert (await client.get(f"{one.server.resource}/forbidden")).status_code == 401
            await clock.advance(1.0)
        assert (await client.get(one.server.resource)).status_code == 200
    assert one.server.stats.tokens_issued <= 14


# The grant's own clock


def test_refresh_expires_in_of_each_kind():
    """T1: Keycloak's, GitHub's and Intuit's spelling are read as the grant's own clock."""
    from evertoken._model.token_response import read_response  # noqa: PLC0415 - the one test of the parser here

    for name in ("refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in"):
        token, _ = read_response({"access_token": "a", "expires_in": 60, name: "600"}, requested_at=1000.0)
        assert token.extra["refresh_token_expires_at"] == 1600.0
    for none in (0, -5):
        answer = {"access_token": "a", "expires_in": 60, "refresh_expires_in": none}
        forever, _ = read_response(answer, requested_at=1000.0)
        assert "refresh_token_expires_at" not in forever.extra
    # The refresh token is used before it dies, though the access token lives longer.
    long, _ = read_response({"access_token": "a", "expires_in": 9000, "refresh_expires_in": 600}, requested_at=1000.0)
    assert long.refresh_at == pytest.approx(1480.0)


@virtual
async def test_grant_that_dies(clock):
    """A grant that refreshing does not prolong is announced in good time; one that slides is not."""
    dies = clock.time() + 36_000.0

    async def fixed(current: Token | None) -> dict[str, Any]:
        left = dies - clock.time()
        return {"access_token": f"a{left}", "expires_in": 600, "refresh_token": f"r{left}", "refresh_expires_in": left}

    async def sliding(current: Token | None) -> dict[str, Any]:
        now = clock.time()
        return {"access_token": f"a{now}", "expires_in": 600, "refresh_token": f"r{now}", "refresh_expires_in": 1800}

    async def told_once(current: Token | None) -> dict[str, Any]:
        fields = {"access_token": f"a{clock.time()}", "expires_in": 600}
        return fields if current else {**fields, "refresh_token": "r", "refresh_token_expires_in": 36_000}

    seen: list[events.Event] = []
    sources = {"fixed": fixed, "sliding": sliding, "told once": told_once}
    async with TokenManager(sources, clock=clock, observers=[seen.append]):
        await clock.advance(35_000.0)
    told = [event for event in seen if isinstance(event, events.GrantExpiring)]
    assert {event.key for event in told} == {"fixed", "told once"}
    for key in ("fixed", "told once"):
        mine = [event for event in told if event.key == key]
        assert mine[0].expires_at == pytest.approx(dies, abs=2.0)
        assert 6_000.0 <= dies - mine[0].at <= 7_200.0


@pytest.mark.parametrize(
    ("name", "said", "scheme"),
    [
        ("ebay", "Application Access Token", "Bearer"),
        ("ebay", "User Access Token", "Bearer"),
        ("ebay", "Bearer", "Bearer"),
        ("ebay", "mac", None),
        ("auth0", "Application Access Token", None),
        ("auth0", "Bearer", "Bearer"),
        ("own", "custom", "Token"),
        ("own", "CUSTOM", "Token"),
        ("own", "other", None),
    ],
)
async def test_token_types_of_a_provider(name, said, scheme):
    """U1: a provider's own token types are presented by the scheme that the table names; unknown ones are not used."""
    own = {"custom": "Token"} if name == "own" else PROVIDERS[name].token_types
    async with Wire(always(granted(token_type=said))) as wire:
        provider = Provider(token_endpoint=wire.url(), token_types=own)
        async with TokenManager(
            ClientCredentials(OAuthClient.for_provider(provider, client_id="a", client_secret="b"))
        ) as tokens:
            if scheme is None:
                with pytest.raises(TokenUnavailable, match=f"type {said!r}"):
                    await tokens.get()
            else:
                assert (await tokens.get()).authorization == f"{scheme} at-1"

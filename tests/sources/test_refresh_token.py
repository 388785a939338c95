"""The refresh token grant: the choice of the refresh token, the time of its use, and the kept result."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from tests.sources.wire import Asked, Wire, a_request, always, divided, granted, http

from evertoken import FetchRequest, Grant, GrantRejected, Token, TokenManager, TokenUnavailable, TransientRefreshError
from evertoken._model.token import origin_of
from evertoken.providers import Provider
from evertoken.sources import Fallback, OAuthClient, RefreshToken


def source(url: str, **options: Any) -> RefreshToken:
    client, grant = divided({"client_id": "app", "refresh_token": "rt-0", **options})
    return RefreshToken(OAuthClient(token_endpoint=url, **client), **grant)


def rotating(counter: list[int], **fields: Any) -> Any:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        counter[0] += 1
        return granted(access_token=f"at-{counter[0]}", refresh_token=f"rt-{counter[0]}", **fields)

    return handler


def presented(wire: Wire) -> list[str]:
    return [dict(asked.form)["refresh_token"] for asked in wire.asked]


async def test_a_public_client():
    """RFC 6749 section 6: a client without a secret sends its client_id in the form, and no Authorization."""
    async with Wire(always(granted())) as wire:
        await source(wire.url()).fetch(a_request())
        [asked] = wire.asked
    assert asked.form == [("grant_type", "refresh_token"), ("refresh_token", "rt-0"), ("client_id", "app")]
    assert "authorization" not in asked.headers


async def test_a_confidential_client():
    """RFC 6749 section 2.3.1: a client with a secret uses Basic by default, or the form if told."""
    async with Wire(always(granted())) as wire:
        await source(wire.url(), client_secret="a b").fetch(a_request())
        await source(wire.url(), client_secret="a b", client_auth="client_secret_post").fetch(a_request())
        basic, post = wire.asked
    assert base64.b64decode(basic.headers["authorization"].removeprefix("Basic ")) == b"app:a+b"
    assert basic.form == [("grant_type", "refresh_token"), ("refresh_token", "rt-0")]
    assert post.form[2:] == [("client_id", "app"), ("client_secret", "a b")]
    assert "authorization" not in post.headers


@pytest.mark.parametrize("secret", ["rt ü+&=%", "1//0g-_.~", "a" * 4000])
async def test_odd_refresh_tokens(secret):
    """RFC 6749 section 6: a refresh token of any characters arrives as it is."""
    async with Wire(always(granted())) as wire:
        await source(wire.url(), refresh_token=secret).fetch(a_request())
        assert presented(wire) == [secret]


@pytest.mark.parametrize("given", ["owned", "httpx", "httpx2"])
async def test_rotation(given):
    """K1: each fetch presents the newest refresh token, and none twice."""
    client = None if given == "owned" else {"httpx": httpx, "httpx2": httpx2}[given].AsyncClient()
    async with Wire(rotating([0])) as wire:
        async with TokenManager(source(wire.url(), client=client)) as manager:
            await manager.get()
            for _ in range(4):
                await manager.refresh()
        assert presented(wire) == ["rt-0", "rt-1", "rt-2", "rt-3", "rt-4"]
    if client is not None:
        await client.aclose()


async def test_an_omitted_refresh_token_is_kept():
    """RFC 6749 section 6: an answer without refresh token, or with an empty one or null, keeps the one before."""
    answers = [
        granted(refresh_token="rt-1"),
        granted(access_token="at-2"),
        granted(access_token="at-3", refresh_token=""),
        granted(access_token="at-4", refresh_token=None),
        granted(access_token="at-5", refresh_token="rt-5"),
        granted(access_token="at-6"),
    ]

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return answers.pop(0)

    async with Wire(handler) as wire:
        async with TokenManager(source(wire.url())) as manager:
            await manager.get()
            for _ in range(5):
                token = await manager.refresh()
        assert presented(wire) == ["rt-0", "rt-1", "rt-1", "rt-1", "rt-1", "rt-5"]
        assert token.refresh_token == "rt-5"


async def test_a_server_that_never_rotates():
    """RFC 6749 section 6: where no answer brings a refresh token, the first one is presented again and again."""
    async with Wire(always(granted())) as wire:
        async with TokenManager(source(wire.url())) as manager:
            await manager.get()
            await manager.refresh()
        assert presented(wire) == ["rt-0", "rt-0"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_first_one_from_a_function(asynchronous):
    """K6: a function loads the first refresh token at each fetch; the newer one is presented while it says the same."""
    asked_for = 0

    def load() -> str:
        nonlocal asked_for
        asked_for += 1
        return "from-the-vault"

    async def load_later() -> str:
        return load()

    async with Wire(rotating([0])) as wire:
        async with TokenManager(source(wire.url(), refresh_token=load_later if asynchronous else load)) as manager:
            await manager.get()
            await manager.refresh()
        assert presented(wire) == ["from-the-vault", "rt-1"]
    assert asked_for == 2


async def test_the_current_token_decides():
    """K1: what the request carries wins over what the source was made with."""
    async with Wire(always(granted())) as wire:
        one = source(wire.url())
        await one.fetch(a_request(Token("at", issued_at=0.0, expires_at=1.0, refresh_token="newest")))
        await one.fetch(a_request(Token("at", issued_at=0.0)))
        assert presented(wire) == ["newest", "rt-0"]


HELD = Token("at", issued_at=0.0, expires_at=1.0, refresh_token="newest")


@pytest.mark.parametrize("form", ["text", "file", "function", "async function"])
@pytest.mark.parametrize(
    ("current", "origins", "expected"),
    [
        (None, (), "rt-0"),
        (HELD, (), "newest"),
        (HELD, (origin_of("rt-0"),), "newest"),
        (HELD, (origin_of("before"),), "rt-0"),
        (HELD, (origin_of("before"), origin_of("rt-0")), "newest"),
        (Token("at", issued_at=0.0), (origin_of("before"),), "rt-0"),
    ],
)
async def test_a_new_login_in_the_configuration(form, current, origins, expected, tmp_path):
    """K6: another refresh token in the configuration is a new login, and is presented; one that is known is not."""
    (tmp_path / "rt").write_text("rt-0\n")

    async def later() -> str:
        return "rt-0"

    given = {"text": "rt-0", "file": tmp_path / "rt", "function": lambda: "rt-0", "async function": later}[form]
    async with Wire(always(granted())) as wire:
        request = FetchRequest(None, current, 5.0, origins=origins)
        answer = await source(wire.url(), refresh_token=given).fetch(request)
        assert presented(wire) == [expected]
    assert request.origins[-1] == origin_of("rt-0")
    assert request.began_anew is (expected == "rt-0" and current is HELD)
    # Nothing of the grant before is in the answer.
    assert "refresh_token" not in answer.fields


async def test_a_configured_one_that_is_gone():
    """K1: where the configured refresh token cannot be loaded any more, the grant goes on with the newest one."""
    async with Wire(always(granted())) as wire:
        one = source(wire.url(), refresh_token=Path("/nowhere/rt"))
        await one.fetch(a_request(HELD))
        assert presented(wire) == ["newest"]
        with pytest.raises(OSError, match="rt"):
            await one.fetch(a_request(Token("at", issued_at=0.0)))


async def test_a_new_login_at_a_provider_that_refuses_early_refresh():
    """K6: the rejection of a new login is one, also while the token of the login before is valid."""
    habits = Provider(token_endpoint="https://as.example.com/token", refuses_early_refresh=True)
    valid = Token("at", issued_at=0.0, expires_at=4e9, refresh_token="newest")
    async with Wire(always(http(400, {"error": "invalid_grant"}))) as wire:
        here = dataclasses.replace(habits, token_endpoint=wire.url())
        one = RefreshToken(OAuthClient.for_provider(here, client_id="app"), refresh_token="rt-0")
        for known, error in (("rt-0", TransientRefreshError), ("before", GrantRejected)):
            with pytest.raises(error):
                await one.fetch(FetchRequest(None, valid, 5.0, origins=(origin_of(known),)))


async def test_through_a_fallback():
    """K6: the engine learns of a new login, and of what the grant has taken into account, through a Fallback too."""
    async with Wire(always(granted())) as wire:
        one = Fallback(source(wire.url(), rotates=False), lambda: "unused")
        request = FetchRequest(None, HELD, 5.0, origins=(origin_of("before"),))
        await one.fetch(request)
        assert presented(wire) == ["rt-0"]
    assert request.began_anew
    assert request.origins == (origin_of("before"), origin_of("rt-0"))


@pytest.mark.parametrize("returned", [None, "", 7])
async def test_a_function_that_returns_nonsense(returned):
    """F4: a function that returns no refresh token fails the fetch with its name, and nothing is sent."""
    async with Wire(always(granted())) as wire:
        async with TokenManager(source(wire.url(), refresh_token=lambda: returned)) as manager:
            with pytest.raises(TokenUnavailable, match="refresh_token must return a non-empty string"):
                await manager.get()
        assert wire.asked == []


async def test_parameters_go_with_every_refresh():
    """RFC 6749 section 6: scope, audience, resource and parameters such as a tenant are in every refresh."""
    extra = [("scope", "a b"), ("audience", "api"), ("resource", "r1"), ("resource", "r2"), ("tenant", "t")]
    async with Wire(rotating([0])) as wire:
        one = source(wire.url(), scope=["a", "b"], audience="api", resource=["r1", "r2"], parameters={"tenant": "t"})
        async with TokenManager(one) as manager:
            await manager.get()
            await manager.refresh()
        for number, asked in enumerate(wire.asked):
            grant = [("grant_type", "refresh_token"), ("refresh_token", f"rt-{number}")]
            assert asked.form == [*grant, *extra, ("client_id", "app")]


async def test_rejection_keeps_the_valid_token():
    """F4: invalid_grant leaves the valid token in service; without one, get() raises GrantRejected."""
    answers = [granted(refresh_token="rt-1"), http(400, {"error": "invalid_grant", "error_description": "revoked"})]

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return answers.pop(0)

    async with Wire(handler) as wire:
        async with TokenManager(source(wire.url())) as manager:
            token = await manager.get()
            with pytest.raises(GrantRejected, match="revoked"):
                await manager.refresh()
            assert await manager.get() is token
            with pytest.raises(GrantRejected, match="revoked"):
                await manager.refused(token)
        assert presented(wire) == ["rt-0", "rt-1"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"refresh_token": ""}, "refresh_token must be a non-empty string"),
        ({"refresh_token": None}, "refresh_token must be a non-empty string"),
        ({"refresh_token": 7}, "refresh_token must be a non-empty string"),
        ({"on_ambiguous": "panic"}, "on_ambiguous must be 'retry', 'hold' or 'reject'"),
        ({"grace": -1.0}, "grace must be seconds"),
        ({"client_auth": "client_secret_basic"}, "needs a client_secret"),
        ({"client_auth": "none", "client_secret": "s"}, "takes no client_secret"),
        ({"parameters": {"refresh_token": "x"}}, "parameters must not contain refresh_token"),
    ],
)
def test_bad_arguments(options, named):
    """F4: what makes no sense is rejected at construction, naming the parameter."""
    with pytest.raises(ValueError, match=named):
        source("https://as.example.com/token", **options)


def test_repr():
    """S1: a source shows no secret."""
    one = source("https://as.example.com/token", client_secret="hush", refresh_token="hush-hush")
    assert repr(one) == "RefreshToken(OAuthClient(token_endpoint='https://as.example.com/token', client_id='app'))"


def test_habits():
    """K4: the source states whether it rotates and what follows a lost answer, as it was told."""
    one = source("https://as.example.com/token", rotates=True, on_ambiguous="hold")
    assert (one.rotates, one.on_ambiguous) == (True, "hold")
    assert source("https://as.example.com/token").rotates is None


async def test_without_a_refresh_token_of_its_own():
    """K6: a source whose grants come by put() presents that grant, and until then says that nobody has logged in."""

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return granted(refresh_token="rt-2")

    async with Wire(handler) as wire:
        client = OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s")
        async with TokenManager(RefreshToken(client)) as manager:
            with pytest.raises(GrantRejected, match="nobody has logged in"):
                await manager.get()
            assert presented(wire) == []
            await manager.put(Grant("rt-1"))
            await manager.get()
            await manager.refresh()
        assert presented(wire) == ["rt-1", "rt-2"]


@pytest.mark.parametrize(("provider", "days"), [("xero", 60), ("box", 60), ("google", 180), ("spotify", None)])
def test_when_a_grant_dies_that_nobody_uses(provider, days):
    """L2: a source states what its provider is known for; a client without a provider knows nothing."""
    client = OAuthClient.for_provider(provider, client_id="svc", client_secret="s")
    assert RefreshToken(client, "rt").idle_lifetime == (None if days is None else days * 86_400.0)
    plain = OAuthClient(token_endpoint="https://as.example.com/token", client_id="svc", client_secret="s")
    assert RefreshToken(plain, "rt").idle_lifetime is None

"""R2, R4, F1: numbers at their limits are refused by name, or have their plain meaning. No calculation overflows."""

from __future__ import annotations

import asyncio
import math

import pytest
from tests.gated import virtual
from tests.machinery.scripted import ScriptedSource, down

from evertoken import RefreshPolicy, RetryPolicy, Token, TokenManager, TokenUnavailable

HUGE = 10**400
WRONG = [math.nan, -1, -1e-9, -math.inf, -HUGE, True, False, "1", "inf", b"1", [1], 1j]


def name(value):
    """Return a short text for the value of a parameter."""
    return repr(value)[:12]


@virtual
@pytest.mark.parametrize("parameter", ["min_ttl", "timeout"])
@pytest.mark.parametrize("value", WRONG, ids=name)
async def test_what_is_no_number_of_seconds(clock, parameter, value):
    """R4: a bound of get() that is no number of seconds is a ValueError that names it, also with a token at hand."""
    async with TokenManager(ScriptedSource(clock), clock=clock) as tokens:
        if parameter == "min_ttl":
            await tokens.get()
        with pytest.raises(ValueError, match=parameter):
            await tokens.get(**({"min_ttl": 0.0} | {parameter: value}))


@virtual
@pytest.mark.parametrize(
    "value", [math.inf, HUGE, 1e308, 10**300, 1e18], ids=["inf", "huge", "1e308", "10**300", "1e18"]
)
@pytest.mark.parametrize("lifetime", [100.0, None])
async def test_beyond_all_times(clock, value, lifetime):
    """R2, R4: a bound beyond all times is one that never ends, and a token that never expires is enough for it."""
    source = ScriptedSource(clock, lifetime=lifetime)
    source.error = down()
    async with TokenManager(source, clock=clock) as tokens:
        clock.call_later(30.0, setattr, source, "error", None)
        token = await tokens.get(timeout=value)
        fetches = source.fetches
        assert (await tokens.get(min_ttl=value)).remaining(clock.time()) > 90.0
        assert (await tokens.get(min_ttl=value, timeout=value)) is not None
        if lifetime is None:
            assert source.fetches == fetches
            assert await tokens.get(min_ttl=value) is token
        assert source.fetches <= fetches + 1


@virtual
@pytest.mark.parametrize("value", [0, 0.0, 5e-324, 1e-9])
async def test_hardly_any_time(clock, value):
    """R4: a timeout of nothing gives up at once, and says so."""
    source = ScriptedSource(clock, latency=1.0)
    async with TokenManager(source, clock=clock) as tokens:
        with pytest.raises(TokenUnavailable):
            await tokens.get(timeout=value)
        assert await tokens.get() is not None


SETTINGS = ["fetch_timeout", "start_timeout", "close_grace", "idle_after"]


@pytest.mark.parametrize("parameter", SETTINGS)
@pytest.mark.parametrize("value", [*WRONG, HUGE, math.inf], ids=name)
def test_settings(parameter, value):
    """F7: a setting that is no finite number of seconds is a ValueError that names it."""
    with pytest.raises(ValueError, match=parameter):
        TokenManager(lambda: "token", **{parameter: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, math.inf, math.nan, True, "16", None], ids=name)
def test_concurrency(value):
    """F6: a limit of concurrent fetches that is no whole number is a ValueError that names it."""
    with pytest.raises(ValueError, match="concurrency"):
        TokenManager(lambda: "token", concurrency=value)


POLICIES = [
    (RetryPolicy, "first"),
    (RetryPolicy, "factor"),
    (RetryPolicy, "cap"),
    (RetryPolicy, "jitter"),
    (RetryPolicy, "retry_after_cap"),
    (RetryPolicy, "probe"),
    (RetryPolicy, "patience"),
    (RefreshPolicy, "lead_fraction"),
    (RefreshPolicy, "lead_time"),
    (RefreshPolicy, "jitter"),
    (RefreshPolicy, "default_lifetime"),
]


@pytest.mark.parametrize(("policy", "parameter"), POLICIES)
@pytest.mark.parametrize("value", [*WRONG, HUGE, math.inf], ids=name)
def test_policies(policy, parameter, value):
    """F1: a parameter of a policy that is no finite number is a ValueError that names it."""
    with pytest.raises(ValueError, match=parameter):
        policy(**{parameter: value})


ODD = [HUGE, -HUGE, math.inf, math.nan, 1e308, 0, -1, True, "1e400", "9" * 500, [], {}, None, "NaN", "0x10", " 60 "]


@virtual
@pytest.mark.parametrize("field", ["expires_in", "expires_at", "expires_on", "refresh_in", "refresh_on"])
@pytest.mark.parametrize("value", ODD, ids=name)
async def test_what_an_answer_says(clock, field, value):
    """T1: with any number in an answer, the token is used or fails as an expired one. Fetches do not spin."""
    source = ScriptedSource(clock)
    source.answer = lambda _: {"access_token": "token", "token_type": "Bearer", "expires_in": 600, field: value}
    async with TokenManager(source, clock=clock) as tokens:
        found = (await asyncio.gather(tokens.get(), return_exceptions=True))[0]
        assert "expired" in str(found) if isinstance(found, TokenUnavailable) else found.access_token == "token"
        await clock.advance(60.0)
        assert source.fetches <= 60


@virtual
@pytest.mark.parametrize("value", [HUGE, -HUGE, math.inf, math.nan, -1, 1e308, 0], ids=name)
async def test_retry_after(clock, value):
    """R4: for any wait that a source asks for, the next attempt comes within the cap, and not at once."""
    source = ScriptedSource(clock)
    source.error = down(retry_after=value)
    async with TokenManager(source, clock=clock) as tokens:
        with pytest.raises(TokenUnavailable):
            await tokens.get()
        source.error = None
        await clock.advance(400.0)
        assert tokens.peek() is not None
        assert source.fetches == 2


@pytest.mark.parametrize("issued_at", [math.nan, math.inf, HUGE], ids=["nan", "inf", "huge"])
def test_instants_of_a_token(issued_at):
    """T1: a token with an invalid instant is refused when it is made."""
    with pytest.raises((ValueError, TypeError)):
        Token("token", issued_at=issued_at, expires_at=1.0)

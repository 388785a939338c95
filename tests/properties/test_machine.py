"""
Random lives of a manager, checked against a model that is too simple to be wrong.

The model knows for each key the tokens its provider gave out and when they truly die, by the monotonic clock, which no
step moves. The machine asks, cancels, fails, heals, revokes, puts, signs out, lets time pass, sets the clock, closes
and opens again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any
from unittest import mock

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from evertoken import (
    GrantRejected,
    ManagerClosed,
    RetryPolicy,
    Token,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken._engine.supervisor import BEAT
from evertoken.testing import VirtualClock, VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from evertoken import FetchRequest

KEYS = ("a", "b")
keys = st.sampled_from(KEYS)


class Provider:
    """One key's provider: it answers, fails, rejects or hangs, as told."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.lifetime = 60.0
        self.latency = 0.2
        self.error: Exception | None = None
        self.dies_at: dict[str, float] = {}
        self.revoked: set[str] = set()
        self.in_flight = 0
        self.latest_latency, self.latest_lifetime = 0.0, 60.0
        self.most = 0
        self.started: list[float] = []
        self.provoked: Counter[int] = Counter()

    async def fetch(self, _: FetchRequest) -> tuple[str, float]:
        begun = self.clock.monotonic()
        self.started.append(begun)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        lifetime, latency = self.lifetime, self.latency
        self.latest_latency, self.latest_lifetime = latency, lifetime
        try:
            await asyncio.sleep(latency)
            if self.error is not None:
                raise self.error
            value = f"token-{len(self.dies_at)}"
            self.dies_at[value] = begun + lifetime
            return value, lifetime
        finally:
            self.in_flight -= 1


class Life(RuleBasedStateMachine):
    """One manager and its callers."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.clock = VirtualClock()
        self.providers = {key: Provider(self.clock) for key in KEYS}
        self.callers: list[tuple[str, asyncio.Task[Token]]] = []
        self.stepped_at = -1e9
        self.signed_out: set[str] = set()
        self.open = False
        self.tokens: TokenManager[Any, str] | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    @initialize(concurrency=st.integers(1, 3), seed=st.binary(min_size=8, max_size=8))
    def begin(self, concurrency: int, seed: bytes) -> None:
        async def begin() -> None:
            # The jitter of a process, which has to be the same when a life is lived again.
            with mock.patch("os.urandom", return_value=seed):
                self.tokens = TokenManager(
                    self.providers, clock=self.clock, concurrency=concurrency, fetch_timeout=5.0, close_grace=2.0
                )
            await self.tokens.start()
            self.open = True

        self.run(begin())

    def manager(self) -> TokenManager[Any, str]:
        assert self.tokens is not None
        return self.tokens

    def provoke(self, *provoked: str) -> None:
        """The next steps may start a fetch at once, and rightly so."""
        for key in provoked:
            self.providers[key].provoked[int(self.runner.get_loop().time())] += 1

    def is_alive(self, key: str, token: Token) -> bool:
        """Tell whether a token truly lives. After a step back a dead one may be served for a beat (T2)."""
        now = self.runner.get_loop().time()
        unnoticed = now - self.stepped_at <= BEAT + 0.1
        return unnoticed or now <= self.providers[key].dies_at[token.access_token] + 1e-3

    # Actions of callers

    @precondition(lambda self: self.open)
    @rule(key=keys, timeout=st.sampled_from([None, None, 0.0, 3.0, 30.0]), min_ttl=st.sampled_from([None, 30.0, 1e6]))
    def ask(self, key: str, timeout: float | None, min_ttl: float | None) -> None:
        self.provoke(key)

        async def ask() -> None:
            asked = self.manager().get(key, min_ttl, timeout)
            self.callers.append((key, asyncio.get_running_loop().create_task(asked)))
            await asyncio.sleep(0)

        self.run(ask())

    @precondition(lambda self: self.callers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.callers) - 1))

        async def cancel() -> None:
            self.callers[number][1].cancel()
            await asyncio.sleep(0)

        self.run(cancel())

    @precondition(lambda self: self.open)
    @rule(key=keys)
    def use(self, key: str) -> None:
        token = self.run(self._peek(key))
        if token is not None:
            assert self.is_alive(key, token)
            if token.access_token in self.providers[key].revoked:
                self.provoke(key)
                before = len(self.providers[key].started)
                self.run(self._bounded(self.manager().invalidate(token, key)))
                assert len(self.providers[key].started) <= before + 1

    async def _peek(self, key: str) -> Token | None:
        return self.manager().peek(key)

    async def _bounded(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async with asyncio.timeout(60.0):
            return await coroutine

    @precondition(lambda self: self.open)
    @rule(key=keys)
    def force(self, key: str) -> None:
        self.provoke(key)

        async def force() -> None:
            try:
                token = await self._bounded(self.manager().refresh(key))
            except (TokenUnavailable, GrantRejected):
                provider = self.providers[key]
                # Slower than its deadline, or than the lifetime of its tokens.
                slow = provider.latest_latency >= min(5.0, provider.latest_lifetime)
                # Or the clock was set forward under its fetch: a suspend looks the same, and the token may be dead.
                stepped = self.clock.monotonic() - self.stepped_at <= 20.0
                assert provider.error is not None or slow or stepped
            else:
                # Only a token ends a sign-out.
                self.signed_out.discard(key)
                assert self.is_alive(key, token)

        self.run(force())

    @precondition(lambda self: self.open)
    @rule(key=keys)
    def forget(self, key: str) -> None:
        self.provoke(key)
        assert self.run(self.manager().forget(key))

    @precondition(lambda self: self.open)
    @rule(key=keys, lifetime=st.sampled_from([10.0, 3600.0]))
    def put(self, key: str, lifetime: float) -> None:
        self.provoke(key)
        provider = self.providers[key]
        value = f"by-hand-{len(provider.dies_at)}"

        async def put() -> None:
            now = self.clock.time()
            provider.dies_at[value] = self.clock.monotonic() + lifetime
            await self._bounded(self.manager().put(Token(value, issued_at=now, expires_at=now + lifetime), key))
            token = self.manager().peek(key)
            assert token is not None
            assert token.access_token == value

        self.run(put())
        self.signed_out.discard(key)

    @precondition(lambda self: self.open)
    @rule(key=keys)
    def sign_out(self, key: str) -> None:
        self.run(self._bounded(self.manager().revoke(key)))
        self.signed_out.add(key)

    # Events of the world

    @rule(key=keys, error=st.sampled_from([None, None, "down", "rejected"]))
    def fail(self, key: str, error: str | None) -> None:
        errors = {None: None, "down": TransientRefreshError("down"), "rejected": GrantRejected("invalid_grant")}
        self.providers[key].error = errors[error]

    @rule(key=keys, latency=st.sampled_from([0.0, 0.2, 1.0, 20.0]))
    def slow(self, key: str, latency: float) -> None:
        self.providers[key].latency = latency

    @rule(key=keys, lifetime=st.sampled_from([0.5, 10.0, 60.0, 3600.0]))
    def live(self, key: str, lifetime: float) -> None:
        self.providers[key].lifetime = lifetime

    @rule(key=keys)
    def revoke(self, key: str) -> None:
        self.providers[key].revoked.update(self.providers[key].dies_at)

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 7.0, 50.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @rule(seconds=st.sampled_from([-3600.0, -30.0, 30.0, 7200.0]))
    def step(self, seconds: float) -> None:
        async def step() -> None:
            self.clock.step(seconds)
            self.stepped_at = self.clock.monotonic()

        self.run(step())

    # Life

    @precondition(lambda self: self.open)
    @rule()
    def close(self) -> None:
        async def close() -> None:
            await self._bounded(self.manager().aclose())
            self.open = False
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert left == {task for _, task in self.callers if not task.done()} == set()

        self.run(close())

    @precondition(lambda self: self.tokens is not None and not self.open)
    @rule()
    def reopen(self) -> None:
        self.provoke(*KEYS)
        self.run(self.manager().start())
        self.open = True

    # Invariants

    @invariant()
    def never_two_fetches_of_one_key(self) -> None:
        # A fetch that was cancelled by its timeout ends at once, because this provider heeds cancellation.
        assert all(provider.most <= 1 for provider in self.providers.values())

    @invariant()
    def never_a_storm(self) -> None:
        for provider in self.providers.values():
            by_second = Counter(int(at) for at in provider.started)
            provoked = provider.provoked
            # Ten of a token that lives half a second, as its retries are a fraction of that. Events of the second
            # before count too: a fetch may wait for a place or for a cool-down to end.
            assert all(count <= 10 + provoked[second] + provoked[second - 1] for second, count in by_second.items())

    @invariant()
    def callers_are_told_the_truth(self) -> None:
        for key, task in [caller for caller in self.callers if caller[1].done()]:
            if task.cancelled():
                continue
            error = task.exception()
            if isinstance(error, TokenUnavailable):
                assert error.retry_at is None or error.__cause__ is not None
            elif error is None:
                assert task.result().access_token in self.providers[key].dies_at
            else:
                assert isinstance(error, GrantRejected | ManagerClosed), error
        self.callers = [caller for caller in self.callers if not caller[1].done()]

    @invariant()
    def what_is_in_service_lives(self) -> None:
        if not self.open:
            return
        for key in KEYS:
            token = self.run(self._peek(key))
            assert token is None or self.is_alive(key, token)

    @invariant()
    def what_was_signed_out_stays_so(self) -> None:
        assert self.tokens is None or all(self.run(self._peek(key)) is None for key in self.signed_out)

    @invariant()
    def the_supervisor_lives(self) -> None:
        if self.open:
            assert self.run(self._alive())

    async def _alive(self) -> bool:
        session = self.manager()._life.session
        return session is not None and session.maintenance.supervisor.alive

    def teardown(self) -> None:
        async def end() -> None:
            for provider in self.providers.values():
                provider.error, provider.latency, provider.lifetime = None, 0.2, 60.0
            if not self.open and self.tokens is not None:
                await self.tokens.start()
            if self.tokens is not None:
                # After every history, it heals by itself within the longest cool-down and a beat.
                await self.clock.advance(2.0 * RetryPolicy().probe)
                for key in self.signed_out:
                    await self.tokens.refresh(key)
                for key in KEYS:
                    assert (await self.tokens.get(key)).access_token in self.providers[key].dies_at
                await self.tokens.aclose()
            for _, task in self.callers:
                task.cancel()
            await asyncio.gather(*(task for _, task in self.callers), return_exceptions=True)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        self.run(end())
        self.runner.close()


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

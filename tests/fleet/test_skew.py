"""Members whose wall clocks do not agree: leases do not mind, and tokens do not as long as it is less than the lead."""

from __future__ import annotations

import pytest
from tests.fleet.simulation import Server, Store, Worker
from tests.gated import virtual

from evertoken import RefreshPolicy, TokenManager


class Skewed:
    """A clock whose wall is off."""

    def __init__(self, clock, by):
        self._clock = clock
        self._by = by
        self.monotonic = clock.monotonic
        self.call_later = clock.call_later

    def time(self):
        return self._clock.time() + self._by


class Elsewhere(Worker):
    """A worker on a host whose clock is off. The server says how long a token lives, not until when."""

    def __init__(self, name, store, server, by):
        super().__init__(name, store, server)
        self.by = by
        self.manager = TokenManager(
            self, store=self, namespace="", clock=Skewed(server.clock, by), policy=RefreshPolicy(), fetch_timeout=10.0
        )

    async def fetch(self, request, /):
        return (await super().fetch(request)).shifted(self.by)


@virtual
@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.parametrize("skews", [(0.0, 5.0, -5.0), (9.0, 0.0, 0.0), (-9.0, 0.0, 0.0)])
async def test_less_than_the_lead(clock, rotating, skews):
    """K2: with clocks that differ by less than the lead it is one fetch a lifetime, and no dead token is served."""
    store, server = Store(clock), Server(clock, rotating=rotating, lifetime=60.0)
    server.kept = store.kept
    died_at = {}
    take = server.take

    def taking(presented):
        token = take(presented)
        died_at[token.access_token] = clock.time() + 60.0
        return token

    server.take = taking
    workers = [Elsewhere(f"w{number}", store, server, by) for number, by in enumerate(skews)]
    for worker in workers:
        await worker.manager.start()
        assert await worker.manager.get()
    for _ in range(600):
        await clock.advance(1.0)
        for worker in workers:
            token = worker.manager.peek()
            assert token is not None
            assert clock.time() < died_at[token.access_token]
    # The token is due first for the member whose clock is ahead.
    longest = 60.0 * 0.76 - max(abs(skew) for skew in skews) * 2.0
    assert server.issued <= 2 + 600.0 / longest
    assert not server.replays
    for worker in workers:
        await worker.manager.aclose()


@virtual
async def test_leases_do_not_mind(clock):
    """K2: a member whose clock is hours off waits for a lease as long as the others, and takes over at its end."""
    store, server = Store(clock), Server(clock, rotating=True)
    holder = Worker("holder", store, server)
    late = [Elsewhere("ahead", store, server, 7200.0), Elsewhere("behind", store, server, -7200.0)]
    holder.dies_at = ("before fetch", 1)
    async with holder.manager:
        for worker in late:
            await worker.manager.start()
        await clock.advance(8.0)
        assert server.issued == 0
        # The lease ends after ten seconds, and then its holder is given four to bring an answer.
        await clock.advance(12.0)
        assert server.issued >= 1
        assert not server.replays
        for worker in late:
            await worker.manager.aclose()
        holder.state = "running"
        holder._go.set()

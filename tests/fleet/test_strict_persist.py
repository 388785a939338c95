"""`strict_persist=True`: a token that the store did not keep is held back until it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.fleet.simulation import Server, Store, Worker
from tests.gated import virtual

from evertoken import Record, TokenManager, TokenUnavailable, events

if TYPE_CHECKING:
    from collections.abc import Callable


def refusing(store: Store, *, everything: bool = False) -> Callable[[], None]:
    """Let the store refuse tokens, or be down at all steps. Return the function that mends it."""
    call = store.call

    async def fails(operation: str, *args: Any) -> Any:
        if everything or (operation == "commit"):
            raise OSError("disk full")
        return await call(operation, *args)

    store.call = fails  # type: ignore[method-assign]

    def mend() -> None:
        store.call = call  # type: ignore[method-assign]

    return mend


@virtual
@pytest.mark.parametrize("rotating", [False, True])
async def test_held_back_until_it_is_kept(clock, rotating):
    """K1: a token that the store did not keep is served to nobody, not fetched again, and served once it is kept."""
    store, server = Store(clock), Server(clock, rotating=rotating)
    source = Worker("source", store, server)
    told: list[events.Event] = []
    async with TokenManager(
        source, store=source, namespace="", clock=clock, strict_persist=True, observers=[told.append]
    ) as tokens:
        first = await tokens.get()
        await clock.advance(1.0)
        mend = refusing(store)
        with pytest.raises(TokenUnavailable, match="held back"):
            await tokens.refresh()
        assert tokens.peek() is None
        with pytest.raises(TokenUnavailable, match="held back"):
            await tokens.get()
        snapshot = tokens.snapshot().keys[None]
        assert not snapshot.kept
        assert not tokens.health().ready
        (unpersisted,) = [event for event in told if isinstance(event, events.TokenUnpersisted)]
        assert not unpersisted.serving
        for _ in range(20):
            await clock.advance(1.0)
            assert tokens.peek() is None
        assert server.issued == 2
        mend()
        second = await tokens.get(timeout=40.0)
        assert second != first
        assert tokens.peek() == second
        assert tokens.snapshot().keys[None].kept
        # Callers take the fast path again.
        assert tokens._life.session.registry.keys[None].valid_until == second.expires_at
        record = await store.memory.read('["",null]')
        assert isinstance(record, Record)
        assert record.token == second
    assert server.issued == 2
    assert not server.replays


@virtual
async def test_a_store_that_is_down_from_the_beginning(clock):
    """K1, K3: a token that was minted without the store is held back as well, and not minted again and again."""
    store, server = Store(clock), Server(clock, rotating=False)
    source = Worker("source", store, server)
    mend = refusing(store, everything=True)
    async with TokenManager(source, store=source, namespace="", clock=clock, strict_persist=True) as tokens:
        with pytest.raises(TokenUnavailable, match="held back"):
            await tokens.get()
        await clock.advance(20.0)
        assert tokens.peek() is None
        assert server.issued == 1
        mend()
        assert (await tokens.get(timeout=40.0)).access_token == "at-1"
        assert server.issued == 1


@virtual
async def test_a_peer_is_served_at_once(clock):
    """K1: what a peer kept is adopted by a strict member, also while its own is held back."""
    store, server = Store(clock), Server(clock, rotating=False)
    source, peer = Worker("source", store, server), Worker("peer", store, server)
    async with (
        TokenManager(source, store=source, namespace="", clock=clock, strict_persist=True) as tokens,
        peer.manager,
    ):
        assert await tokens.get() == await peer.use()
        await clock.advance(1.0)
        mend = refusing(store)
        with pytest.raises(TokenUnavailable, match="held back"):
            await tokens.refresh()
        mend()
        newest = await peer.manager.refresh()
        await clock.advance(0.2)
        assert tokens.peek() == newest
        assert tokens.snapshot().keys[None].kept

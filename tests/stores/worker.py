"""
A process that uses a store, run and killed by tests: `worker.py KIND PATH WHAT [ARGUMENT...]`.

It prints a line when something has happened.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from evertoken import Lease, Record, Token, TokenManager, TokenStore
from evertoken.sources import ClientCredentials, OAuthClient
from evertoken.stores import FileStore, SQLiteStore

KINDS: dict[str, Callable[..., FileStore | SQLiteStore]] = {"file": FileStore, "sqlite": SQLiteStore}


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def win(store: TokenStore, owner: str, ttl: float) -> Lease:
    while True:
        lease = (await store.begin("k", owner, ttl)).lease
        if isinstance(lease, Lease):
            return lease
        await asyncio.sleep(0.002)


def token_of(version: int) -> Token:
    return Token(f"{version}-" * 3000, issued_at=float(version), refresh_token=f"{version}-")


async def write(store: TokenStore, owner: str) -> None:
    """Write one version after another, and say which are kept."""
    lease = await win(store, owner, 0.3)
    found = await store.read("k")
    version = 0 if found is None else found.version
    say("begins")
    while True:
        version += 1
        assert await store.mark(Record("k", version, token_of(version)), lease)
        say(version)
        assert await store.renew(lease, 0.3)


async def take_turns(store: TokenStore, owner: str, turns: int) -> None:
    """Add one to the version under a lease, *turns* times, and say under which fence."""
    for _ in range(turns):
        lease = await win(store, owner, 10.0)
        found = await store.read("k")
        version = 1 if found is None else found.version + 1
        assert await store.commit(Record("k", version, token_of(version)), lease)
        say(lease.fence, version)


async def hold(store: TokenStore, owner: str, ttl: float) -> None:
    """Take the lease, wait for a line, and try to write late."""
    lease = await win(store, owner, ttl)
    say("holds", lease.fence)
    await asyncio.to_thread(sys.stdin.readline)
    say(await store.commit(Record("k", 1000, token_of(1000)), lease), await store.renew(lease, ttl))


async def live(store: TokenStore, endpoint: str, seconds: float) -> None:
    """Ask a manager for its token all the time, and say how long it took at most and how many tokens it saw."""
    source = ClientCredentials(OAuthClient(token_endpoint=endpoint, client_id="svc", client_secret="s3cret"))
    slowest, seen = 0.0, set()
    async with TokenManager(source, store=store, start="require") as tokens:
        say("lives")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = time.perf_counter()
            token = await tokens.get()
            slowest = max(slowest, time.perf_counter() - before)
            assert token.valid_at(time.time())
            seen.add(token.fingerprint)
            await asyncio.sleep(0.02)
    say(slowest, len(seen))


async def main(kind: str, path: str, what: str, *arguments: str) -> None:
    store: TokenStore = KINDS[kind](path, poll=0.1)
    if what == "write":
        await write(store, *arguments)
    elif what == "turns":
        await take_turns(store, arguments[0], int(arguments[1]))
    elif what == "hold":
        await hold(store, arguments[0], float(arguments[1]))
    else:
        await live(store, arguments[0], float(arguments[1]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

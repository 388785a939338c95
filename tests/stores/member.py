"""
A member of a fleet as a process, told what to do line by line, and made to stand still at a step of the protocol.

`member.py JSON`; on stdin `get`, `refresh`, `revoke` or `stop STEP`, answered by one line each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from tests.stores.own_tables import logins, store_in

from evertoken import FetchRequest, Lease, Record, TokenError, TokenManager, events
from evertoken.sources import OAuthClient, RefreshToken
from evertoken.stores import FileStore, PostgresStore, RedisStore


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Standing:
    """A store, or a source, that stands still at the step it was told: the whole process, until it reads a line."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.step = ""
        self.rotates = True

    def stand(self, step: str) -> None:
        if step == self.step:
            self.step = ""
            say("at", step)
            sys.stdin.readline()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def begin(self, key: str, owner: str, ttl: float) -> Any:
        begun = await self.inner.begin(key, owner, ttl)
        if isinstance(begun.lease, Lease):
            self.stand("begun")
        return begun

    async def mark(self, record: Record, lease: Lease) -> bool:
        kept: bool = await self.inner.mark(record, lease)
        self.stand("marked")
        return kept

    async def commit(self, record: Record, lease: Lease) -> bool:
        self.stand("answered")
        kept: bool = await self.inner.commit(record, lease)
        self.stand("committed")
        return kept

    async def __aenter__(self) -> Any:
        if hasattr(self.inner, "__aenter__"):
            await self.inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if hasattr(self.inner, "__aexit__"):
            await self.inner.__aexit__(*error)


def store_at(place: str, name: str = "") -> Any:
    if place.startswith("redis:"):
        return RedisStore(place, prefix=name)
    if "+" in place:
        table = logins(sa.MetaData(), key=sa.String(700), name=name)
        return store_in(create_async_engine(place), table, leases=f"{name}_l")
    return PostgresStore(place, table=name) if place.startswith("postgresql:") else FileStore(place, poll=0.05)


async def main(task: dict[str, Any]) -> None:
    store = Standing(store_at(*task["store"]))
    source = RefreshToken(
        OAuthClient(token_endpoint=task["token_endpoint"], client_id="svc", client_secret="s3cret"),
        refresh_token=task["refresh_token"],
        rotates=True,
        on_ambiguous=task.get("on_ambiguous", "retry"),
    )
    happened: list[str] = []

    def observe(event: events.Event) -> None:
        happened.append(type(event).__name__)

    class Source:
        rotates = True
        on_ambiguous = source.on_ambiguous

        async def fetch(self, request: FetchRequest, /) -> Any:
            return await source.fetch(request)

    options: Any = {"start": "require", "observers": [observe], "check_every": 0.5}
    async with TokenManager(Source(), store=store, namespace="", **options) as tokens:
        say("lives", (await tokens.get()).fingerprint)
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            try:
                if words[0] == "stop":
                    store.step = words[1]
                    say("will")
                elif words[0] == "revoke":
                    await tokens.revoke()
                    say("revoked")
                else:
                    token = await (tokens.refresh() if words[0] == "refresh" else tokens.get())
                    say(token.fingerprint, happened.count("FetchAmbiguous"))
            except TokenError as error:
                say(type(error).__name__, happened.count("FetchAmbiguous"))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

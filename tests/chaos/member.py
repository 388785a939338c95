"""
A member of the fleet under chaos: it uses every key all the time, and logs the tokens it receives and keeps.

`python -m tests.chaos.member JSON`; on stdin `refresh KEY`, `refused KEY` or `end`. At the end it prints its token for
each key. Its log is written with O_APPEND, one write a line, so a SIGKILL loses nothing that was written before.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from typing import Any

from tests.stores.member import store_at

from evertoken import Begun, FetchRequest, Lease, Record, Token, TokenError, TokenManager, events
from evertoken._model.token import fingerprint_of
from evertoken.sources import OAuthClient, RefreshToken

#: Seconds between two uses of a key.
PAUSE = 0.2

#: Seconds that a member waits for its last tokens.
PATIENCE = 40.0


class Log:
    """A file that outlives this process, however it ends."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def write(self, what: str, key: object = None, **more: object) -> None:
        line = {"at": time.time(), "what": what, "key": key, **more}
        os.write(self._file, (json.dumps(line) + "\n").encode())

    def observe(self, event: events.Event) -> None:
        names = [field.name for field in dataclasses.fields(event) if field.name not in {"at", "key"}]
        said = {name: str(getattr(event, name)) for name in names}
        self.write(type(event).__name__, event.key, **said)


class LoggedSource:
    """A source that writes down each answer as soon as it is there."""

    def __init__(self, inner: RefreshToken, log: Log) -> None:
        self._inner = inner
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def fetch(self, request: FetchRequest, /) -> Any:
        spent = None if request.current is None else request.current.refresh_token
        self._log.write("asks", request.key, spent=None if spent is None else fingerprint_of(spent))
        try:
            return await self._inner.fetch(request)
        finally:
            if request.answer is not None:
                fields = request.answer.value.fields
                self._log.write("received", request.key, refresh=fingerprint_of(fields["refresh_token"]))


class LoggedStore:
    """A store that writes down what each step brought."""

    def __init__(self, inner: Any, log: Log) -> None:
        self._inner = inner
        self._log = log
        self._saw: dict[str, str | None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def read(self, key: str) -> Record | None:
        record: Record | None = await self._inner.read(key)
        self._found(key, record)
        return record

    async def begin(self, key: str, owner: str, ttl: float) -> Begun:
        begun: Begun = await self._inner.begin(key, owner, ttl)
        self._found(key, begun.record)
        given = isinstance(begun.lease, Lease)
        version = None if begun.record is None else begun.record.version
        self._log.write("begun", json.loads(key)[1], given=given, version=version)
        return begun

    async def mark(self, record: Record, lease: Lease) -> bool:
        return await self._keep("marked", record, lease)

    async def commit(self, record: Record, lease: Lease) -> bool:
        return await self._keep("committed", record, lease)

    async def _keep(self, what: str, record: Record, lease: Lease) -> bool:
        step = self._inner.mark if what == "marked" else self._inner.commit
        done: bool = await step(record, lease)
        refresh = refresh_in(record.token)
        self._saw[record.key] = refresh
        key = json.loads(record.key)[1]
        self._log.write(what, key, done=done, refresh=refresh, version=record.version, sent_at=record.sent_at)
        return done

    def _found(self, key: str, record: Record | None) -> None:
        refresh = None if record is None else refresh_in(record.token)
        if self._saw.get(key, "") != refresh:
            self._saw[key] = refresh
            sent_at = None if record is None else record.sent_at
            self._log.write("saw", json.loads(key)[1], refresh=refresh, sent_at=sent_at)

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)


def refresh_in(token: Token | None) -> str | None:
    return None if token is None or token.refresh_token is None else fingerprint_of(token.refresh_token)


async def use(tokens: TokenManager[Token, str], key: str, log: Log) -> None:
    """Ask for the token of *key* all the time, and write down what changes."""
    before = ""
    while True:
        begun = time.monotonic()
        said = await outcome_of(tokens, key)
        if said != before:
            before = said
            log.write("serves", key, said=said, took=round(time.monotonic() - begun, 3))
        await asyncio.sleep(PAUSE)


async def outcome_of(tokens: TokenManager[Token, str], key: str, patience: float | None = None) -> str:
    try:
        return (await tokens.get(key, timeout=patience)).fingerprint
    except TokenError as error:
        return type(error).__name__


async def obey(tokens: TokenManager[Token, str], what: str, key: str, log: Log) -> None:
    log.write(what, key)
    try:
        if what == "refresh":
            await tokens.refresh(key)
        elif (token := tokens.peek(key)) is not None:
            await tokens.refused(token, key)
    except TokenError as error:
        log.write(f"{what} failed", key, error=type(error).__name__)


async def main(task: dict[str, Any]) -> None:
    log = Log(task["log"])
    sources = {
        key: LoggedSource(
            RefreshToken(
                OAuthClient(token_endpoint=endpoint, client_id="svc", client_secret="s3cret"),
                refresh_token=refresh_token,
                rotates=True,
                parameters={"member": task["name"]},
            ),
            log,
        )
        for key, (endpoint, refresh_token) in task["grants"].items()
    }
    store = LoggedStore(store_at(*task["store"]), log)
    async with TokenManager(sources, store=store, namespace="", observers=[log.observe]) as tokens:
        working = [asyncio.create_task(use(tokens, key, log)) for key in sources]
        while (words := (await asyncio.to_thread(sys.stdin.readline)).split()) and words[0] != "end":
            working.append(asyncio.create_task(obey(tokens, words[0], words[1], log)))
        last = await asyncio.gather(*(outcome_of(tokens, key, PATIENCE) for key in sources))
        for one in working:
            one.cancel()
        await asyncio.wait(working)
        failed = [repr(one.exception()) for one in working if not one.cancelled() and one.exception() is not None]
    sys.stdout.write(json.dumps({"tokens": dict(zip(sources, last, strict=True)), "failed": failed}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

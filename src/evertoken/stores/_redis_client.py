"""An asyncio client of redis-py or valkey-py, with a limit on the connections in use at a time."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, final

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

__all__ = ["BoundedClient", "escaped", "is_error"]

#: Seconds of silence after which a watch checks whether the server is still there, and then waits for its answer.
SILENCE: Final = 5.0

#: How often, and with which pause in seconds, to look for a free connection in a client's own pool: under 4 s in all.
_LOOKS: Final = 400
_PAUSE: Final = 0.01

#: Messages of pools that report an empty pool without a special class. Nothing was sent in that case.
_EMPTY: Final = frozenset({"Too many connections", "No connection available."})


def escaped(pattern: str, /) -> str:
    """Return a pattern that only matches *pattern* itself."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in pattern)


def is_error(error: BaseException, name: str, /) -> bool:
    """Tell whether *error* has a class of this *name* in either library, without importing one of them."""
    return any(kind.__name__ == name for kind in type(error).__mro__)


@final
class _Pool:
    """The state that all users of one pool share on one loop."""

    def __init__(self, size: int | None, limit: int) -> None:
        self.size = size
        self.watches = 0
        # In a small pool, one connection is left for the watch, which keeps it.
        self.free = asyncio.Semaphore(limit if size is None else max(1, min(limit, size - 1)))


@final
class BoundedClient:
    """
    A client whose callers wait if all connections are in use.

    Args:
        client: The client.

        limit: The number of commands at a time. A watch uses one more connection.
    """

    def __init__(self, client: Any, limit: int) -> None:
        self._client = client
        self._pool = _pool_of(client, limit)

    async def run(self, *words: object) -> Any:
        """
        Return the server's answer to one command. Bytes become views, whose content does not appear in tracebacks.
        """
        async with self._pool.free:
            return _veiled(await _patiently(lambda: self._client.execute_command(*words, NEVER_DECODE=True)))

    async def run_all(self, commands: Sequence[Sequence[object]]) -> list[Any]:
        """Return the server's answers to *commands*, which are sent together."""

        async def send() -> list[Any]:
            together = self._client.pipeline(transaction=False)
            for words in commands:
                together.execute_command(*words, NEVER_DECODE=True)
            return await together.execute()  # type: ignore[no-any-return]

        async with self._pool.free:
            return [_veiled(answer) for answer in await _patiently(send)]

    async def script(self, script: str, keys: str | tuple[str, ...], *arguments: object) -> Any:
        """
        Return the result of *script* for *keys*. The server receives its text only if it does not know the script.
        """
        named = (keys,) if isinstance(keys, str) else keys
        try:
            return await self.run("EVALSHA", _digest(script), len(named), *named, *arguments)
        except Exception as error:
            if not is_error(error, "NoScriptError"):
                raise
        return await self.run("EVAL", script, len(named), *named, *arguments)

    async def names(self, pattern: str) -> AsyncIterator[str]:
        """Yield the names of all keys in the server that match *pattern*."""
        found = self._client.scan_iter(match=pattern, count=500)
        while True:
            async with self._pool.free:
                try:
                    name = await anext(found)
                except StopAsyncIteration:
                    return
            yield name if isinstance(name, str) else name.decode()

    async def watch(self, channel: str, told: Callable[[str | None], object]) -> None:
        """
        Call *told* with each message on *channel*, and with None each time the subscription has begun.

        Raises:
            ConnectionError: The server is silent, or the pool of the client has no connection left.
        """
        async with self._subscribed(channel) as subscription:
            asked = False
            while True:
                message = await subscription.get_message(ignore_subscribe_messages=False, timeout=SILENCE)
                if message is None:
                    if asked:
                        msg = "the server is silent"
                        raise ConnectionError(msg)
                    asked = True
                    await subscription.ping()
                    continue
                asked = False
                if message["type"] == "subscribe":
                    # This also comes after the client has reconnected by itself.
                    told(None)
                elif message["type"] == "message":
                    data = message["data"]
                    told(data if isinstance(data, str) else data.decode(errors="replace"))

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    @asynccontextmanager
    async def _subscribed(self, channel: str) -> AsyncGenerator[Any]:
        pool = self._pool
        if pool.size is not None and pool.watches + 1 >= pool.size:
            msg = (
                f"the client has a pool of {pool.size} connections: none is left for watching, because each"
                " watch keeps one"
            )
            raise ConnectionError(msg)
        pool.watches += 1
        try:
            async with self._client.pubsub() as subscription:
                await _patiently(lambda: subscription.subscribe(channel))
                yield subscription
        finally:
            pool.watches -= 1


_pools: weakref.WeakKeyDictionary[Any, tuple[weakref.ref[asyncio.AbstractEventLoop], _Pool]] = (
    weakref.WeakKeyDictionary()
)


def _pool_of(client: Any, limit: int) -> _Pool:
    # The client of a cluster has a pool for each node.
    pool = getattr(client, "connection_pool", client)
    loop = asyncio.get_running_loop()
    known = _pools.get(pool)
    if known is not None and known[0]() is loop:
        return known[1]
    size = getattr(pool, "max_connections", None)
    made = _Pool(size if isinstance(size, int) else None, limit)
    _pools[pool] = weakref.ref(loop), made
    return made


async def _patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    # The program may use its client too, so the pool can be empty although a slot was free here.
    for _ in range(_LOOKS):
        try:
            return await call()
        except Exception as error:
            if not (is_error(error, "MaxConnectionsError") or str(error) in _EMPTY):
                raise
        await anyio.sleep(_PAUSE)
    return await call()


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _veiled(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_veiled(part) for part in answer]
    return memoryview(answer) if isinstance(answer, bytes) else answer

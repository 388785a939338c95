"""
A store in Redis or Valkey: for processes on many hosts.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, Self, final
from urllib.parse import urlsplit

from evertoken._model.protocols import Held, Lease
from evertoken.stores import _lua as lua
from evertoken.stores._per_loop import PerLoop
from evertoken.stores._reading import opened, report, written
from evertoken.stores._record import TornRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from evertoken._model.protocols import Record
    from evertoken.stores._record import Codec

__all__ = ["RedisStore"]

#: Seconds that a connection, or an answer, is waited for: less than a manager waits for a store.
SOCKET_TIMEOUT: Final = 4.0

#: Seconds of silence after which a watch asks whether the server is still there, and then waits for its word.
SILENCE: Final = 5.0

_DIGITS: Final = hashlib.sha256().digest_size * 2


@final
class RedisStore:
    """
    A `TokenStore` in Redis (6 or later) or Valkey, shared by all who reach the server.

    Writes and leases are scripts that the server runs as one step, by its own clock; peers are told of a write at once
    by publish and subscribe. What is there after a restart or a failover is what the server had saved: for refresh
    tokens that rotate, let it write its log at every second at least (`appendfsync everysec`), and mind that a replica
    may lag. Needs the extra `redis`.

    A record that is none is moved aside within its hash, reported as a warning to the log "evertoken", and counts as
    missing. One that cannot be read with the keys at hand is an `UnreadableRecord`, and stays as it is.

    A manager enters the store and leaves it; between, connections are kept, for each event loop its own.

    Args:
        redis: A URL (`redis://`, `rediss://` for TLS, `unix://`), or an asyncio client of redis-py or valkey-py, also
            of a Sentinel's master or (from redis-py 8) a cluster. A client that is given is not closed, and stays on
            its loop.

        codec: What seals records, such as `evertoken.stores.encryption.AesGcm`.

        prefix: What all keys of this store in the server begin with, and its channel too.

        expire_after: Seconds after its last write at which the server may forget a key; None for never. It must be
            longer than the longest life of a refresh token.

    Raises:
        ImportError: A URL is given and the extra is not installed.
        TypeError: *redis* is neither a URL nor a client.
        ValueError: The URL has another scheme, or *expire_after* is not above zero.
    """

    def __init__(
        self,
        redis: Any,
        codec: Codec | None = None,
        *,
        prefix: str = "evertoken:",
        expire_after: float | None = None,
    ) -> None:
        if expire_after is not None and not expire_after > 0.0:
            msg = f"expire_after must be seconds above zero, or None, not {expire_after!r}"
            raise ValueError(msg)
        self._codec = codec
        self._prefix = prefix
        self._expire = 0 if expire_after is None else int(expire_after * 1000.0)
        self._place = _place(redis)
        if isinstance(redis, str):
            library = _library()
            url = redis

            async def make() -> Any:
                return _client(library, url)

            async def close(client: Any) -> None:
                await client.aclose()

        else:

            async def make() -> Any:
                return redis

            async def close(client: Any) -> None:
                pass

        self._clients: PerLoop[Any] = PerLoop(make, close)

    async def read(self, key: str, /) -> Record | None:
        """
        Return the record of *key*, or None.
        """
        async with self._clients.use() as client:
            found = await client.hget(self._name(key), "record")
            if found is None:
                return None
            data = memoryview(_bytes(found))
            try:
                return opened(key, data, self._codec)
            except TornRecord as error:
                torn = error.with_traceback(None)
            await client.eval(lua.SET_ASIDE, 1, self._name(key), data.tobytes())
            report(self._place, key, torn, "it was moved to the field 'torn' of its hash")
            return None

    async def write(self, record: Record, lease: Lease, /) -> bool:
        """
        Keep *record*, and tell those who watch; return False where the lease or the version is outdated.
        """
        data = written(record, self._codec)
        if record.key != lease.key:
            return False
        # What is not for this reader is not overwritten, and what is no record is out of the way.
        await self.read(record.key)
        mine = (lease.fence, lease.owner, record.version, data.tobytes())
        return bool(await self._eval(lua.WRITE, record.key, *mine, record.key, self._channel, self._expire))

    async def acquire(self, key: str, owner: str, ttl: float, /) -> Lease | Held:
        """
        Take the lease of *key* for *ttl* seconds, or say for how long it is somebody else's.
        """
        given, number = await self._eval(lua.ACQUIRE, key, owner, _milliseconds(ttl))
        return Lease(key, owner, int(number)) if given else Held(int(number) / 1000.0)

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """
        Let *lease* end *ttl* seconds from now; return False where it is no longer held.
        """
        return bool(await self._eval(lua.RENEW, lease.key, lease.fence, lease.owner, _milliseconds(ttl)))

    async def release(self, lease: Lease, /) -> None:
        """
        End *lease*, if it is still held by its owner.
        """
        await self._eval(lua.RELEASE, lease.key, lease.fence, lease.owner)

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* with each key that was written, until cancelled.

        Raises:
            ConnectionError: The server has not said a word for ten seconds, though it was asked to.
        """
        async with self._clients.use() as client, client.pubsub() as channel:
            await channel.subscribe(self._channel)
            asked = False
            while True:
                message = await channel.get_message(ignore_subscribe_messages=False, timeout=SILENCE)
                if message is None:
                    if asked:
                        msg = f"{self._place} is silent"
                        raise ConnectionError(msg)
                    asked = True
                    await channel.ping()
                    continue
                asked = False
                if message["type"] == "subscribe":
                    # Also after the client has connected again by itself.
                    changed(None)
                elif message["type"] == "message":
                    changed(_bytes(message["data"]).decode())

    async def keys(self) -> AsyncIterator[str]:
        """
        Yield the key of every record.
        """
        async with self._clients.use() as client:
            # Not all that begins with the prefix: another store's may begin with this one.
            async for name in client.scan_iter(match=f"{_escaped(self._prefix)}{{{'?' * _DIGITS}}}", count=500):
                key = await client.hget(name, "key")
                if key is not None:
                    yield _bytes(key).decode()

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """
        Return who holds the lease of *key* and for how many seconds yet, or None.
        """
        found = await self._eval(lua.HOLDER, key)
        return None if not found else (_bytes(found[0]).decode(), int(found[1]) / 1000.0)

    async def delete(self, key: str, /) -> bool:
        """
        Take the record of *key* out; tell whether there was one.
        """
        async with self._clients.use() as client:
            return bool(await client.hdel(self._name(key), "record", "version", "key", "torn"))

    async def __aenter__(self) -> Self:
        self._clients.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._clients.leave()

    def __repr__(self) -> str:
        return f"RedisStore({self._place!r}, prefix={self._prefix!r})"

    @property
    def _channel(self) -> str:
        return f"{self._prefix}written"

    def _name(self, key: str) -> str:
        # Braces say to a cluster what to place a key by. A digest has none of its own, and is short.
        return f"{self._prefix}{{{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}}}"

    async def _eval(self, script: str, key: str, *arguments: object) -> Any:
        async with self._clients.use() as client:
            return await client.eval(script, 1, self._name(key), *arguments)


def _library() -> Any:
    try:
        import redis.asyncio  # noqa: PLC0415 - needed for a URL alone
    except ImportError as error:
        msg = "evertoken.stores.RedisStore needs redis: pip install 'evertoken[redis]'"
        raise ImportError(msg) from error
    return redis


def _client(library: Any, url: str) -> Any:
    return library.asyncio.Redis.from_url(
        url,
        # A step that finds the pool empty would fail. Managers bound how many there are.
        max_connections=2**31,
        # With the third one redis-py 8 uses connections that the server has closed.
        protocol=2,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        health_check_interval=30,
        # A script that has run must not run again unasked.
        retry=library.asyncio.retry.Retry(library.backoff.NoBackoff(), 0),
        # A socket of this host knows no such thing.
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
    )


def _place(redis: Any) -> str:
    if not isinstance(redis, str):
        if isinstance(redis, type) or not all(hasattr(redis, name) for name in ("eval", "hget", "pubsub")):
            msg = f"redis must be a URL or an asyncio client, not {type(redis).__name__}"
            if "Cluster" in type(redis).__name__:
                msg += " of this release, which cannot subscribe: a cluster needs redis-py 8"
            raise TypeError(msg)
        return type(redis).__name__
    try:
        parts = urlsplit(redis)
        _ = parts.port
    except ValueError:
        # What this says of the port may be a part of a password.
        parts = urlsplit("")
    if parts.scheme not in {"redis", "rediss", "unix"}:
        msg = "redis must be a URL that begins with redis://, rediss:// or unix:// (a password quoted), or a client"
        raise ValueError(msg)
    # Without what may be a password.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _milliseconds(ttl: float) -> int:
    return max(int(ttl * 1000.0), 1)


def _bytes(value: Any) -> bytes:
    # A client that was given may decode what it reads.
    return value.encode() if isinstance(value, str) else bytes(value)


def _escaped(pattern: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in pattern)

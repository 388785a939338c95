"""A store in Redis or Valkey, for processes on many hosts."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final, Self, final

import anyio

from evertoken._model.guarded import Guarded
from evertoken._model.protocols import LONGEST_LEASE, Begun, Lease
from evertoken.stores import _lua as lua
from evertoken.stores._offload import offload
from evertoken.stores._per_loop import PerLoop
from evertoken.stores._reading import opened, report, written
from evertoken.stores._record import TornRecord, UnreadableRecord
from evertoken.stores._redis_client import BoundedClient, escaped, is_error
from evertoken.stores._redis_quota import begun_of, given_back, name_of, taken
from evertoken.stores._redis_url import client_of, library, place_of, unverified

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from evertoken._model.leases import Quota, Unused
    from evertoken._model.protocols import Record
    from evertoken.stores._record import Codec

__all__ = ["RedisStore"]

#: Seconds between two attempts to watch, if the user has no right to watch.
REFUSED: Final = 60.0

#: The longest lease that counts, in ms. The server's clock may have been set back a little meanwhile.
_LONGEST: Final = int(LONGEST_LEASE * 1000.0) + 250

_DIGITS: Final = hashlib.sha256().digest_size * 2

_log = logging.getLogger("evertoken")

_LATER: Final = "members are not notified of new tokens, and find them later"

_UNVERIFIED: Final = (
    "its TLS does not check that the certificate is for this host, so another server can read the password and the"
    " tokens: let the client have ssl_check_hostname=True and ssl_cert_reqs='required'"
)

#: The warnings that this process has logged.
_said: set[str] = set()


@final
class RedisStore(Guarded):
    """
    A `TokenStore` in Redis (6 or later) or Valkey, shared by all processes that can reach the server.

    Each step is a script that the server runs as a whole, by its own clock, in one round trip. Peers learn of a write
    at once by publish and subscribe. A user of the server without rights to the channel can use the store too. Then its
    peers find the write later, and a warning is logged once.

    After a restart or a failover the store contains the data that the server had saved. For rotating refresh tokens,
    let the server write its log at least every second (`appendfsync everysec`), and note that a replica may lag. It
    needs the extra `redis`.

    A damaged record is moved aside within its hash, is reported as a warning to the log "evertoken", and counts as
    missing. A record that cannot be read with the available keys raises `UnreadableRecord`, and stays as it is.

    A manager enters the store and leaves it. In between, each event loop keeps its own connections. Their number is
    limited. A step waits if no connection is free.

    Args:
        redis: A URL (`redis://`, `rediss://` for TLS, `unix://`), or an asyncio client of redis-py or valkey-py. The
            client may be that of a Sentinel's master or (from redis-py 8) of a cluster. A given client is not closed,
            and stays on its loop. With `rediss://` the certificate and its host name are verified in all releases of
            redis-py. If the URL or client turns this off, it is used, and a warning is logged once.

        codec: A codec that seals records, such as `evertoken.stores.encryption.AesGcm`.

        prefix: The text with which all keys of this store in the server, and its channel, begin.

        expire_after: Seconds after its last write or lease at which the server may forget a key. With None it never
            forgets one. It must be longer than the longest life of a refresh token.

        max_connections:
            The number of steps at a time, on each event loop, and so the number of connections that are kept. Each
            manager that watches needs one more. A client with a smaller pool is used within the limit of its pool.

    Raises:
        ImportError: A URL is given and the extra is not installed.
        TypeError: *redis* is neither a URL nor a client.
        ValueError: The URL has another scheme, or a part of a password with special characters is in another field. Or
            *expire_after* or *max_connections* is not above zero.
    """

    def __init__(
        self,
        redis: Any,
        codec: Codec | None = None,
        *,
        prefix: str = "evertoken:",
        expire_after: float | None = None,
        max_connections: int = 16,
    ) -> None:
        if expire_after is not None and not expire_after > 0.0:
            msg = f"expire_after must be seconds above zero, or None, not {expire_after!r}"
            raise ValueError(msg)
        if max_connections < 1:
            msg = f"max_connections must be above zero, not {max_connections!r}"
            raise ValueError(msg)
        #: Whether each write is reported once to each watch. This is False if the user may not publish.
        self.tells_each_write: bool = True
        #: Whether this store keeps the rates and budgets of providers. In a cluster, a step cannot use keys of two
        #: nodes.
        self.keeps_quotas: bool = "Cluster" not in type(redis).__name__
        self._codec = codec
        self._prefix = prefix
        self._expire = 0 if expire_after is None else _milliseconds(expire_after)
        self._place = place_of(redis)
        if unverified(redis):
            self._say_once(_UNVERIFIED)
        # Under a lease nobody else writes. If a step finds the remembered record here, it need not read it again.
        self._seen: dict[str, tuple[Lease, str]] = {}
        if isinstance(redis, str):
            found = library()
            url = redis

            async def make() -> BoundedClient:
                return BoundedClient(client_of(found, url), max_connections)

            async def close(client: BoundedClient) -> None:
                await client.aclose()

        else:

            async def make() -> BoundedClient:
                return BoundedClient(redis, max_connections)

            async def close(client: BoundedClient) -> None:
                pass

        self._clients: PerLoop[BoundedClient] = PerLoop(make, close)

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None."""
        async with self._clients.use() as client:
            return await self._record(client, key, await client.run("HGET", self._name(key), "record"))

    async def read_many(self, keys: Sequence[str], /) -> dict[str, Record]:
        """Return the records of those *keys* that have one."""
        async with self._clients.use() as client:
            found = await client.run_all([("HGET", self._name(key), "record") for key in keys])
            records = {key: await self._record(client, key, data) for key, data in zip(keys, found, strict=True)}
        return {key: record for key, record in records.items() if record is not None}

    async def begin(self, key: str, owner: str, ttl: float, /, *, quota: Quota | None = None) -> Begun:
        """Take the lease of *key*, if it is free or *owner* holds it, with a part of *quota*, and read the record."""
        asked: tuple[object, ...] = (owner, _milliseconds(ttl), _LONGEST, self._expire)
        names: tuple[str, ...] = (self._name(key),)
        if quota is not None:
            asked, names = (*asked, *taken(quota)), (*names, name_of(self._prefix, quota))
        async with self._clients.use() as client:
            kind, number, data, *more = await client.script(lua.BEGIN, names, *asked)
            lease, wait, spent = begun_of(key, owner, quota, [kind, number, *more])
            try:
                record = await self._record(client, key, data)
            except UnreadableRecord:
                # Other members may be able to read it, and must not wait for this lease.
                if isinstance(lease, Lease):
                    await client.script(lua.ABANDON, self._name(key), lease.fence, lease.owner)
                raise
            if isinstance(lease, Lease):
                self._seen[key] = lease, _digest(None if record is None else data)
            return Begun(lease, record, wait, spent)

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* and the lease, and notify watchers. Return False if the lease or the version is outdated."""
        return await self._keep(record, lease, ending=False)

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record*, end the lease, and notify watchers. Return False if the lease or the version is outdated."""
        return await self._keep(record, lease, ending=True)

    async def abandon(self, lease: Lease, /, *, unused: Unused | None = None) -> None:
        """End *lease* without a write, if its owner still holds it, and give *unused* back."""
        self._seen.pop(lease.key, None)
        name, mine = self._name(lease.key), (lease.fence, lease.owner)
        async with self._clients.use() as client:
            if unused is None:
                await client.script(lua.ABANDON, name, *mine)
            else:
                await client.script(
                    lua.GIVE_BACK, (name, name_of(self._prefix, unused.quota)), *mine, *given_back(unused)
                )

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now. Return False if it is no longer held."""
        async with self._clients.use() as client:
            asked = (lease.fence, lease.owner, _milliseconds(ttl), self._expire)
            return bool(await client.script(lua.RENEW, self._name(lease.key), *asked))

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* with each key that was written, until cancelled.

        Raises:
            ConnectionError: The server has not answered for ten seconds, although it was asked. Or the given client has
                no connection left.
        """
        async with self._clients.use() as client:
            refused = False
            while True:
                try:
                    await client.watch(self._channel, changed)
                except Exception as error:
                    if not is_error(error, "NoPermissionError"):
                        raise
                self._say_once(f"its user may not subscribe to the channel {self._channel!r}: {_LATER}")
                if not refused:
                    refused = True
                    changed(None)
                await anyio.sleep(REFUSED)

    async def keys(self) -> AsyncIterator[str]:
        """Yield the key of every record. A foreign value in the place of a record is skipped, and reported once."""
        async with self._clients.use() as client:
            # The pattern is exact, because another store's prefix may begin with this one.
            async for name in client.names(f"{escaped(self._prefix)}{{{'[0-9a-f]' * _DIGITS}}}"):
                key: str | None = None
                try:
                    found = await client.run("HGET", name, "key")
                    key = None if found is None else str(found, "utf-8")
                    foreign = key is not None and self._name(key) != name
                except UnicodeDecodeError:
                    foreign = True
                except Exception as error:
                    if not str(error).startswith("WRONGTYPE"):
                        raise
                    foreign = True
                if foreign:
                    self._say_once(f"what is under the name {name!r} is foreign, and is passed over")
                elif key is not None:
                    yield key

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """Return the owner that holds the lease of *key* and the seconds until it ends, or None."""
        async with self._clients.use() as client:
            found = await client.script(lua.HOLDER, self._name(key), _LONGEST)
        return None if not found else (str(found[0], "utf-8"), found[1] / 1000.0)

    async def delete(self, key: str, /) -> bool:
        """Delete the record of *key*, and a copy that was set aside. Return whether there was one."""
        async with self._clients.use() as client:
            return bool(await client.script(lua.DELETE, self._name(key)))

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
        # A cluster places a key by the text in braces. A digest contains no braces, and is short.
        return f"{self._prefix}{{{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}}}"

    async def _record(self, client: BoundedClient, key: str, data: memoryview | None) -> Record | None:
        if data is None:
            return None
        try:
            if self._codec is None:
                return opened(key, data, None)
            # A codec may read its keys from a file or a vault.
            return await offload(opened, key, data, self._codec)
        except TornRecord as error:
            torn = error.with_traceback(None)
        await client.script(lua.SET_ASIDE, self._name(key), data)
        report(self._place, key, torn, "it was moved to the field 'torn' of its hash")
        return None

    async def _keep(self, record: Record, lease: Lease, *, ending: bool) -> bool:
        key = record.key
        if key != lease.key:
            return False
        data = written(record, None) if self._codec is None else await offload(written, record, self._codec)
        known = self._seen.pop(key, None)
        seen = known[1] if known is not None and known[0] == lease else ""
        step = (lease.fence, lease.owner, record.version, data, key, self._channel, self._expire)
        flags = int(ending), int(record.revoked)
        async with self._clients.use() as client:
            while True:
                said, found = await client.script(lua.KEEP, self._name(key), *step, seen, *flags)
                if said != lua.UNSEEN:
                    break
                # This raises an error if the record is for other readers, and sets it aside if it is damaged.
                there = await self._record(client, key, found)
                seen = _digest(None if there is None else found)
        if said != lua.KEPT:
            return False
        if not ending:
            self._seen[key] = lease, _digest(data)
        if not found:
            self.tells_each_write = False
            self._say_once(f"its user may not publish on the channel {self._channel!r}: {_LATER}")
        return True

    def _say_once(self, what: str) -> None:
        said = f"{self._place}: {what}"
        if said not in _said:
            _said.add(said)
            _log.warning("evertoken: %s", said)


def _milliseconds(ttl: float) -> int:
    return max(int(ttl * 1000.0), 1)


def _digest(data: memoryview | None) -> str:
    return hashlib.sha1(data or b"", usedforsecurity=False).hexdigest()

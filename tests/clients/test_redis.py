"""Clients of redis-py log in with the token of the day, at a real Valkey that checks it, and stay logged in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.auth.token import SimpleToken
from redis.exceptions import RedisClusterException
from tests.clients.logins import Recorder
from tests.clients.sdk_contract import SdkContract, Service
from tests.gated import until
from tests.stores.servers import PATIENCE, Server, free_port, valkey

from evertoken.clients.redis import TokenProvider, _logins, keep_authenticated


class ValkeyUser(Service):
    """The user "app" of a Valkey server, and its password."""

    port: int

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    @contextlib.contextmanager
    def administrator(self) -> Iterator[redis.Redis]:
        with redis.Redis(port=self._server.port, decode_responses=True) as admin:
            yield admin

    async def issue(self, token: str) -> None:
        with self.administrator() as admin:
            admin.acl_setuser(
                "app",
                enabled=True,
                reset=True,
                passwords=[f"+{token}"],
                categories=["+@all"],
                keys=["*"],
                channels=["*"],
            )

    async def revoke(self, token: str) -> None:
        await self.issue("another")

    def renewals(self) -> int:
        """Return how often AUTH has succeeded since the server was started. Connections with RESP3 begin with HELLO."""
        with self.administrator() as admin:
            found = admin.info("commandstats").get("cmdstat_auth", {"calls": 0, "failed_calls": 0})
        return int(found["calls"]) - int(found["failed_calls"])


@pytest.fixture(scope="module")
def valkey_server() -> Iterator[Server]:
    with valkey() as server:
        yield server


class _Login(SdkContract):
    extra = "redis"
    without = 11
    running: Server
    protocol = 3

    @pytest.fixture(autouse=True)
    def on_a_server(self, valkey_server: Server) -> None:
        self.running = valkey_server

    @contextlib.asynccontextmanager
    async def server(self) -> AsyncIterator[ValkeyUser]:
        user = ValkeyUser(self.running)
        async with Recorder(self.running.port, user.shown) as wire:
            user.port = wire.port
            yield user

    def given(self, handle: Any) -> Any:
        return TokenProvider(handle, "app")

    def url(self, server: ValkeyUser) -> str:
        return f"redis://127.0.0.1:{server.port}/0?protocol={self.protocol}"


class _AsyncRedis(_Login):
    lines = (
        'provider = TokenProvider(handle, "app")\n'
        "client = Redis.from_url(url, credential_provider=provider, redis_connect_func=provider.connect)"
    )

    def made(self, given: TokenProvider, server: ValkeyUser, **options: Any) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            self.url(server), credential_provider=given, redis_connect_func=given.connect, **options
        )

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def call() -> None:
            async with self.made(given, server) as client:
                assert await client.ping()

        yield call

    async def test_after_a_failure(self):
        """U5: A connection that had no token logs in when there is one."""
        async with self.setting(ConnectionError("down")) as at, self.made(self.given(at.handle), at.server) as client:
            with pytest.raises(redis.AuthenticationError, match="no valid token"):
                await client.ping()
            at.source.error = None
            await at.tokens.refresh()
            assert await client.acl_whoami() in ("app", b"app")

    async def test_a_healed_connection_is_open(self):
        """U1: A connection whose login was healed is open and logged in when it is handed out."""
        async with self.setting() as at, self.made(self.given(at.handle), at.server) as client:
            await at.tokens.get()
            await at.server.revoke("secret-1")
            connection = client.connection_pool.make_connection()
            await connection.connect()
            assert connection.is_connected
            assert at.server.shown[-1] == "secret-2"
            await connection.disconnect()

    async def test_a_lasting_refusal(self):
        """U1: If a login is refused again, the caller gets the error. A lasting refusal costs no further token."""
        async with self.setting() as at, self.using(at) as call:
            issue = at.server.issue
            at.server.issue = lambda token: issue("another")
            for _ in range(3):
                with pytest.raises(redis.AuthenticationError, match="invalid username-password pair"):
                    await call()
            assert at.source.fetches == 2

    async def test_live_connections(self):
        """U1: Idle connections log in again with each new token, and those in use when they come back."""
        async with self.setting() as at:
            given = self.given(at.handle)
            async with self.made(given, at.server) as client, kept(client, given):
                pool = client.connection_pool
                await client.ping()
                await until(lambda: at.server.shown == ["secret-1", "secret-1"])
                busy = await pool.get_connection()
                async with client.client() as idle:
                    await idle.ping()
                at.server.shown.clear()
                await at.tokens.refresh()
                await until(lambda: at.server.shown == ["secret-2"])
                # The pool is locked until it has marked those in use.
                await client.ping()
                await pool.release(busy)
                assert at.server.shown == ["secret-2"] * 2

    async def test_a_subscriber_that_was_cut(self):
        """U1: A subscriber whose connection and token are gone logs in with another one, and subscribes again."""
        async with self.setting() as at:
            given = self.given(at.handle)
            async with self.made(given, at.server) as client, client.pubsub() as pubsub:
                await pubsub.subscribe("news")
                await pubsub.get_message(timeout=5)
                await at.server.revoke("secret-1")
                with at.server.administrator() as admin:
                    admin.client_kill_filter(_type="pubsub")
                    with contextlib.suppress(redis.ConnectionError):
                        await pubsub.get_message(timeout=1)
                    while not admin.publish("news", "hello"):
                        await pubsub.get_message(timeout=0.01)
                heard = await anext(one async for one in pubsub.listen() if one["type"] == "message")
                assert heard["data"] == b"hello"
                assert at.server.shown[-1] == "secret-2"
                assert at.source.fetches == 2

    async def test_until_the_manager_closes(self):
        """L1: The task that keeps a client logged in ends with the manager."""
        async with self.setting() as at:
            given = self.given(at.handle)
            async with self.made(given, at.server) as client:
                task = asyncio.create_task(keep_authenticated(client, given))
                await at.tokens.get()
                await at.tokens.aclose()
                async with asyncio.timeout(9):
                    await task

    async def test_a_refused_token_is_reported(self):
        """U1: A token that a live connection is refused with is reported, and the next one pushed."""
        async with self.setting() as at:
            given = self.given(at.handle)
            # Without the function that would report it as the connection is made again.
            async with redis.asyncio.Redis.from_url(self.url(at.server), credential_provider=given) as client:
                await client.ping()
                await at.server.revoke("secret-1")
                async with kept(client, given):
                    await until(lambda: at.server.shown[-1] == "secret-2")
                assert at.source.fetches == 2
                assert await client.ping()


class TestAsyncRedis(_AsyncRedis):
    name = "redis.asyncio.Redis"

    @pytest.mark.parametrize("decode_responses", [False, True])
    async def test_a_subscriber(self, decode_responses):
        """U1: A subscriber with RESP3 logs in again while another task reads, which hears nothing of it."""
        async with self.setting() as at:
            given = self.given(at.handle)
            options = {"decode_responses": decode_responses}
            async with self.made(given, at.server, **options) as client, client.pubsub() as pubsub:
                await pubsub.subscribe("news")
                heard: list[str] = []

                async def read() -> None:
                    async for message in pubsub.listen():
                        heard.append(message["type"])  # noqa: PERF401 - it never ends

                reading = asyncio.create_task(read())
                before = at.server.renewals()
                async with kept(pubsub, given):
                    await at.tokens.refresh()
                    await until(lambda: at.server.shown[-1] == "secret-2")
                    await client.publish("news", "hello")
                    await until(lambda: "message" in heard)
                    await pubsub.subscribe("more")
                    await until(lambda: len(heard) > 2)
                reading.cancel()
                assert heard == ["subscribe", "message", "subscribe"]
                # `keep` begins with the token that is known already.
                assert at.server.renewals() == before + 2

    async def test_a_subscriber_before_and_after(self):
        """U1: A subscriber that is not connected logs in when it connects, and nothing is sent before."""
        async with self.setting() as at:
            given = self.given(at.handle)
            async with self.made(given, at.server) as client, client.pubsub() as pubsub, kept(pubsub, given):
                await at.tokens.refresh()
                await at.tokens.refresh()
                assert at.server.shown == []
                await pubsub.subscribe("news")
                assert at.server.shown == ["secret-2"]
                connection: Any = pubsub.connection
                await connection.disconnect()
                (log_in,) = _logins(pubsub)
                await log_in(SimpleToken("secret-9", -1, -1, {"oid": "app"}))
                assert not connection.is_connected

    @pytest.mark.parametrize("made", [redis.asyncio.Redis(protocol=2), redis.asyncio.Redis(), redis.Redis(protocol=3)])
    async def test_other_subscribers(self, made):
        """U1: A subscriber that cannot log in again is named at once."""
        async with self.setting() as at:
            with pytest.raises(ValueError, match="protocol=3"):
                await keep_authenticated(made.pubsub(), self.given(at.handle))


class TestAsyncRedisResp2(_AsyncRedis):
    name = "redis.asyncio.Redis (RESP2)"
    protocol = 2


class TestRedis(_Login):
    name = "redis.Redis"
    blocking = True
    lines = (
        'provider = TokenProvider(handle, "app")\n'
        "client = Redis.from_url(url, credential_provider=provider, redis_connect_func=provider.connect_sync)"
    )

    def made(self, given: TokenProvider, server: ValkeyUser, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(
            self.url(server), credential_provider=given, redis_connect_func=given.connect_sync, **options
        )

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        def call() -> None:
            with self.made(given, server) as client:
                assert client.ping()

        yield call

    async def test_live_connections(self):
        """U1: The connections of a synchronous client log in again, in a thread, from a task of the manager's loop."""
        async with self.setting() as at:
            given = self.given(at.handle)
            with self.made(given, at.server) as client:
                await asyncio.to_thread(client.ping)
                async with kept(client, given):
                    await at.tokens.refresh()
                    await until(lambda: at.server.shown[-1] == "secret-2")


@pytest.fixture(scope="module")
def cluster_server() -> Iterator[Server]:
    """A cluster of one server."""
    with valkey("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        with redis.Redis(port=server.port) as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            end = time.monotonic() + PATIENCE
            while "cluster_state:ok" not in str(node.execute_command("CLUSTER", "INFO")):
                assert time.monotonic() < end, "the cluster was not formed"
                time.sleep(0.02)
        yield server


class _Cluster(_Login):
    lines = 'client = RedisCluster.from_url(url, credential_provider=TokenProvider(handle, "app"))'
    heals = (
        "In a cluster, redis-py does not report a refusal, and the caller gets the error. `attempt` around the call "
        "heals it"
    )
    library_frames = "The frames of redis-py hold the password"
    without = 4
    # If the first node refuses the login, the cluster is not known.
    refusal = (redis.AuthenticationError, RedisClusterException)

    @pytest.fixture(autouse=True)
    def on_a_server(self, cluster_server: Server) -> None:
        self.running = cluster_server

    def options(self, given: TokenProvider, server: ValkeyUser) -> dict[str, Any]:
        # It uses the address of the connection, and ignores the address that the server reports.
        return {"credential_provider": given, "address_remap": lambda address: ("127.0.0.1", server.port)}


class TestAsyncCluster(_Cluster):
    name = "redis.asyncio.RedisCluster"

    def made(self, given: TokenProvider, server: ValkeyUser) -> redis.asyncio.RedisCluster:
        return redis.asyncio.RedisCluster.from_url(self.url(server), **self.options(given, server))

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def call() -> None:
            async with self.made(given, server) as client:
                await client.get("key")

        yield call

    async def test_live_connections(self):
        """U1: The idle connections to each node log in again with each new token."""
        async with self.setting() as at:
            given = self.given(at.handle)
            async with self.made(given, at.server) as client:
                await client.get("key")
                async with kept(client, given):
                    await at.tokens.refresh()
                    await until(lambda: at.server.shown[-1] == "secret-2")
                    assert await client.get("key") is None


class TestCluster(_Cluster):
    name = "redis.RedisCluster"
    blocking = True

    def made(self, given: TokenProvider, server: ValkeyUser) -> redis.RedisCluster:
        return redis.RedisCluster.from_url(self.url(server), **self.options(given, server))

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        def call() -> None:
            with self.made(given, server) as client:
                client.get("key")

        yield call

    async def test_live_connections(self):
        """U1: The same with a synchronous client, from a task of the manager's loop."""
        async with self.setting() as at:
            given = self.given(at.handle)
            client = await asyncio.to_thread(self.made, given, at.server)
            with client:
                await asyncio.to_thread(client.get, "key")
                async with kept(client, given):
                    await at.tokens.refresh()
                    await until(lambda: at.server.shown[-1] == "secret-2")
                    assert await asyncio.to_thread(client.get, "key") is None


@contextlib.asynccontextmanager
async def kept(client: Any, provider: TokenProvider) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_authenticated(client, provider))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

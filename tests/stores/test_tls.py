"""Stores over TLS: the certificate must match the host, with every client, and unverified connections are reported."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import struct
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
import redis
import redis.asyncio as redis_asyncio
import valkey
import valkey.asyncio as valkey_asyncio
from tests.stores.certificates import Certificate, certificate_in
from tests.stores.on_redis import keep
from tests.stores.proxy import Proxy

from evertoken import Lease, Record, Token
from evertoken.stores import PostgresStore, RedisStore, _postgres_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.stores.servers import Server

TOKEN = Token("opaque", issued_at=1.0)

# The certificate is for 127.0.0.1 alone, which is what this name means too.
OTHER_NAME = "localhost"


@pytest.fixture(scope="module")
def vouched(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate_in(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def context(vouched: Certificate) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*vouched)
    return made


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "certificate is for this host" in record.getMessage()]


# Redis and Valkey


@pytest.fixture
async def redis_port(valkey_server: Server, context: ssl.SSLContext) -> AsyncIterator[int]:
    async with Proxy(valkey_server.port, context) as proxy:
        yield proxy.port


@pytest.fixture(params=["redis-py", "valkey-py"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The client: valkey-py takes any name unless it is told not to, as redis-py did before its release 6."""
    used: Any = redis if request.param == "redis-py" else valkey
    monkeypatch.setattr("evertoken.stores.redis.library", lambda: used)
    return str(request.param)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("scheme", ["rediss", "REDISS"])
@pytest.mark.parametrize("more", ["", "&ssl_cert_reqs=required", "&ssl_check_hostname=true", "&ssl_cert_reqs=optional"])
async def test_the_name_in_the_url_of_redis(redis_port, vouched, scheme, more, caplog):
    """S2: with rediss:// a server whose certificate is for another name is sent nothing; the right one works."""
    options = f"0?ssl_ca_certs={vouched.certificate}{more}"
    with pytest.raises((redis_asyncio.ConnectionError, valkey_asyncio.ConnectionError), match=r"Hostname mismatch"):
        await RedisStore(f"{scheme}://app:pw@{OTHER_NAME}:{redis_port}/{options}").begin("k", "me", 1.0)
    store = RedisStore(f"{scheme}://127.0.0.1:{redis_port}/{options}", prefix=f"{uuid4().hex}:")
    await keep(store)
    assert warnings(caplog) == []


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("more", ["ssl_check_hostname=false", "ssl_check_hostname=no", "ssl_cert_reqs=none"])
async def test_a_url_that_wants_no_name_verified(redis_port, vouched, more, caplog):
    """S2: a user who turns the check off gets an unchecked connection, and one warning with the remedy."""
    options = f"0?ssl_ca_certs={vouched.certificate}&{more}"
    for _ in range(2):
        await keep(RedisStore(f"rediss://:@{OTHER_NAME}:{redis_port}/{options}", prefix=f"{uuid4().hex}:"))
    (said,) = warnings(caplog)
    assert f"rediss://{OTHER_NAME}:{redis_port}" in said
    assert "ssl_check_hostname=True" in said


@pytest.mark.parametrize("more", ["", "?ssl_check_hostname=false", "?ssl_cert_reqs=none"])
async def test_without_tls_there_is_no_name_to_verify(valkey_server, more, caplog):
    """L2: a URL without TLS gets no option of TLS, and no warning about it."""
    with contextlib.suppress(TypeError):
        await keep(RedisStore(f"redis://127.0.0.1:{valkey_server.port}/0{more}", prefix=f"{uuid4().hex}:"))
    RedisStore("unix:///run/redis.sock")
    assert warnings(caplog) == []


CLIENTS: dict[str, tuple[Any, dict[str, Any], bool]] = {
    "redis-py, checks": (redis_asyncio.Redis, {"ssl": True, "ssl_check_hostname": True}, False),
    "redis-py, no name": (redis_asyncio.Redis, {"ssl": True, "ssl_check_hostname": False}, True),
    "redis-py, no certificate": (redis_asyncio.Redis, {"ssl": True, "ssl_cert_reqs": "none"}, True),
    "redis-py, no certificate at all": (redis_asyncio.Redis, {"ssl": True, "ssl_cert_reqs": ssl.CERT_NONE}, True),
    "redis-py, no TLS": (redis_asyncio.Redis, {"ssl_check_hostname": False}, False),
    "valkey-py, its default": (valkey_asyncio.Valkey, {"ssl": True}, True),
    "valkey-py, checks": (valkey_asyncio.Valkey, {"ssl": True, "ssl_check_hostname": True}, False),
    "valkey-py, no TLS": (valkey_asyncio.Valkey, {}, False),
    "a URL of valkey-py": (valkey_asyncio.Valkey.from_url, {"url": "rediss://h"}, True),
    "a URL of valkey-py, checks": (valkey_asyncio.Valkey.from_url, {"url": "rediss://h?ssl_check_hostname=1"}, False),
}  # fmt: skip


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_client_that_verifies_no_name(kind, caplog, monkeypatch):
    """S2: a client that is given keeps its options; one whose TLS verifies no name is warned of."""
    monkeypatch.setattr("evertoken.stores.redis._said", set())
    made, options, told = CLIENTS[kind]
    client = made(**options)
    RedisStore(client)
    RedisStore(client)
    assert len(warnings(caplog)) == told
    await client.aclose()


# PostgreSQL


@pytest.fixture
async def postgres_port(postgres_server: Server, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that speaks TLS, in front of one whose build does not."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, EOFError), contextlib.closing(writer):
            while struct.unpack("!II", await reader.readexactly(8)) != (8, 80877103):
                writer.write(b"N")
            writer.write(b"S")
            await writer.start_tls(context)
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", postgres_server.port)
            with contextlib.closing(there_writer):
                both = [passed(reader, there_writer), passed(there_reader, writer)]
                await asyncio.wait(map(asyncio.ensure_future, both), return_when=asyncio.FIRST_COMPLETED)

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback counts as a network."""
    monkeypatch.setattr(_postgres_wire, "is_loopback", lambda _: False)
    monkeypatch.setattr(_postgres_wire, "_said", set())


async def kept(conninfo: str) -> None:
    async with PostgresStore(conninfo, table=f"t{uuid4().hex}") as store:
        lease = (await store.begin("k", "me", 5.0)).lease
        assert isinstance(lease, Lease)
        assert await store.commit(Record("k", 1, TOKEN), lease)


def address(host: str, port: int, vouched: Certificate, mode: str) -> str:
    return f"postgresql://evertoken@{host}:{port}/postgres?sslmode={mode}&sslrootcert={vouched.certificate}"


@pytest.mark.usefixtures("far")
async def test_the_name_of_postgres(postgres_port, vouched, caplog):
    """S2: with verify-full a server whose certificate is for another name is sent nothing; the right one works."""
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        await kept(address(OTHER_NAME, postgres_port, vouched, "verify-full"))
    await kept(address("127.0.0.1", postgres_port, vouched, "verify-full"))
    assert warnings(caplog) == []


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("mode", ["require", "verify-ca", "prefer"])
async def test_a_mode_that_verifies_no_name(postgres_port, vouched, mode, caplog):
    """S2: a connection whose TLS verifies no name works as in libpq, and one warning says how to fix it."""
    for _ in range(2):
        await kept(address(OTHER_NAME, postgres_port, vouched, mode))
    (said,) = warnings(caplog)
    assert f"host={OTHER_NAME} port={postgres_port}" in said
    assert f"sslmode={mode}" in said
    assert "verify-full" in said


async def test_modes_of_this_host(postgres_port, postgres_server, vouched, caplog):
    """L2: a server on this host, and one without TLS, is not warned of."""
    caplog.set_level(logging.WARNING)
    await kept(address("127.0.0.1", postgres_port, vouched, "require"))
    await kept(f"postgresql://evertoken@127.0.0.1:{postgres_server.port}/postgres")
    assert warnings(caplog) == []

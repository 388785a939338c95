"""Servers that check a password when a client connects, and note which ones they are shown."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import psycopg.sql
import pytest
from mysql_mimic import MysqlServer, Session
from mysql_mimic.auth import IdentityProvider, NativePasswordAuthPlugin, User
from tests.clients.sdk_contract import SdkContract, Service
from tests.stores.proxy import Proxy
from tests.stores.servers import Server, free_port, postgres

__all__ = ["MysqlLogin", "PostgresLogin", "Recorder", "postgres_server"]


class Recorder(Proxy):
    """
    A wire on which the tokens of a test are read: real servers do not tell which passwords they were shown.

    Args:
        port: The server's.

        shown: Where they are noted.
    """

    def __init__(self, port: int, shown: list[str]) -> None:
        super().__init__(port)
        self._shown = shown

    def heard(self, data: bytes) -> None:
        self._shown += [found.decode() for found in re.findall(rb"secret-\d+", data)]


class PostgresRole(Service):
    """The role "app" of a PostgreSQL server, and its password."""

    address: str

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    async def issue(self, token: str) -> None:
        with administrator(self._server) as admin:
            admin.execute(psycopg.sql.SQL("alter role app password {}").format(token))

    async def revoke(self, token: str) -> None:
        await self.issue("another")


def administrator(server: Server) -> psycopg.Connection[Any]:
    return psycopg.connect(f"postgresql://evertoken@127.0.0.1:{server.port}/postgres", autocommit=True)


@contextlib.contextmanager
def postgres_with_passwords() -> Iterator[Server]:
    """Run a PostgreSQL server where "app" sends its password in the clear, and the administrator needs none."""
    with postgres() as server:
        with administrator(server) as admin:
            admin.execute("create role app login")
            file = Path(admin.execute("select current_setting('hba_file')").fetchall()[0][0])
            file.write_text(f"host all app 127.0.0.1/32 password\n{file.read_text('utf-8')}", "utf-8")
            admin.execute("select pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Server]:
    with postgres_with_passwords() as server:
        yield server


class PostgresLogin(SdkContract):
    """Adapters that log in at PostgreSQL."""

    running: Server

    @pytest.fixture(autouse=True)
    def on_a_server(self, postgres_server: Server) -> None:
        self.running = postgres_server

    @contextlib.asynccontextmanager
    async def server(self) -> AsyncIterator[PostgresRole]:
        role = PostgresRole(self.running)
        async with Recorder(self.running.port, role.shown) as wire:
            role.address = f"app@127.0.0.1:{wire.port}/postgres"
            yield role


class MysqlUser(Service):
    """A login at a server that speaks the protocol of MySQL and MariaDB."""

    address: str


class _Answers(Session):  # type: ignore[misc]
    async def query(self, expression: Any, sql: str, attrs: Any) -> Any:
        return [(1,)], ["one"]


class _Plugin(NativePasswordAuthPlugin):  # type: ignore[misc]
    def __init__(self, user: MysqlUser) -> None:
        self._user = user
        # A scramble tells its password to those alone who have an idea of it.
        self._ideas = [f"secret-{number}" for number in range(1, 10)]

    def password_matches(self, user: User, scramble: bytes, nonce: bytes) -> bool:
        found = [one for one in self._ideas if self.verify_scramble(self.create_auth_string(one), scramble, nonce)]
        return any(self._user.accepts(one) for one in found)


class _Users(IdentityProvider):  # type: ignore[misc]
    def __init__(self, user: MysqlUser) -> None:
        self._user = user

    def get_plugins(self) -> list[Any]:
        return [_Plugin(self._user)]

    async def get_user(self, username: str) -> User:
        return User(username, auth_plugin=NativePasswordAuthPlugin.name)


class MysqlLogin(SdkContract):
    """Adapters that log in at MySQL or MariaDB. No package carries such a server, so this one speaks the protocol."""

    @contextlib.asynccontextmanager
    async def server(self) -> AsyncIterator[MysqlUser]:
        user, port = MysqlUser(), free_port()
        server = MysqlServer(session_factory=_Answers, identity_provider=_Users(user))
        await server.start_server(host="127.0.0.1", port=port)
        user.address = f"app@127.0.0.1:{port}/"
        try:
            yield user
        finally:
            server.close()
            await server.wait_closed()

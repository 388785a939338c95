"""Databases that check a password, and change it under those who have the old one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mysql_mimic import MysqlServer, Session
from mysql_mimic.auth import IdentityProvider, NativePasswordAuthPlugin, User
from tests.stores.servers import Server, free_port, postgres

from evertoken import TokenManager


class Passwords:
    """The passwords secret-1, secret-2, ... of a user, of which a database takes the last alone. A token is one."""

    def __init__(self) -> None:
        self.number = 1
        self.fetches = 0
        self.error: Exception | None = None

    @property
    def password(self) -> str:
        return f"secret-{self.number}"

    async def apply(self) -> None:
        """Tell the database."""

    async def revoke(self) -> None:
        """Take the password out of service. The next fetch brings the new one."""
        self.number += 1
        await self.apply()

    async def fetch(self, request: Any) -> tuple[str, float]:
        self.fetches += 1
        if self.error is not None:
            raise self.error
        return self.password, 3600.0


class PostgresPasswords(Passwords):
    """Those of the role "app"."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server

    @property
    def address(self) -> str:
        return f"app@127.0.0.1:{self.server.port}/postgres"

    async def apply(self) -> None:
        with administrator(self.server) as admin:
            admin.execute(f"alter role app password '{self.password}'")  # type: ignore[call-overload]


def administrator(server: Server) -> psycopg.Connection[Any]:
    return psycopg.connect(f"postgresql://evertoken@127.0.0.1:{server.port}/postgres", autocommit=True)


@contextlib.contextmanager
def postgres_with_passwords() -> Iterator[Server]:
    """Run a PostgreSQL server where "app" needs a password, and the administrator needs none."""
    with postgres() as server:
        with administrator(server) as admin:
            admin.execute("create role app login")
            (rules,) = admin.execute("show hba_file").fetchone() or ()
            file = Path(rules)
            file.write_text(f"host all app 127.0.0.1/32 scram-sha-256\n{file.read_text('utf-8')}", "utf-8")
            admin.execute("select pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Server]:
    with postgres_with_passwords() as server:
        yield server


@pytest.fixture
async def passwords(postgres_server: Server) -> PostgresPasswords:
    found = PostgresPasswords(postgres_server)
    await found.apply()
    return found


@pytest.fixture
async def tokens(passwords: Passwords) -> AsyncIterator[TokenManager[Any, Any]]:
    async with TokenManager(passwords) as manager:
        yield manager


class MysqlPasswords(Passwords):
    """Those of whoever logs in at a server that speaks the protocol of MySQL and MariaDB."""

    port = 0

    @property
    def address(self) -> str:
        return f"app@127.0.0.1:{self.port}/"


class _Answers(Session):
    async def query(self, expression: Any, sql: str, attrs: Any) -> Any:
        return [("app",)], ["current_user"]


class _Login(IdentityProvider):
    def __init__(self, passwords: Passwords) -> None:
        self._passwords = passwords

    def get_plugins(self) -> list[Any]:
        return [NativePasswordAuthPlugin()]

    async def get_user(self, username: str) -> User:
        plugin = NativePasswordAuthPlugin
        return User(username, auth_string=plugin.create_auth_string(self._passwords.password), auth_plugin=plugin.name)


@contextlib.asynccontextmanager
async def mysql_with_passwords() -> AsyncIterator[MysqlPasswords]:
    """Run a server that checks the password as MariaDB does. No package of Python carries a MariaDB server."""
    passwords = MysqlPasswords()
    passwords.port = free_port()
    server = MysqlServer(session_factory=_Answers, identity_provider=_Login(passwords))
    await server.start_server(host="127.0.0.1", port=passwords.port)
    try:
        yield passwords
    finally:
        server.close()
        await server.wait_closed()

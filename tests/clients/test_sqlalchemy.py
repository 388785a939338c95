"""Engines of SQLAlchemy log in with the token of the day, at servers that check it."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from tests.clients.logins import MysqlLogin, PostgresLogin, postgres_server
from tests.clients.sdk_contract import SdkContract

from evertoken.clients.sqlalchemy import authenticate

__all__ = ["postgres_server"]


class _Asynchronous(SdkContract):
    extra = "sqlalchemy"
    lines = "authenticate(engine, handle)"
    without = 11
    dialect: ClassVar[str]

    def given(self, handle):
        return handle

    def engine(self, given: Any, server: Any, **options: Any) -> Any:
        made = create_async_engine(f"{self.dialect}://{server.address}", **options)
        authenticate(made, given)
        return made

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        made = self.engine(given, server, poolclass=NullPool)

        async def call() -> None:
            async with made.connect() as connection:
                await connection.execute(text("select 1"))

        yield call
        await made.dispose()


class _Blocking(SdkContract):
    extra = "sqlalchemy"
    lines = "authenticate(engine, handle)"
    without = 11
    blocking = True
    dialect: ClassVar[str]

    def given(self, handle):
        return handle

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        made = create_engine(f"{self.dialect}://{server.address}", poolclass=NullPool)
        authenticate(made, given)

        def call() -> None:
            with made.connect() as connection:
                connection.execute(text("select 1"))

        yield call
        made.dispose()


class TestAsyncpg(_Asynchronous, PostgresLogin):
    name = "sqlalchemy.AsyncEngine (asyncpg)"
    dialect = "postgresql+asyncpg"

    async def test_open_connections_stay(self):
        """U1: A connection that is open goes on when the password changes, and costs no token."""
        async with self.setting() as at:
            made = self.engine(at.handle, at.server, pool_size=1, max_overflow=0)
            for _ in range(2):
                async with made.connect() as connection:
                    await connection.execute(text("select 1"))
                await at.server.revoke("secret-1")
            await made.dispose()
            assert at.server.shown == ["secret-1"]
            assert at.source.fetches == 1

    async def test_a_lasting_refusal(self):
        """U1: If a login is refused again, the caller gets the error. A lasting refusal costs no further token."""
        async with self.setting() as at, self.using(at) as call:
            issue = at.server.issue
            at.server.issue = lambda token: issue("another")
            for _ in range(3):
                with pytest.raises(Exception, match="password authentication failed"):
                    await call()
            assert at.source.fetches == 2

    async def test_other_failures(self):
        """U1: A database that does not exist costs no token."""
        async with self.setting() as at:
            at.server.address += "_lost"
            async with self.using(at) as call:
                with pytest.raises(Exception, match="does not exist"):
                    await call()
            assert at.source.fetches == 1

    async def test_the_caller_says_what_a_refusal_is(self):
        """U1: `refused` replaces the rule of the adapter, and is checked at once."""
        async with self.setting() as at:
            await at.tokens.get()
            await at.server.revoke("secret-1")
            made = create_async_engine(f"{self.dialect}://{at.server.address}")
            wrong: Any = "28P01"
            with pytest.raises(TypeError, match="refused must be"):
                authenticate(made, at.handle, refused=wrong)
            authenticate(made, at.handle, refused=ZeroDivisionError)
            with pytest.raises(Exception, match="password authentication failed"):
                await made.connect()
            assert at.source.fetches == 1

    async def test_the_password_of_the_url(self):
        """U1: A password in the URL gives way to the token, and listeners that were set before are heard."""
        async with self.setting() as at:
            made = create_async_engine(f"{self.dialect}://{at.server.address.replace('@', ':secret-77@')}")

            @event.listens_for(made.sync_engine, "do_connect")
            def name(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
                options["server_settings"] = {"application_name": "listened"}

            authenticate(made, at.handle)
            async with made.connect() as connection:
                assert (await connection.execute(text("show application_name"))).scalar() == "listened"
            await made.dispose()
            assert at.server.shown == ["secret-1"]


class TestPsycopg(_Asynchronous, PostgresLogin):
    name = "sqlalchemy.AsyncEngine (psycopg)"
    dialect = "postgresql+psycopg"


class TestBlockingPsycopg(_Blocking, PostgresLogin):
    name = "sqlalchemy.Engine (psycopg)"
    dialect = "postgresql+psycopg"


class TestAiomysql(_Asynchronous, MysqlLogin):
    name = "sqlalchemy.AsyncEngine (aiomysql)"
    dialect = "mysql+aiomysql"


class TestAsyncmy(_Asynchronous, MysqlLogin):
    name = "sqlalchemy.AsyncEngine (asyncmy)"
    dialect = "mysql+asyncmy"


class TestPymysql(_Blocking, MysqlLogin):
    name = "sqlalchemy.Engine (PyMySQL)"
    dialect = "mysql+pymysql"

"""Engines of SQLAlchemy log in with the token of the day, at servers that check it."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tests.clients.logins import MysqlPasswords, Passwords, mysql_with_passwords, passwords, postgres_server, tokens

from evertoken import GrantRejected, TokenManager, TokenUnavailable
from evertoken.clients.sqlalchemy import authenticate

__all__ = ["passwords", "postgres_server", "tokens"]

#: Seconds in which a caller is told that something cannot work.
SOON = 9.0

ASYNC = {"asyncpg": "postgresql+asyncpg", "psycopg": "postgresql+psycopg"}
ASYNC_MYSQL = {"aiomysql": "mysql+aiomysql", "asyncmy": "mysql+asyncmy"}


@pytest.fixture
async def mysql() -> AsyncIterator[MysqlPasswords]:
    async with mysql_with_passwords() as found:
        yield found


@contextlib.asynccontextmanager
async def engine(dialect: str, at: Any, handle: Any = None, **options: Any) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(f"{dialect}://{at.address}", **options)
    if handle is not None:
        authenticate(made, handle)
    try:
        yield made
    finally:
        await made.dispose()


@contextlib.contextmanager
def sync_engine(dialect: str, at: Any, handle: Any, **options: Any) -> Iterator[Engine]:
    made = create_engine(f"{dialect}://{at.address}", **options)
    authenticate(made, handle)
    try:
        yield made
    finally:
        made.dispose()


async def ask(made: AsyncEngine) -> str:
    async with made.connect() as connection:
        return str((await connection.execute(text("select current_user"))).scalar())


def ask_sync(made: Engine) -> str:
    with made.connect() as connection:
        return str(connection.execute(text("select current_user")).scalar())


async def healed(passwords: Passwords, once: Callable[[], Any], reconnect: Callable[[], Any]) -> None:
    """Ask, ask after a rotation, and ask after the server has changed the password without a word."""
    assert await once() == "app"
    assert passwords.fetches == 1
    await passwords.revoke()
    assert await once() == "app"
    assert passwords.fetches == 1
    await reconnect()
    assert await once() == "app"
    assert passwords.fetches == 2
    await reconnect()
    assert await once() == "app"
    assert passwords.fetches == 2


@pytest.mark.parametrize("dialect", ASYNC.values(), ids=ASYNC)
async def test_a_changed_password_is_healed(passwords, tokens, dialect):
    """U1: an open connection lives on; a new one that PostgreSQL refuses is made once more with a new token."""
    async with engine(dialect, passwords, tokens.handle()) as made:
        await healed(passwords, lambda: ask(made), made.dispose)


@pytest.mark.parametrize("dialect", ASYNC_MYSQL.values(), ids=ASYNC_MYSQL)
async def test_a_changed_password_is_healed_on_mysql(mysql, dialect):
    """U1: the same with a server that speaks the protocol of MariaDB, and says 1045."""
    async with TokenManager(mysql) as tokens, engine(dialect, mysql, tokens.handle()) as made:
        await healed(mysql, lambda: ask(made), made.dispose)


async def test_a_thread_is_healed(passwords, tokens):
    """U5: a synchronous engine in a thread is healed, beside the loop of the manager."""
    with sync_engine("postgresql+psycopg", passwords, tokens.handle()) as made:
        await healed(
            passwords, lambda: asyncio.to_thread(ask_sync, made), lambda: asyncio.to_thread(made.dispose)
        )  # fmt: skip


async def test_a_thread_is_healed_on_mysql(mysql):
    """U5: the same with PyMySQL."""
    async with TokenManager(mysql) as tokens:
        with sync_engine("mysql+pymysql", mysql, tokens.handle()) as made:
            await healed(mysql, lambda: asyncio.to_thread(ask_sync, made), lambda: asyncio.to_thread(made.dispose))


async def test_a_rotation_is_seen(passwords, tokens):
    """U1: a token that was refreshed is the password of the next connection, without a refusal."""
    async with engine("postgresql+asyncpg", passwords, tokens.handle()) as made:
        await ask(made)
        await passwords.revoke()
        await tokens.refresh()
        await made.dispose()
        assert await ask(made) == "app"
    assert passwords.fetches == 2


async def test_many_connections_cost_one_fetch(passwords, tokens):
    """U1: connections that are refused at once share one new token."""
    await tokens.get()
    await passwords.revoke()
    async with engine("postgresql+asyncpg", passwords, tokens.handle(), pool_size=8) as made:
        assert set(await asyncio.gather(*(ask(made) for _ in range(8)))) == {"app"}
    assert passwords.fetches == 2


async def test_a_lasting_refusal_is_the_callers(passwords, tokens):
    """U1: a login that is refused again goes to the caller, as the error of the driver."""
    passwords.number += 1
    async with engine("postgresql+asyncpg", passwords, tokens.handle()) as made:
        for _ in range(2):
            with pytest.raises(Exception, match="password authentication failed"):
                await ask(made)
    assert passwords.fetches == 2


async def test_other_failures_are_no_refusal(passwords, tokens):
    """U1: a database that does not exist costs no token."""
    made = create_async_engine(f"postgresql+asyncpg://{passwords.address}_lost")
    authenticate(made, tokens.handle())
    with pytest.raises(Exception, match="does not exist"):
        await ask(made)
    assert passwords.fetches == 1


async def test_the_caller_says_what_a_refusal_is(passwords, tokens):
    """U1: `refused` replaces the built-in rule, and is checked at once."""
    await tokens.get()
    await passwords.revoke()
    made = create_async_engine(f"postgresql+asyncpg://{passwords.address}")
    authenticate(made, tokens.handle(), refused=lambda error: "nothing" in str(error))
    with pytest.raises(Exception, match="password authentication failed"):
        await ask(made)
    assert passwords.fetches == 1
    with pytest.raises(TypeError, match="refused must be"):
        authenticate(made, tokens.handle(), refused="28P01")  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ConnectionError("down"), GrantRejected("gone")])
async def test_no_token_on_the_loop(passwords, tokens, error):
    """U5: without a token, and with none to be had, connecting on the manager's loop raises; so it does elsewhere."""
    passwords.error = error
    expected = GrantRejected if isinstance(error, GrantRejected) else TokenUnavailable

    async def elsewhere() -> None:
        async with engine("postgresql+asyncpg", passwords, tokens.handle()) as made:
            await ask(made)

    async with asyncio.timeout(SOON):
        with pytest.raises(expected):
            await elsewhere()
        with pytest.raises(expected):
            await asyncio.to_thread(asyncio.run, elsewhere())


async def test_no_token_in_blocking_code(passwords, tokens):
    """U5: a synchronous engine raises in a thread, and on the manager's own loop, which it would block."""
    passwords.error = ConnectionError("down")
    with sync_engine("postgresql+psycopg", passwords, tokens.handle()) as made:
        async with asyncio.timeout(SOON):
            with pytest.raises(TokenUnavailable):
                await asyncio.to_thread(ask_sync, made)
            with pytest.raises(RuntimeError, match="loop"):
                ask_sync(made)


async def test_everywhere(passwords, tokens):
    """U5: the manager's loop, threads and other loops connect at once, with one token."""

    async def elsewhere() -> str:
        async with engine("postgresql+asyncpg", passwords, tokens.handle()) as made:
            return await ask(made)

    with sync_engine("postgresql+psycopg", passwords, tokens.handle()) as made:
        found = await asyncio.gather(
            elsewhere(), asyncio.to_thread(ask_sync, made), asyncio.to_thread(asyncio.run, elsewhere())
        )
    assert found == ["app"] * 3
    assert passwords.fetches == 1


async def test_the_password_of_the_url_is_not_sent(passwords, tokens):
    """U1: a password that stands in the URL gives way to the token, and other listeners before are heard."""
    made = create_async_engine(f"postgresql+asyncpg://{passwords.address}".replace("app@", "app:stale@"))

    @event.listens_for(made.sync_engine, "do_connect")
    def named(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        options["server_settings"] = {"application_name": "listened"}

    authenticate(made, tokens.handle())
    async with made.connect() as connection:
        assert (await connection.execute(text("show application_name"))).scalar() == "listened"
    await made.dispose()


@pytest.mark.parametrize("dialect", ASYNC.values(), ids=ASYNC)
async def test_no_secret_is_shown(passwords, tokens, dialect, caplog):
    """S1: no frame of an error, no log line and no attribute of the engine shows the password."""
    caplog.set_level(0)
    passwords.number = 41
    passwords.error = None
    await tokens.get()
    await passwords.revoke()
    passwords.error = ConnectionError("down")
    async with engine(dialect, passwords, tokens.handle(), echo_pool="debug") as made:
        with pytest.raises(TokenUnavailable) as unhealed:
            await ask(made)
        passwords.error, passwords.number = None, 41
        async with TokenManager(passwords) as others, engine(dialect, passwords, others.handle()) as refused:
            with pytest.raises((exc.DBAPIError, OSError, Exception), match="authentication failed") as lasting:
                await ask(refused)
            shown = [repr(vars(one.sync_engine)) for one in (made, refused)]
    for caught in (unhealed, lasting):
        whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        shown += [repr(frame.locals) for frame in _stacks(whole) if "tests" not in Path(frame.filename).parts]
    assert len(shown) > 20
    assert not [line for line in [*shown, caplog.text] if "secret-41" in line]


def _stacks(one: traceback.TracebackException | None) -> Iterator[traceback.FrameSummary]:
    while one is not None:
        yield from one.stack
        yield from _stacks(one.__context__)
        one = one.__cause__

"""No password of a store's address is shown: not by repr, by a refusal, by a log or by an error of a connection."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings, strategies

from evertoken.stores import FileStore, MemoryStore, PostgresStore, RedisStore, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = "hunter2-Sup3rSecret"

# A password with what divides the parts of an address, and slips of the pen around it.
SLIPS = [
    "{scheme}://app:{p}/x@host/{db}",
    "{scheme}://app:{p}?x@host/{db}",
    "{scheme}://app:{p}#x@host/{db}",
    "{scheme}://app:{p}@x@host/{db}",
    "{scheme}://app:{p}@x:y@host/{db}",
    "{scheme}://app:{p}[x@host/{db}",
    "{scheme}://app:{p}]x@host/{db}",
    "{scheme}://app:{p}%zz@host/{db}",
    "{scheme}://app:{p}%2@host/{db}",
    "{scheme}://app:{p}%00@host/{db}",
    "{scheme}://app:{p} x@host/{db}",
    "{scheme}://app:{p}\\x@host/{db}",
    "{scheme}://app:{p}\nx@host/{db}",
    "{scheme}://app:1/{p}@host/{db}",
    "{scheme}://app:12345/{p}@host/{db}",
    "{scheme}://app:1?{p}@host/{db}",
    "{scheme}://app:1?x={p}@host/{db}",
    "{scheme}://app:1#{p}@host/{db}",
    "{scheme}://:1/{p}@host/{db}",
    "{scheme}://:{p}/@host/{db}",
    "{scheme}://:1?{p}@host/{db}",
    "{scheme}://:1#{p}@host/{db}",
    "{scheme}://app/{p}@host/{db}",
    "{scheme}://app?{p}@host/{db}",
    "{scheme}://app#{p}@host/{db}",
    "{scheme}://app@{p}@host/{db}",
    "{scheme}://{p}@@host/{db}",
    "{scheme}://app:{p}",
    "{scheme}://app:{p}/{db}",
    "{scheme}://host:{p}@/{db}",
    "{scheme}://app:{p}@host:port/{db}",
    "{scheme}://app:{p}@host:99999/{db}",
    "{scheme}://app:{p}@host:1:2/{db}",
    "{scheme}://app:{p}@[host/{db}",
    "{scheme}://app:{p}@host/{db}?password={p}",
    "{scheme}://host/{db}?user=app&password={p}",
    "{scheme}://host/{db}?{p}",
    "{scheme}:/app:{p}@host/{db}",
    "{scheme}:app:{p}@host/{db}",
    "{scheme}//app:{p}@host/{db}",
    "{scheme}:///app:{p}@host/{db}",
    "{scheme}:////app:{p}@host/{db}",
    "https://app:{p}@host/{db}",
    "app:{p}@host/{db}",
    "//app:{p}@host/{db}",
    "{p}",
    " {scheme}://app:{p}@host/{db} ",
]  # fmt: skip
PAIRS = [
    "host=h password={p}",
    "host=h password='{p}' dbname=app",
    "host=h password={p} x dbname=app",
    "host=h password='{p}",
    "host=h password={p}'",
    "host=h passwd={p}",
    "host=h port={p}",
    "host=h port=1,{p}",
    "host='h {p}'",
    "host=app:{p}@h",
    "host=h dbname=postgresql://app:{p}@h/db",
    "host=h dbname='user=app password={p}'",
    "host=h dbname=app:{p}@h",
    "dbname=app;password={p}",
    "service=x password={p}",
    "host=h sslpassword={p} sslkey=x",
    "host = h password = {p} = x",
    "{p}=x",
    "host=h {p}",
    "host=h options='-c x={p}'",
]  # fmt: skip


def shown_by(make: Callable[[], Any]) -> str:
    """Return all that a store shows of its address: its forms as text, or the refusal with its cause."""
    try:
        store = make()
    except (ValueError, TypeError) as error:
        chain = [error, error.__cause__, error.__context__]
        return " ".join(f"{one!r} {one}" for one in chain if one is not None)
    return f"{store!r} {store} {store}"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
@pytest.mark.parametrize("slip", SLIPS)
def test_slips_in_the_url_of_redis(scheme, slip, caplog):
    """S1: a URL whose password is not quoted, or is in the wrong place, is refused or shown without it."""
    caplog.set_level(logging.DEBUG)
    url = slip.format(scheme=scheme, p=PASSWORD, db="0")
    assert PASSWORD not in shown_by(lambda: RedisStore(url)) + caplog.text


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
@pytest.mark.parametrize("slip", [*SLIPS, *PAIRS])
def test_slips_in_the_address_of_postgres(scheme, slip, caplog):
    """S1: so it is with a URL of PostgreSQL, and with names and values."""
    caplog.set_level(logging.DEBUG)
    conninfo = slip.format(scheme=scheme, p=PASSWORD, db="db")
    assert PASSWORD not in shown_by(lambda: PostgresStore(conninfo)) + caplog.text


PIECES = strategies.sampled_from(
    ["app", "host", "db", "0", "1", "5432", ":", "/", "//", "@", "?", "#", "&", "=", "[", "]", "%", "%40", "%2F", " ",
     "'", "\\", ",", ".", "password=", "user=", "host=h ", "\n", "\u00e9", "\u202e"]
)  # fmt: skip


@given(before=strategies.lists(PIECES, max_size=6), after=strategies.lists(PIECES, max_size=8), data=strategies.data())
@settings(max_examples=1500, deadline=None)
def test_any_address(before, after, data):
    """S1: a password after the user's name is never shown, with any text around it."""
    scheme = data.draw(strategies.sampled_from(["postgresql://", "redis://", "rediss://", "unix://"]))
    # As the second part of user and password. Elsewhere it looks like a host or a name.
    address = f"{scheme}app:{''.join(before)}{PASSWORD}{''.join(after)}@host/0"
    make: Callable[[str], Any] = PostgresStore if scheme == "postgresql://" else RedisStore
    assert PASSWORD not in shown_by(lambda: make(address))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://app:p%2Fw@db.example.com:6543/app", "host=db.example.com port=6543 dbname=app"),
        ("postgresql://app:pw@db.example.com/my-app_2", "host=db.example.com dbname=my-app_2"),
        ("postgresql://app:p:w?x#y@db.example.com/app", "host=db.example.com dbname=app"),
        ("postgresql:///app?host=/var/run/postgresql&password=p%40w", "host=/var/run/postgresql dbname=app"),
        ("postgresql://app:pw@a,b:1,[::1]:2/app", "host=a,b,::1 port=,1,2 dbname=app"),
        ("postgresql://u:pw@/app?host=/cloudsql/project:region:name", "host=/cloudsql/project:region:name dbname=app"),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/app", "host=/var/run/postgresql dbname=app"),
        ("host=fe80::1%eth0 hostaddr=::1", "host=fe80::1%eth0"),
        ("host=db port=1 dbname=app user=u password='p w'", "host=db port=1 dbname=app"),
        ("host=db dbname='my app' user=u", "host=db"),
        ("user=u", ""),
    ],
)
def test_what_is_shown_of_postgres(address, shown):
    """L2: repr names the host, the port and the database where they are plainly that."""
    assert repr(PostgresStore(address)) == f"PostgresStore({shown!r}, table='evertoken')"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://:p%2Fw@cache.example.com:6379/0", "redis://cache.example.com:6379/0"),
        ("redis://app:p@w@cache_1/2?password=p%40w", "redis://cache_1/2"),
        ("rediss://app:pw@[::1]:6379", "rediss://[::1]:6379"),
        ("redis:///3", "redis:///3"),
        ("redis://h?db=3", "redis://h"),
        ("unix:///run/redis/redis.sock?db=1&password=p%40w", "unix:///run/redis/redis.sock"),
        ("unix://app:pw@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_what_is_shown_of_redis(address, shown):
    """L2: repr names the host, the port and the database, or the socket."""
    assert repr(RedisStore(address)) == f"RedisStore({shown!r}, prefix='evertoken:')"


def test_a_refusal_says_what_to_do():
    """L2: the message says how to quote a password."""
    for make in (RedisStore, PostgresStore):
        scheme = "redis" if make is RedisStore else "postgresql"
        with pytest.raises(ValueError, match="%2F for '/'"):
            make(f"{scheme}://app:1/{PASSWORD}@host/0")


async def test_errors_of_a_connection(caplog):
    """S1: the error of a server that is not there shows no password."""
    caplog.set_level(logging.DEBUG)
    redis, postgres = f"redis://app:{PASSWORD}@127.0.0.1:9/0", f"host=127.0.0.1 port=9 password={PASSWORD}"
    for store in (RedisStore(redis), PostgresStore(postgres)):
        with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
            await store.read("k")
        assert PASSWORD not in f"{caught.value!r} {caught.value}" + caplog.text


def test_paths_and_records(tmp_path):
    """S1: the stores without a password in their address show where they are, and no record."""
    assert repr(FileStore(tmp_path)) == f"FileStore({str(tmp_path)!r})"
    assert repr(SQLiteStore(tmp_path / "x")) == f"SQLiteStore({str(tmp_path / 'x')!r})"
    assert repr(MemoryStore()) == "MemoryStore(0 records)"

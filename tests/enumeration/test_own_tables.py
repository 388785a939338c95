"""A sample of the enumeration with a user's table as the store, in real databases, whose clock the test sets."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.enumeration.faults import Plan
from tests.enumeration.runs import following, singles
from tests.enumeration.scenario import play
from tests.enumeration.world import World
from tests.stores.own_tables import engine_for, logins, store_in, url_of
from tests.stores.servers import mariadb, postgres


class Table:
    """A store in a table, for a loop whose time is not real: each step is over when its call returns."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.engine = engine_for(url)
        self.table = logins(sa.MetaData(), leases=True)
        self.store = store_in(self.engine, self.table)
        # The database's clock, which goes with the time of the run.
        self.now = 0.0
        clock = sa.bindparam("clock", callable_=lambda: self.now, type_=sa.Double)
        self.store._table.now = clock.label("now")
        self.wait(self._do(self.table.create))

    async def _do(self, work: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.run_sync(work)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30.0)

    def get(self, name: str) -> Any:
        """As the dict of a MemoryStore has it."""
        return self.wait(self.store.read(name))

    @property
    def _records(self) -> Table:
        return self

    def clear(self) -> None:
        self.wait(self._do(lambda connection: connection.execute(self.table.delete())))

    def close(self) -> None:
        self.wait(self._do(self.table.drop))
        self.wait(self.engine.dispose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class TableWorld(World):
    """A world whose store is a table."""

    def __init__(self, plan: Plan, *, table: Table) -> None:
        super().__init__(plan)
        self.table = table
        self.memory = table  # type: ignore[assignment]
        table.clear()

    def do(self, operation: str, *arguments: Any) -> Any:
        self.table.now = asyncio.get_running_loop().time()
        result = self.table.wait(getattr(self.table.store, operation)(*arguments))
        if operation in {"mark", "commit"} and result:
            self.tell(arguments[0].key)
        return result

    def flush(self, *, heard: bool) -> None:
        self.table.clear()
        if heard:
            self.tell(None)


@pytest.fixture(scope="module", params=["sqlite", "asyncpg", "asyncmy"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    folder: Path = tmp_path_factory.mktemp("own")
    servers = {"asyncpg": postgres, "asyncmy": mariadb}
    if request.param == "sqlite":
        found = Table(url_of("sqlite", request, folder))
        yield found
        found.close()
        return
    with servers[request.param]() as server:
        user, database = ("evertoken", "postgres") if request.param == "asyncpg" else ("root", "evertoken")
        scheme = "postgresql" if request.param == "asyncpg" else "mysql"
        found = Table(f"{scheme}+{request.param}://{user}@127.0.0.1:{server.port}/{database}")
        yield found
        found.close()


def test_faults_around_a_table(table, capsys):
    """K1, K2, K4, T2: a sample of single faults and of pairs is survived with a user's table as the store."""
    chosen = random.Random(12)
    make = partial(TableWorld, table=table)
    shared = [plan for plan in singles() if str(plan).startswith("store:rotating")]
    plans = chosen.sample(shared, 8)
    plans += chosen.sample(list(following(play(chosen.choice(plans), make))), 4)
    failed = []
    for plan in plans:
        result = play(plan, make)
        if result.faults:
            failed.append("\n    ".join([str(plan), *result.faults[:3]]))
    with capsys.disabled():
        print(f"\nfaults around a table: {len(plans)} runs", end="")
    assert not failed, f"{len(failed)} of {len(plans)} runs:\n" + "\n".join(failed)

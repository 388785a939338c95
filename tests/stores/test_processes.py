"""Stores of one host, used by processes that race, stop and are killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.stores.worker import KINDS, token_of

from evertoken import Held, Lease, Record
from evertoken.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evertoken import TokenStore

pytestmark = [
    pytest.mark.breakage,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals"),
    pytest.mark.parametrize("kind", list(KINDS)),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "tokens"


@contextmanager
def working(kind: str, path: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a worker, and kill it at the end."""
    command = [sys.executable, str(Path(__file__).parent / "worker.py"), kind, str(path), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def win(store: TokenStore, owner: str, ttl: float = 10.0) -> tuple[Lease, float]:
    """Take the lease when it is free; return it, and how long that took."""
    begun = time.monotonic()
    while True:
        lease = (await store.begin("k", owner, ttl)).lease
        if isinstance(lease, Lease):
            return lease, time.monotonic() - begun
        assert time.monotonic() < begun + 20.0


async def test_killed_while_writing(kind, path, caplog):
    """K1: a writer killed at any moment leaves a whole record, no older than the last acknowledged one."""
    store = KINDS[kind](path)
    chance = random.Random(4711)
    kept = fence = 0
    for turn in range(5):
        with working(kind, path, "write", f"writer-{turn}") as process:
            assert line(process) == "begins"
            kept = max(kept, int(line(process)))
            time.sleep(chance.uniform(0.0, 0.06))
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            said = process.stdout.read().split("\n")
            # The last line may be cut off.
            kept = max([kept, *(int(text) for text in said[:-1])])
        found = await store.read("k")
        assert found is not None
        assert found.version in {kept, kept + 1}
        assert found.token == token_of(found.version)
        kept = found.version
        lease, waited = await win(store, "next")
        assert waited < 5.0
        assert lease.fence > fence
        fence = lease.fence
        await store.abandon(lease)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
    assert len([file for file in path.parent.rglob("*") if file.suffix in {".tmp", ".torn"}]) <= 1


async def test_four_processes_race(kind, path):
    """K2: processes that all begin on nothing take turns by the lease: no write is lost, no fence given twice."""
    turns = 10
    with ExitStack() as stack:
        processes = [stack.enter_context(working(kind, path, "turns", f"w{number}", turns)) for number in range(4)]
        said = [process.communicate(timeout=50)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * 4
    pairs = sorted(tuple(map(int, words.split())) for text in said for words in text.splitlines())
    assert [version for _, version in pairs] == list(range(1, 4 * turns + 1))
    assert [count for count in Counter(fence for fence, _ in pairs).values() if count > 1] == []
    found = await KINDS[kind](path).read("k")
    assert found == Record("k", 4 * turns, token_of(4 * turns))


async def test_killed_holder(kind, path):
    """K2: the lease of a holder that is killed ends when it was to end, and not before."""
    store = KINDS[kind](path)
    with working(kind, path, "hold", "killed", "3.0") as process:
        assert line(process) == "holds 1"
        process.kill()
        process.wait()
    held = (await store.begin("k", "next", 10.0)).lease
    assert isinstance(held, Held)
    assert await store.holder("k") is not None
    lease, waited = await win(store, "next")
    assert held.remaining - 0.1 <= waited <= held.remaining + 6.0
    assert lease.fence == 2


async def test_stopped_holder(kind, path):
    """K2: a holder that was stopped past its lease and goes on cannot write, nor renew."""
    store = KINDS[kind](path)
    with working(kind, path, "hold", "stopped", "0.5") as process:
        assert line(process) == "holds 1"
        process.send_signal(signal.SIGSTOP)
        lease, _ = await win(store, "next")
        record = Record("k", 2, token_of(2))
        assert await store.commit(record, lease)
        process.send_signal(signal.SIGCONT)
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        assert line(process) == "False False"
    assert await store.read("k") == record


def test_eight_processes(kind, path):
    """K2: eight processes with tokens of 4 s make one fetch a lifetime between them, and none waits for a refresh."""
    lived = 7.0
    with TokenServer(lifetime=4) as server, ExitStack() as stack:
        live = "live", server.token_endpoint, lived
        processes = [stack.enter_context(working(kind, path, *live)) for _ in range(8)]
        for process in processes:
            assert line(process) == "lives"
        begun = time.monotonic()
        said = [process.communicate(timeout=60)[0].split() for process in processes]
        took = time.monotonic() - begun
        assert [process.returncode for process in processes] == [0] * 8
        fetches = server.stats.token_requests
    # The lead is a fifth of the lifetime, and jitter takes a tenth of that more at most.
    assert took / 4.0 <= fetches <= (took + 8.0) / 2.9 + 1
    assert max(float(slowest) for slowest, _ in said) < 1.0
    assert min(int(seen) for _, seen in said) >= 2

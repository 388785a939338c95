"""A day of an agent's life on the virtual clock: outages, a full disk, a store that is down, reloads good and bad."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evertoken import Token, TransientRefreshError
from evertoken.cli.agent import Agent
from evertoken.cli.configuration import read
from evertoken.cli.toml_table import ConfigurationError
from evertoken.stores import MemoryStore
from evertoken.testing import VirtualClock, VirtualTimeLoop

if TYPE_CHECKING:
    from evertoken.cli.configuration import Configuration

HOUR = 3600.0
LIFETIME = 600.0
NO_STORE = """
[sources.billing]
kind = "token_file"
path = "never read"
write_to = "billing"
"""


class Source:
    """Gives a token of ten minutes, unless it is down."""

    identity = provider = "scripted"
    rotates = False
    on_ambiguous = "retry"

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.down = False
        self.issued: dict[str, float] = {}

    async def fetch(self, request: Any) -> Token:
        if self.down:
            raise TransientRefreshError("down")
        now = self.clock.time()
        text = f"planted-{len(self.issued)}-" + "x" * 5000
        self.issued[text] = now + LIFETIME
        return Token(text, issued_at=now, expires_at=now + LIFETIME)


class Store:
    """One in memory, unless it is down."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.down = False

    def __getattr__(self, name: str) -> Any:
        step = getattr(self.inner, name)
        if name not in {"read", "begin", "mark", "commit", "abandon", "renew"}:
            return step

        async def up(*arguments: Any) -> Any:
            if self.down:
                raise OSError("the store is down")
            return await step(*arguments)

        return up


class Day:
    def __init__(self, folder: Any, store: Store | None) -> None:
        self.clock = VirtualClock()
        self.source = Source(self.clock)
        self.store = store
        self.path = folder / "evertoken.toml"
        self.path.write_text(NO_STORE)
        self.file = folder / "billing"
        self.broken = False
        self.disk_full = False
        self.looks = 0
        self.agent = Agent(self.load, self.clock)

    def load(self) -> Configuration:
        if self.broken:
            raise ConfigurationError("evertoken.toml: [sources.billing] kind: is missing")
        found = read(self.path, {})
        entry = dataclasses.replace(found.sources["billing"], source=self.source)
        make: Any = None if self.store is None else (lambda: self.store)
        return dataclasses.replace(found, sources={"billing": entry}, make_store=make, namespace="day")

    def fsync(self, fd: int) -> None:
        if self.disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def look(self) -> None:
        """The file is one whole token, of which life is left, and nobody else may read it."""
        content = self.file.read_text()
        assert content.endswith("\n"), "torn"
        expires_at = self.source.issued[content.removesuffix("\n")]
        assert expires_at > self.clock.time(), "expired"
        assert stat.S_IMODE(self.file.stat().st_mode) == 0o600
        self.looks += 1

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(7.0)
            self.look()

    async def live(self) -> None:
        run = asyncio.create_task(self.agent.run())
        await asyncio.sleep(1.0)
        watch = asyncio.create_task(self.watch())
        for hour in range(24):
            # Each fault is shorter than the remaining life of a token that is due.
            self.source.down = hour % 4 == 1
            self.disk_full = hour % 4 == 2
            if self.store is not None:
                self.store.down = hour % 4 == 3
            await asyncio.sleep(60.0)
            self.source.down = self.disk_full = False
            self.broken = hour % 2 == 1
            self.agent.reload()
            await asyncio.sleep(HOUR - 60.0)
        assert not watch.done()
        watch.cancel()
        self.agent.stop()
        await run


@pytest.mark.parametrize("shared", [False, True])
def test_a_day(tmp_path, monkeypatch, caplog, shared):
    """F4, K3: in 24 h the file is never torn or expired while the provider works, and no secret is in any log (S1)."""
    caplog.set_level(logging.DEBUG)
    day = Day(tmp_path, Store() if shared else None)
    monkeypatch.setattr(os, "fsync", day.fsync)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(day.live())
    assert day.looks > 24 * HOUR / 7 - 100
    # One for each eight minutes, and not more for 24 reloads.
    assert 150 <= len(day.source.issued) <= 260
    assert "planted" not in caplog.text
    assert caplog.text.count("the new configuration is refused") == 12
    assert caplog.text.count("reloaded: serving billing") == 12
    assert list(tmp_path.glob(".billing.*")) == []


def test_a_disk_that_is_full_for_long(tmp_path, monkeypatch, caplog):
    """A full disk is told once, keeps the agent from being ready, and ends well: the file is fresh within 30 s."""
    day = Day(tmp_path, None)
    monkeypatch.setattr(os, "fsync", day.fsync)

    async def live() -> None:
        run = asyncio.create_task(day.agent.run())
        await asyncio.sleep(1.0)
        day.look()
        before = day.file.read_text()
        day.disk_full = True
        await asyncio.sleep(2 * HOUR)
        assert day.file.read_text() == before
        assert not day.agent.health().ready
        day.disk_full = False
        await asyncio.sleep(31.0)
        day.look()
        assert day.agent.health().ready
        day.agent.stop()
        await run

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(live())
    told = [record for record in caplog.records if "cannot be written" in record.getMessage()]
    assert [record.getMessage() for record in told] == [
        f"the file {day.file} of 'billing' cannot be written: No space left on device; the old one stays"
    ]
    assert list(tmp_path.glob(".billing.*")) == []


@pytest.mark.parametrize("call", ["fsync", "rename", "open", "mkstemp"])
def test_each_step_of_a_write_may_fail(tmp_path, monkeypatch, call):
    """If any step of a write fails, the old file stays whole and no draft is left."""
    day = Day(tmp_path, None)

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def live() -> None:
        run = asyncio.create_task(day.agent.run())
        await asyncio.sleep(1.0)
        before = day.file.read_text()
        with monkeypatch.context() as patch:
            where = {"mkstemp": (tempfile, "mkstemp"), "rename": (Path, "replace")}.get(call, (os, call))
            patch.setattr(*where, fail)
            await asyncio.sleep(LIFETIME * 0.9)
            # The folder is opened, and synced, once the file has its new name: then it is the new one.
            after = day.file.read_text()
            assert after == before or call in {"open", "fsync"}
            assert after.removesuffix("\n") in day.source.issued
        await asyncio.sleep(31.0)
        day.look()
        assert day.file.read_text() != before
        day.agent.stop()
        await run

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(live())
    assert list(tmp_path.glob(".billing.*")) == []


def test_a_sign_out_takes_the_file_away(tmp_path):
    """R5: the token of a key that was signed out is in no file."""
    day = Day(tmp_path, Store())

    async def live() -> None:
        run = asyncio.create_task(day.agent.run())
        await asyncio.sleep(1.0)
        day.look()
        manager, key = day.agent.term.managers.of("billing")
        with contextlib.suppress(TransientRefreshError):
            await manager.revoke(key)
        await asyncio.sleep(1.0)
        assert not day.file.exists()
        day.agent.stop()
        await run

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(live())


def test_drafts_of_one_that_was_killed(tmp_path):
    """The next start removes the half-written files of a killed agent."""
    (tmp_path / ".billing.abc.evertoken").write_text("half a tok")
    day = Day(tmp_path, None)

    async def live() -> None:
        run = asyncio.create_task(day.agent.run())
        await asyncio.sleep(1.0)
        day.agent.stop()
        await run

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(live())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["billing", "evertoken.toml"]

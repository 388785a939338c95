"""HookStore: a program keeps its tokens where it always did, through two functions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from evertoken.stores import HookStore
from evertoken.testing.conformance import StoreConformance


class Kept(dict[Any, str]):
    """What a program keeps, as text; it may fail, and counts."""

    failing = 0
    saves = 0

    def load(self, key: Any) -> Any:
        return json.loads(self[key]) if key in self else None

    async def aload(self, key: Any) -> Any:
        await asyncio.sleep(0)
        return self.load(key)

    def save(self, key: Any, data: dict[str, Any]) -> None:
        self.saves += 1
        if self.failing:
            self.failing -= 1
            raise OSError("the disk is full")
        self[key] = json.dumps(data)

    async def asave(self, key: Any, data: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.save(key, data)


class TestHooks(StoreConformance):
    """Async functions, and all that they are given is kept."""

    @pytest.fixture(autouse=True)
    def place(self) -> None:
        kept = Kept()
        self.store = HookStore(kept.aload, kept.asave)

    async def make(self) -> HookStore:
        return self.store

    async def set_lease(self, key: str, seconds: float) -> None:
        known = self.store._keys[key]
        known.ends_at = self.store._clock.monotonic() + seconds


class TestPlainHooks(TestHooks):
    """Plain functions, in threads."""

    @pytest.fixture(autouse=True)
    def place(self) -> None:
        kept = Kept()
        self.store = HookStore(kept.load, kept.save)

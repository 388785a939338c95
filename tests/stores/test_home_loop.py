"""Work on a store's home loop that goes to its end, also if its caller does not wait so long."""

from __future__ import annotations

import asyncio
import gc

import pytest

from evertoken.stores._home_loop import HomeLoop


@pytest.mark.parametrize("ends", ["well", "badly", "cancelled"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["at home", "from another loop"])
async def test_the_caller_goes(elsewhere, ends, caplog):
    """K4: the work goes on without its caller, and however it ends, nothing is logged."""
    home, gate, ended = HomeLoop(), asyncio.Event(), asyncio.Event()

    async def work():
        try:
            await gate.wait()
            if ends == "badly":
                raise OSError("lost")
            if ends == "cancelled":
                raise asyncio.CancelledError
        finally:
            ended.set()

    async def ask():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(home.call_to_its_end(work), 0.05)

    async def nothing():
        pass

    await home.call(nothing)
    await (asyncio.to_thread(asyncio.run, ask()) if elsewhere else ask())
    gate.set()
    await asyncio.wait_for(ended.wait(), 10.0)
    await asyncio.sleep(0.05)
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
    assert len(asyncio.all_tasks()) == 1

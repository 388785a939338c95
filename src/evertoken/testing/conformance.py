"""
A conformance suite: what a manager needs of a store, as tests that a store of anyone's can be put to.

The tests are plain `async def` methods without fixtures, so that they run under pytest-asyncio and under anyio's
plugin alike. Nothing but pytest is needed beyond evertoken itself.
"""

from __future__ import annotations

from evertoken.testing._suite.abilities import Listing, Reading, Watching
from evertoken.testing._suite.batches import Batches
from evertoken.testing._suite.concurrency import Concurrency
from evertoken.testing._suite.leases import Leases
from evertoken.testing._suite.quotas import Quotas
from evertoken.testing._suite.records import Records

__all__ = ["StoreConformance"]


class StoreConformance(Records, Leases, Watching, Reading, Listing, Batches, Quotas, Concurrency):
    """
    The tests that each store of ours passes.

    Inherit from it, and say how to make a store::

        @pytest.mark.asyncio  # or @pytest.mark.anyio; with asyncio_mode = "auto" neither is needed
        class TestMyStore(StoreConformance):
            @pytest.fixture(autouse=True)
            def folder(self, tmp_path):
                self.path = tmp_path

            async def make(self):
                return MyStore(self.path)

    All stores that one test makes must be on the same data, which is empty when the test begins. Each test has an
    instance of the class to itself. A store that is an async context manager is entered and left. Watching,
    listing, batches, quotas and reading many records at once are tested where the store has them.

    Override `clean` to take away what a test left. Two more hooks test what else may be found in a store: `plant`
    puts bytes there that this release did not write, and `set_lease` moves the end of a lease, as a clock that was
    set does. The tests that need them are skipped where they are not overridden. These attributes may be set, too:

    - `short`: seconds that a lease lasts whose end is waited for (0.5). Raise it for a store that takes long.
    - `patience`: seconds that anything may take at most (20).
    - `many`: how many records are many (200).
    """

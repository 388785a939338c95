"""
A conformance suite: tests of everything that a manager needs of a store. Anybody can run them on their own store.

The tests are plain `async def` methods without fixtures, so they run under pytest-asyncio and under anyio's plugin.
Besides evertoken itself they need only pytest.
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
    The tests that each store of this library passes.

    Inherit from it, and define how to make a store::

        @pytest.mark.asyncio  # or anyio; asyncio_mode = "auto" needs neither
        class TestMyStore(StoreConformance):
            @pytest.fixture(autouse=True)
            def folder(self, tmp_path):
                self.path = tmp_path

            async def make(self):
                return MyStore(self.path)

    All stores of one test must use the same data, which is empty when the test begins. Each test has its own instance
    of the class. A store that is an async context manager is entered and left. Watching, listing, batches, quotas and
    reading many records at once are tested if the store supports them.

    Override `clean` to remove the data of a test. Two more hooks put unusual data into a store: `plant` writes bytes
    that this release did not write, and `set_lease` moves the end of a lease, as a changed clock would. Tests that need
    a hook are skipped if it is not overridden. You can also set these attributes:

    - `short`: the length in seconds of leases whose end is awaited (0.5). Raise it for a slow store.
    - `patience`: the longest time in seconds that any operation may take (20).
    - `many`: the number of records in tests with many records (200).
    """

"""
The time that each adapter adds to a request, compared with a static credential in the same client.

The adapters stand in the folder `adapters`, a file for each library. Its `PAIRS` has an entry for each client: an async
context manager over a running manager, whose token is "token", that gives two functions. Each makes one request: the
first with a static credential, the second through the adapter. Both are coroutine functions, or both are plain ones.
"""

from __future__ import annotations

import gc
import importlib
import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from time import process_time
from typing import Any, Final

from tests.benchmarks._measure import Options, Row, Rows, median, run

from evertoken import TokenManager

FOLDER = Path(__file__).parent / "adapters"

#: The most that an adapter may add: this share of a request, or so many microseconds.
MOST_SHARE: Final = 1.05
MOST: Final = 10.0

#: Requests between two looks at the clock.
_REQUESTS: Final = 20

Call = Callable[[], Any]
Pair = Callable[[TokenManager[Any, Any]], AbstractAsyncContextManager[tuple[Call, Call]]]


def rows(options: Options) -> Rows:
    for path in sorted(FOLDER.glob("*.py")):
        try:
            pairs: dict[str, Pair] = importlib.import_module(f"tests.benchmarks.adapters.{path.stem}").PAIRS
        except ImportError as error:
            yield Row(path.stem, f"{error.name} is missing", unit="")
            continue
        for name, pair in pairs.items():
            yield run(lambda name=name, pair=pair: _row(name, pair, options))  # type: ignore[misc]


async def _row(name: str, pair: Pair, options: Options) -> Row:
    async def fetch() -> tuple[str, float]:
        return "token", 3600.0

    static, added = [], []
    async with TokenManager(fetch) as tokens:
        await tokens.get()
        async with pair(tokens) as calls:
            for number in range(-10, options.pick(400, 60)):
                # They alternate, so that each runs first equally often.
                spent = {}
                for call in calls if number % 2 else reversed(calls):
                    gc.collect(0)
                    spent[call] = await _spent(call)
                if number >= 0:
                    static.append(spent[calls[0]])
                    added.append(spent[calls[1]] - spent[calls[0]])
    base, more = (median(one) / _REQUESTS * 1e6 for one in (static, added))
    share = 1.0 + more / base
    if share <= MOST_SHARE:
        return Row(name, share, MOST_SHARE, note=f"{more:+.1f} us on {base:.0f} us")
    return Row(name, more, MOST, unit="us", note=f"on {base:.0f} us, x {share:.3f}")


async def _spent(call: Call) -> float:
    if inspect.iscoroutinefunction(call):
        begun = process_time()
        for _ in range(_REQUESTS):
            await call()
        return process_time() - begun
    begun = process_time()
    for _ in range(_REQUESTS):
        call()
    return process_time() - begun

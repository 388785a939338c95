"""httpx2, with a transport in memory."""

from __future__ import annotations

import httpx2
from tests.benchmarks.adapters.httpx import pairs

PAIRS = pairs(httpx2)

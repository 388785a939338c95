"""
Tools for tests: a real token server with faults on demand, clocks that a test moves, and a loop that does not wait.
"""

from evertoken.testing._faults import Fault, FaultKind
from evertoken.testing.clock import ManualClock, VirtualClock
from evertoken.testing.loop import VirtualTimeLoop
from evertoken.testing.server import Stats, TokenRequest, TokenServer

__all__ = [
    "Fault",
    "FaultKind",
    "ManualClock",
    "Stats",
    "TokenRequest",
    "TokenServer",
    "VirtualClock",
    "VirtualTimeLoop",
]

"""
What can happen, as small frozen records for observers to match.
"""

from evertoken._events import (
    ClockStepped,
    Event,
    FetchStarted,
    KeyEvicted,
    KeyOpened,
    ManagerClosing,
    ManagerStarted,
    Reason,
    RefreshFailed,
    RefreshRejected,
    ShorterThanAsked,
    StoreFailed,
    SupervisorRestarted,
    TokenAdopted,
    TokenRefreshed,
    TokenRefused,
)

__all__ = [
    "ClockStepped",
    "Event",
    "FetchStarted",
    "KeyEvicted",
    "KeyOpened",
    "ManagerClosing",
    "ManagerStarted",
    "Reason",
    "RefreshFailed",
    "RefreshRejected",
    "ShorterThanAsked",
    "StoreFailed",
    "SupervisorRestarted",
    "TokenAdopted",
    "TokenRefreshed",
    "TokenRefused",
]

"""
What can happen, as small frozen records for observers to match.
"""

from evertoken._events import (
    Ambiguity,
    ClockStepped,
    Event,
    FetchAmbiguous,
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
    TokenRevoked,
    TokenUnpersisted,
)

__all__ = [
    "Ambiguity",
    "ClockStepped",
    "Event",
    "FetchAmbiguous",
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
    "TokenRevoked",
    "TokenUnpersisted",
]

"""All events that observers receive, as small frozen records. Use `match` or `isinstance` to tell them apart."""

from evertoken._model.event_fields import event_fields, event_level, event_name
from evertoken._model.events import (
    Ambiguity,
    Event,
    FetchAmbiguous,
    FetchStarted,
    GrantExpiring,
    KeyEvicted,
    KeyOpened,
    ManagerClosing,
    ManagerStarted,
    Reason,
    RefreshFailed,
    RefreshRejected,
    ShorterThanAsked,
    StoreFailed,
    TokenAdopted,
    TokenRefreshed,
    TokenRefused,
    TokenRevoked,
    TokenUnpersisted,
)
from evertoken._model.provider_events import BudgetReached, ProviderDown, ProviderStillDown, ProviderUp
from evertoken._model.store_events import StoreStillDown, StoreUp
from evertoken._model.supervisor_events import ClockStepped, SupervisorRestarted
from evertoken._model.timing_events import CallerWaited, StoreUsed

__all__ = [
    "Ambiguity",
    "BudgetReached",
    "CallerWaited",
    "ClockStepped",
    "Event",
    "FetchAmbiguous",
    "FetchStarted",
    "GrantExpiring",
    "KeyEvicted",
    "KeyOpened",
    "ManagerClosing",
    "ManagerStarted",
    "ProviderDown",
    "ProviderStillDown",
    "ProviderUp",
    "Reason",
    "RefreshFailed",
    "RefreshRejected",
    "ShorterThanAsked",
    "StoreFailed",
    "StoreStillDown",
    "StoreUp",
    "StoreUsed",
    "SupervisorRestarted",
    "TokenAdopted",
    "TokenRefreshed",
    "TokenRefused",
    "TokenRevoked",
    "TokenUnpersisted",
    "event_fields",
    "event_level",
    "event_name",
]

"""A token manager for asyncio: it refreshes access tokens before they expire."""

from typing import TYPE_CHECKING

from evertoken import events
from evertoken._engine.background import run_in_background
from evertoken._engine.callable_source import CallableSource
from evertoken._engine.event_stream import EventStream
from evertoken._engine.subscription import Subscription
from evertoken._handle import TokenHandle
from evertoken._manager import TokenManager
from evertoken._model.answer import Answer
from evertoken._model.batch_store import BatchStore
from evertoken._model.errors import (
    GrantRejected,
    ManagerClosed,
    OriginRefused,
    TokenError,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken._model.grant import Grant, ImportResult
from evertoken._model.key_status import KeyStatus
from evertoken._model.leases import Begun, Held, Lease, Quota, Spent, Unused
from evertoken._model.policy import KeepAlivePolicy, RefreshPolicy, RetryPolicy
from evertoken._model.protocols import (
    Answered,
    BulkStore,
    Clock,
    CredentialSource,
    FetchRequest,
    ListedStore,
    Observer,
    Record,
    TokenSource,
    TokenStore,
    WatchedStore,
)
from evertoken._model.provider_limits import Budget, RateLimit
from evertoken._model.quota_store import QuotaStore
from evertoken._model.snapshot import Counts, Health, KeySnapshot, ProviderSnapshot, Snapshot
from evertoken._model.token import RedactedToken, Token

if TYPE_CHECKING:
    from evertoken._signing.dpop import DPoPKey

__all__ = [
    "Answer",
    "Answered",
    "BatchStore",
    "Begun",
    "Budget",
    "BulkStore",
    "CallableSource",
    "Clock",
    "Counts",
    "CredentialSource",
    "DPoPKey",
    "EventStream",
    "FetchRequest",
    "Grant",
    "GrantRejected",
    "Health",
    "Held",
    "ImportResult",
    "KeepAlivePolicy",
    "KeySnapshot",
    "KeyStatus",
    "Lease",
    "ListedStore",
    "ManagerClosed",
    "Observer",
    "OriginRefused",
    "ProviderSnapshot",
    "Quota",
    "QuotaStore",
    "RateLimit",
    "Record",
    "RedactedToken",
    "RefreshPolicy",
    "RetryPolicy",
    "Snapshot",
    "Spent",
    "Subscription",
    "Token",
    "TokenError",
    "TokenHandle",
    "TokenManager",
    "TokenSource",
    "TokenStore",
    "TokenUnavailable",
    "TransientRefreshError",
    "Unused",
    "WatchedStore",
    "events",
    "run_in_background",
]


def __getattr__(name: str) -> object:
    if name != "DPoPKey":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    # Few programs sign requests, and the modules for signing are slow to import.
    from evertoken._signing.dpop import DPoPKey  # noqa: PLC0415

    globals()["DPoPKey"] = DPoPKey
    return DPoPKey


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Tokens that are always fresh."""

from typing import TYPE_CHECKING

from evertoken import events
from evertoken._engine.background import run_in_background
from evertoken._engine.callable_source import CallableSource
from evertoken._engine.subscription import Subscription
from evertoken._handle import TokenHandle
from evertoken._manager import TokenManager
from evertoken._model.errors import (
    GrantRejected,
    ManagerClosed,
    OriginRefused,
    TokenError,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken._model.policy import RefreshPolicy, RetryPolicy
from evertoken._model.protocols import (
    Answered,
    Begun,
    Clock,
    CredentialSource,
    FetchRequest,
    Held,
    Lease,
    ListedStore,
    Observer,
    Record,
    TokenSource,
    TokenStore,
    WatchedStore,
)
from evertoken._model.snapshot import Counts, Health, KeySnapshot, Snapshot
from evertoken._model.token import RedactedToken, Token
from evertoken._model.token_response import Answer

if TYPE_CHECKING:
    from evertoken._signing.dpop import DPoPKey

__all__ = [
    "Answer",
    "Answered",
    "Begun",
    "CallableSource",
    "Clock",
    "Counts",
    "CredentialSource",
    "DPoPKey",
    "FetchRequest",
    "GrantRejected",
    "Health",
    "Held",
    "KeySnapshot",
    "Lease",
    "ListedStore",
    "ManagerClosed",
    "Observer",
    "OriginRefused",
    "Record",
    "RedactedToken",
    "RefreshPolicy",
    "RetryPolicy",
    "Snapshot",
    "Subscription",
    "Token",
    "TokenError",
    "TokenHandle",
    "TokenManager",
    "TokenSource",
    "TokenStore",
    "TokenUnavailable",
    "TransientRefreshError",
    "WatchedStore",
    "events",
    "run_in_background",
]


def __getattr__(name: str) -> object:
    if name != "DPoPKey":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    # Few programs sign, and what signs is slow to import.
    from evertoken._signing.dpop import DPoPKey  # noqa: PLC0415

    globals()["DPoPKey"] = DPoPKey
    return DPoPKey


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""
Tokens that are always fresh.
"""

from evertoken import events
from evertoken._answer import Answer
from evertoken._callable import CallableSource
from evertoken._contracts import (
    Answered,
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
from evertoken._dpop import DPoPKey
from evertoken._errors import (
    GrantRejected,
    ManagerClosed,
    OriginRefused,
    TokenError,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken._handle import TokenHandle
from evertoken._manager import TokenManager
from evertoken._policy import RefreshPolicy, RetryPolicy
from evertoken._snapshot import Health, KeySnapshot, Snapshot
from evertoken._subscription import Subscription
from evertoken._threads import run_in_background
from evertoken._token import RedactedToken, Token

__all__ = [
    "Answer",
    "Answered",
    "CallableSource",
    "Clock",
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

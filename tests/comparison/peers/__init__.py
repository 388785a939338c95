"""All that are compared. A library is added by a class in one of these files and its name here."""

from __future__ import annotations

from tests.comparison._peer import Peer
from tests.comparison.peers.clouds import Aiobotocore, AzureIdentity, Botocore, GcloudAio, Msal
from tests.comparison.peers.httpx_based import AiohttpOAuth2, Authlib, HttpxAuth, Mcp, Singleflight
from tests.comparison.peers.ours import ByHand, Evertoken
from tests.comparison.peers.requests_based import GoogleAuth, RequestsOAuth2Client, RequestsOAuthlib

__all__ = ["PEERS", "Evertoken"]

PEERS: tuple[type[Peer], ...] = (
    Evertoken,
    ByHand,
    Authlib,
    HttpxAuth,
    Singleflight,
    AiohttpOAuth2,
    RequestsOAuthlib,
    RequestsOAuth2Client,
    GoogleAuth,
    GcloudAio,
    Botocore,
    Aiobotocore,
    AzureIdentity,
    Msal,
    Mcp,
)

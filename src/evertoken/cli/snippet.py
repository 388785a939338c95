"""
The snippet that everybody writes: a token, a lock, a second check under the lock, and a refresh at expiry.

This is a careful version. The demo runs it next to evertoken.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


class SnippetTokens:
    """A hand-written token manager of forty lines."""

    def __init__(
        self, client: httpx.AsyncClient, token_endpoint: str, client_id: str, client_secret: str, margin: float
    ) -> None:
        self._client = client
        self._margin = margin
        self._token_endpoint = token_endpoint
        self._form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        self._lock = asyncio.Lock()
        self._token = ""
        self.expires_at: float = 0.0

    async def get(self) -> str:
        """Return the token. If it has expired, fetch one first."""
        if time.time() < self.expires_at - self._margin:
            return self._token
        async with self._lock:
            if time.time() < self.expires_at - self._margin:
                return self._token
            response = await self._client.post(self._token_endpoint, data=self._form)
            response.raise_for_status()
            answer = response.json()
            self._token = answer["access_token"]
            self.expires_at = time.time() + answer["expires_in"]
            return self._token

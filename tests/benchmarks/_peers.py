# mypy: disable-error-code="import-not-found, import-untyped, misc, attr-defined, method-assign, unused-ignore"
"""Other libraries doing the same job: a token for each caller, from the same server, with each one's own defaults."""

from __future__ import annotations

import asyncio
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
from tests.benchmarks._process import ServerProcess

from evertoken import TokenManager

__all__ = ["PEERS", "Peer"]

CLIENT_ID, CLIENT_SECRET = "svc", "s3cret"


def as_aws_answers(answer: dict[str, Any]) -> dict[str, str]:
    """Return what an endpoint of AWS says of credentials with the token and the lifetime of *answer*."""
    expires_at = datetime.now(UTC) + timedelta(seconds=answer["expires_in"])
    return {
        "access_key": "AKIA",
        "secret_key": "s3cret",
        "token": answer["access_token"],
        "expiry_time": expires_at.isoformat(),
    }


class Peer:
    """
    One library.

    Args:
        due_after: The lifetime at which this library renews a token about a second after it was fetched.
    """

    name: ClassVar[str]
    due_after: ClassVar[float]
    note: ClassVar[str] = ""
    plain_hit: ClassVar[bool] = True
    #: Where get() is a request: httpx's own pool takes minutes for a thousand at once.
    many: ClassVar[int] = 1000

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    async def open(self) -> None:
        pass

    async def get(self) -> object:
        raise NotImplementedError

    def ripen(self) -> None:
        """Let go by what else keeps a renewal away after a first fetch."""

    async def aclose(self) -> None:
        pass


class Evertoken(Peer):
    name = "evertoken"
    due_after = 2.0
    note = "renews in the background at four fifths of the life"

    async def open(self):
        self.manager = TokenManager({"key": self.server.client_credentials()})
        await self.manager.start()
        self.handle = self.manager.handle("key")
        self.get = self.handle.get

    async def aclose(self):
        await self.manager.aclose()


class Snippet(Peer):
    name = "lock + dict"
    due_after = 31.0
    note = "leeway 30 s"

    async def open(self):
        self.lock, self.tokens = asyncio.Lock(), {}
        self.client = httpx.AsyncClient(verify=False)

    async def get(self):
        async with self.lock:
            token = self.tokens.get("key")
            if token is None or token["expires_at"] - 30 < time.time():
                form = {"grant_type": "client_credentials"}
                answer = await self.client.post(self.server.token_endpoint, data=form, auth=(CLIENT_ID, CLIENT_SECRET))
                token = answer.raise_for_status().json()
                token["expires_at"] = time.time() + token["expires_in"]
                self.tokens["key"] = token
            return token["access_token"]

    async def aclose(self):
        await self.client.aclose()


class Authlib(Peer):
    name = "authlib"
    due_after = 61.0
    note = "starts with an expired token: it has no cold path; leeway 60 s"

    async def open(self):
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # noqa: PLC0415 - optional

        self.client = AsyncOAuth2Client(
            CLIENT_ID,
            CLIENT_SECRET,
            token_endpoint=self.server.token_endpoint,
            grant_type="client_credentials",
            token={"access_token": "old", "token_type": "Bearer", "expires_at": 1},
            verify=False,
        )

    async def get(self):
        # The same step that its request() takes before it sends.
        await self.client.ensure_active_token(self.client.token)
        return self.client.token["access_token"]

    async def aclose(self):
        await self.client.aclose()


class GcloudAio(Peer):
    name = "gcloud-aio-auth"
    due_after = 2.0
    note = "renews in the background at half of the life"

    async def open(self):
        from gcloud.aio.auth import Token  # noqa: PLC0415 - optional

        described = {
            "type": "authorized_user",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": self.server.tell("issue_grant"),
            "token_uri": self.server.token_endpoint,
        }
        self.token = Token(service_file=io.StringIO(json.dumps(described)))
        self.get = self.token.get

    async def aclose(self):
        await self.token.close()


class Threaded(Peer):
    """One without a loop of its own: each call takes a thread, of 200 at the most."""

    plain_hit = False

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(server)
        self.pool = ThreadPoolExecutor(200)

    def get_sync(self) -> object:
        raise NotImplementedError

    async def get(self):
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.get_sync)

    async def aclose(self):
        self.pool.shutdown(wait=False)


class GoogleAuth(Threaded):
    name = "google-auth"
    due_after = 226.0
    note = "sync: threads, at most 200; threshold 225 s"

    async def open(self):
        import google.auth.transport.requests  # noqa: PLC0415 - optional
        from google.oauth2.credentials import Credentials  # noqa: PLC0415 - optional

        self.credentials = Credentials(
            None,
            refresh_token=self.server.tell("issue_grant"),
            token_uri=self.server.token_endpoint,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
        )
        self.request = google.auth.transport.requests.Request()

    def get_sync(self):
        headers: dict[str, str] = {}
        self.credentials.before_request(self.request, "GET", self.server.resource, headers)
        return headers["authorization"]


class Botocore(Threaded):
    name = "botocore"
    due_after = 901.0
    note = "sync: threads, at most 200; renews within 900 s of expiry, and makes all wait within 600 s"

    async def open(self):
        from botocore.credentials import DeferredRefreshableCredentials  # noqa: PLC0415 - optional

        self.client = httpx.Client(verify=False)
        self.credentials = DeferredRefreshableCredentials(self._fetch, "benchmark")

    def _fetch(self):
        form = {"grant_type": "client_credentials"}
        answer = self.client.post(self.server.token_endpoint, data=form, auth=(CLIENT_ID, CLIENT_SECRET))
        return as_aws_answers(answer.raise_for_status().json())

    def get_sync(self):
        return self.credentials.get_frozen_credentials().token

    async def aclose(self):
        await super().aclose()
        self.client.close()


class Aiobotocore(Peer):
    name = "aiobotocore"
    due_after = 901.0
    note = "renews within 900 s of expiry, and makes all wait within 600 s"

    async def open(self):
        from aiobotocore.credentials import AioDeferredRefreshableCredentials  # noqa: PLC0415 - optional

        self.client = httpx.AsyncClient(verify=False)
        self.credentials = AioDeferredRefreshableCredentials(self._fetch, "benchmark")
        self.get = self.credentials.get_frozen_credentials

    async def _fetch(self):
        form = {"grant_type": "client_credentials"}
        answer = await self.client.post(self.server.token_endpoint, data=form, auth=(CLIENT_ID, CLIENT_SECRET))
        return as_aws_answers(answer.raise_for_status().json())

    async def aclose(self):
        await self.client.aclose()


class AzureIdentity(Peer):
    name = "azure-identity"
    due_after = 301.0
    note = "its https authority is rewritten to loopback in the transport; renews within 300 s of expiry"

    async def open(self):
        from azure.core.pipeline.transport import AioHttpTransport  # noqa: PLC0415 - optional
        from azure.identity.aio import ClientSecretCredential  # noqa: PLC0415 - optional

        endpoint = self.server.token_endpoint

        class Rewritten(AioHttpTransport):
            async def send(self, request, **options):
                request.url = endpoint
                return await super().send(request, **options)

        tenant = "00000000-0000-0000-0000-000000000000"
        self.credential = ClientSecretCredential(tenant, CLIENT_ID, CLIENT_SECRET, transport=Rewritten())

    def ripen(self):
        # It asks at most once in 30 s: as if those had passed.
        self.credential._last_request_time = 0

    async def get(self):
        return (await self.credential.get_token("https://api.example.com/.default")).token

    async def aclose(self):
        await self.credential.close()


class Singleflight(Peer):
    name = "singleflight-auth"
    due_after = 1.0
    note = "only on a 401: get() is a request to the resource"
    many = 200
    plain_hit = False

    async def open(self):
        from singleflight_auth import AsyncSingleFlightAuth  # noqa: PLC0415 - optional

        self.token = "old"
        self.tokens = httpx.AsyncClient(verify=False)

        async def refresh():
            form = {"grant_type": "client_credentials"}
            answer = await self.tokens.post(self.server.token_endpoint, data=form, auth=(CLIENT_ID, CLIENT_SECRET))
            self.token = answer.raise_for_status().json()["access_token"]
            return self.token

        auth = AsyncSingleFlightAuth(get_token=lambda: self.token, refresh=refresh)
        self.client = httpx.AsyncClient(auth=auth, verify=False, timeout=60.0)

    async def get(self):
        return (await self.client.get(self.server.resource)).raise_for_status()

    async def aclose(self):
        await self.client.aclose()
        await self.tokens.aclose()


class HttpxAuth(Peer):
    name = "httpx-auth"
    due_after = 31.0
    note = "get() is a request to the resource; its fetch blocks the loop; early_expiry 30 s"
    many = 200
    plain_hit = False

    async def open(self):
        from httpx_auth import OAuth2, OAuth2ClientCredentials  # noqa: PLC0415 - optional

        OAuth2.token_cache.clear()
        auth = OAuth2ClientCredentials(self.server.token_endpoint, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
        self.client = httpx.AsyncClient(auth=auth, verify=False, timeout=60.0)

    async def get(self):
        return (await self.client.get(self.server.resource)).raise_for_status()

    async def aclose(self):
        await self.client.aclose()


PEERS: tuple[type[Peer], ...] = (
    Evertoken,
    Snippet,
    Authlib,
    GcloudAio,
    GoogleAuth,
    Botocore,
    Aiobotocore,
    AzureIdentity,
    Singleflight,
    HttpxAuth,
)

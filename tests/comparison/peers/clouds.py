# mypy: disable-error-code="import-not-found, import-untyped, misc, attr-defined, method-assign, unused-ignore"
"""The libraries of the clouds."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from tests.comparison._peer import CLIENT_ID, CLIENT_SECRET, FORM, Peer, ThreadedToken

TENANT = "00000000-0000-0000-0000-000000000000"


def as_aws_answers(answer: dict[str, Any]) -> dict[str, str]:
    """Return what an endpoint of AWS says of credentials with the token and the lifetime of *answer*."""
    expires_at = datetime.now(UTC) + timedelta(seconds=answer["expires_in"])
    return {
        "access_key": "AKIA",
        "secret_key": "aws",
        "token": answer["access_token"],
        "expiry_time": expires_at.isoformat(),
    }


class GcloudAio(Peer):
    name = "gcloud-aio-auth"
    package = "gcloud-aio-auth"
    imports = "import gcloud.aio.auth"
    due_after = 2.0
    room = (12.0, 6.0)
    note = "asyncio, aiohttp. Renews in the background at half of the lifetime."
    lacks = frozenset({"two processes"})

    async def open(self):
        from gcloud.aio.auth import Token  # noqa: PLC0415 - optional

        described = {
            "type": "authorized_user",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": self.grant or self.server.tell("issue_grant"),
            "token_uri": self.server.token_endpoint,
        }
        self.token = Token(service_file=io.StringIO(json.dumps(described)))
        self.get = self.token.get

    def held(self):
        return [self.token]

    async def aclose(self):
        await self.token.close()


class Botocore(ThreadedToken):
    name = "botocore"
    package = "botocore"
    imports = "import botocore.credentials"
    due_after = 901.0
    note = "Threads. Credentials of AWS, with a fetch that the user writes. Margin 900 s; all wait within 600 s."
    lacks = frozenset({"rotating", "two processes", "lifetimes"})

    async def open(self):
        from botocore.credentials import DeferredRefreshableCredentials  # noqa: PLC0415 - optional

        self.client = httpx.Client(verify=False)
        self.credentials = DeferredRefreshableCredentials(self._fetch, "benchmark")

    def _fetch(self):
        answer = self.client.post(self.server.token_endpoint, data=FORM, auth=(CLIENT_ID, CLIENT_SECRET))
        return as_aws_answers(answer.raise_for_status().json())

    def get_sync(self):
        return self.credentials.get_frozen_credentials().token

    def held(self):
        return [self.credentials, self.credentials.get_frozen_credentials()]

    async def aclose(self):
        await super().aclose()
        self.client.close()


class Aiobotocore(Peer):
    name = "aiobotocore"
    package = "aiobotocore"
    imports = "import aiobotocore.credentials"
    due_after = 901.0
    note = "asyncio. Credentials of AWS, with a fetch that the user writes. Margin 900 s; all wait within 600 s."
    lacks = frozenset({"rotating", "two processes", "lifetimes"})

    async def open(self):
        from aiobotocore.credentials import AioDeferredRefreshableCredentials  # noqa: PLC0415 - optional

        self.credentials = AioDeferredRefreshableCredentials(self._fetch, "benchmark")
        self.last: Any = None

    async def _fetch(self):
        async with httpx.AsyncClient(verify=False) as client:
            answer = await client.post(self.server.token_endpoint, data=FORM, auth=(CLIENT_ID, CLIENT_SECRET))
        return as_aws_answers(answer.raise_for_status().json())

    async def get(self):
        self.last = await self.credentials.get_frozen_credentials()
        return self.last.token

    def held(self):
        return [self.credentials, self.last]


class AzureIdentity(Peer):
    name = "azure-identity"
    package = "azure-identity"
    imports = "import azure.identity.aio"
    due_after = 301.0
    note = (
        "asyncio, aiohttp. `ClientSecretCredential`, its authority rewritten to loopback. Margin 300 s, and at "
        "least 30 s between two attempts, which the run skips once."
    )
    lacks = frozenset({"rotating", "two processes"})

    async def open(self):
        from azure.core.pipeline.transport import AioHttpTransport  # noqa: PLC0415 - optional
        from azure.identity.aio import ClientSecretCredential  # noqa: PLC0415 - optional

        endpoint = self.server.token_endpoint

        class Rewritten(AioHttpTransport):
            async def send(self, request, **options):
                request.url = endpoint
                return await super().send(request, **options)

        self.credential = ClientSecretCredential(TENANT, CLIENT_ID, CLIENT_SECRET, transport=Rewritten())
        self.last: Any = None

    def ripen(self):
        # It asks at most once in 30 s: as if those had passed.
        self.credential._last_request_time = 0

    async def get(self):
        self.last = await self.credential.get_token("https://api.example.com/.default")
        return self.last.token

    def held(self):
        return [self.credential, self.last]

    async def aclose(self):
        await self.credential.close()


class Msal(ThreadedToken):
    name = "msal"
    package = "msal"
    imports = "import msal"
    due_after = 301.0
    note = "Threads, requests. `ConfidentialClientApplication`, its authority rewritten to loopback. Margin 300 s."
    lacks = frozenset({"rotating", "two processes"})

    async def open(self):
        import msal  # noqa: PLC0415 - optional

        self.transport = _MsalTransport(self.server.token_endpoint)
        self.application = await self.in_thread(
            lambda: msal.ConfidentialClientApplication(
                CLIENT_ID,
                client_credential=CLIENT_SECRET,
                oidc_authority="https://login.example.com/tenant",
                http_client=self.transport,
            )
        )
        self.last: Any = None

    def get_sync(self):
        self.last = self.application.acquire_token_for_client(["https://api.example.com/.default"])
        if "access_token" not in self.last:
            msg = f"{self.last.get('error')}: {self.last.get('error_description')}"
            raise RuntimeError(msg)
        return self.last["access_token"]

    def held(self):
        return [self.application, self.last]


class _MsalTransport:
    """An HTTP client as msal wants it: the document of the authority, and a token endpoint on loopback."""

    def __init__(self, endpoint: str) -> None:
        import requests  # noqa: PLC0415 - optional

        self.endpoint, self.session = endpoint, requests.Session()

    def get(self, url, **_):
        base = "https://login.example.com/tenant"
        document = {"issuer": base, "authorization_endpoint": f"{base}/authorize", "token_endpoint": f"{base}/token"}
        return _MsalDocument(json.dumps(document))

    def post(self, url, **options):
        return self.session.post(self.endpoint, **options)

    def close(self):
        self.session.close()


class _MsalDocument:
    """An answer as msal reads it."""

    status_code = 200

    def __init__(self, text: str) -> None:
        self.text, self.headers = text, dict[str, str]()

    def raise_for_status(self):
        pass

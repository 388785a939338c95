# mypy: disable-error-code="import-not-found, import-untyped, misc, attr-defined, method-assign, unused-ignore"
"""Libraries for requests. Each call takes a thread."""

from __future__ import annotations

import json
import os

from tests.comparison._peer import CLIENT_ID, CLIENT_SECRET, ThreadedSession


class RequestsOAuthlib(ThreadedSession):
    name = "requests-oauthlib"
    package = "requests-oauthlib"
    imports = "import requests_oauthlib"
    due_after = 1.0
    note = (
        "Threads, requests. Renews with a refresh token only. Starts with an expired token, because it makes no first "
        "fetch. No margin."
    )

    async def open(self):
        # It accepts https only, and the server is on loopback.
        os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
        from requests.adapters import HTTPAdapter  # noqa: PLC0415 - optional
        from requests_oauthlib import OAuth2Session  # noqa: PLC0415 - optional

        grant = self.grant or self.server.tell("issue_grant")
        token = {"access_token": "old", "token_type": "Bearer", "expires_at": 1, "refresh_token": grant}
        if self.file is not None and self.file.exists():
            token = json.loads(self.file.read_text())
        self.session = OAuth2Session(
            CLIENT_ID,
            token=token,
            auto_refresh_url=self.server.token_endpoint,
            auto_refresh_kwargs={"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET},
            token_updater=self._updated,
        )
        self.session.mount("http://", HTTPAdapter(pool_maxsize=200))

    def _updated(self, token):
        if self.file is not None:
            self.file.write_text(json.dumps(token))

    def request_sync(self):
        return self.session.get(self.server.resource).status_code

    def held(self):
        return [self.session, self.session.token]


class RequestsOAuth2Client(ThreadedSession):
    name = "requests-oauth2client"
    package = "requests-oauth2client"
    imports = "import requests_oauth2client"
    due_after = 21.0
    note = "Threads, requests. Margin 20 s."
    lacks = frozenset({"two processes"})

    async def open(self):
        import requests  # noqa: PLC0415 - optional
        from requests.adapters import HTTPAdapter  # noqa: PLC0415 - optional
        from requests_oauth2client import (  # noqa: PLC0415 - optional
            BearerToken,
            OAuth2AccessTokenAuth,
            OAuth2Client,
            OAuth2ClientCredentialsAuth,
        )

        client = OAuth2Client(
            token_endpoint=self.server.token_endpoint,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            testing=True,
        )
        if self.grant is None:
            self.auth = OAuth2ClientCredentialsAuth(client)
        else:
            self.auth = OAuth2AccessTokenAuth(client, BearerToken("old", expires_in=1, refresh_token=self.grant))
        self.session = requests.Session()
        self.session.auth = self.auth
        self.session.mount("http://", HTTPAdapter(pool_maxsize=200))

    def request_sync(self):
        return self.session.get(self.server.resource).status_code

    def held(self):
        return [self.auth, self.auth.client, self.auth.token]


class GoogleAuth(ThreadedSession):
    name = "google-auth"
    package = "google-auth"
    imports = "import google.oauth2.credentials, google.auth.transport.requests"
    due_after = 226.0
    note = "Threads, requests. `AuthorizedSession`. Margin 225 s."
    lacks = frozenset({"two processes"})

    async def open(self):
        import google.auth.transport.requests  # noqa: PLC0415 - optional
        from google.oauth2.credentials import Credentials  # noqa: PLC0415 - optional
        from requests.adapters import HTTPAdapter  # noqa: PLC0415 - optional

        self.credentials = Credentials(
            None,
            refresh_token=self.grant or self.server.tell("issue_grant"),
            token_uri=self.server.token_endpoint,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
        )
        self.asking = google.auth.transport.requests.Request()
        self.session = google.auth.transport.requests.AuthorizedSession(self.credentials)
        self.session.mount("http://", HTTPAdapter(pool_maxsize=200))

    def get_sync(self):
        headers: dict[str, str] = {}
        self.credentials.before_request(self.asking, "GET", self.server.resource, headers)
        return headers["authorization"]

    async def get(self):
        return await self.in_thread(self.get_sync)

    def request_sync(self):
        return self.session.get(self.server.resource).status_code

    def held(self):
        return [self.credentials, self.session]

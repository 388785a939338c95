"""google-auth: requests with a transport in memory, and its async session without one."""

from __future__ import annotations

import contextlib
from typing import Any

import google.oauth2.credentials
from google.auth.aio.credentials import StaticCredentials
from google.auth.aio.transport.sessions import AsyncAuthorizedSession
from google.auth.transport.requests import AuthorizedSession
from tests.benchmarks.adapters.requests import URL, Transport

from evertoken.clients.google import AsyncCredentials, Credentials


class Response:
    status_code = 200


class Request:
    async def __call__(self, url: str, method: str, body: Any, headers: Any, *args: Any, **options: Any) -> Response:
        assert headers["authorization"] == "Bearer token"
        return Response()

    async def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def pair(tokens):
    static_credentials = google.oauth2.credentials.Credentials("token")
    with AuthorizedSession(static_credentials) as static, AuthorizedSession(Credentials(tokens.handle())) as ours:
        for session in (static, ours):
            session.trust_env = False
            session.mount("https://", Transport())
        yield lambda: static.get(URL), lambda: ours.get(URL)


@contextlib.asynccontextmanager
async def aio_pair(tokens):
    static = AsyncAuthorizedSession(StaticCredentials("token"), Request())
    ours = AsyncAuthorizedSession(AsyncCredentials(tokens.handle()), Request())

    async def ask_static() -> None:
        await static.get(URL)

    async def ask_ours() -> None:
        await ours.get(URL)

    yield ask_static, ask_ours


PAIRS = {
    "google.auth.transport.requests.AuthorizedSession": pair,
    "google.auth.aio.transport.sessions.AsyncAuthorizedSession": aio_pair,
}

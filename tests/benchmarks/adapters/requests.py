"""requests, with a transport in memory."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import requests

from evertoken.clients.requests import BearerAuth

URL = "https://api.example.com/v1/things"


class Transport(requests.adapters.BaseAdapter):
    def send(self, request: Any, *args: Any, **options: Any) -> requests.Response:
        assert request.headers["Authorization"] == "Bearer token"
        response = requests.Response()
        response.status_code, response.url, response.request, response.raw = 200, request.url, request, io.BytesIO()
        return response

    def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def pair(tokens):
    with requests.Session() as static, requests.Session() as ours:
        for session in (static, ours):
            session.trust_env = False
            session.mount("https://", Transport())
        static.headers["Authorization"] = "Bearer token"
        ours.auth = BearerAuth(tokens.handle())
        yield lambda: static.get(URL), lambda: ours.get(URL)


PAIRS = {"requests.Session": pair}

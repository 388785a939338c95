"""A `TokenServer` that also knows the device flow (RFC 8628), and takes notifications, for the guides."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from evertoken.testing import TokenServer

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class DeviceFlow:
    """An ASGI application around the one of *server*."""

    def __init__(self, server: TokenServer, client_id: str) -> None:
        self.server = server
        self.client_id = client_id
        self.inner = server.app
        self.approved = False
        self.polls = 0
        self.notices: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] not in {"/device", "/token", "/notify"}:
            await self.inner(scope, receive, send)
            return
        message = await receive()
        body = message.get("body", b"")
        form = dict(parse_qsl(body.decode()))
        if scope["path"] == "/notify":
            self.notices.append(body.decode())
            await answer(send, 200, {})
        elif scope["path"] == "/device":
            fields = {"device_code": "device-1", "user_code": "WDJB-MJHT", "verification_uri": f"{self.server.url}/go"}
            await answer(send, 200, {**fields, "expires_in": 900, "interval": 0.05})
        elif form.get("grant_type") == DEVICE_GRANT:
            self.polls += 1
            if not self.approved:
                await answer(send, 400, {"error": "authorization_pending"})
                return
            refresh_token = self.server.issue_grant("home", client_id=self.client_id)
            await answer(send, 200, {"access_token": "x", "expires_in": 60, "refresh_token": refresh_token})
        else:
            replayed = iter([message])

            async def again() -> Any:
                return next(replayed, None) or await receive()

            await self.inner(scope, again, send)


async def answer(send: Any, status: int, fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def device_server(client_id: str, **settings: Any) -> tuple[TokenServer, DeviceFlow]:
    """Return a server that is not started yet, and its device flow. *client_id* is a public client."""
    server = TokenServer(**settings)
    server.add_client(client_id)
    flow = server.app = DeviceFlow(server, client_id)  # type: ignore[assignment]
    return server, flow

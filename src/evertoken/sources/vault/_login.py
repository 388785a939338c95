"""A login at OpenBao or Vault, and the renewal of its token."""

from __future__ import annotations

import abc
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from evertoken._engine.clock import SystemClock
from evertoken._model.answer import Answer
from evertoken._model.errors import TokenError, TransientRefreshError
from evertoken._model.protocols import FetchRequest
from evertoken._model.redaction import quoted
from evertoken._model.token import REFUSED_BY
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._body import fields_of
from evertoken.sources._token_request import REVOCATION_TIMEOUT, Content, Endpoint
from evertoken.sources._url import check_name_in_path, is_near, without_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.token import Token

__all__ = ["Login"]

#: A token near the end of its renewable time gets less than this part of its first lease.
WORN_OUT: Final = 0.5

_REJECTIONS: Final = (400, 403, 404)

# The answer of a standby that does not forward ("High availability mode"). The active node has the same path.
_STANDBY: Final = 307

# The path of an auth method. Other characters would change the URL.
_MOUNT: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)*")


class Login(CarriesSecrets, abc.ABC):
    """
    An auth method of OpenBao or Vault.

    The token is renewed when its lease is due. If it cannot be renewed any longer, a new login brings another one. If a
    standby redirects to the active node (307), that node is asked once, with the same path and scheme.

    Args:
        address: The URL of the server, such as "https://vault.example.com:8200".

        mount: The path at which the auth method is mounted.

        namespace: The namespace, if the server has several.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: Allow http outside loopback.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self, address: str, mount: str, *, namespace: str | None = None, client: Any = None, allow_http: bool = False
    ) -> None:
        if not isinstance(mount, str) or not _MOUNT.fullmatch(mount.strip("/")):
            msg = f"mount must be the path of an auth method, not {quoted(mount)}"
            raise ValueError(msg)
        for name in mount.strip("/").split("/"):
            check_name_in_path("mount", name)
        self._address = str(address).rstrip("/")
        self._options: dict[str, Any] = {"client": client, "allow_http": allow_http, "parameter": "address"}
        self._login = self.at(f"auth/{mount.strip('/')}/login")
        self._namespace = namespace
        self.provider: str = self._login.origin

    @abc.abstractmethod
    async def body(self, request: FetchRequest) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the login request, and the texts in it that must stay secret."""

    async def log_in(self, request: FetchRequest) -> Answer:
        """
        Log in.

        Raises:
            TransientRefreshError: The server did not answer, is sealed, or throttles.
            GrantRejected: The server does not accept the login.
        """
        sent, hidden = await self.body(request)
        return _token_in(await self.post(self._login, request, sent, {}, hidden), None)

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Renew the present token, or log in.

        Raises:
            TransientRefreshError: The server did not answer, is sealed, or throttles.
            GrantRejected: The server does not accept the login.
        """
        current = request.current
        if current is not None and current.extra.get("renewable") and current.valid_at(SystemClock.time()):
            answer = await self._renew(request, current)
            if answer is not None:
                return answer
        return await self.log_in(request)

    async def revoke(self, token: Token, /) -> None:
        """
        Revoke *token* at the server.

        Raises:
            TransientRefreshError: The server could not be told.
            GrantRejected: The server does not know the token.
        """
        request = FetchRequest(None, token, REVOCATION_TIMEOUT)
        headers = {"X-Vault-Token": token.access_token}
        await self.post(self.at("auth/token/revoke-self"), request, {}, headers, (token.access_token,), wordless=True)

    async def _renew(self, request: FetchRequest, current: Token) -> Answer | None:
        first = current.extra.get("first_lease")
        headers = {"X-Vault-Token": current.access_token}
        try:
            renewal = self.at("auth/token/renew-self")
            answer = await self.post(renewal, request, {}, headers, (current.access_token,))
            renewed = _token_in(answer, first)
        except TokenError:
            # The renewal failed. A login may still work, and if not, it gives the reason.
            return None
        lease = renewed.fields.get("expires_in")
        return None if first and lease is not None and lease < first * WORN_OUT else renewed

    async def post(
        self,
        endpoint: Endpoint,
        request: FetchRequest,
        body: Mapping[str, str],
        headers: dict[str, str],
        secrets: tuple[str, ...],
        *,
        wordless: bool = False,
    ) -> Answer:
        """
        Send *body* to *endpoint*, or to the node to which a standby redirects.

        Raises:
            TransientRefreshError: The server did not answer, is sealed, or throttles.
            GrantRejected: The server refuses.
        """
        if self._namespace is not None:
            headers = {**headers, "X-Vault-Namespace": self._namespace}
        active: list[str] = []

        def seen(status: int, fields: Any, _: object) -> None:
            if status == _STANDBY:
                active.append(fields.get("location", ""))

        async def send(there: Endpoint) -> Answer:
            return await there.send(
                request,
                Content("POST", json.dumps(dict(body)).encode(), "application/json"),
                {**headers, "X-Vault-Request": "true"},
                secrets=secrets,
                wordless=wordless,
                rejections=_REJECTIONS,
                read=_empty_too if wordless else _fields,
                seen=seen,
            )

        try:
            return await send(endpoint)
        except TransientRefreshError:
            if not active:
                raise
        return await send(self._active(endpoint, active[0]))

    def _active(self, asked: Endpoint, location: str) -> Endpoint:
        here, there = urlsplit(asked.url), urlsplit(location)
        failure = f"{asked.origin} is a standby and sends to another place than the same path of the active node"
        if (there.path, there.query, there.fragment) == (here.path, "", "") and there.scheme == here.scheme:
            try:
                found = Endpoint(location, **self._options)
            except ValueError:
                failure = f"{asked.origin} is a standby and names no active node (api_addr) that may be asked"
            else:
                # Another machine does not know which addresses are near this one.
                if is_near(asked.url) or not is_near(location):
                    return found
                failure = f"{asked.origin} is a standby whose active node calls itself {found.origin} (api_addr)"
        msg = f"{failure}; use the address of the active node, or of a load balancer"
        raise TransientRefreshError(msg)

    def at(self, path: str) -> Endpoint:
        """Return the endpoint of the API at *path*."""
        return Endpoint(f"{self._address}/v1/{path}", **self._options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({without_query(self._login.url)!r})"


def _token_in(answer: Answer, first: float | None) -> Answer:
    auth = answer.fields.get("auth")
    lease = auth.get("lease_duration") if isinstance(auth, dict) else None
    if not isinstance(auth, dict) or isinstance(lease, bool) or not isinstance(lease, int | float):
        msg = "unreadable answer: no auth in it"
        raise TransientRefreshError(msg)
    fields = {
        "access_token": auth.get("client_token"),
        "renewable": auth.get("renewable") is True,
        "first_lease": first or lease,
        "policies": auth.get("policies"),
        # The server never answers 401. It forbids a token that has ended.
        REFUSED_BY: [403],
        # A root-like token has no lease, and never ends.
        **({"expires_in": lease} if lease > 0 else {}),
    }
    return Answer(fields, date=answer.date)


def _fields(body: bytes, content_type: str) -> dict[str, Any] | None:
    fields = fields_of(body, content_type)
    errors = None if fields is None else fields.get("errors")
    if fields is None or not isinstance(errors, list) or not errors:
        return fields
    return {**fields, "error_description": "; ".join(map(str, errors))}


def _empty_too(body: bytes, content_type: str) -> dict[str, Any] | None:
    return _fields(body, content_type) if body else {}

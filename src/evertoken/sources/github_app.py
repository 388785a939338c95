"""Installation tokens of a GitHub App."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._model.answer import Answer
from evertoken._model.error_response import passes
from evertoken._model.errors import TransientRefreshError
from evertoken._model.identity import identity_from
from evertoken._model.parsing import http_date, number
from evertoken._model.redaction import quoted
from evertoken._model.token import SETTLES_IN
from evertoken._signing.jose import Signer
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret
from evertoken._signing.server_time import dated, learn, skew
from evertoken.sources._body import fields_of
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import url_identity, without_query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evertoken._model.protocols import FetchRequest

__all__ = ["GitHubApp"]

API: Final = "https://api.github.com"

# GitHub accepts no assertion from the future, and none with more than ten minutes of life.
_BACK: Final = 60
_LIFETIME: Final = 540.0

# Seconds until all servers of GitHub know a new token. GitHub's own client waits as long.
_SETTLES_IN: Final = 5


@final
class GitHubApp(CarriesSecrets):
    """
    Tokens of an installation of a GitHub App. Its key signs the assertions. It needs the extra `jwt`.

    Some servers of GitHub may not know a new token in its first seconds. If a request is refused then, the manager's
    auth object sends it again after a moment, and does not replace the token.

    Args:
        client_id: The client id or the app id of the app.

        installation_id: The id of the installation.

        private_key: The private key in PEM: a string, a `pathlib.Path`, or a function. It is read for each fetch.

        repositories: The names of the repositories that the token may use. By default all of them.

        permissions: The permissions of the token, such as {"contents": "read"}. By default all that were granted.

        api: The URL of the API. For GitHub Enterprise Server, use "https://HOST/api/v3".

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
        ImportError: The extra is not installed.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        client_id: str | int,
        installation_id: int,
        private_key: Secret,
        *,
        repositories: Sequence[str] | None = None,
        permissions: Mapping[str, str] | None = None,
        api: str = API,
        client: Any = None,
    ) -> None:
        check_secret("private_key", private_key)
        if isinstance(client_id, bool) or not isinstance(client_id, str | int) or not client_id:
            msg = f"client_id must be the app's client id or app id, not {quoted(client_id)}"
            raise ValueError(msg)
        if isinstance(installation_id, bool) or not isinstance(installation_id, int) or installation_id < 1:
            msg = f"installation_id must be a number, not {quoted(installation_id)}"
            raise ValueError(msg)
        if isinstance(repositories, str):
            msg = "repositories must be several names, not one string"
            raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake
        url = f"{api.rstrip('/')}/app/installations/{installation_id}/access_tokens"
        self._endpoint = Endpoint(url, client=client, parameter="api")
        self._signer = Signer(private_key, "RS256", symmetric=False, key_id=None, lifetime=_LIFETIME)
        self._issuer = str(client_id)
        asked = {"repositories": repositories and list(repositories), "permissions": permissions and dict(permissions)}
        self._asked = {name: value for name, value in asked.items() if value}
        self.provider: str = self._endpoint.origin
        self.identity: str | None = identity_from("GitHubApp", url_identity(url), self._issuer, self._asked)

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Sign an assertion, and request a token.

        If GitHub refuses the times of the assertion, the clock is corrected by its Date, and it is asked once more.

        Raises:
            TransientRefreshError: GitHub did not answer, throttles, or refuses the times again.
            GrantRejected: The app or its installation is unknown or suspended, or lacks a requested permission.
        """
        url = self._endpoint.url
        before = skew(url)
        try:
            return await self._ask(request)
        except TransientRefreshError:
            # The clock is corrected only if the times of the assertion were refused.
            if skew(url) == before:
                raise
        return await self._ask(request)

    async def _ask(self, request: FetchRequest) -> Answer:
        now = int(dated(self._endpoint.url))
        claims = {"iss": self._issuer, "iat": now - _BACK, "exp": now + int(_LIFETIME)}
        assertion, hidden = await self._signer.sign(claims)
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {assertion}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        content = Content("POST", json.dumps(self._asked).encode(), "application/json")
        answer = await self._endpoint.send(
            request, content, headers, secrets=hidden, rejections=(401, 404, 422), read=_fields, seen=self._seen
        )
        fields = {**answer.fields, "access_token": answer.fields.get("token"), SETTLES_IN: _SETTLES_IN}
        return Answer({name: value for name, value in fields.items() if name != "token"}, date=answer.date)

    def _seen(self, status: int, headers: Any, fields: Mapping[str, Any]) -> None:
        _judge_rate(status, headers)
        if status == 401 and passes(fields.get("error_description")):  # noqa: PLR2004 - RFC 9110
            learn(self._endpoint.url, http_date(headers.get("date", "")))

    def __repr__(self) -> str:
        return f"GitHubApp({self._issuer!r}, {without_query(self._endpoint.url)!r})"


def _judge_rate(status: int, headers: Any) -> None:
    # The hourly limit is reported without Retry-After.
    if status in {403, 429} and headers.get("x-ratelimit-remaining") == "0" and "retry-after" not in headers:
        ends, now = number(headers.get("x-ratelimit-reset")), http_date(headers.get("date", ""))
        left = None if ends is None else max(ends - (SystemClock.time() if now is None else now), 0.0)
        msg = f"GitHub answered {status}: the requests of this hour are used up"
        raise TransientRefreshError(msg, retry_after=left, status=429)


def _fields(body: bytes, content_type: str) -> dict[str, Any] | None:
    fields = fields_of(body, content_type)
    said = None if fields is None else fields.get("message")
    if fields is None or not isinstance(said, str):
        return fields
    # A rate limit has the same status, 403, but is temporary.
    error = {"error": "access_denied"} if "suspended" in said else {}
    return {**fields, **error, "error_description": said}

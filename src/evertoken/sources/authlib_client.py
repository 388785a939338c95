"""A client of Authlib that a program already has."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, final

from evertoken._engine.observers import say
from evertoken._model.answer import Answer
from evertoken._model.error_response import failure_from
from evertoken._model.errors import TransientRefreshError
from evertoken._model.guarded import Guarded
from evertoken._model.identity import digest_of, identity_from
from evertoken._model.parsing import http_date, parse_retry_after
from evertoken._model.redaction import describe, named_secrets
from evertoken.sources._sent import Sent
from evertoken.sources._url import check_url, origin_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.errors import GrantRejected
    from evertoken._model.protocols import FetchRequest

__all__ = ["AuthlibClient"]


@final
class AuthlibClient(Guarded):
    """
    Tokens by an `AsyncOAuth2Client` of Authlib, for programs that have configured one already.

    `AuthlibClient(AsyncOAuth2Client("app", secret, token_endpoint="https://as.example.com/token"))`. If the client has
    a token with a refresh token, that grant goes on: each fetch calls `refresh_token` with the newest one. Otherwise
    each fetch calls `fetch_token` with *parameters*: the client credentials grant, unless they say otherwise. The
    client stays yours: close it after the manager, use it on the manager's loop alone, and call APIs with
    `tokens.auth()` and not with the client, which would refresh by itself.

    Args:
        client: The client (`authlib.integrations.httpx_client.AsyncOAuth2Client`), with a `token_endpoint`.

        parameters: More arguments of `fetch_token`, such as `{"audience": "https://api.example.com"}`.

    Raises:
        TypeError: *client* has another type.
        ValueError: The client has no `token_endpoint`, or it is http outside loopback.
    """

    def __init__(self, client: Any, *, parameters: Mapping[str, Any] | None = None) -> None:
        needed = ("fetch_token", "refresh_token", "register_compliance_hook", "token", "metadata")
        if not all(hasattr(client, name) for name in needed):
            msg = f"client must be an AsyncOAuth2Client of Authlib, not {type(client).__name__}"
            raise TypeError(msg)
        endpoint = client.metadata.get("token_endpoint")
        if not isinstance(endpoint, str) or not endpoint:
            msg = "client must have a token_endpoint: AsyncOAuth2Client(..., token_endpoint='https://...')"
            raise ValueError(msg)
        self._client = client
        self._endpoint = check_url("token_endpoint", endpoint, allow_http=False)
        self._parameters = dict(parameters or {})
        self._initial = self._given()
        # The refresh token that a fetch of this source left in the client.
        self._left: str | None = None
        # The answer to a fetch: the status, and the header fields.
        self._answered: tuple[int, Any] | None = None
        for kind in ("access_token_response", "refresh_token_response"):
            client.register_compliance_hook(kind, self._note)
        #: Without a refresh token, nothing can be spent.
        self.rotates: bool | None = False if self._initial is None else None
        self.provider: str = origin_of(endpoint)

    @property
    def identity(self) -> str | None:
        """The owner of its tokens: the endpoint, the client and its scope. It is None if a person has logged in."""
        if self.rotates is None:
            return None
        asked = sorted((name, digest_of(str(value))) for name, value in self._parameters.items())
        return identity_from("AuthlibClient", self._endpoint, self._client.client_id, self._client.scope or "", asked)

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Call `refresh_token` or `fetch_token` of the client.

        Raises:
            TransientRefreshError: The server could not be reached, or says that it may work later.
            GrantRejected: The server said no, or a person must log in.
        """
        client, before, sent = self._client, self._client.token, Sent(request)
        presented = self._newest(request)
        self._answered = None
        sent.begin()
        try:
            if presented is None:
                await client.fetch_token(self._endpoint, **self._parameters)
            else:
                await client.refresh_token(self._endpoint, refresh_token=presented)
        except Exception as error:  # noqa: BLE001 - the client's, of its HTTP library, or of the program's hooks
            failure = self._failure(error, sent, presented) if client.token is before else None
            if failure is None:
                # A hook of the program, such as `update_token`, which is called when the answer has arrived.
                say(logging.WARNING, "a hook of the Authlib client raised %s; the token is used", type(error).__name__)
        else:
            failure = None
        finally:
            if client.token is not before:
                request.received(self._answer())
        if failure is not None:
            raise failure
        return self._answer()

    def _note(self, response: Any) -> Any:
        self._answered = response.status_code, response.headers
        return response

    def _date(self) -> float | None:
        return None if self._answered is None else http_date(self._answered[1].get("date", ""))

    def _answer(self) -> Answer:
        fields = dict(self._client.token)
        self._left = fields.get("refresh_token")
        if "expires_in" in fields:
            # Authlib adds an instant by the clock of this machine.
            fields.pop("expires_at", None)
        return Answer(fields, date=self._date())

    def _given(self) -> str | None:
        token: Any = self._client.token
        found = None if token is None else token.get("refresh_token")
        return found if isinstance(found, str) and found else None

    def _newest(self, request: FetchRequest) -> str | None:
        if self._initial is None:
            return None
        kept = None if request.current is None else request.current.refresh_token
        given = self._given() or self._initial
        # A login is new if the program has put it into the client. A member of a fleet may have spent the last one.
        if given not in {self._left, kept}:
            return request.refresh_token_for(given)
        return kept or given

    def _failure(self, error: Exception, sent: Sent, presented: str | None) -> GrantRejected | TransientRefreshError:
        texts = ((name, value) for name, value in self._parameters.items() if isinstance(value, str))
        secrets = [presented, self._client.client_secret, *named_secrets(texts)]
        code = getattr(error, "error", None)
        status, headers = self._answered or (None, {})
        if isinstance(code, str) or (status is not None and status >= 400):  # noqa: PLR2004 - RFC 9110
            fields = {"error": code, "error_description": getattr(error, "description", None)}
            return failure_from(
                {name: value for name, value in fields.items() if value},
                status=status,
                retry_after=parse_retry_after(headers.get("retry-after"), self._date()),
                origin=self.provider,
                secrets=secrets,
            )
        ambiguous = status is not None or sent.ambiguous(error)
        return TransientRefreshError(f"{self.provider}: {describe(error, secrets)}", ambiguous=ambiguous)

    def __repr__(self) -> str:
        return f"AuthlibClient({self._client.client_id!r}, {self._endpoint!r})"

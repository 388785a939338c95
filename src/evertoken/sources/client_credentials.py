"""The client credentials grant (RFC 6749 section 4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evertoken.sources._grant import Grant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest
    from evertoken.sources.oauth_client import OAuthClient

__all__ = ["ClientCredentials"]


@final
class ClientCredentials(Grant):
    """
    Tokens for the client itself: the client credentials grant (RFC 6749 section 4.4).

    Each fetch repeats the whole request with all its parameters. Such tokens can be fetched freely, so a lost answer
    only costs another request.

    Args:
        client: The client. It must authenticate, because the RFC does not allow this grant for public clients.

        scope: A text with spaces, or several strings (RFC 6749 section 3.3).

        audience: The audience of the token, if the server needs it.

        resource: One or several resource indicators (RFC 8707).

        parameters: Further form fields. They are sent with each request.

    Raises:
        TypeError: *client* is not an `OAuthClient`.
        ValueError: Another argument is missing or invalid. The message names it.
    """

    __slots__ = ()

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        client: OAuthClient,
        *,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(client, scope=scope, audience=audience, resource=resource, parameters=parameters)
        if client.public:
            msg = "client credentials need a client_secret, or client_auth: give the OAuthClient a client_secret"
            raise ValueError(msg)

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Ask the token endpoint for a token."""
        habits = self._client.habits
        grant_type = "client_credentials" if habits is None else habits.grant_type
        answer = await self._client.post(request, ("grant_type", grant_type), *self._fields)
        # RFC 6749 section 4.4.3: there should be no refresh token here, and it would never be used.
        fields = {name: value for name, value in answer.fields.items() if name != "refresh_token"}
        return answer.replace(fields=fields)

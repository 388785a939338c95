"""The password grant (RFC 6749 section 4.3), for servers that offer nothing better."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evertoken._signing.secret import Secret, check_secret, resolve
from evertoken.sources._grant import Grant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest
    from evertoken.sources.oauth_client import OAuthClient

__all__ = ["LegacyPassword"]


@final
class LegacyPassword(Grant):
    """
    Tokens for a name and a password: the resource owner password credentials grant (RFC 6749 section 4.3).

    OAuth 2.1 has dropped it, and RFC 9700 section 2.4 forbids it, so use it only if there is no alternative. Each fetch
    is a new login. A refresh token in the answer is not used.

    Args:
        client: The client. Some servers accept a login without a client id.

        username: The name of the user.

        password: The password: a string, a `pathlib.Path`, or a function. It is read for each fetch.

        scope: A text with spaces, or several strings (RFC 6749 section 3.3).

        audience: The audience of the token, if the server needs it.

        resource: One or several resource indicators (RFC 8707).

        parameters: Further form fields. They are sent with each request.

    Raises:
        TypeError: *client* is not an `OAuthClient`.
        ValueError: Another argument is missing or invalid. The message names it.
    """

    __slots__ = ("_password", "_username")

    anonymous = True
    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        client: OAuthClient,
        username: str,
        password: Secret,
        *,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(client, scope=scope, audience=audience, resource=resource, parameters=parameters)
        if not isinstance(username, str) or not username:
            msg = f"username must be a non-empty string, not {type(username).__name__}"
            raise ValueError(msg)
        check_secret("password", password)
        self._username, self._password = username, password

    def _own_identity(self) -> list[str] | None:
        return [self._username]

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Log in."""
        password = await resolve(self._password, "password")
        form = ("grant_type", "password"), ("username", self._username), ("password", password)
        answer = await self._client.post(request, *form, *self._fields, secrets=(password,))
        fields = {name: value for name, value in answer.fields.items() if name != "refresh_token"}
        return answer.replace(fields=fields)

"""The password grant (RFC 6749 section 4.3), for servers that know nothing better."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, final

from evertoken._signing.secret import Secret, check_secret, resolve
from evertoken.sources._grant import Grant, GrantOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from evertoken._model.protocols import FetchRequest
    from evertoken._model.token_response import Answer

__all__ = ["LegacyPassword"]


@final
class LegacyPassword(Grant):
    """
    Tokens for a name and a password: the resource owner password credentials grant (RFC 6749 section 4.3).

    OAuth 2.1 has dropped it, and RFC 9700 section 2.4 forbids it: use it where there is nothing else. Each fetch is
    the login again; a refresh token in the answer is not used.

    Args:
        username: The name.

        password: The password: a string, a `pathlib.Path`, or a function. It is read at each fetch.

        options: `token_endpoint` or `issuer`, and what else `ClientCredentials` takes.

    Raises:
        ValueError: An argument is missing or makes no sense; the message names it.
    """

    anonymous = True
    rotates = False
    on_ambiguous = "retry"

    def __init__(self, username: str, password: Secret, **options: Unpack[GrantOptions]) -> None:
        super().__init__(**options)
        if not isinstance(username, str) or not username:
            msg = f"username must be a non-empty string, not {type(username).__name__}"
            raise ValueError(msg)
        check_secret("password", password)
        self._username, self._password = username, password

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Log in."""
        password = await resolve(self._password, "password")
        form = ("grant_type", "password"), ("username", self._username), ("password", password)
        answer = await self.post(request, *form, secrets=(password,))
        fields = {name: value for name, value in answer.fields.items() if name != "refresh_token"}
        return replace(answer, fields=fields)

"""A person who logged in with gcloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._token_request import Endpoint
from evertoken.sources.google._info import TOKEN_URI, Info, check_info, read_info, scope_of, text_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evertoken._model.protocols import FetchRequest
    from evertoken._model.token_response import Answer

__all__ = ["AuthorizedUser"]


@final
class AuthorizedUser(CarriesSecrets):
    """
    Tokens on behalf of a person who logged in: what `gcloud auth application-default login` left behind.

    Args:
        info: The content of that file, or a `pathlib.Path` to it, which is read at each fetch.

        scopes: A narrower scope to ask for; all that was granted unless given.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument makes no sense; the message names it.
    """

    rotates = False
    on_ambiguous = "retry"
    provider = TOKEN_URI

    def __init__(self, info: Info, *, scopes: str | Iterable[str] | None = None, client: Any = None) -> None:
        check_info(info)
        self._info = info
        self._scope = None if scopes is None else scope_of(scopes)
        self._client = client

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Present the newest refresh token, or the one of the file where a person has logged in anew.

        Raises:
            TransientRefreshError: It failed for a reason that passes.
            GrantRejected: The file is none, or the person has to log in again.
        """
        info = await read_info(self._info, "authorized_user")
        endpoint = Endpoint(str(info.get("token_uri") or TOKEN_URI), client=self._client, parameter="token_uri")
        form = [("grant_type", "refresh_token")]
        form += [(name, text_in(info, name)) for name in ("client_id", "client_secret")]
        form.append(("refresh_token", request.refresh_token_for(text_in(info, "refresh_token"))))
        if self._scope is not None:
            form.append(("scope", self._scope))
        return await endpoint.post(request, form, {}, secrets=[value for name, value in form[2:4]])

    def __repr__(self) -> str:
        return "AuthorizedUser()"

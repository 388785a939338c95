"""A user who logged in with gcloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.identity import identity_from
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._token_request import Endpoint
from evertoken.sources.google._info import (
    TOKEN_URI,
    Info,
    basic,
    identity_in,
    quota_told,
    read_info,
    scope_of,
    text_in,
    wrong_info,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest

__all__ = ["AUTHORIZED_USERS", "AuthorizedUser"]

#: The types of files that a user's login creates.
AUTHORIZED_USERS: Final = ("authorized_user", "external_account_authorized_user")


@final
class AuthorizedUser(CarriesSecrets):
    """
    Tokens on behalf of a user who logged in with `gcloud auth application-default login`.

    The file may have the type `authorized_user`, or `external_account_authorized_user` after a login through workforce
    identity federation. If it names a `quota_project_id`, that is in the token's `extra`. Send it in the
    field `x-goog-user-project`.

    Args:
        info: The content of that file, or a `pathlib.Path` to it, which is read for each fetch.

        scopes: Narrower scopes to request. By default, all that were granted.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"
    provider = TOKEN_URI

    def __init__(self, info: Info, *, scopes: str | Iterable[str] | None = None, client: Any = None) -> None:
        failure = wrong_info(info)
        if failure is not None:
            del info
            raise ValueError(failure)
        self._info = info
        self._scope = None if scopes is None else scope_of(scopes)
        self.identity: str | None = identity_from("Google user", identity_in(info, "client_id"), self._scope or "")
        self._client = client

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Present the newest refresh token, or that of the file if the user has logged in again.

        Raises:
            TransientRefreshError: It failed temporarily.
            GrantRejected: The file is invalid, or the user must log in again.
        """
        info = await read_info(self._info, *AUTHORIZED_USERS)
        token = request.refresh_token_for(text_in(info, "refresh_token"))
        form = [("grant_type", "refresh_token"), ("refresh_token", token)]
        name, secret = text_in(info, "client_id"), text_in(info, "client_secret")
        headers: dict[str, str] = {}
        if info["type"] == "authorized_user":
            url, parameter = str(info.get("token_uri") or TOKEN_URI), "token_uri"
            form += [("client_id", name), ("client_secret", secret)]
        else:
            url, parameter = text_in(info, "token_url"), "token_url"
            headers = basic(name, secret)
        if self._scope is not None:
            form.append(("scope", self._scope))
        endpoint = Endpoint(url, client=self._client, parameter=parameter)
        return quota_told(await endpoint.post(request, form, headers, secrets=(token, secret)), info)

    def __repr__(self) -> str:
        return "AuthorizedUser()"

"""AppRole of OpenBao and Vault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from evertoken._model.errors import GrantRejected
from evertoken._model.identity import identity_from
from evertoken._model.token import fingerprint_of
from evertoken._signing.secret import Secret, check_secret, resolve, secret_identity
from evertoken.sources._url import url_identity
from evertoken.sources.vault._login import Login

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest

__all__ = ["AppRole"]


@final
class AppRole(Login):
    """
    Tokens of OpenBao or Vault for a role and its secret id. They are renewed as long as possible.

    Send them with `HeaderAuth(tokens.handle(), "X-Vault-Token")`.

    Args:
        address: The URL of the server, such as "https://vault.example.com:8200".

        role_id: The id of the role.

        secret_id: Its secret id: a string, a `pathlib.Path` or a function, read for each login. Leave it out if not
            needed.

        wrapped: Whether *secret_id* is the wrapping token of a secret id (response wrapping). It is unwrapped only
            once, because the server allows it only once, and the secret id is kept in memory for later logins.

        mount: The path at which the auth method is mounted.

        namespace: The namespace, if the server has several.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: Allow http outside loopback.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    def __init__(
        self,
        address: str,
        role_id: Secret,
        secret_id: Secret | None = None,
        *,
        wrapped: bool = False,
        mount: str = "approle",
        namespace: str | None = None,
        client: Any = None,
        allow_http: bool = False,
    ) -> None:
        super().__init__(address, mount, namespace=namespace, client=client, allow_http=allow_http)
        check_secret("role_id", role_id)
        if secret_id is not None:
            check_secret("secret_id", secret_id)
        if wrapped and secret_id is None:
            msg = "wrapped=True needs a secret_id: the wrapping token"
            raise ValueError(msg)
        self._role_id, self._secret_id, self._wrapped = role_id, secret_id, wrapped
        self.identity: str | None = identity_from(
            "vault approle", url_identity(self._login.url), namespace or "", secret_identity(role_id)
        )
        # The fingerprint of the wrapping token that was unwrapped last, and its content.
        self._unwrapped: tuple[str, str] | None = None

    async def body(self, request: FetchRequest) -> tuple[dict[str, str], tuple[str, ...]]:
        """
        Return the role id and the secret id.

        Raises:
            TransientRefreshError: The server did not answer.
            GrantRejected: The wrapping token was already used by somebody else, or has expired.
        """
        sent = {"role_id": await resolve(self._role_id, "role_id")}
        if self._secret_id is None:
            return sent, ()
        secret = await resolve(self._secret_id, "secret_id")
        hidden = (secret,)
        if self._wrapped:
            secret = await self._unwrap(request, secret)
        return {**sent, "secret_id": secret}, (secret, *hidden)

    async def _unwrap(self, request: FetchRequest, token: str) -> str:
        known = fingerprint_of(token)
        if self._unwrapped is None or self._unwrapped[0] != known:
            try:
                answer = await self.post(
                    self.at("sys/wrapping/unwrap"), request, {}, {"X-Vault-Token": token}, (token,)
                )
            except GrantRejected as error:
                said = (
                    f"{error.error_description}; the wrapping token of secret_id has expired, or somebody has used it"
                )
                failure = GrantRejected(error.error, said)
            else:
                data = answer.fields.get("data")
                found = data.get("secret_id") if isinstance(data, dict) else None
                if isinstance(found, str) and found:
                    self._unwrapped = known, found
                    return found
                failure = GrantRejected("invalid_request", "the wrapping token of secret_id wraps no secret_id")
            raise failure
        return self._unwrapped[1]

"""AppRole of OpenBao and Vault."""

from __future__ import annotations

from typing import Any, final

from evertoken._signing.secret import Secret, check_secret, resolve
from evertoken.sources.vault._login import Login

__all__ = ["AppRole"]


@final
class AppRole(Login):
    """
    Tokens of OpenBao or Vault for a role and its secret id. They are renewed by their lease, as long as they can be.

    Send them with `HeaderAuth(tokens.handle(), "X-Vault-Token")`.

    Args:
        address: Where the server is, such as "https://vault.example.com:8200".

        role_id: The role's id.

        secret_id: Its secret id: a string, a `pathlib.Path` or a function, read at each login; None if it needs none.

        mount: Where the auth method is mounted.

        namespace: The namespace, where there are several.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: Allow http outside loopback.

    Raises:
        ValueError: An argument makes no sense; the message names it.
    """

    def __init__(
        self,
        address: str,
        role_id: Secret,
        secret_id: Secret | None = None,
        *,
        mount: str = "approle",
        namespace: str | None = None,
        client: Any = None,
        allow_http: bool = False,
    ) -> None:
        super().__init__(address, mount, namespace=namespace, client=client, allow_http=allow_http)
        check_secret("role_id", role_id)
        if secret_id is not None:
            check_secret("secret_id", secret_id)
        self._role_id, self._secret_id = role_id, secret_id

    async def body(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the role's id and its secret."""
        sent = {"role_id": await resolve(self._role_id, "role_id")}
        if self._secret_id is None:
            return sent, ()
        secret = await resolve(self._secret_id, "secret_id")
        return {**sent, "secret_id": secret}, (secret,)

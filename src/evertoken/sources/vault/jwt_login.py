"""JWT and Kubernetes logins of OpenBao and Vault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from evertoken._model.identity import identity_from
from evertoken._model.redaction import quoted
from evertoken._signing.secret import Secret, check_secret, resolve
from evertoken.sources._detected import Patience
from evertoken.sources._url import url_identity
from evertoken.sources.vault._login import Login

if TYPE_CHECKING:
    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest

__all__ = ["JwtLogin"]


@final
class JwtLogin(Login):
    """
    Tokens of OpenBao or Vault for a JWT of another identity provider, such as a Kubernetes service account.

    A "permission denied" is transient for its first minute, because the server gives the same answer if it cannot ask
    the cluster about the token. Tokens are renewed as long as possible. Send them with
    `HeaderAuth(tokens.handle(), "X-Vault-Token")`.

    Args:
        address: The URL of the server, such as "https://vault.example.com:8200".

        role: The role of the login.

        jwt: The token to present: a `pathlib.Path` or a function, read for each login.

        mount: The path at which the auth method is mounted, such as "kubernetes".

        namespace: The namespace, if the server has several.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: Allow http outside loopback.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    def __init__(
        self,
        address: str,
        role: str,
        jwt: Secret,
        *,
        mount: str = "jwt",
        namespace: str | None = None,
        client: Any = None,
        allow_http: bool = False,
    ) -> None:
        super().__init__(address, mount, namespace=namespace, client=client, allow_http=allow_http)
        if not isinstance(role, str) or not role:
            msg = f"role must be a non-empty string, not {quoted(role)}"
            raise ValueError(msg)
        check_secret("jwt", jwt)
        self._role, self._jwt = role, jwt
        self.identity: str | None = identity_from("vault jwt", url_identity(self._login.url), namespace or "", role)
        self._patience = Patience(always=True, only="permission denied")

    async def log_in(self, request: FetchRequest) -> Answer:
        """
        Log in.

        Raises:
            TransientRefreshError: The server did not answer, is sealed, throttles, or has refused for less than a
                minute.
            GrantRejected: The server does not accept the login.
        """
        answer: Answer = await self._patience.of(super().log_in(request))
        return answer

    async def body(self, request: FetchRequest) -> tuple[dict[str, str], tuple[str, ...]]:  # noqa: ARG002 - every login has this parameter
        """Return the role, and the token that is presented for it."""
        token = await resolve(self._jwt, "jwt")
        return {"role": self._role, "jwt": token}, (token,)

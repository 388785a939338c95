"""An application of Microsoft Entra ID that authenticates with its certificate."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.identity import identity_from
from evertoken._signing.jose import Signer, pair_in
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret, in_thread, resolve
from evertoken._signing.secret_file import read_secret_file
from evertoken.sources._client_authentication import PrivateKeyJwt
from evertoken.sources._path import wrong_path
from evertoken.sources._url import url_identity
from evertoken.sources.azure._entra import AUTHORITY, token_endpoint_of
from evertoken.sources.client_credentials import ClientCredentials
from evertoken.sources.oauth_client import OAuthClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest

__all__ = ["ClientCertificate"]

#: The lifetime of an assertion in seconds.
LIFETIME: Final = 600.0


@final
class ClientCertificate(CarriesSecrets):
    """
    Tokens of an application that presents its certificate (RFC 7523 section 2.2). It needs the extra `jwt`.

    Args:
        certificate: The certificate and its private key: a `pathlib.Path` to both in PEM or in PKCS #12 (a PFX file),
            or both in PEM in one text, as a string or a function. It is read for each fetch.

        tenant_id: The tenant.

        client_id: The application.

        scope: The scope of the token, such as "https://vault.azure.net/.default".

        authority: The authority of another cloud, such as "https://login.microsoftonline.us".

        password: The password of the private key, or of the PFX file.

        send_chain: Whether to send the certificates (`x5c`), for applications that trust a subject name and an issuer
            instead of a single certificate.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
        ImportError: The extra is not installed.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        certificate: Secret,
        *,
        tenant_id: str,
        client_id: str,
        scope: str,
        authority: str = AUTHORITY,
        password: Secret | None = None,
        send_chain: bool = False,
        client: Any = None,
    ) -> None:
        failure = wrong_path("certificate", certificate) if isinstance(certificate, Path) else None
        if failure is not None:
            del certificate
            raise ValueError(failure)
        check_secret("certificate", certificate)
        if password is not None:
            check_secret("password", password)
        Signer("-", "PS256", symmetric=False, key_id=None, lifetime=LIFETIME)
        self._certificate = certificate
        self._password = password
        self._send_chain = send_chain
        endpoint = token_endpoint_of(tenant_id, authority)
        self._options: dict[str, Any] = {
            "token_endpoint": endpoint,
            "client_id": client_id,
            "http_client": client,
        }
        self._scope = scope
        self.provider: str = self._grant("-", [b""]).provider
        self.identity: str | None = identity_from("Entra", url_identity(endpoint), client_id, scope)

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Sign an assertion with the key, and name the certificate in it.

        Raises:
            OSError: The file cannot be read.
            ValueError: The certificate or the private key is missing, or the password is wrong.
            TransientRefreshError: Microsoft did not answer, or refuses temporarily.
            GrantRejected: Microsoft rejects the application or its certificate.
        """
        password = None if self._password is None else await resolve(self._password, "password")
        if isinstance(self._certificate, Path):
            data = await in_thread(read_secret_file, self._certificate)
        else:
            data = (await resolve(self._certificate, "certificate")).encode()
        try:
            key, chain = await in_thread(pair_in, data, password)
        except ValueError as error:
            failure = str(error)
        else:
            del data, password
            return await self._grant(key, chain).fetch(request)
        del data, password
        raise ValueError(failure)

    def _grant(self, key: str, chain: Sequence[bytes]) -> ClientCredentials:
        header: dict[str, Any] = {"x5t#S256": _base64url(hashlib.sha256(chain[0]).digest())}
        if self._send_chain:
            header["x5c"] = [base64.b64encode(one).decode() for one in chain]
        method = PrivateKeyJwt(key, "PS256", lifetime=LIFETIME, header=header)
        return ClientCredentials(OAuthClient(client_auth=method, **self._options), scope=self._scope)

    def __repr__(self) -> str:
        return f"ClientCertificate({self.provider!r})"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

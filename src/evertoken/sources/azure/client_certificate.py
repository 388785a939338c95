"""An application of Microsoft Entra ID, by its certificate."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._signing.jose import Signer
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret, resolve
from evertoken.sources._client_authentication import PrivateKeyJwt
from evertoken.sources.azure._entra import AUTHORITY, token_endpoint_of
from evertoken.sources.client_credentials import ClientCredentials
from evertoken.sources.oauth_client import OAuthClient

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest
    from evertoken._model.token_response import Answer

__all__ = ["ClientCertificate"]

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY: Final = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----", re.DOTALL)

#: Seconds that an assertion is good for.
LIFETIME: Final = 600.0


@final
class ClientCertificate(CarriesSecrets):
    """
    Tokens of an application that shows its certificate (RFC 7523 section 2.2). Needs the extra `jwt`.

    Args:
        certificate: The certificate and its private key in PEM, in one text: a string, a `pathlib.Path`, or a function.
            It is read at each fetch.

        tenant_id: The tenant.

        client_id: The application.

        scope: What the token is for, such as "https://vault.azure.net/.default".

        authority: Another cloud's, such as "https://login.microsoftonline.us".

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument makes no sense; the message names it.
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
        client: Any = None,
    ) -> None:
        check_secret("certificate", certificate)
        Signer("-", "PS256", symmetric=False, key_id=None, lifetime=LIFETIME)
        self._certificate = certificate
        self._options: dict[str, Any] = {
            "token_endpoint": token_endpoint_of(tenant_id, authority),
            "client_id": client_id,
            "http_client": client,
        }
        self._scope = scope
        self.provider: str = self._grant("-", "-").provider

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Sign with the key, and name the certificate.

        Raises:
            ValueError: The text holds no certificate, or no private key.
        """
        text = await resolve(self._certificate, "certificate")
        certificate, key = _CERTIFICATE.search(text), _KEY.search(text)
        if certificate is None or key is None:
            failure = f"certificate holds no {'CERTIFICATE' if certificate is None else 'PRIVATE KEY'} in PEM"
            del text, key
            raise ValueError(failure)
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate[0])).digest()
        thumbprint = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return await self._grant(key[0], thumbprint).fetch(request)

    def _grant(self, key: str, thumbprint: str) -> ClientCredentials:
        method = PrivateKeyJwt(key, "PS256", lifetime=LIFETIME, header={"x5t#S256": thumbprint})
        return ClientCredentials(OAuthClient(client_auth=method, **self._options), scope=self._scope)

    def __repr__(self) -> str:
        return f"ClientCertificate({self.provider!r})"

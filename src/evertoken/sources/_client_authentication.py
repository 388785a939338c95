"""Client authentication (RFC 6749 section 2.3.1, RFC 7523, RFC 8705)."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final, get_args
from urllib.parse import quote_plus

import httpx

from evertoken._model.guarded import Guarded
from evertoken._model.redaction import quoted
from evertoken._signing.jose import Signer
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret, resolve
from evertoken._signing.secret_file import check_secret_file, note_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = [
    "ClientAssertion",
    "ClientAuth",
    "ClientAuthMethod",
    "ClientSecretJwt",
    "PrivateKeyJwt",
    "TlsClientAuth",
    "check_method",
    "credentials",
]

#: The names that are registered for `token_endpoint_auth_method` (RFC 7591 section 2, RFC 8705 section 2).
ClientAuthMethod: TypeAlias = Literal[
    "client_secret_basic", "client_secret_post", "none", "tls_client_auth", "self_signed_tls_client_auth"
]

_METHODS: Final = get_args(ClientAuthMethod)
_WITHOUT_SECRET: Final = ("none", "tls_client_auth", "self_signed_tls_client_auth")

#: RFC 7523 section 2.2.
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class _Jwt(CarriesSecrets):
    """A client that signs an assertion for each request (RFC 7523 section 2.2)."""

    def __init__(
        self,
        key: Secret,
        algorithm: str,
        *,
        key_id: str | None,
        audience: str | None,
        lifetime: float,
        claims: Mapping[str, Any] | None,
        symmetric: bool,
        header: Mapping[str, Any] | None = None,
    ) -> None:
        self._signer = Signer(key, algorithm, symmetric=symmetric, key_id=key_id, lifetime=lifetime, header=header)
        self._audience = audience
        self._claims = dict(claims or {})

    async def fields(self, client_id: str, url: str, audience: str) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the form fields of one request to *url*, and the texts in them that must stay secret."""
        claims = {"iss": client_id, "sub": client_id, "aud": self._audience or audience, **self._claims}
        assertion, hidden = await self._signer.sign(claims, server=url)
        fields = {"client_id": client_id, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return fields, hidden

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._signer!r})"


@final
class PrivateKeyJwt(_Jwt):
    """
    Client authentication by an assertion signed with a private key: `private_key_jwt` (RFC 7523 section 2.2).

    Each request carries a new assertion with a fresh `jti`. It needs the extra `jwt`.

    Args:
        key: The private key in PEM: a string, a `pathlib.Path`, or a function. It is read for each fetch.

        algorithm: The signature algorithm, such as "RS256", "PS256", "ES256" or "EdDSA" (RFC 7518 section 3.1).

        key_id: The `kid` by which the server finds the public key.

        audience:
            The `aud` claim. The default is the client's `issuer=`, so that no other server accepts the assertion
            (CVE-2025-27370). A client with `token_endpoint=` uses that URL, or a revocation endpoint at another origin.

        lifetime: The lifetime of an assertion in seconds.

        claims: Further claims. They also replace the usual ones.

        header: Further members of the header, such as `x5t#S256` (RFC 7515 section 4.1.8).

    Raises:
        ValueError: An argument is invalid. The message names it.
        ImportError: The extra is not installed.
    """

    def __init__(
        self,
        key: Secret,
        algorithm: str = "RS256",
        *,
        key_id: str | None = None,
        audience: str | None = None,
        lifetime: float = 60.0,
        claims: Mapping[str, Any] | None = None,
        header: Mapping[str, Any] | None = None,
    ) -> None:
        check_secret("key", key)
        super().__init__(
            key,
            algorithm,
            key_id=key_id,
            audience=audience,
            lifetime=lifetime,
            claims=claims,
            symmetric=False,
            header=header,
        )


@final
class ClientSecretJwt(_Jwt):
    """
    Client authentication by an assertion signed with the client's secret: `client_secret_jwt`.

    The secret itself is never sent (OpenID Connect Core section 9). It needs the extra `jwt`.

    Args:
        client_secret: The secret: a string, a `pathlib.Path`, or a function. It is read for each fetch.

        algorithm: "HS256", "HS384" or "HS512".

        audience:
            The `aud` claim. The default is the client's `issuer=`, so that no other server accepts the assertion
            (CVE-2025-27370). A client with `token_endpoint=` uses that URL, or a revocation endpoint at another origin.

        lifetime: The lifetime of an assertion in seconds.

        claims: Further claims. They also replace the usual ones.

    Raises:
        ValueError: An argument is invalid. The message names it.
        ImportError: The extra is not installed.
    """

    def __init__(
        self,
        client_secret: Secret,
        algorithm: str = "HS256",
        *,
        audience: str | None = None,
        lifetime: float = 60.0,
        claims: Mapping[str, Any] | None = None,
    ) -> None:
        check_secret("client_secret", client_secret)
        super().__init__(
            client_secret,
            algorithm,
            key_id=None,
            audience=audience,
            lifetime=lifetime,
            claims=claims,
            symmetric=True,
        )


@final
class ClientAssertion(CarriesSecrets):
    """
    Client authentication by an assertion that another party signed (RFC 7523 section 2.2), such as a platform.

    Args:
        assertion: A `pathlib.Path` to the assertion, or a function that returns it. It is read for each fetch.

    Raises:
        ValueError: *assertion* has none of these types.
    """

    def __init__(self, assertion: Secret) -> None:
        check_secret("assertion", assertion)
        self._assertion = assertion

    async def fields(self, client_id: str, url: str, audience: str) -> tuple[dict[str, str], tuple[str, ...]]:  # noqa: ARG002 - other methods need it
        """Return the form fields, and the texts in them that must stay secret."""
        assertion = await resolve(self._assertion, "assertion")
        fields = {"client_id": client_id, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return fields, (assertion,)

    def __repr__(self) -> str:
        return "ClientAssertion()"


@final
class TlsClientAuth(Guarded):
    """
    Client authentication by a certificate in the TLS handshake (RFC 8705 section 2).

    The files are read for each fetch, so that a certificate can be renewed without a restart. Alternatively, give an
    `http_client=` whose TLS context has the certificate, and "tls_client_auth" instead of this object.

    Args:
        certificate: The certificate in PEM, with the intermediate certificates up to its root.

        key: The private key in PEM, without a password. By default it is in the file of the certificate.

        authority: The authorities that may certify the server, in PEM. By default, those that httpx trusts.

    Raises:
        ValueError: One of the arguments is not a path.
    """

    def __init__(self, certificate: Path, key: Path | None = None, *, authority: Path | None = None) -> None:
        for name, path in (("certificate", certificate), ("key", key), ("authority", authority)):
            if not isinstance(path, Path) and (path is not None or name == "certificate"):
                msg = f"{name} must be a pathlib.Path, because TLS reads it from a file"
                raise ValueError(msg)
        self._certificate, self._key, self._authority = certificate, key, authority

    def context(self) -> ssl.SSLContext:
        """
        Return a TLS context with the present certificate. This reads files.

        Raises:
            PermissionError: Other users could have written the key.
            OSError: The files cannot be read, are invalid, or do not belong together.
        """
        check_secret_file(self._key or self._certificate)
        if self._key is not None:
            note_file(self._certificate)
        # By default it trusts the same authorities as all other requests.
        trusted = self._authority
        context = httpx.create_ssl_context() if trusted is None else ssl.create_default_context(cafile=trusted)
        # The password is empty, because without one OpenSSL would ask at the terminal.
        context.load_cert_chain(self._certificate, self._key, password="")
        return context

    def __repr__(self) -> str:
        return f"TlsClientAuth({str(self._certificate)!r})"


#: The ways in which a client can authenticate.
ClientAuth: TypeAlias = ClientAuthMethod | PrivateKeyJwt | ClientSecretJwt | ClientAssertion | TlsClientAuth


def check_method(method: ClientAuth, secret: Secret | None, client: object) -> None:
    """Raise ValueError if *method* is unknown, or does not fit *secret* or *client*."""
    if isinstance(method, _Jwt | ClientAssertion):
        if secret is not None:
            msg = f"client_auth={method!r} takes no client_secret beside its own key"
            raise ValueError(msg)
        return
    if isinstance(method, TlsClientAuth):
        if secret is not None or client is not None:
            msg = f"client_auth={method!r} takes no client_secret, and no http_client= beside its own"
            raise ValueError(msg)
        return
    if method not in _METHODS:
        msg = f"client_auth must be one of {', '.join(map(repr, _METHODS))}, PrivateKeyJwt(...), "
        msg += f"ClientSecretJwt(...) or TlsClientAuth(...), not {quoted(method)}"
        raise ValueError(msg)
    if (method in _WITHOUT_SECRET) != (secret is None):
        need = "takes no client_secret" if method in _WITHOUT_SECRET else "needs a client_secret"
        msg = f"client_auth={method!r} {need}"
        raise ValueError(msg)
    if "tls" in method and client is None:
        msg = f"client_auth={method!r} needs http_client=: an httpx.AsyncClient whose TLS context has the certificate; "
        msg += "or use TlsClientAuth(...)"
        raise ValueError(msg)
    if secret is not None:
        check_secret("client_secret", secret)


async def credentials(
    method: ClientAuth, client_id: str, secret: Secret | None, *, form_encoded: bool, url: str, audience: str
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """
    Return the header and form fields that authenticate the client, and the texts in them that must stay secret.

    Args:
        method: The method of authentication.

        client_id: The client's identifier.

        secret: The secret of the client, if the method uses one.

        form_encoded:
            Whether id and secret are form-encoded before they are joined for Basic. RFC 6749 section 2.3.1 requires it,
            but some servers do not expect it.

        url: The URL of the request.

        audience: The audience of an assertion.
    """
    if isinstance(method, _Jwt | ClientAssertion):
        fields, hidden = await method.fields(client_id, url, audience)
        return {}, fields, hidden
    if secret is None:
        return {}, {"client_id": client_id}, ()
    known = await resolve(secret, "client_secret")
    if method == "client_secret_basic":
        user, password = (quote_plus(client_id), quote_plus(known)) if form_encoded else (client_id, known)
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}, {}, (known, pair)
    return {}, {"client_id": client_id, "client_secret": known}, (known,)

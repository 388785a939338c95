"""The JWT bearer grant (RFC 7523 section 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from evertoken._signing.jose import Signer
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret, resolve, secret_identity
from evertoken.sources._grant import Grant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest
    from evertoken.sources.oauth_client import OAuthClient

__all__ = ["Assertion", "JwtBearer"]


@final
class Assertion(CarriesSecrets):
    """
    A JWT that is signed for each request, with fresh `iat`, `exp` and `jti`. It needs the extra `jwt`.

    Args:
        key: The private key in PEM: a string, a `pathlib.Path`, or a function. It is read for each fetch.

        issuer: The `iss` claim: the party that signs.

        subject: The `sub` claim: the party for which the token is. The default is *issuer*.

        audience: The `aud` claim. The default is the client's `issuer=`, or else its `token_endpoint=`.

        algorithm: The signature algorithm, such as "RS256", "ES256" or "EdDSA" (RFC 7518 section 3.1).

        key_id: The `kid` by which the server finds the public key.

        lifetime: The lifetime in seconds.

        claims: Further claims. They also replace the usual ones.

    Raises:
        ValueError: An argument is invalid. The message names it.
        ImportError: The extra is not installed.
    """

    def __init__(
        self,
        key: Secret,
        *,
        issuer: str,
        subject: str | None = None,
        audience: str | None = None,
        algorithm: str = "RS256",
        key_id: str | None = None,
        lifetime: float = 300.0,
        claims: Mapping[str, Any] | None = None,
    ) -> None:
        check_secret("key", key)
        if not isinstance(issuer, str) or not issuer:
            msg = f"issuer must be a non-empty string, not {type(issuer).__name__}"
            raise ValueError(msg)
        self._signer = Signer(key, algorithm, symmetric=None, key_id=key_id, lifetime=lifetime)
        self._audience = audience
        self._claims = {"iss": issuer, "sub": subject or issuer, **(claims or {})}

    @property
    def identity(self) -> list[str]:
        """The issuer, the subject and the audience."""
        return [str(self._claims.get(claim)) for claim in ("iss", "sub")] + [str(self._audience)]

    async def sign(self, url: str, audience: str, /) -> tuple[str, tuple[str, ...]]:
        """Return the JWT for a request to *url*, and the texts that must stay secret."""
        claims = {"aud": self._audience or audience, **self._claims}
        return await self._signer.sign(claims, server=url)

    def __repr__(self) -> str:
        return f"Assertion(issuer={self._claims['iss']!r}, {self._signer!r})"


@final
class JwtBearer(Grant):
    """
    Tokens in exchange for an assertion: the JWT bearer grant (RFC 7523 section 2.1).

    Args:
        client: The client. Without a `client_id`, only the assertion identifies the party.

        assertion: An `Assertion` that is signed here, or one from another party: a `pathlib.Path` or a function, which
            is read for each fetch.

        scope: A text with spaces, or several strings (RFC 6749 section 3.3).

        audience: The audience of the token, if the server needs it.

        resource: One or several resource indicators (RFC 8707).

        parameters: Further form fields. They are sent with each request.

    Raises:
        TypeError: *client* is not an `OAuthClient`.
        ValueError: Another argument is missing or invalid. The message names it.
    """

    __slots__ = ("_assertion",)

    anonymous = True
    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        client: OAuthClient,
        assertion: Assertion | Secret,
        *,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(client, scope=scope, audience=audience, resource=resource, parameters=parameters)
        if not isinstance(assertion, Assertion):
            check_secret("assertion", assertion)
        self._assertion = assertion

    def _own_identity(self) -> list[str] | None:
        return self._assertion.identity if isinstance(self._assertion, Assertion) else secret_identity(self._assertion)

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Present a fresh assertion."""
        if isinstance(self._assertion, Assertion):
            text, hidden = await self._assertion.sign(*await self._client.addressee(request.timeout))
        else:
            text = await resolve(self._assertion, "assertion")
            hidden = (text,)
        form = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", text)
        return await self._client.post(request, *form, *self._fields, secrets=hidden)

"""A service account of Google with a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.answer import Answer
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.identity import identity_from
from evertoken._signing.jose import Signer
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources._token_request import Endpoint
from evertoken.sources.google._info import (
    CLOUD_PLATFORM,
    TOKEN_URI,
    UNIVERSE,
    Info,
    identity_in,
    quota_told,
    read_info,
    scope_of,
    text_in,
    universe_of,
    wrong_info,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.protocols import FetchRequest

__all__ = ["ServiceAccount"]

HOUR: Final = 3600.0


@final
class ServiceAccount(CarriesSecrets):
    """
    Tokens of a service account. Its key signs the assertions (RFC 7523 section 2.1). It needs the extra `jwt`.

    In a sovereign cloud (`universe_domain` in the file) the token is a JWT that is signed here. No server is asked
    (Google, "Self-signed JSON Web Tokens").

    Args:
        info: The content of its key file, or a `pathlib.Path` to it, which is read for each fetch.

        scopes: The scopes of the token.

        subject: A user to act for, if the account has domain-wide delegation.

        audience: The audience of an ID token, as Cloud Run requires it. If given, an ID token is requested.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

    Raises:
        ValueError: An argument is invalid. The message names it.
        ImportError: The extra is not installed.
    """

    rotates = False
    on_ambiguous = "retry"
    provider = TOKEN_URI

    def __init__(
        self,
        info: Info,
        *,
        scopes: str | Iterable[str] = CLOUD_PLATFORM,
        subject: str | None = None,
        audience: str | None = None,
        client: Any = None,
    ) -> None:
        failure = wrong_info(info)
        if failure is not None:
            del info
            raise ValueError(failure)
        Signer("-", "RS256", symmetric=False, key_id=None, lifetime=HOUR)
        self._info = info
        self._scope = scope_of(scopes)
        self._subject = subject
        named = identity_in(info, "client_email")
        self.identity: str | None = identity_from(
            "Google account", named, subject or "", "" if audience is None else audience, self._scope
        )
        self._audience = audience
        self._client = client

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Sign an assertion, and present it.

        Raises:
            TransientRefreshError: It failed temporarily.
            GrantRejected: The key file is invalid, or Google rejects its content.
        """
        info = await read_info(self._info, "service_account")
        key_id = str(info.get("private_key_id") or "") or None
        signer = Signer(text_in(info, "private_key"), "RS256", symmetric=False, key_id=key_id, lifetime=HOUR)
        if universe_of(info) != UNIVERSE:
            return quota_told(await self._signed_here(signer, info), info)
        endpoint = Endpoint(str(info.get("token_uri") or TOKEN_URI), client=self._client, parameter="token_uri")
        claims = {"iss": text_in(info, "client_email"), "aud": TOKEN_URI}
        claims |= {"scope": self._scope} if self._audience is None else {"target_audience": self._audience}
        if self._subject is not None:
            claims["sub"] = self._subject
        assertion, hidden = await signer.sign(claims)
        form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion)]
        answer = await endpoint.post(request, form, {}, secrets=hidden)
        return quota_told(answer, info) if self._audience is None else id_token_in(answer)

    async def _signed_here(self, signer: Signer, info: Mapping[str, Any]) -> Answer:
        if self._subject is not None or self._audience is not None:
            what = "audience" if self._subject is None else "subject"
            where = f"an account of the universe {universe_of(info)!r}"
            said = f"{what}= is not built in for {where}; leave it out, or use an account of {UNIVERSE}"
            raise GrantRejected("invalid_request", said)
        account = text_in(info, "client_email")
        token, _ = await signer.sign({"iss": account, "sub": account, "scope": self._scope})
        return Answer({"access_token": token, "token_type": "Bearer", "expires_in": HOUR})

    def __repr__(self) -> str:
        return "ServiceAccount()"


def id_token_in(answer: Answer) -> Answer:
    """Return *answer* with its ID token as the token."""
    token = answer.fields.get("id_token")
    if not isinstance(token, str):
        msg = "unreadable answer: no id_token in it"
        raise TransientRefreshError(msg)
    return Answer({"access_token": token, "token_type": "Bearer"}, date=answer.date)

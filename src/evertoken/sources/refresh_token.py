"""The refresh token grant (RFC 6749 section 6)."""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING, Literal, final

from evertoken._model.errors import GrantRejected
from evertoken._model.identity import identity_from
from evertoken._signing.secret import check_secret, resolve
from evertoken.sources._grant import Grant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest
    from evertoken._signing.secret import Secret
    from evertoken.sources.oauth_client import OAuthClient

__all__ = ["RefreshToken"]


@final
class RefreshToken(Grant):
    """
    Tokens on behalf of somebody who has logged in: the refresh token grant (RFC 6749 section 6).

    The refresh token given here is the first one. The refresh token of an answer replaces it. If an answer has none,
    the old one stays. If another one is given here later, it is a new login, and is presented instead.

    Args:
        client: The client for which the refresh token was issued.

        refresh_token: The initial refresh token, or a `pathlib.Path` or a plain or async function that loads it for
            each fetch. If it is left out, it comes by `put`, `import_grants` or `initial=`. Until then nobody is logged
            in.

        scope: A narrower scope to request. By default the granted scope stays.

        audience: The audience of the token, if the server needs it.

        resource: One or several resource indicators (RFC 8707).

        parameters: Further form fields. They are sent with each request.

        subject: The owner of the grant, such as a user's id. With a subject, a store needs no namespace.

        rotates: Whether each use brings another refresh token and spends the previous one. By default the known
            behaviour of the provider counts. If that is unknown too, the manager finds out.

        on_ambiguous:
            The action after a request whose answer was lost, so that the refresh token may be spent. "retry" is right
            if it does not rotate. With "hold" it is not presented again while the access token is valid. With "reject"
            it is never presented again, so a person must act. By default, "hold" if it rotates and *grace* is over,
            else "retry".

        grace: Seconds during which the server still accepts a refresh token that it has replaced. By default the known
            value of the provider, or else 0.

    Raises:
        TypeError: *client* is not an `OAuthClient`.
        ValueError: Another argument is missing or invalid. The message names it.
    """

    __slots__ = ("_refresh_token", "grace", "on_ambiguous", "rotates", "subject")

    def __init__(
        self,
        client: OAuthClient,
        refresh_token: Secret | EllipsisType = ...,
        *,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
        subject: str | None = None,
        rotates: bool | None = None,
        on_ambiguous: Literal["retry", "hold", "reject"] | None = None,
        grace: float | None = None,
    ) -> None:
        super().__init__(client, scope=scope, audience=audience, resource=resource, parameters=parameters)
        if not isinstance(refresh_token, EllipsisType):
            check_secret("refresh_token", refresh_token)
        if on_ambiguous not in {None, "retry", "hold", "reject"}:
            msg = f"on_ambiguous must be 'retry', 'hold' or 'reject', not {on_ambiguous!r}"
            raise ValueError(msg)
        if isinstance(grace, bool) or not isinstance(grace, int | float | None) or not (grace is None or grace >= 0.0):
            msg = f"grace must be seconds, not {grace!r}"
            raise ValueError(msg)
        habits = client.habits
        if rotates is None and habits is not None:
            rotates = habits.rotates
            # If no refresh token is ever spent, a lost answer costs nothing.
            on_ambiguous = on_ambiguous or ("retry" if rotates is False else None)
        self._refresh_token = refresh_token
        self.subject: str | None = subject
        self.rotates: bool | None = rotates
        self.on_ambiguous: Literal["retry", "hold", "reject"] | None = on_ambiguous
        self.grace: float = grace if grace is not None else 0.0 if habits is None else habits.grace

    @property
    def identity(self) -> str | None:
        """
        The server, the client and the subject of the grant. It is None without a subject.

        Scope and audience do not belong to it. If the scope changes, the grant continues. With a separate record, a
        spent refresh token would be presented.
        """
        return identity_from("RefreshToken", self._client.identity, self.subject)

    @property
    def idle_lifetime(self) -> float | None:
        """Seconds without use after which the grant expires, if that is known for the provider."""
        habits = self._client.habits
        return None if habits is None else habits.idle_lifetime

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Present the newest refresh token, or the configured one if that is a new login."""
        token = await self._newest(request)
        form = ("grant_type", "refresh_token"), ("refresh_token", token)
        return await self._client.post(request, *form, *self._fields, secrets=(token,))

    async def _newest(self, request: FetchRequest) -> str:
        kept = None if request.current is None else request.current.refresh_token
        if isinstance(self._refresh_token, EllipsisType):
            if kept is None:
                raise GrantRejected("login_required", "nobody has logged in: no refresh token was configured or put")
            return kept
        try:
            initial = await resolve(self._refresh_token, "refresh_token")
        except Exception:
            # The configured one is only needed for the first login and for a new one. The grant continues without it.
            if kept is None:
                raise
            return kept
        return request.refresh_token_for(initial)

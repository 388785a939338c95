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

    The refresh token given here is the first one. The refresh token of an answer replaces it; an answer without one
    keeps it. If another one is given later, it is a new login, and is presented instead.

    Args:
        client: The client to which the refresh token was issued.

        refresh_token: The refresh token to begin with, or a `pathlib.Path` or a plain or async function that loads it.
            It is loaded at each fetch. If it is left out, `put`, `import_grants` or `initial=` bring it, and until then
            nobody is logged in.

        scope: A narrower scope to ask for; leave it out to keep the one granted.

        audience: Whom the token is for, where the server wants to be told so.

        resource: One or several resource indicators (RFC 8707).

        parameters: More form fields, sent with every request.

        subject: Whose grant it is, such as a user's id. With it a store needs no namespace.

        rotates: Whether each use brings another refresh token and spends the one before. None: as the provider is known
            to do, else to be found out.

        on_ambiguous:
            What follows a request whose answer was lost, so that the refresh token may be spent: "retry" (right
            where it does not rotate), "hold" (not presented again while the access token is valid) or "reject" (never
            again: a person must act). By default "hold" where it rotates, once the *grace* is over, else "retry".

        grace: Seconds during which the server takes a refresh token again that it has replaced. None: as the provider
            is known to do, else 0.

    Raises:
        TypeError: The client is none.
        ValueError: Another argument is missing or makes no sense; the message names it.
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
            # Where no refresh token is ever spent, a lost answer costs nothing.
            on_ambiguous = on_ambiguous or ("retry" if rotates is False else None)
        self._refresh_token = refresh_token
        self.subject: str | None = subject
        self.rotates: bool | None = rotates
        self.on_ambiguous: Literal["retry", "hold", "reject"] | None = on_ambiguous
        self.grace: float = grace if grace is not None else 0.0 if habits is None else habits.grace

    @property
    def identity(self) -> str | None:
        """
        Whose grant it is: the server, the client and the subject. None without a subject.

        Scope and audience are no part of it. With another scope the grant goes on, and a spent refresh token would be
        presented if it had another record.
        """
        return identity_from("RefreshToken", self._client.identity, self.subject)

    @property
    def idle_lifetime(self) -> float | None:
        """After how many seconds without use the grant dies, where the provider is known for that."""
        habits = self._client.habits
        return None if habits is None else habits.idle_lifetime

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Present the newest refresh token, or the configured one where that is a new login."""
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
            # The configured one is needed for the first login and for a new one. The grant goes on without it.
            if kept is None:
                raise
            return kept
        return request.refresh_token_for(initial)

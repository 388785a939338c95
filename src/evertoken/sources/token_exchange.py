"""Token exchange (RFC 8693)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final

from evertoken._model.errors import GrantRejected
from evertoken._signing.secret import Secret, check_secret, resolve, secret_identity
from evertoken.sources._grant import Grant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest
    from evertoken._model.token import Token
    from evertoken.sources.oauth_client import OAuthClient

__all__ = ["TokenExchange"]

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, and no secret

_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"

#: What servers say of a token that was revoked before its end: RFC 8693 section 2.2.2, or RFC 6749 section 5.2.
_OF_THE_TOKEN: Final = frozenset({"invalid_request", "invalid_grant"})


class _Parent(Protocol):
    """
    What gives the token to exchange: a handle of a manager. One that has `refused` as well is told of a rejection.
    """

    async def get(self) -> Token:
        """Return a valid token."""


#: A token to exchange: another key of a manager, or a secret.
Exchanged: TypeAlias = _Parent | Secret


@final
class TokenExchange(Grant):
    """
    Tokens for other tokens: token exchange (RFC 8693).

    The token that is exchanged may be another key of a manager: `subject_token=manager.handle("parent")`. Then the
    parent is made valid first, its rejection is the child's, and the child does not outlive it. Where the exchange is
    rejected for what may be the parent's token, that is reported as refused, and the exchange tried once with its next.

    Args:
        client: The client. Some servers take an exchange without one.

        subject_token: The token of the party on whose behalf this is: a handle, a string, a `pathlib.Path`, or a
            function.

        subject_token_type: What it is (RFC 8693 section 3).

        actor_token: The token of the acting party, likewise.

        actor_token_type: What that is.

        requested_token_type: What to ask for; the server's choice unless given.

        scope: Space-separated, or several strings (RFC 6749 section 3.3).

        audience: Whom the token is for, where the server wants to be told so.

        resource: One or several resource indicators (RFC 8707).

        parameters: More form fields, sent with every request.

    Raises:
        TypeError: The client is none.
        ValueError: Another argument is missing or makes no sense; the message names it.
    """

    __slots__ = ("_actor", "_actor_type", "_requested", "_subject", "_subject_type")

    anonymous = True
    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        client: OAuthClient,
        subject_token: Exchanged,
        *,
        subject_token_type: str = ACCESS_TOKEN,
        actor_token: Exchanged | None = None,
        actor_token_type: str = ACCESS_TOKEN,
        requested_token_type: str | None = None,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(client, scope=scope, audience=audience, resource=resource, parameters=parameters)
        for name, value in (("subject_token", subject_token), ("actor_token", actor_token)):
            if value is not None and not hasattr(value, "get"):
                check_secret(name, value)
        if subject_token is None:
            msg = "subject_token is what is exchanged, and cannot be None"
            raise ValueError(msg)
        self._subject, self._subject_type = subject_token, subject_token_type
        self._actor, self._actor_type = actor_token, actor_token_type
        self._requested = requested_token_type

    @property
    def provider(self) -> str:
        """The server's origin and more: a parent may come from it, and must not wait for a place of its children."""
        return f"{self._client.provider} exchange"

    def _own_identity(self) -> list[str] | None:
        parties = [[] if one is None else _identity_of(one) for one in (self._subject, self._actor)]
        if None in parties:
            return None
        return [*map(str, parties), self._subject_type, str(self._requested)]

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Exchange what is valid now."""
        parents: list[tuple[Any, Token]] = []
        try:
            return await self._exchange(request, parents)
        except GrantRejected as error:
            # The frames it came through hold the tokens in their locals.
            rejected = error.with_traceback(None)
        # Which of them it is, no server says. A parent that has no other token now returns None.
        if rejected.error in _OF_THE_TOKEN and any([await _refused(*parent) for parent in parents]):
            return await self._exchange(request, [])
        raise rejected

    async def _exchange(self, request: FetchRequest, parents: list[tuple[Any, Token]]) -> Answer:
        subject = await _token(self._subject, "subject_token", parents)
        form = [("grant_type", _GRANT_TYPE), ("subject_token", subject), ("subject_token_type", self._subject_type)]
        hidden = [subject]
        if self._actor is not None:
            actor = await _token(self._actor, "actor_token", parents)
            form += [("actor_token", actor), ("actor_token_type", self._actor_type)]
            hidden.append(actor)
        if self._requested is not None:
            form.append(("requested_token_type", self._requested))
        answer = await self._client.post(request, *form, *self._fields, secrets=tuple(hidden))
        # RFC 8693 lets a child outlive its parent; what was obtained for somebody should end with them.
        ends = (math.inf if token.expires_at is None else token.expires_at for _, token in parents)
        return answer.replace(not_after=min(ends, default=math.inf))


def _identity_of(party: Any) -> list[str] | None:
    if not hasattr(party, "get"):
        return secret_identity(party)
    # A handle says whose token it has, where its source does.
    identity = getattr(party, "identity", None)
    return None if identity is None else [identity]


async def _token(source: Any, parameter: str, parents: list[tuple[Any, Token]]) -> str:
    if not hasattr(source, "get"):
        return await resolve(source, parameter)
    token: Token = await source.get()
    parents.append((source, token))
    return token.access_token


async def _refused(parent: Any, token: Token) -> bool:
    return hasattr(parent, "refused") and await parent.refused(token) is not None

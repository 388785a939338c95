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

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, not a secret

_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"

#: Codes for a token that was revoked before its end: RFC 8693 section 2.2.2, or RFC 6749 section 5.2.
_OF_THE_TOKEN: Final = frozenset({"invalid_request", "invalid_grant"})


class _Parent(Protocol):
    """The owner of the token to exchange, such as a handle. If it has a method `refused`, it is told of a rejection."""

    async def get(self) -> Token:
        """Return a valid token."""


#: A token to exchange: another key of a manager, or a secret.
Exchanged: TypeAlias = _Parent | Secret


@final
class TokenExchange(Grant):
    """
    Tokens in exchange for other tokens: token exchange (RFC 8693).

    The exchanged token may be another key of a manager: `subject_token=manager.handle("parent")`. Then the parent is
    made valid first, its rejection also rejects the child, and the child does not outlive it. If the exchange is
    rejected, perhaps because of the parent's token, that token is reported as refused. Then the exchange is tried once
    with the parent's next token.

    Args:
        client: The client. Some servers accept an exchange without a client id.

        subject_token: The token of the party on whose behalf the request is made: a handle, a string, a `pathlib.Path`,
            or a function.

        subject_token_type: The type of that token (RFC 8693 section 3).

        actor_token: The token of the acting party, of the same kinds.

        actor_token_type: The type of that token.

        requested_token_type: The type to request. By default the server chooses.

        scope: A text with spaces, or several strings (RFC 6749 section 3.3).

        audience: The audience of the token, if the server needs it.

        resource: One or several resource indicators (RFC 8707).

        parameters: Further form fields. They are sent with each request.

    Raises:
        TypeError: *client* is not an `OAuthClient`.
        ValueError: Another argument is missing or invalid. The message names it.
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
            msg = "subject_token is the token to exchange, and cannot be None"
            raise ValueError(msg)
        self._subject, self._subject_type = subject_token, subject_token_type
        self._actor, self._actor_type = actor_token, actor_token_type
        self._requested = requested_token_type

    @property
    def provider(self) -> str:
        """The server's origin with a suffix, because a parent must not wait for a place that its children hold."""
        return f"{self._client.provider} exchange"

    def _own_identity(self) -> list[str] | None:
        parties = [[] if one is None else _identity_of(one) for one in (self._subject, self._actor)]
        if None in parties:
            return None
        return [*map(str, parties), self._subject_type, str(self._requested)]

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Exchange the token that is valid now."""
        parents: list[tuple[Any, Token]] = []
        try:
            return await self._exchange(request, parents)
        except GrantRejected as error:
            # The frames that it passed through hold the tokens in their locals.
            rejected = error.with_traceback(None)
        # Servers do not say which token was rejected. A parent without another token returns None.
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
        # RFC 8693 lets a child outlive its parent. But a token on behalf of a user should end with the user's token.
        ends = (math.inf if token.expires_at is None else token.expires_at for _, token in parents)
        return answer.replace(not_after=min(ends, default=math.inf))


def _identity_of(party: Any) -> list[str] | None:
    if not hasattr(party, "get"):
        return secret_identity(party)
    # A handle states the identity of its token, if its source does.
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

"""The common base of all grants of RFC 6749: their client, and the fields of their requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from evertoken._model.identity import digest_of, identity_from
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources.oauth_client import Fields, OAuthClient, strings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.provider_limits import Budget, RateLimit
    from evertoken._model.token import Token

__all__ = ["Grant"]

_SHOWN: Final = frozenset({"scope", "audience", "resource"})
_RESERVED: Final = frozenset({*_SHOWN, "client_id", "client_secret", "grant_type", "refresh_token"})


class Grant(CarriesSecrets):
    """
    A grant of one client. It is small, because ten thousand grants may share a client.

    Args:
        client: The client to which the grant belongs.

        scope: A text with spaces, or several strings (RFC 6749 section 3.3).

        audience: The audience of the token, if the server needs it.

        resource: One or several resource indicators (RFC 8707).

        parameters: Further form fields. They are sent with each request.

    Raises:
        TypeError: *client* is not an `OAuthClient`.
        ValueError: Another argument is invalid. The message names it.
    """

    __slots__ = ("_client", "_fields")

    #: Whether a request may lack a client identifier, because the assertion in it is sufficient.
    anonymous: ClassVar[bool] = False

    def __init__(
        self,
        client: OAuthClient,
        *,
        scope: str | Iterable[str] | None,
        audience: str | None,
        resource: str | Iterable[str] | None,
        parameters: Mapping[str, str] | None,
    ) -> None:
        if not isinstance(client, OAuthClient):
            msg = f"client must be an OAuthClient, not {type(client).__name__}"
            raise TypeError(msg)
        if client.client_id is None and not self.anonymous:
            msg = f"{type(self).__name__} needs a client with a client_id"
            raise ValueError(msg)
        self._client: OAuthClient = client
        self._fields: Fields = client.shared(_fields(scope, audience, resource, parameters))

    @property
    def provider(self) -> str:
        """The origin of the server. Grants of one provider share its limits, its pauses and its outages."""
        return self._client.provider

    @property
    def rate_limit(self) -> RateLimit | None:
        """The limit on requests to that server."""
        return self._client.rate_limit

    @property
    def budget(self) -> Budget | None:
        """The limit on tokens of that server in a period."""
        return self._client.budget

    @property
    def exclusive(self) -> bool:
        """Whether a new access token invalidates the previous one."""
        return self._client.habits is not None and self._client.habits.exclusive

    @property
    def identity(self) -> str | None:
        """
        The server, client, scope, audience and resource of the tokens that the source gives.

        It contains no secret. It is None if one of these is unknown. Then a store needs a namespace.
        """
        own = self._own_identity()
        if own is None:
            return None
        asked = [(name, _plain(name, value) if name in _SHOWN else digest_of(value)) for name, value in self._fields]
        return identity_from(type(self).__name__, self._client.identity, asked, own)

    def _own_identity(self) -> list[str] | None:
        # The party on whose behalf the grant is used.
        return []

    async def revoke(self, token: Token, /) -> None:
        """
        Tell the server that *token* is no longer needed (RFC 7009).

        Raises:
            TransientRefreshError: The server could not be told.
            GrantRejected: The server does not know the client.
        """
        await self._client.revoke(token)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client!r})"


def _plain(name: str, value: str) -> str:
    # The order of scopes has no meaning (RFC 6749 section 3.3).
    return " ".join(sorted(set(value.split()))) if name == "scope" else value


def _fields(
    scope: str | Iterable[str] | None,
    audience: str | None,
    resource: str | Iterable[str] | None,
    parameters: Mapping[str, str] | None,
) -> Fields:
    fields: list[tuple[str, str]] = []
    if scope is not None:
        fields.append(("scope", " ".join(_strings("scope", scope))))
    if audience is not None:
        fields += strings_of("audience", {"audience": audience}).items()
    if resource is not None:
        fields += [("resource", one) for one in _strings("resource", resource)]
    more = strings_of("parameters", parameters)
    taken = _RESERVED.intersection(more)
    if taken:
        msg = f"parameters must not contain {', '.join(sorted(taken))}: use the argument of that name"
        raise ValueError(msg)
    return (*fields, *more.items())


def _strings(parameter: str, value: object) -> list[str]:
    several: list[Any] = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    for one in several:
        if not isinstance(one, str):
            msg = f"{parameter} must be a string or several, not {type(value).__name__}"
            raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake
    return several

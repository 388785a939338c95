"""The memory of an authorization server: clients, rotating grants, and issued tokens."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Family", "Grants", "OAuthError"]


@final
class OAuthError(Exception):
    """An error answer (RFC 6749 section 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status


@final
@dataclass(slots=True, repr=False)
class Family:
    """One grant: the refresh tokens of one login."""

    subject: str
    client_id: str
    current: str
    spent: dict[str, float] = field(default_factory=dict)
    revoked: bool = False
    access_tokens: list[str] = field(default_factory=list)


@final
@dataclass(slots=True, repr=False)
class Grants:
    """The memory of the server. All times are by the server's clock."""

    clock: Callable[[], float]
    clients: dict[str, str | None] = field(default_factory=dict)
    access_tokens: dict[str, float] = field(default_factory=dict)
    families: dict[str, Family] = field(default_factory=dict)
    replays: int = 0
    _numbers: Any = field(default_factory=itertools.count)

    def authenticate(self, client_id: str | None, client_secret: str | None) -> str:
        """Return the client's id, or raise invalid_client."""
        if client_id is None or client_id not in self.clients or self.clients[client_id] != client_secret:
            error = "invalid_client"
            raise OAuthError(error, "unknown client or wrong secret", 401)
        return client_id

    def new_family(self, subject: str, client_id: str) -> Family:
        """Start a grant, as a login does."""
        family = Family(subject, client_id, self._secret("refresh"))
        self.families[family.current] = family
        return family

    def access_token(
        self, lifetime: float, *, exclusive: bool, repeat: bool = False, family: Family | None = None
    ) -> str:
        """
        Issue an access token. With *exclusive* it ends all others. With *repeat* the last valid one is issued again.
        """
        given = [*self.access_tokens] if family is None else family.access_tokens
        if repeat and given and self.valid(given[-1]):
            return given[-1]
        if exclusive:
            self.access_tokens.clear()
        token = self._secret("access")
        self.access_tokens[token] = self.clock() + lifetime
        if family is not None:
            family.access_tokens.append(token)
        return token

    def valid(self, access_token: str) -> bool:
        """Tell whether an access token is valid now."""
        return self.access_tokens.get(access_token, 0.0) > self.clock()

    def present(
        self,
        refresh_token: str,
        client_id: str,
        *,
        rotate: bool,
        grace: float,
        reuse_revokes_family: bool,
        refuse_early: bool = False,
    ) -> Family:
        """Accept a refresh token and rotate it, or raise invalid_grant."""
        error = "invalid_grant"
        family = self.families.get(refresh_token)
        if family is None or family.revoked or family.client_id != client_id:
            raise OAuthError(error, "unknown, expired or revoked refresh token")
        spent_at = family.spent.get(refresh_token)
        if spent_at is not None and self.clock() - spent_at >= grace:
            self.replays += 1
            if reuse_revokes_family:
                self.revoke(family)
            raise OAuthError(error, "refresh token was used before")
        if refuse_early and any(map(self.valid, family.access_tokens)):
            early = "invalid_request"
            raise OAuthError(early, "the access token is still valid")
        if rotate and spent_at is None:
            family.spent[refresh_token] = self.clock()
            family.current = self._secret("refresh")
            self.families[family.current] = family
        return family

    def revoke(self, family: Family) -> None:
        """End a grant and its access tokens."""
        family.revoked = True
        for token in family.access_tokens:
            self.access_tokens.pop(token, None)

    def _secret(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers)}-{secrets.token_urlsafe(16)}"

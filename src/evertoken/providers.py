"""
Known authorization servers: their endpoints and how they behave. This module holds data only.

Use a provider by name: `OAuthClient.for_provider("auth0", domain="tenant.eu.auth0.com", ...)`. For a server that is not
listed here, make your own `Provider` and pass it in place of the name.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, final

from evertoken._model.error_response import Rejection

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROVIDERS", "Provider", "Rejection"]

_MINUTE: Final = 60.0
_DAY: Final = 86_400.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """
    An authorization server, as its documentation and its users describe it.

    Args:
        token_endpoint: The URL of its token endpoint. Names in braces stand for parts that differ between customers.

        revocation_endpoint: The URL at which it revokes tokens (RFC 7009), with the same names. Left out if there is no
            such URL.

        client_auth: How clients authenticate, if the server does not accept Basic.

        grant_type: The server's name for the client credentials grant.

        defaults: Values for the names in braces, used if the caller gives none.

        rotates: Whether each use of a refresh token spends it. With None, each customer can choose.

        reuse_revokes_family: Whether presenting a spent refresh token revokes the whole grant.

        grace: Seconds during which a spent refresh token may be presented again.

        idle_lifetime: Seconds without use after which a refresh token expires, if the answers of the server do not say
            so. Leave it out if tokens do not expire from disuse, or if each customer can choose the time.

        exclusive: Whether a new access token invalidates the previous one.

        refuses_early_refresh: Whether a refresh is refused while the access token is valid.

        repeats: Whether the server returns the same access token until it expires.

        default_lifetime: The lifetime of an access token in seconds, for answers that do not state it.

        throttles: Rejections that mean "slow down": pairs of an error code and a word from its description.

        rejections: The server's own error codes that mean the same as `invalid_grant` or `invalid_client`. Use a
            `Rejection` if the server puts the code or the description elsewhere than RFC 6749 section 5.2 does.

        never_expires: Values of `expires_in` that mean that the access token does not expire, such as 0 or -1.

        token_types: The server's own token types, each with the scheme that presents it (RFC 6749 section 7.1).

        forbids_with: The status with which its resource servers answer if the caller lacks a permission.
    """

    token_endpoint: str
    revocation_endpoint: str | None = None
    client_auth: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"
    grant_type: str = "client_credentials"
    defaults: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    rotates: bool | None = None
    reuse_revokes_family: bool = False
    grace: float = 0.0
    idle_lifetime: float | None = None
    exclusive: bool = False
    refuses_early_refresh: bool = False
    repeats: bool = False
    default_lifetime: float | None = None
    throttles: tuple[tuple[str, str], ...] = ()
    rejections: frozenset[str | Rejection] = frozenset()
    never_expires: tuple[float, ...] = ()
    token_types: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    forbids_with: Literal[401, 403] = 403

    @property
    def names(self) -> tuple[str, ...]:
        """The names in braces. The caller must give a value for each that has no default."""
        templates = self.token_endpoint + (self.revocation_endpoint or "")
        return tuple(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(templates) if name))


#: The known providers by name.
PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType({
    "atlassian": Provider(
        token_endpoint="https://auth.atlassian.com/oauth/token",
        client_auth="client_secret_post",
        rotates=True,
        grace=10 * _MINUTE,
        # "Rotating refresh tokens": a token expires after 90 days of inactivity.
        idle_lifetime=90 * _DAY,
    ),
    "auth0": Provider(
        token_endpoint="https://{domain}/oauth/token",
        revocation_endpoint="https://{domain}/oauth/revoke",
        client_auth="client_secret_post",
        reuse_revokes_family=True,
        # The user has to show a second factor or reset the password (Auth0, "Authentication API" errors).
        rejections=frozenset({"mfa_required", "password_leaked"}),
    ),
    "box": Provider(
        token_endpoint="https://api.box.com/oauth2/token",
        revocation_endpoint="https://api.box.com/oauth2/revoke",
        client_auth="client_secret_post",
        rotates=True,
        # "Refresh a token": it is valid for 60 days, or for one use.
        idle_lifetime=60 * _DAY,
    ),
    "cognito": Provider(
        token_endpoint="https://{domain}/oauth2/token",
        revocation_endpoint="https://{domain}/oauth2/revoke",
    ),
    "dropbox": Provider(token_endpoint="https://api.dropboxapi.com/oauth2/token", rotates=False),
    "ebay": Provider(
        token_endpoint="https://api.ebay.com/identity/v1/oauth2/token",
        rotates=False,
        token_types=MappingProxyType({"Application Access Token": "Bearer", "User Access Token": "Bearer"}),
    ),
    "entra": Provider(
        token_endpoint="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        client_auth="client_secret_post",
        rotates=False,
        # "Refresh tokens in the Microsoft identity platform": they last 90 days, and each use returns a new one.
        idle_lifetime=90 * _DAY,
        # Entra reports throttling with codes of other meanings. `passes` recognises them by number ("AADSTS error
        # codes").
        rejections=frozenset({"invalid_resource"}),
    ),
    "github": Provider(
        token_endpoint="https://github.com/login/oauth/access_token",
        client_auth="client_secret_post",
        rotates=True,
        rejections=frozenset({"bad_refresh_token", "incorrect_client_credentials", "unverified_user_email"}),
    ),
    "gitlab": Provider(
        token_endpoint="https://{domain}/oauth/token",
        revocation_endpoint="https://{domain}/oauth/revoke",
        client_auth="client_secret_post",
        defaults=MappingProxyType({"domain": "gitlab.com"}),
        rotates=True,
        reuse_revokes_family=True,
    ),
    "google": Provider(
        token_endpoint="https://oauth2.googleapis.com/token",
        revocation_endpoint="https://oauth2.googleapis.com/revoke",
        client_auth="client_secret_post",
        rotates=False,
        # "Using OAuth 2.0": a refresh token expires if it is not used for six months.
        idle_lifetime=180 * _DAY,
        throttles=(("access_denied", "quota"), ("invalid_request", "rate")),
        rejections=frozenset({"admin_policy_enforced", "deleted_client", "disabled_client"}),
    ),
    "hubspot": Provider(
        token_endpoint="https://api.hubapi.com/oauth/v1/token",
        client_auth="client_secret_post",
        rotates=False,
        # Codes such as "BAD_REFRESH_TOKEN" and "BAD_CLIENT_SECRET" are in a field of their own ("OAuth tokens").
        rejections=frozenset({Rejection(r"\A(?:BAD|MISMATCH|MISSING|UNKNOWN)_\w+", "status", "message")}),
    ),
    "keycloak": Provider(
        token_endpoint="https://{domain}/realms/{realm}/protocol/openid-connect/token",
        revocation_endpoint="https://{domain}/realms/{realm}/protocol/openid-connect/revoke",
        reuse_revokes_family=True,
    ),
    "okta": Provider(
        token_endpoint="https://{domain}/oauth2/{server}/v1/token",
        revocation_endpoint="https://{domain}/oauth2/{server}/v1/revoke",
        defaults=MappingProxyType({"server": "default"}),
        reuse_revokes_family=True,
        grace=30.0,
    ),
    "paypal": Provider(
        token_endpoint="https://{domain}/v1/oauth2/token",
        defaults=MappingProxyType({"domain": "api-m.paypal.com"}),
        repeats=True,
        rejections=frozenset({Rejection(r"\AAUTHENTICATION_FAILURE\Z", "name", "message")}),
    ),
    "quickbooks": Provider(
        token_endpoint="https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer",
        revocation_endpoint="https://developer.api.intuit.com/v2/oauth2/tokens/revoke",
        rotates=True,
        grace=_DAY,
        # The gateway answers in the format of the API ("Error codes": 3200 is a failed authentication).
        rejections=frozenset({Rejection(r"\AAUTHENTICATION\Z", "Fault.type")}),
    ),
    "salesforce": Provider(
        token_endpoint="https://{domain}/services/oauth2/token",
        revocation_endpoint="https://{domain}/services/oauth2/revoke",
        client_auth="client_secret_post",
        defaults=MappingProxyType({"domain": "login.salesforce.com"}),
        reuse_revokes_family=True,
        # The customer sets the length of a session. This is the default; if it is shorter, a 401 starts a refresh.
        default_lifetime=2 * 3600.0,
        throttles=(("invalid_grant", "rate exceeded"), ("invalid_request", "rate exceeded")),
        rejections=frozenset({"inactive_org", "inactive_user", "invalid_client_credentials", "invalid_client_id"}),
        forbids_with=401,
    ),
    "spotify": Provider(token_endpoint="https://accounts.spotify.com/api/token"),
    "wso2": Provider(
        token_endpoint="https://{domain}/oauth2/token",
        revocation_endpoint="https://{domain}/oauth2/revoke",
        repeats=True,
    ),
    "xero": Provider(
        token_endpoint="https://identity.xero.com/connect/token",
        revocation_endpoint="https://identity.xero.com/connect/revocation",
        rotates=True,
        grace=30 * _MINUTE,
        # "Token types": an unused refresh token expires after 60 days.
        idle_lifetime=60 * _DAY,
    ),
    "zoom": Provider(
        token_endpoint="https://zoom.us/oauth/token",
        revocation_endpoint="https://zoom.us/oauth/revoke",
        grant_type="account_credentials",
        rotates=True,
        exclusive=True,
        # "OAuth with Zoom": refresh tokens expire after 90 days.
        idle_lifetime=90 * _DAY,
        # The description is in the field `reason`. Code 4717 means that the app was disabled ("OAuth error messages").
        rejections=frozenset({Rejection(r"\A4717\Z", "code", "reason")}),
    ),
})  # fmt: skip

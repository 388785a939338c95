"""
Known authorization servers: where their endpoints are, and what habits they have. Data, and nothing else.

Used by name: `OAuthClient.for_provider("auth0", domain="tenant.eu.auth0.com", ...)`. A server that is not here is a
`Provider` of your own, in place of the name.
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
    An authorization server, as its documentation and its users tell of it.

    Args:
        token_endpoint: The URL of its token endpoint, with names in braces for what each customer has of its own.

        revocation_endpoint: Where it revokes tokens (RFC 7009), if it does; with the same names.

        client_auth: How its clients authenticate, where it does not take Basic.

        grant_type: What it calls the client credentials grant.

        defaults: What names in braces stand for, unless told.

        rotates: Whether each use of a refresh token spends it. None: a setting of the customer's.

        reuse_revokes_family: Whether presenting a spent refresh token ends the whole grant.

        grace: Seconds during which a spent refresh token may be presented again.

        idle_lifetime: After how many seconds without use a refresh token dies, where it does and its answers do not
            say so. None also where that is a setting of the customer's.

        exclusive: Whether a new access token kills the one before.

        refuses_early_refresh: Whether a refresh is refused while the access token is valid.

        repeats: Whether it answers the same access token until that expires.

        default_lifetime: Seconds an access token lives, where the answer does not say.

        throttles: Rejections that mean "slow down": the error code, and a word of its description.

        rejections: Error codes of its own that mean what `invalid_grant` and `invalid_client` do elsewhere. A
            `Rejection` says it where its codes or words stand elsewhere than RFC 6749 section 5.2 has them.

        never_expires: Values of `expires_in` that mean that the access token does not expire, such as 0 or -1.

        token_types: Token types of its own, and the scheme that presents a token of each (RFC 6749 section 7.1).

        forbids_with: The status with which its resources answer who lacks a permission.
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
        """The names in braces: what must be told."""
        templates = self.token_endpoint + (self.revocation_endpoint or "")
        return tuple(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(templates) if name))


#: By name.
PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType({
    "atlassian": Provider(
        token_endpoint="https://auth.atlassian.com/oauth/token",
        client_auth="client_secret_post",
        rotates=True,
        grace=10 * _MINUTE,
        # "Rotating refresh tokens": 90 days of inactivity.
        idle_lifetime=90 * _DAY,
    ),
    "auth0": Provider(
        token_endpoint="https://{domain}/oauth/token",
        revocation_endpoint="https://{domain}/oauth/revoke",
        client_auth="client_secret_post",
        reuse_revokes_family=True,
        # A person has to show a second factor, or to reset the password (Auth0, "Authentication API" errors).
        rejections=frozenset({"mfa_required", "password_leaked"}),
    ),
    "box": Provider(
        token_endpoint="https://api.box.com/oauth2/token",
        revocation_endpoint="https://api.box.com/oauth2/revoke",
        client_auth="client_secret_post",
        rotates=True,
        # "Refresh a token": valid for 60 days, or for one use.
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
        # "Refresh tokens in the Microsoft identity platform": 90 days, and a new one with each use.
        idle_lifetime=90 * _DAY,
        # A client that asks too often is told so by a code that says otherwise ("AADSTS error codes").
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
        # "Using OAuth 2.0": not used for six months.
        idle_lifetime=180 * _DAY,
        throttles=(("access_denied", "quota"), ("invalid_request", "rate")),
        rejections=frozenset({"admin_policy_enforced", "deleted_client", "disabled_client"}),
    ),
    "hubspot": Provider(
        token_endpoint="https://api.hubapi.com/oauth/v1/token",
        client_auth="client_secret_post",
        rotates=False,
        # "BAD_REFRESH_TOKEN", "BAD_CLIENT_SECRET" and their like stand in a field of their own ("OAuth tokens").
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
        # Its gateway answers in the format of the API ("Error codes": 3200 is a failed authentication).
        rejections=frozenset({Rejection(r"\AAUTHENTICATION\Z", "Fault.type")}),
    ),
    "salesforce": Provider(
        token_endpoint="https://{domain}/services/oauth2/token",
        revocation_endpoint="https://{domain}/services/oauth2/revoke",
        client_auth="client_secret_post",
        defaults=MappingProxyType({"domain": "login.salesforce.com"}),
        reuse_revokes_family=True,
        # The session's length is a setting; this is its default, and a 401 says the rest.
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
        # Its words stand in `reason`. 4717: the app was disabled ("OAuth error messages").
        rejections=frozenset({Rejection(r"\A4717\Z", "code", "reason")}),
    ),
})  # fmt: skip

"""Sources of tokens. Each grant has its own file, and each cloud its own folder."""

from evertoken.sources._client_authentication import ClientAssertion, ClientSecretJwt, PrivateKeyJwt, TlsClientAuth
from evertoken.sources.authlib_client import AuthlibClient
from evertoken.sources.client_credentials import ClientCredentials
from evertoken.sources.command import Command
from evertoken.sources.fallback import Fallback
from evertoken.sources.github_app import GitHubApp
from evertoken.sources.jwt_bearer import Assertion, JwtBearer
from evertoken.sources.legacy_password import LegacyPassword
from evertoken.sources.login_endpoint import LoginEndpoint
from evertoken.sources.oauth_client import OAuthClient
from evertoken.sources.refresh_token import RefreshToken
from evertoken.sources.token_exchange import TokenExchange
from evertoken.sources.token_file import TokenFile

__all__ = [
    "Assertion",
    "AuthlibClient",
    "ClientAssertion",
    "ClientCredentials",
    "ClientSecretJwt",
    "Command",
    "Fallback",
    "GitHubApp",
    "JwtBearer",
    "LegacyPassword",
    "LoginEndpoint",
    "OAuthClient",
    "PrivateKeyJwt",
    "RefreshToken",
    "TlsClientAuth",
    "TokenExchange",
    "TokenFile",
]

"""The secrets that are planted, one of each kind, and the values of parameters that carry them."""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import botocore.session
import google.oauth2.credentials
import httpx
import httpx2
import sqlalchemy as sa
from authlib.integrations.httpx_client import AsyncOAuth2Client
from mcp.shared.auth import OAuthToken
from sqlalchemy.ext.asyncio import create_async_engine
from tests.clients.mcp_server import MemoryStorage
from tests.sources.keys import rsa_pem

from evertoken import DPoPKey, FetchRequest, Lease, Record, Token
from evertoken.sources import ClientCredentials, OAuthClient
from evertoken.sources._token_request import Endpoint
from evertoken.sources.aws import AwsCredentials
from evertoken.stores import dump_record

PEM = rsa_pem()


@functools.cache
def dpop_key() -> DPoPKey:
    """Return a key for proofs. To check its numbers takes a tenth of a second."""
    return DPoPKey(PEM, "RS256")


#: One of each kind. No other text of the tests or of the library holds one of them.
SECRETS = {
    kind: f"planted-{kind}-4c1a77"
    for kind in (
        "client-secret", "refresh-token", "access-token", "assertion", "password", "secret-id", "aws-secret-key",
        "aws-session-token", "api-key", "subject-token", "store-password", "environment", "cookie", "returned",
        "field", "jwk",
    )
} | {"encryption-key": base64.urlsafe_b64encode(b"planted-encryption-key-4c1a77-xx").decode()}  # fmt: skip

_PEM_LINE = PEM.splitlines()[5]
_BASIC = base64.b64encode(f"app:{SECRETS['client-secret']}".encode()).decode().rstrip("=")
# An assertion, or a proof, that was signed on the way.
_JWT = re.compile(r"eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}")

JWK = json.dumps({"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "d": SECRETS["jwk"]})


def secrets_in(text: str) -> set[str]:
    """Return the kinds of the secrets that stand in *text*."""
    found = {kind for kind, secret in SECRETS.items() if secret in text}
    found |= {"private-key"} if _PEM_LINE in text else set()
    found |= {"client-secret"} if _BASIC in text else set()
    return found | ({"signed"} if _JWT.search(text) else set())


def mcp_tokens() -> OAuthToken:
    """Return the tokens of a login, as the MCP SDK has them."""
    return OAuthToken(access_token=SECRETS["access-token"], refresh_token=SECRETS["refresh-token"])


def mcp_storage() -> MemoryStorage:
    """Return the storage of an MCP client whose user has logged in."""
    storage = MemoryStorage()
    storage.tokens = mcp_tokens()
    return storage


def token() -> Token:
    """Return a token with a refresh token, and a secret in another field."""
    return Token(
        SECRETS["access-token"],
        issued_at=0.0,
        expires_at=1e12,
        refresh_token=SECRETS["refresh-token"],
        extra={"id_token": SECRETS["field"]},
    )


def credentials() -> AwsCredentials:
    """Return a key pair of AWS."""
    return AwsCredentials.of("AKIAEXAMPLE", SECRETS["aws-secret-key"], SECRETS["aws-session-token"], expires_at=1e12)


def oauth_client(client: Any = None) -> OAuthClient:
    """Return a client with a secret, which sends through *client*."""
    return OAuthClient(
        token_endpoint="https://as.example/token",
        revocation_endpoint="https://as.example/revoke",
        client_id="app",
        client_secret=SECRETS["client-secret"],
        headers={"X-Api-Key": SECRETS["api-key"]},
        http_client=client,
    )


def authlib_client() -> Any:
    """Return a client of Authlib, whose server echoes every request."""

    def reject(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(400, json={"error": "invalid_grant", "error_description": request.content.decode()})

    return AsyncOAuth2Client(
        "app",
        SECRETS["client-secret"],
        token_endpoint="https://as.example/token",
        token={"access_token": SECRETS["access-token"], "refresh_token": SECRETS["refresh-token"]},
        transport=httpx2.MockTransport(reject),
    )


def google_credentials() -> Any:
    """Return credentials of google-auth, at whose server nobody listens."""
    return google.oauth2.credentials.Credentials(
        SECRETS["access-token"],
        refresh_token=SECRETS["refresh-token"],
        token_uri="http://127.0.0.1:9/token",
        client_id="app",
        client_secret=SECRETS["client-secret"],
    )


def botocore_session() -> Any:
    """Return a session of botocore that the program has given a key."""
    session = botocore.session.Session()
    session.set_credentials("AKIAEXAMPLE", SECRETS["aws-secret-key"], SECRETS["aws-session-token"])
    return session


class _Credential:
    """A credential of azure-core that fails with a secret in its frame."""

    def get_token(self, *_: str, **__: str) -> None:
        held = SECRETS["client-secret"]
        raise LookupError(len(held))


def request() -> FetchRequest:
    """Return the request that a source gets from a direct caller."""
    return FetchRequest(None, token(), 5.0)


def record() -> Record:
    """Return what a store keeps."""
    return Record("key", 0, token())


def own_table() -> sa.Table:
    """Return a table of a user's."""
    columns = [sa.Column(name, sa.String(200)) for name in ("name", "access_token", "record")]
    return sa.Table("logins", sa.MetaData(), *columns)


_SERVICE_ACCOUNT = {
    "type": "service_account",
    "client_email": "a@b.example",
    "private_key": PEM,
    "private_key_id": "1",
    "token_uri": "https://as.example/token",
    "project_id": "p",
}
_AUTHORIZED_USER = {
    "type": "authorized_user",
    "client_id": "app",
    "client_secret": SECRETS["client-secret"],
    "refresh_token": SECRETS["refresh-token"],
}
_EXTERNAL = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"url": "https://as.example/subject", "headers": {"X-Key": SECRETS["api-key"]}},
}

#: The value of a parameter by its name, or by the name of its class and its own. A function is called with the HTTP
#: client and with a folder.
VALUES: dict[str, Any] = {
    "access_key_id": "AKIAEXAMPLE",
    "access_token": SECRETS["access-token"],
    "address": "https://vault.example",
    "AppRole.endpoint": lambda client, _: Endpoint("https://vault.example/v1/x", client=client),
    "AppRole.path": "auth/approle/login",
    "JwtLogin.endpoint": lambda client, _: Endpoint("https://vault.example/v1/x", client=client),
    "JwtLogin.path": "auth/jwt/login",
    "arguments": ["false"],
    "AzureCredential.credential": lambda _, __: _Credential(),
    "AzureCredential.scopes": ["https://vault.azure.net/.default"],
    "answer": {"access_token": SECRETS["returned"]},
    "assertion": SECRETS["assertion"],
    "audience": "https://as.example/token",
    "authorization": SECRETS["api-key"],
    "AuthlibClient.client": lambda _, __: authlib_client(),
    "BotocoreSession.session": lambda _, __: botocore_session(),
    "GoogleAuthCredentials.credentials": lambda _, __: google_credentials(),
    "body": {"secret_id": SECRETS["secret-id"]},
    "OAuthClient.body": "form",
    "certificate": PEM,
    "TlsClientAuth.certificate": lambda _, folder: folder / "pem",
    "call": lambda _, __: lambda: 1 // 0,
    "changed": lambda _, __: print,
    "claims": {"a": "b"},
    "client": lambda client, _: client,
    "client_id": "app",
    "client_info": None,
    "client_secret": SECRETS["client-secret"],
    "codec": None,
    "columns": {"name": "name", "access_token": "access_token", "record": "record"},
    "context": b"",
    "data": lambda _, __: dump_record(record()),
    "conninfo": f"postgresql://app:{SECRETS['store-password']}@127.0.0.1:9/db",
    "credentials": lambda _, __: credentials(),
    "current": lambda _, __: token(),
    "date": None,
    "endpoint": "http://127.0.0.1:9/endpoint",
    "engine": lambda _, __: create_async_engine(f"postgresql+psycopg://app:{SECRETS['store-password']}@127.0.0.1:9/db"),
    "environment": {"PASSWORD": SECRETS["environment"]},
    "environ": {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://stranger.example/",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": SECRETS["api-key"],
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "nowhere",
        "IDENTITY_ENDPOINT": "nowhere",
        "IDENTITY_HEADER": SECRETS["api-key"],
    },
    "error": "invalid_grant",
    "event": None,
    "extra": {"id_token": SECRETS["field"]},
    "fields": {"access_token": SECRETS["returned"], "refresh_token": SECRETS["refresh-token"]},
    "form": None,
    "function": lambda _, __: lambda: {"access_token": SECRETS["returned"]},
    "header": SECRETS["api-key"],
    "HeaderAuth.header": "X-Key",
    "PrivateKeyJwt.header": {"x5t": "a"},
    "headers": {"X-Api-Key": SECRETS["api-key"]},
    "http_client": lambda client, _: client,
    "info": _AUTHORIZED_USER,
    "ServiceAccount.info": _SERVICE_ACCOUNT,
    "WorkloadIdentity.info": _EXTERNAL,
    "initial": SECRETS["refresh-token"],
    "installation_id": 2,
    "issued_at": 0.0,
    "issuer": "https://as.example",
    "OAuthClient.issuer": None,
    "json": {"password": SECRETS["password"], "more": {"key": SECRETS["api-key"]}},
    "jwt": SECRETS["assertion"],
    "key": None,
    "Assertion.key": PEM,
    "DPoPKey.key": PEM,
    "PrivateKeyJwt.key": PEM,
    "DPoPAuth.key": lambda _, __: dpop_key(),
    "DPoPKey.algorithm": "RS256",
    **{f"{store}Store.key": "key" for store in ("File", "Hook", "Memory", "Postgres", "Redis", "SQLAlchemy", "SQLite")},
    "keys": SECRETS["encryption-key"],
    "Lease.key": "key",
    "Record.key": "key",
    "fence": 1,
    "lease": Lease("key", "owner", 1),
    "load": lambda _, __: lambda _: {"access_token": SECRETS["access-token"], "expires_at": SECRETS["returned"]},
    "manager": lambda _, __: print,
    "message": "it failed",
    "metadata": lambda _, __: sa.MetaData(),
    "method": "POST",
    "name": None,
    "nonce": "nonce",
    "now": 1.0,
    "oauth_client": lambda client, _: oauth_client(client),
    "own": ("password", SECRETS["password"]),
    "owner": "owner",
    "parameters": {"password": SECRETS["password"]},
    "password": SECRETS["password"],
    "path": lambda _, folder: folder / "store",
    "SQLiteStore.path": lambda _, folder: folder / "store.db",
    "CredentialsFile.path": lambda _, folder: folder / "credentials.json",
    "TokenFile.path": lambda _, folder: folder / "lines",
    "plain": SECRETS["refresh-token"].encode(),
    "private_key": PEM,
    "proof": "a.e30.b",
    "provider": "auth0",
    "CallableSource.provider": None,
    "reason": "forced",
    "record": lambda _, __: record(),
    "records": lambda _, __: [record()],
    "redis": f"redis://:{SECRETS['store-password']}@127.0.0.1:9/0",
    "refresh_token": SECRETS["refresh-token"],
    "refused": ZeroDivisionError,
    "region": "eu-west-1",
    "request": lambda _, __: request(),
    "role": "reader",
    "role_arn": "arn:aws:iam::123456789012:role/reader",
    "role_id": SECRETS["secret-id"],
    "save": lambda _, __: lambda _, data: data[None],
    "scope": "read",
    "sealed": b"\x01" + bytes(40) + SECRETS["refresh-token"].encode(),
    "seconds": 1.0,
    "secret": SECRETS["api-key"],
    "secret_access_key": SECRETS["aws-secret-key"],
    "secrets": (SECRETS["secret-id"],),
    "secret_id": SECRETS["secret-id"],
    "server": "https://as.example",
    "service": "s3",
    "session_token": SECRETS["aws-session-token"],
    "source": lambda client, _: ClientCredentials(oauth_client(client)),
    "sources": lambda client, _: [ClientCredentials(oauth_client(client)), ClientCredentials(oauth_client(client))],
    "Storage.client": lambda client, _: oauth_client(client),
    "Storage.storage": lambda _, __: mcp_storage(),
    "subject_token": SECRETS["subject-token"],
    "actor_token": SECRETS["assertion"],
    "table": lambda _, __: own_table(),
    "PostgresStore.table": "evertoken",
    "tenant_id": "tenant",
    "timeout": 1.0,
    "token": lambda _, __: token(),
    "AssumeRoleWithWebIdentity.token": SECRETS["assertion"],
    "WorkloadIdentity.token": SECRETS["assertion"],
    "LoginEndpoint.token": "token",
    "token_endpoint": "https://as.example/token",
    "tokens": lambda _, __: mcp_tokens(),
    "revocation_endpoint": "https://as.example/revoke",
    "token_url": "https://as.example/token",
    "ttl": 1.0,
    "url": "https://as.example/login",
    "ContainerRole.url": "http://127.0.0.1:9/credentials",
    "username": "alice",
    "version": 1,
}

#: The replacement for the value of a parameter, so that the call is refused.
WRONG: tuple[Any, ...] = (
    None, "", "\n", "http://as.example/plain", "no such thing", -1, 0, float("nan"), True, b"", (), [], {},
    object(), {"a": object()}, Path("/nonexistent"),
)  # fmt: skip


def worse(secret: Any) -> Iterable[Any]:
    """Return what a secret looks like that was read, pasted or encoded the wrong way."""
    if isinstance(secret, str) and secrets_in(secret):
        yield from (secret.encode(), f"{secret}\n", f"{secret} \u20ac", secret[: len(secret) * 9 // 10])
        yield from ([secret], {"k": secret}, JWK, object)


def forms(secret: str, folder: Path) -> dict[str, Any]:
    """Return the ways in which a secret can be given: itself, in a file, by a function, by a function that fails."""
    file = folder / "secret"
    file.write_text(secret)

    async def loaded() -> str:
        return secret

    def failing() -> str:
        held = secret
        raise LookupError(len(held))

    functions: dict[str, Callable[[], Any]] = {"function": lambda: secret, "async": loaded, "failing": failing}
    return {"text": secret, "file": file, "lost file": folder / "lost", **functions}


def answers() -> dict[str, Callable[[httpx.Request], Any]]:
    """Return what the servers do: each is a handler of a transport."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    said = {"access_token": SECRETS["returned"], "refresh_token": SECRETS["refresh-token"]}
    return {
        "down": lambda _: httpx.Response(503, json=said),
        "rejects": lambda _: httpx.Response(400, json={"error": "invalid_grant", **said}),
        "refuses": lambda _: httpx.Response(403, text=SECRETS["returned"]),
        "nonsense": lambda _: httpx.Response(200, text=SECRETS["returned"]),
        "odd": lambda _: httpx.Response(200, json={"access_token": f"{SECRETS['returned']}\n", "expires_in": "x"}),
        "empty": lambda _: httpx.Response(200, json={}, headers={"Set-Cookie": f"a={SECRETS['cookie']}"}),
        "redirects": lambda _: httpx.Response(302, headers={"Location": "https://other.example/"}),
        "no connection": refuse,
        "raises": lambda request: (_ for _ in ()).throw(RuntimeError(request.method)),
    }

"""
Each source beside the client that a vendor or a peer wrote: both ask the same server, and it compares field by field.

Each case lists the intended differences, which must exist: a difference that is gone is off the list.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
import requests_oauth2client
from tests.sources.keys import certificate, ec_pem, rsa_pem
from tests.sources.wire import Asked, Wire, http

from evertoken import DPoPKey, FetchRequest, Token
from evertoken.sources import (
    Assertion,
    ClientCredentials,
    ClientSecretJwt,
    GitHubApp,
    JwtBearer,
    LegacyPassword,
    OAuthClient,
    PrivateKeyJwt,
    RefreshToken,
    TokenExchange,
    aws,
    azure,
    google,
    vault,
)

A_JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJwb2QifQ.c2ln"
JWT_DOTS = 2
DISCOVERY = "/.well-known/openid-configuration"
ARN = "arn:aws:iam::123456789012:role/reader"
ACT = "/v1/projects/-/serviceAccounts/svc@project.iam.gserviceaccount.com:generateAccessToken"
EXPIRATION = "2035-01-01T00:00:00Z"
ID_TOKEN = jwt.encode({"aud": "https://run.example.com", "exp": 2051222400}, "", algorithm="none")
OAUTH = {
    "access_token": "at-1",
    "token_type": "Bearer",
    "expires_in": 3600,
    "id_token": ID_TOKEN,
    "refresh_token": "rt-2",
}
KEYS = {
    "Code": "Success", "AccessKeyId": "AKID", "SecretAccessKey": "key", "Token": "session", "Expiration": EXPIRATION,
    "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC",
}  # fmt: skip
STS = (
    '<{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{0}Result><Credentials>'
    "<AccessKeyId>AKID</AccessKeyId><SecretAccessKey>key</SecretAccessKey><SessionToken>session</SessionToken>"
    f"<Expiration>{EXPIRATION}</Expiration></Credentials></{{0}}Result></{{0}}Response>"
)


async def answer(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
    """Answer as the server would that the path is of."""
    path = urlsplit(asked.target).path
    flavor = {"Metadata-Flavor": "Google"}
    if path.endswith(DISCOVERY):
        there = "https://login.microsoftonline.com/tenant"
        known = {"authorization_endpoint": f"{there}/a", "token_endpoint": f"{there}/oauth2/v2.0/token"}
        return http(200, {**known, "issuer": f"{there}/v2.0"})
    if path == "/latest/api/token":
        return http(200, b"imds-session", {"x-aws-ec2-metadata-token-ttl-seconds": "21600"})
    if path.endswith("/security-credentials/"):
        return http(200, b"reader")
    if path.endswith("/security-credentials/reader") or path == "/credentials":
        return http(200, KEYS)
    if path == "/":
        return http(
            200, STS.format(dict(parse_qsl(asked.body.decode()))["Action"]).encode(), {"content-type": "text/xml"}
        )
    if path.startswith("/v1/auth/"):
        auth = {"client_token": "hvs.1", "lease_duration": 100, "renewable": True, "policies": []}
        return http(200, {"request_id": "1", "auth": auth})
    if path.startswith("/computeMetadata"):
        body = {"email": "svc@project", "scopes": [], **OAUTH}
        return http(200, body if not path.endswith("/identity") else A_JWT.encode(), flavor)
    if path.endswith("/access_tokens"):
        return http(201, {"token": "ghs", "expires_at": EXPIRATION, "permissions": {}, "repository_selection": "all"})
    if path.endswith(":generateAccessToken"):
        return http(200, {"accessToken": "ya29", "expireTime": EXPIRATION})
    if path == "/tenant/oauth2/v2.0/token":
        return http(200, {"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600})
    if "dpop" in asked.headers:
        return http(200, {**OAUTH, "token_type": "DPoP"})
    if path == "/shell":
        return http(200, {"access_token": "at-1", "token_type": "Bearer", "expires_on": "2051222400", "resource": "r"})
    return http(200, {**OAUTH, "expires_on": "2051222400", "resource": "r"})


# How each is made to ask the server at a base URL


def oauth2_client(url: str, **auth: Any) -> Any:
    return requests_oauth2client.OAuth2Client(f"{url}/token", testing=True, **auth)


def of_client(url: str, **more: Any) -> dict[str, Any]:
    return {"token_endpoint": f"{url}/token", "client_id": "svc", "client_secret": "s3cret", **more}


def google_request() -> Any:
    from google.auth.transport.requests import Request  # noqa: PLC0415 - one peer among several

    return Request()


def key_file(url: str) -> dict[str, Any]:
    return {
        "type": "service_account", "client_email": "svc@project.iam.gserviceaccount.com", "private_key": rsa_pem(),
        "private_key_id": "kid-1", "token_uri": f"{url}/token", "project_id": "project",
    }  # fmt: skip


def google_service_account(url: str, **more: Any) -> None:
    from google.oauth2 import service_account  # noqa: PLC0415

    if "target_audience" in more:
        service_account.IDTokenCredentials.from_service_account_info(key_file(url), **more).refresh(google_request())
    else:
        service_account.Credentials.from_service_account_info(key_file(url), **more).refresh(google_request())


def google_user(url: str) -> None:
    from google.oauth2 import credentials  # noqa: PLC0415

    credentials.Credentials(
        None, refresh_token="rt-1", token_uri=f"{url}/token", client_id="svc", client_secret="s3cret"
    ).refresh(google_request())


def google_metadata(url: str, **more: Any) -> None:
    from google.auth.compute_engine import _metadata  # noqa: PLC0415

    _metadata.get_service_account_token(google_request(), **more)


def google_identity(url: str, folder: Path, *, impersonate: bool = False) -> None:
    from google.auth import identity_pool  # noqa: PLC0415

    configured = federated(url, folder, impersonate=impersonate)
    identity_pool.Credentials.from_info(configured, scopes=["read"]).refresh(google_request())


def federated(url: str, folder: Path, *, impersonate: bool = False) -> dict[str, Any]:
    (folder / "subject").write_text(A_JWT)
    configured = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{url}/v1/token",
        "credential_source": {"file": str(folder / "subject")},
    }
    if impersonate:
        configured["service_account_impersonation_url"] = f"{url}{ACT}"
        configured["service_account_impersonation"] = {"token_lifetime_seconds": 2800}
    return configured


def botocore_instance(url: str) -> None:
    from botocore.utils import InstanceMetadataFetcher  # noqa: PLC0415

    fetcher = InstanceMetadataFetcher(base_url=url, num_attempts=1, timeout=5)
    assert fetcher.retrieve_iam_role_credentials()["role_name"] == "reader"


def botocore_container(url: str) -> None:
    from botocore.utils import ContainerMetadataFetcher  # noqa: PLC0415

    ContainerMetadataFetcher().retrieve_full_uri(f"{url}/credentials", headers={"Authorization": "pod-token"})


def botocore_sts(url: str, call: str, **parameters: Any) -> None:
    import botocore.session  # noqa: PLC0415

    session = botocore.session.Session()
    session.set_credentials("AKBASE", "base-secret", "base-session")
    client = session.create_client("sts", region_name="eu-west-1", endpoint_url=url)
    getattr(client, call)(**parameters)


def botocore_profile(url: str, folder: Path) -> None:
    import botocore.session  # noqa: PLC0415

    (folder / "none").write_text(
        "[profile base]\naws_access_key_id=AKBASE\naws_secret_access_key=base-secret\naws_session_token=base-session\n"
        f"[profile job]\nrole_arn={ARN}\nsource_profile=base\nrole_session_name=job\nexternal_id=x-1\n"
        "duration_seconds=900\nregion=eu-west-1\n"
    )
    session = botocore.session.Session(profile="job")
    assert session.get_credentials().get_frozen_credentials().access_key == "AKID"


def hvac_renewal(url: str) -> None:
    import hvac  # noqa: PLC0415

    hvac.Client(url, token="hvs.1", namespace="team").auth.token.renew_self()


def hvac_login(url: str, **login: Any) -> None:
    import hvac  # noqa: PLC0415

    made = hvac.Client(url, namespace="team")
    if "jwt" in login:
        made.auth.kubernetes.login(**login)
    else:
        made.auth.approle.login(**login)


def google_file(url: str, folder: Path) -> None:
    import google.auth  # noqa: PLC0415

    (folder / "key.json").write_text(json.dumps(key_file(url)))
    made, _ = google.auth.default(scopes=["read"])
    made.refresh(google_request())


def google_impersonation(url: str, folder: Path) -> None:
    from google.auth import impersonated_credentials  # noqa: PLC0415
    from google.oauth2 import service_account  # noqa: PLC0415

    acting = {
        "type": "impersonated_service_account", "service_account_impersonation_url": f"{url}{ACT}",
        "delegates": ["middle@project.iam.gserviceaccount.com"], "source_credentials": key_file(url),
    }  # fmt: skip
    (folder / "key.json").write_text(json.dumps(acting))
    impersonated_credentials.Credentials(
        service_account.Credentials.from_service_account_info(key_file(url)),
        "svc@project.iam.gserviceaccount.com",
        ["read"],
        delegates=acting["delegates"],
        iam_endpoint_override=f"{url}{ACT}",
    ).refresh(google_request())


def through(url: str) -> Any:
    """Return a transport of azure-core that sends https requests to the server here."""
    from azure.core.pipeline.transport import RequestsTransport  # noqa: PLC0415

    class Here(RequestsTransport):  # type: ignore[misc]  # it ships no types here
        def send(self, request: Any, **options: Any) -> Any:
            parts = urlsplit(request.url)
            request.url = f"{url}{parts.path}{f'?{parts.query}' if parts.query else ''}"
            return super().send(request, **options)

    return Here()


def azure_identity(url: str, name: str, **options: Any) -> None:
    import azure.identity  # noqa: PLC0415

    if name in {"CertificateCredential", "WorkloadIdentityCredential"}:
        options |= {"authority": "https://login.microsoftonline.com", "disable_instance_discovery": True}
    made = getattr(azure.identity, name)(**options, transport=through(url))
    made.get_token("https://vault.azure.net/.default")


def entra(url: str) -> dict[str, Any]:
    return {"tenant_id": "tenant", "client_id": "app", "scope": "https://vault.azure.net/.default", "authority": url}


def pygithub(url: str) -> None:
    import github  # noqa: PLC0415

    auth = github.Auth.AppAuth("Iv1.app", rsa_pem(), jwt_expiry=540)
    github.GithubIntegration(auth=auth, base_url=url).get_access_token(7, permissions={"contents": "read"})


@dataclass
class Case:
    """One source, what its peer is made to do, and what differs on purpose, by field, with the reason."""

    ours: Callable[[str, Path], Any]
    peer: Callable[[str, Path], Any]
    headers: tuple[str, ...] = ()
    differs: dict[str, str] = field(default_factory=dict)
    current: Token | None = None
    environ: dict[str, str] = field(default_factory=dict)


MSAL = {
    "form.client_info": "MSAL asks for an account to cache",
    "headers.x-client": "MSAL says which release it is",
}
BASIC = ("authorization",)

CASES: dict[str, Case] = {
    "client_credentials, basic": Case(
        lambda url, _: ClientCredentials(
            OAuthClient(**of_client(url)), scope=["read", "write"], audience="https://api"
        ),
        lambda url, _: oauth2_client(
            url, auth=requests_oauth2client.ClientSecretBasic("svc", "s3cret")
        ).client_credentials(scope="read write", audience="https://api"),
        BASIC,
    ),
    "client_credentials, post": Case(
        lambda url, _: ClientCredentials(
            OAuthClient(client_auth="client_secret_post", **of_client(url)), resource="https://api"
        ),
        lambda url, _: oauth2_client(
            url, auth=requests_oauth2client.ClientSecretPost("svc", "s3cret")
        ).client_credentials(resource="https://api"),
        BASIC,
    ),
    "client_credentials, private_key_jwt": Case(
        lambda url, _: ClientCredentials(
            OAuthClient(
                token_endpoint=f"{url}/token", client_id="svc", client_auth=PrivateKeyJwt(rsa_pem(), key_id="kid-1")
            )
        ),
        lambda url, _: oauth2_client(
            url,
            auth=requests_oauth2client.PrivateKeyJwt("svc", {**jwk_of(rsa_pem()), "kid": "kid-1"}, alg="RS256"),
        ).client_credentials(),
        BASIC,
    ),
    "client_credentials, client_secret_jwt": Case(
        lambda url, _: ClientCredentials(
            OAuthClient(token_endpoint=f"{url}/token", client_id="svc", client_auth=ClientSecretJwt("s3cret" * 8))
        ),
        lambda url, _: oauth2_client(
            url, auth=requests_oauth2client.ClientSecretJwt("svc", "s3cret" * 8)
        ).client_credentials(),
        BASIC,
    ),
    "client_credentials, DPoP": Case(
        lambda url, _: ClientCredentials(OAuthClient(dpop=DPoPKey(), **of_client(url))),
        lambda url, _: oauth2_client(
            url, auth=requests_oauth2client.ClientSecretBasic("svc", "s3cret")
        ).client_credentials(dpop=True),
        ("authorization", "dpop"),
        {"jwt.dpop.header.jwk": "the peer says the algorithm twice"},
    ),
    "refresh_token": Case(
        lambda url, _: RefreshToken(OAuthClient(**of_client(url)), refresh_token="rt-1", scope="read"),
        lambda url, _: oauth2_client(url, auth=requests_oauth2client.ClientSecretBasic("svc", "s3cret")).refresh_token(
            "rt-1", scope="read"
        ),
        BASIC,
    ),
    "token exchange": Case(
        lambda url, _: TokenExchange(OAuthClient(**of_client(url)), "subject", actor_token="actor", scope="read"),
        lambda url, _: oauth2_client(url, auth=requests_oauth2client.ClientSecretBasic("svc", "s3cret")).token_exchange(
            subject_token="subject",
            subject_token_type="urn:ietf:params:oauth:token-type:access_token",
            actor_token="actor",
            actor_token_type="urn:ietf:params:oauth:token-type:access_token",
            scope="read",
        ),
        BASIC,
    ),
    "jwt bearer": Case(
        lambda url, _: JwtBearer(OAuthClient(**of_client(url)), lambda: A_JWT, scope="read"),
        lambda url, _: oauth2_client(url, auth=requests_oauth2client.ClientSecretBasic("svc", "s3cret")).jwt_bearer(
            A_JWT, scope="read"
        ),
        BASIC,
    ),
    "password": Case(
        lambda url, _: LegacyPassword(OAuthClient(**of_client(url)), "alice", "wonder land", scope="read"),
        lambda url, _: oauth2_client(
            url, auth=requests_oauth2client.ClientSecretBasic("svc", "s3cret")
        ).resource_owner_password("alice", "wonder land", scope="read"),
        BASIC,
    ),
    "google, service account": Case(
        lambda url, _: google.ServiceAccount(key_file(url), scopes=["read", "write"], subject="alice@example.com"),
        lambda url, _: google_service_account(url, scopes=["read", "write"], subject="alice@example.com"),
        BASIC,
        {"jwt.assertion.claims.jti": "an assertion that is seen twice is known for a copy"},
    ),
    "google, id token": Case(
        lambda url, _: google.ServiceAccount(key_file(url), audience="https://run.example.com"),
        lambda url, _: google_service_account(url, target_audience="https://run.example.com"),
        BASIC,
        {"jwt.assertion.claims.jti": "an assertion that is seen twice is known for a copy"},
    ),
    "google, service account by the plain grant": Case(
        lambda url, _: JwtBearer(
            OAuthClient(token_endpoint=f"{url}/token"),
            Assertion(
                rsa_pem(),
                issuer="svc@project.iam.gserviceaccount.com",
                audience="https://oauth2.googleapis.com/token",
                key_id="kid-1",
                lifetime=3600,
                claims={"scope": "read"},
            ),
        ),
        lambda url, _: google_service_account(url, scopes=["read"]),
        BASIC,
        {
            "jwt.assertion.claims.jti": "an assertion that is seen twice is known for a copy",
            "jwt.assertion.claims.sub": "RFC 7523 section 3 wants one; Google takes the issuer for it",
        },
    ),
    "google, authorized user": Case(
        lambda url, _: google.AuthorizedUser(
            {
                "type": "authorized_user",
                "client_id": "svc",
                "client_secret": "s3cret",
                "refresh_token": "rt-1",
                "token_uri": f"{url}/token",
            }
        ),
        lambda url, _: google_user(url),
        BASIC,
    ),
    "google, metadata server": Case(
        lambda url, _: google.MetadataServer(scopes=["read", "write"], host=url.removeprefix("http://")),
        lambda url, _: google_metadata(url, scopes=["read", "write"]),
        ("metadata-flavor",),
    ),
    "google, workload identity": Case(
        lambda url, folder: google.WorkloadIdentity(federated(url, folder), scopes="read"),
        google_identity,
        BASIC,
    ),
    "google, workload identity that impersonates": Case(
        lambda url, folder: google.WorkloadIdentity(federated(url, folder, impersonate=True), scopes="read"),
        lambda url, folder: google_identity(url, folder, impersonate=True),
        BASIC,
    ),
    "aws, instance role": Case(
        lambda url, _: aws.InstanceRole(endpoint=url),
        lambda url, _: botocore_instance(url),
        ("x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds"),
    ),
    "aws, container role": Case(
        lambda url, _: aws.ContainerRole(f"{url}/credentials", authorization="pod-token"),
        lambda url, _: botocore_container(url),
        BASIC,
    ),
    "aws, assume role": Case(
        lambda url, _: aws.AssumeRole(
            aws.AwsCredentials.of("AKBASE", "base-secret", "base-session"),
            ARN,
            session_name="job",
            external_id="x-1",
            region="eu-west-1",
            endpoint=f"{url}/",
        ),
        lambda url, _: botocore_sts(
            url, "assume_role", RoleArn=ARN, RoleSessionName="job", DurationSeconds=3600, ExternalId="x-1"
        ),
        ("authorization", "x-amz-security-token", "content-type"),
    ),
    "aws, web identity": Case(
        lambda url, _: aws.AssumeRoleWithWebIdentity(lambda: A_JWT, ARN, session_name="job", endpoint=f"{url}/"),
        lambda url, _: botocore_sts(
            url,
            "assume_role_with_web_identity",
            RoleArn=ARN,
            RoleSessionName="job",
            DurationSeconds=3600,
            WebIdentityToken=A_JWT,
        ),
        BASIC,
    ),
    "aws, profile": Case(
        lambda url, _: aws.Profile("job", sts_endpoint=f"{url}/"),
        botocore_profile,
        ("authorization", "x-amz-security-token", "content-type"),
        environ={"AWS_ENDPOINT_URL_STS": "{url}"},
    ),
    "google, credentials file": Case(
        lambda url, folder: google.CredentialsFile(folder / "key.json", scopes="read"),
        google_file,
        BASIC,
        {"jwt.assertion.claims.jti": "an assertion that is seen twice is known for a copy"},
        environ={"GOOGLE_APPLICATION_CREDENTIALS": "{folder}/key.json"},
    ),
    "google, credentials file that impersonates": Case(
        lambda url, folder: google.CredentialsFile(folder / "key.json", scopes="read"),
        google_impersonation,
        BASIC,
        {"jwt.assertion.claims.jti": "an assertion that is seen twice is known for a copy"},
    ),
    "vault, app role": Case(
        lambda url, _: vault.AppRole(url, "role-1", "secret-1", namespace="team"),
        lambda url, _: hvac_login(url, role_id="role-1", secret_id="secret-1"),
        ("x-vault-namespace", "x-vault-request", "x-vault-token"),
    ),
    "vault, renewal": Case(
        lambda url, _: vault.AppRole(url, "role-1", "secret-1", namespace="team"),
        lambda url, _: hvac_renewal(url),
        ("x-vault-namespace", "x-vault-request", "x-vault-token"),
        current=Token("hvs.1", issued_at=0.0, extra={"renewable": True, "first_lease": 100}),
    ),
    "vault, kubernetes": Case(
        lambda url, _: vault.JwtLogin(url, "web", A_JWT, mount="kubernetes", namespace="team"),
        lambda url, _: hvac_login(url, role="web", jwt=A_JWT),
        ("x-vault-namespace", "x-vault-request", "x-vault-token"),
    ),
    "azure, managed identity": Case(
        lambda url, _: azure.ManagedIdentity("https://vault.azure.net/.default", client_id="app", endpoint=url),
        lambda url, _: azure_identity(url, "ManagedIdentityCredential", client_id="app"),
        ("metadata",),
        {"headers.x-client": "MSAL says which release it is"},
    ),
    "azure, app service": Case(
        lambda url, _: azure.AppServiceIdentity("https://vault.azure.net", endpoint=f"{url}/msi", header="h-1"),
        lambda url, _: azure_identity(url, "ManagedIdentityCredential"),
        ("x-identity-header",),
        environ={"IDENTITY_ENDPOINT": "{url}/msi", "IDENTITY_HEADER": "h-1"},
    ),
    "azure, machine learning": Case(
        lambda url, _: azure.MachineLearningIdentity(
            "https://vault.azure.net", endpoint=f"{url}/msi", secret="s-1", client_id="app"
        ),
        lambda url, _: azure_identity(url, "ManagedIdentityCredential", client_id="app"),
        ("secret",),
        environ={"MSI_ENDPOINT": "{url}/msi", "MSI_SECRET": "s-1"},
    ),
    "azure, cloud shell": Case(
        lambda url, _: azure.CloudShellIdentity("https://vault.azure.net", endpoint=f"{url}/shell"),
        lambda url, _: azure_identity(url, "ManagedIdentityCredential"),
        ("metadata",),
        environ={"MSI_ENDPOINT": "{url}/shell"},
    ),
    "azure, workload identity": Case(
        lambda url, folder: azure.WorkloadIdentity(folder / "federated", **entra(url)),
        lambda url, folder: azure_identity(
            url,
            "WorkloadIdentityCredential",
            tenant_id="tenant",
            client_id="app",
            token_file_path=str(folder / "federated"),
        ),
        BASIC,
    ),
    "azure, client certificate": Case(
        lambda url, folder: azure.ClientCertificate(folder / "certificate", **entra(url)),
        lambda url, folder: azure_identity(
            url,
            "CertificateCredential",
            tenant_id="tenant",
            client_id="app",
            certificate_path=str(folder / "certificate"),
        ),
        BASIC,
        MSAL
        | {
            "jwt.client_assertion.claims.aud": "the peer is told that it speaks to Microsoft",
            "jwt.client_assertion.header.alg": "what Microsoft asks for today",
            "jwt.client_assertion.header.x5t#S256": "what Microsoft asks for today",
            "jwt.client_assertion.header.x5t": "what it asked for before: SHA-1",
        },
    ),
    "github, app": Case(
        lambda url, _: GitHubApp("Iv1.app", 7, rsa_pem(), permissions={"contents": "read"}, api=url),
        lambda url, _: pygithub(url),
        BASIC,
        {"jwt.authorization.claims.jti": "an assertion that is seen twice is known for a copy"},
    ),
}


def jwk_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(
        jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).prepare_key(text), as_dict=True
    )
    return {name: value for name, value in found.items() if name != "key_ops"}


def fields_of(asked: Asked, headers: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of the request by name. For fields that are new each time, return only their constant parts."""
    parts = urlsplit(asked.target)
    found: dict[str, Any] = {"method": asked.method, "path": parts.path}
    found |= {f"query.{name}": value for name, value in parse_qsl(parts.query)}
    kind = asked.headers.get("content-type", "")
    if asked.body and "json" in kind:
        found |= {f"json.{name}": value for name, value in json.loads(asked.body).items()}
    elif asked.body:
        for name, value in asked.form:
            signed = name in {"assertion", "client_assertion"} and value.count(".") == JWT_DOTS and value != A_JWT
            found |= assertion(f"jwt.{name}", value) if signed else {f"form.{name}": value}
    for name in headers:
        if name in asked.headers:
            found |= header(name, asked.headers[name])
    if any(name.startswith("x-client-") for name in asked.headers):
        found["headers.x-client"] = True
    return found


def header(name: str, value: str) -> dict[str, Any]:
    if name == "dpop":
        found = assertion("jwt.dpop", value)
        # Each has a key of its own.
        return {**found, "jwt.dpop.header.jwk": sorted(found["jwt.dpop.header.jwk"])}
    if value.count(".") == JWT_DOTS and value.startswith("Bearer eyJ"):
        return assertion(f"jwt.{name}", value.removeprefix("Bearer "))
    if value.startswith("AWS4-HMAC-SHA256"):
        # The day and the signed fields. The rest follows from the second of the signature.
        scope, signed, _ = value.split(", ")
        return {f"headers.{name}": (scope, [one for one in signed.split(";") if "user-agent" not in one])}
    return {f"headers.{name}": value}


def assertion(name: str, text: str) -> dict[str, Any]:
    claims = jwt.decode(text, options={"verify_signature": False})
    stamps = ("iat", "nbf", "exp", "jti")
    found = {f"{name}.claims.{key}": value for key, value in claims.items() if key not in stamps}
    found |= {f"{name}.claims.jti": True} if "jti" in claims else {}
    found |= {f"{name}.lifetime": claims["exp"] - claims["iat"]} if "exp" in claims else {}
    return found | {f"{name}.header.{key}": value for key, value in jwt.get_unverified_header(text).items()}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let no peer find anything of this machine's, nor wait for it."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    (tmp_path / "federated").write_text(A_JWT)
    (tmp_path / "certificate").write_text(certificate())
    level = logging.getLogger("azure").level
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("azure").setLevel(level)


@pytest.mark.parametrize("name", CASES)
async def test_same_request(name, tmp_path, monkeypatch):
    """Every source asks as the client does that its vendor, or a peer, wrote; what differs has a reason."""
    case = CASES[name]
    async with Wire(answer) as wire:
        url = wire.url("").rstrip("/")
        # It is read from the environment at the first import, which another test may have done.
        monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", url.removeprefix("http://"))
        for variable, value in case.environ.items():
            monkeypatch.setenv(variable, value.format(url=url, folder=tmp_path))
        await asyncio.to_thread(case.peer, url, tmp_path)
        # MSAL looks its endpoints up, which need no looking up.
        theirs, wire.asked[:] = [asked for asked in wire.asked if not asked.target.endswith(DISCOVERY)], []
        await case.ours(url, tmp_path).fetch(FetchRequest(None, case.current, 10.0))
        ours = wire.asked
    assert [one.target.partition("?")[0] for one in ours] == [one.target.partition("?")[0] for one in theirs]
    differences = {}
    for mine, other in zip(ours, theirs, strict=True):
        ask, peer = fields_of(mine, case.headers), fields_of(other, case.headers)
        differences |= {key: (ask.get(key), peer.get(key)) for key in ask | peer if ask.get(key) != peer.get(key)}
    unexpected = {key: value for key, value in differences.items() if key not in case.differs}
    assert not unexpected, "\n".join(
        f"{key}: ours {ours!r}, theirs {theirs!r}" for key, (ours, theirs) in unexpected.items()
    )
    assert set(case.differs) <= set(differences), "no difference any more: take it off the list"


def test_the_comparison_sees():
    """The compared parts are really there: a missing field, or another value, would be noticed."""
    text = jwt.encode({"iss": "a", "iat": 1, "exp": 61, "jti": "x"}, ec_pem(), algorithm="ES256", headers={"kid": "k"})
    asked = Asked("POST", "/token?a=b", [("authorization", "Basic x")], f"assertion={text}&scope=read".encode())
    assert fields_of(asked, ("authorization",)) == {
        "method": "POST",
        "path": "/token",
        "query.a": "b",
        "form.scope": "read",
        "headers.authorization": "Basic x",
        "jwt.assertion.claims.iss": "a",
        "jwt.assertion.claims.jti": True,
        "jwt.assertion.lifetime": 60,
        "jwt.assertion.header.alg": "ES256",
        "jwt.assertion.header.typ": "JWT",
        "jwt.assertion.header.kid": "k",
    }

"""What Azure's tools would use here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertoken.sources._unset import Unset
from evertoken.sources.azure._entra import AUTHORITY, resource_of, token_endpoint_of
from evertoken.sources.azure.app_service import AppServiceIdentity
from evertoken.sources.azure.client_certificate import ClientCertificate
from evertoken.sources.azure.managed_identity import ManagedIdentity
from evertoken.sources.azure.workload_identity import WorkloadIdentity
from evertoken.sources.client_credentials import ClientCredentials
from evertoken.sources.command import Command
from evertoken.sources.fallback import Fallback
from evertoken.sources.oauth_client import OAuthClient

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["from_environment"]


def from_environment(scope: str, *, client: Any = None) -> Fallback:
    """
    Return what Azure's tools would use here, in their order: the first of these that works.

    An application in the environment (`AZURE_CLIENT_SECRET` or `AZURE_CLIENT_CERTIFICATE_PATH`), workload identity
    (`AZURE_FEDERATED_TOKEN_FILE`), managed identity, and the `az` command. Where all fail, the error says why each did.

    Args:
        scope: What the token is for, such as "https://vault.azure.net/.default".

        client: An `httpx.AsyncClient` to use.
    """
    resource = resource_of(scope)
    environ = os.environ
    return Fallback(
        environment=_application(scope, environ, client),
        workload_identity=_workload_identity(scope, environ, client),
        managed_identity=_managed_identity(scope, environ, client),
        cli=Command(["az", "account", "get-access-token", "--output", "json", "--resource", resource]),
    )


def _application(scope: str, environ: Mapping[str, str], client: Any) -> Any:
    tenant, application = environ.get("AZURE_TENANT_ID"), environ.get("AZURE_CLIENT_ID")
    secret, certificate = environ.get("AZURE_CLIENT_SECRET"), environ.get("AZURE_CLIENT_CERTIFICATE_PATH")
    authority = environ.get("AZURE_AUTHORITY_HOST") or AUTHORITY
    if not tenant or not application or not (secret or certificate):
        return Unset(
            "AZURE_TENANT_ID, AZURE_CLIENT_ID, and AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH are not all set"
        )
    if secret:
        return ClientCredentials(
            OAuthClient(
                token_endpoint=token_endpoint_of(tenant, authority),
                client_id=application,
                client_secret=secret,
                client_auth="client_secret_post",
                http_client=client,
            ),
            scope=scope,
        )
    return ClientCertificate(
        Path(certificate or ""),
        tenant_id=tenant,
        client_id=application,
        scope=scope,
        authority=authority,
        client=client,
    )


def _workload_identity(scope: str, environ: Mapping[str, str], client: Any) -> Any:
    tenant, application = environ.get("AZURE_TENANT_ID"), environ.get("AZURE_CLIENT_ID")
    file = environ.get("AZURE_FEDERATED_TOKEN_FILE")
    if not tenant or not application or not file:
        return Unset("AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE are not all set")
    authority = environ.get("AZURE_AUTHORITY_HOST") or AUTHORITY
    return WorkloadIdentity(
        Path(file), tenant_id=tenant, client_id=application, scope=scope, authority=authority, client=client
    )


def _managed_identity(scope: str, environ: Mapping[str, str], client: Any) -> Any:
    which = environ.get("AZURE_CLIENT_ID") or None
    try:
        return AppServiceIdentity.from_environment(scope, environ, client_id=which, client=client)
    except LookupError:
        there = environ.get("AZURE_POD_IDENTITY_AUTHORITY_HOST")
        return ManagedIdentity(scope, client_id=which, client=client, **({} if not there else {"endpoint": there}))

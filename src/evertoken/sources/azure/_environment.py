"""Finds the identity that Azure's tools would use here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evertoken.sources._detected import Detected
from evertoken.sources._path import is_content
from evertoken.sources._unset import Unset
from evertoken.sources.azure._entra import AUTHORITY, resource_of, token_endpoint_of
from evertoken.sources.azure.app_service import AppServiceIdentity
from evertoken.sources.azure.arc import ArcIdentity
from evertoken.sources.azure.client_certificate import ClientCertificate
from evertoken.sources.azure.managed_identity import ENDPOINT, ManagedIdentity
from evertoken.sources.azure.msi_endpoint import CloudShellIdentity, MachineLearningIdentity
from evertoken.sources.azure.workload_identity import WorkloadIdentity
from evertoken.sources.client_credentials import ClientCredentials
from evertoken.sources.command import Command
from evertoken.sources.oauth_client import OAuthClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.protocols import TokenSource

__all__ = ["from_environment"]

#: Seconds for which the instance metadata service is looked for, as in azure-identity.
_WITHIN: Final = 1.0

_ALL: Final = ("EnvironmentCredential", "WorkloadIdentityCredential", "ManagedIdentityCredential", "AzureCliCredential")

# The values of AZURE_TOKEN_CREDENTIALS in lower case, and the sources that each allows.
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "": _ALL, "prod": _ALL[:3], "dev": _ALL[3:], **{name.lower(): (name,) for name in _ALL},
}  # fmt: skip

_LOGIN: Final = (
    "AZURE_USERNAME and AZURE_PASSWORD are set: logins with a password are not built in for Azure; use an application "
    "(AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH), or evertoken.sources.LegacyPassword"
)
_FABRIC: Final = (
    "IDENTITY_SERVER_THUMBPRINT is set: the managed identity of Service Fabric, whose server is known by its "
    "certificate alone, is not built in; use AzureCredential(azure.identity.ManagedIdentityCredential(), scope)"
)
_BINDING: Final = (
    "AZURE_KUBERNETES_TOKEN_PROXY is set: identity bindings of AKS are not built in; use "
    "AzureCredential(azure.identity.WorkloadIdentityCredential(enable_azure_proxy=True), scope)"
)


def from_environment(scope: str, *, client: Any = None) -> TokenSource:
    """
    Return the source that Azure's tools would use here, in the order of `DefaultAzureCredential`.

    These are: an application (`AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, and `AZURE_CLIENT_SECRET` or
    `AZURE_CLIENT_CERTIFICATE_PATH`); workload identity (`AZURE_FEDERATED_TOKEN_FILE` with the same two); the managed
    identity of `IDENTITY_ENDPOINT` or `MSI_ENDPOINT`; that of the machine (IMDS); the `az` command. Only the first one
    that is configured is used, and its failure is an error. `az` is used if nothing is configured and the machine has
    no identity. The first token decides between these two. `AZURE_TOKEN_CREDENTIALS` is obeyed. The variables are read
    when this function is called. Blank ones count as not set.

    Args:
        scope: The scope of the token, such as "https://vault.azure.net/.default".

        client: An `httpx.AsyncClient` to use.

    Raises:
        ValueError: *scope* is not a scope.
    """
    resource = resource_of(scope)
    environ = {name: value for name, value in os.environ.items() if value.strip()}
    chosen = _CHOICES.get(environ.get("AZURE_TOKEN_CREDENTIALS", "").strip().lower())
    if chosen is None:
        known = ", ".join(("prod", "dev", *_ALL))
        return Unset(f"AZURE_TOKEN_CREDENTIALS is {environ['AZURE_TOKEN_CREDENTIALS']!r}: use one of {known}")
    try:
        return _first(scope, resource, environ, chosen, client)
    except ValueError as error:
        # The caller has set no argument, so the variables are wrong.
        return Unset(f"the variables AZURE_... or IDENTITY_... are wrong: {error}")


def _first(scope: str, resource: str, environ: Mapping[str, str], chosen: tuple[str, ...], client: Any) -> TokenSource:
    looked = [] if len(chosen) == len(_ALL) else [f"AZURE_TOKEN_CREDENTIALS leaves {', '.join(chosen)}"]
    if _ALL[0] in chosen:
        application = _application(scope, environ, client)
        if application is not None:
            return application
        looked.append(
            "AZURE_TENANT_ID, AZURE_CLIENT_ID, and AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH are not all set"
        )
    if _ALL[1] in chosen:
        workload = _workload_identity(scope, environ, client)
        if workload is not None:
            return workload
        looked.append("AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE are not all set")
    command = Command(["az", "account", "get-access-token", "--output", "json", "--resource", resource])
    cli = ("az", command) if _ALL[3] in chosen else None
    if _ALL[2] in chosen:
        told = _told(scope, environ, client)
        if told is not None:
            return told
        there = environ.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or ENDPOINT
        own = ManagedIdentity(scope, client_id=environ.get("AZURE_CLIENT_ID"), endpoint=there, client=client)
        if chosen == _ALL[2:3]:
            return own
        said = "; ".join(looked)
        return Detected(own, first=own.first, look=own._look, within=_WITHIN, otherwise=cli, looked=said)  # noqa: SLF001 - defined in this package
    return Unset(f"no credentials are configured: {'; '.join(looked)}") if cli is None else command


def _application(scope: str, environ: Mapping[str, str], client: Any) -> TokenSource | None:
    tenant, application = environ.get("AZURE_TENANT_ID"), environ.get("AZURE_CLIENT_ID")
    secret, certificate = environ.get("AZURE_CLIENT_SECRET"), environ.get("AZURE_CLIENT_CERTIFICATE_PATH")
    authority = environ.get("AZURE_AUTHORITY_HOST") or AUTHORITY
    if application and tenant and secret:
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
    if application and tenant and certificate:
        if is_content(certificate):
            return Unset("AZURE_CLIENT_CERTIFICATE_PATH holds a certificate, but the path of its file is needed")
        return ClientCertificate(
            Path(certificate),
            tenant_id=tenant,
            client_id=application,
            scope=scope,
            authority=authority,
            password=environ.get("AZURE_CLIENT_CERTIFICATE_PASSWORD"),
            # azure-identity treats any value as yes.
            send_chain="AZURE_CLIENT_SEND_CERTIFICATE_CHAIN" in environ,
            client=client,
        )
    if application and environ.get("AZURE_USERNAME") and environ.get("AZURE_PASSWORD"):
        return Unset(_LOGIN)
    return None


def _workload_identity(scope: str, environ: Mapping[str, str], client: Any) -> TokenSource | None:
    tenant, application = environ.get("AZURE_TENANT_ID"), environ.get("AZURE_CLIENT_ID")
    file = environ.get("AZURE_FEDERATED_TOKEN_FILE")
    if not tenant or not file:
        return None
    if not application:
        # The webhook of AKS sets all of these. With the authority, workload identity is intended but incomplete.
        said = "AZURE_FEDERATED_TOKEN_FILE and AZURE_TENANT_ID are set, and AZURE_CLIENT_ID is not"
        return Unset(said) if "AZURE_AUTHORITY_HOST" in environ else None
    if "AZURE_KUBERNETES_TOKEN_PROXY" in environ:
        # Microsoft accepts the token of such a pod only at the proxy of the cluster.
        return Unset(_BINDING)
    if is_content(file):
        return Unset("AZURE_FEDERATED_TOKEN_FILE holds a token, but the path of its file is needed")
    authority = environ.get("AZURE_AUTHORITY_HOST") or AUTHORITY
    return WorkloadIdentity(
        Path(file), tenant_id=tenant, client_id=application, scope=scope, authority=authority, client=client
    )


def _told(scope: str, environ: Mapping[str, str], client: Any) -> TokenSource | None:
    """Return the managed identity that the platform announces by variables, if there is one."""
    which = environ.get("AZURE_CLIENT_ID")
    endpoint, header = environ.get("IDENTITY_ENDPOINT"), environ.get("IDENTITY_HEADER")
    if endpoint and header:
        if "IDENTITY_SERVER_THUMBPRINT" in environ:
            return Unset(_FABRIC)
        return AppServiceIdentity(scope, endpoint=endpoint, header=header, client_id=which, client=client)
    if endpoint and "IMDS_ENDPOINT" in environ:
        return ArcIdentity(scope, endpoint=endpoint, client_id=which, client=client)
    if endpoint:
        return Unset(
            "IDENTITY_ENDPOINT is set, and neither IDENTITY_HEADER (App Service) nor IMDS_ENDPOINT (Azure Arc)"
        )
    return _told_by_msi(scope, environ, client)


def _told_by_msi(scope: str, environ: Mapping[str, str], client: Any) -> TokenSource | None:
    shell, secret = environ.get("MSI_ENDPOINT"), environ.get("MSI_SECRET")
    if shell and secret:
        return MachineLearningIdentity(
            scope, endpoint=shell, secret=secret, client_id=environ.get("AZURE_CLIENT_ID"), client=client
        )
    if shell:
        return CloudShellIdentity(scope, endpoint=shell, client=client)
    return None

"""Microsoft Azure. Each way to obtain tokens has its own file."""

from evertoken.sources.azure._environment import from_environment
from evertoken.sources.azure.app_service import AppServiceIdentity
from evertoken.sources.azure.arc import ArcIdentity
from evertoken.sources.azure.azure_credential import AzureCredential
from evertoken.sources.azure.client_certificate import ClientCertificate
from evertoken.sources.azure.managed_identity import ManagedIdentity
from evertoken.sources.azure.msi_endpoint import CloudShellIdentity, MachineLearningIdentity
from evertoken.sources.azure.workload_identity import WorkloadIdentity

__all__ = [
    "AppServiceIdentity",
    "ArcIdentity",
    "AzureCredential",
    "ClientCertificate",
    "CloudShellIdentity",
    "MachineLearningIdentity",
    "ManagedIdentity",
    "WorkloadIdentity",
    "from_environment",
]

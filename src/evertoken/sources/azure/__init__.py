"""Microsoft Azure, one way to its tokens a file."""

from evertoken.sources.azure._environment import from_environment
from evertoken.sources.azure.app_service import AppServiceIdentity
from evertoken.sources.azure.client_certificate import ClientCertificate
from evertoken.sources.azure.managed_identity import ManagedIdentity
from evertoken.sources.azure.workload_identity import WorkloadIdentity

__all__ = [
    "AppServiceIdentity",
    "ClientCertificate",
    "ManagedIdentity",
    "WorkloadIdentity",
    "from_environment",
]

"""Google Cloud. Each way to obtain tokens has its own file."""

from evertoken.sources.google._environment import from_environment
from evertoken.sources.google.authorized_user import AuthorizedUser
from evertoken.sources.google.credentials_file import CredentialsFile
from evertoken.sources.google.google_auth_credentials import GoogleAuthCredentials
from evertoken.sources.google.metadata_server import MetadataServer
from evertoken.sources.google.service_account import ServiceAccount
from evertoken.sources.google.workload_identity import WorkloadIdentity

__all__ = [
    "AuthorizedUser",
    "CredentialsFile",
    "GoogleAuthCredentials",
    "MetadataServer",
    "ServiceAccount",
    "WorkloadIdentity",
    "from_environment",
]

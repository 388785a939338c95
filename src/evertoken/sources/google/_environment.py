"""What Google's tools would use here: Application Default Credentials."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertoken.sources._unset import Unset
from evertoken.sources.fallback import Fallback
from evertoken.sources.google._info import CLOUD_PLATFORM
from evertoken.sources.google.credentials_file import CredentialsFile
from evertoken.sources.google.metadata_server import MetadataServer

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["from_environment"]


def from_environment(*, scopes: str | Iterable[str] = CLOUD_PLATFORM, client: Any = None) -> Fallback:
    """
    Return what Google's tools would use here (Application Default Credentials): the first of these that works.

    The file of `GOOGLE_APPLICATION_CREDENTIALS`, what `gcloud auth application-default login` left behind, the metadata
    server. Where all fail, the error says why each did.

    Args:
        scopes: What the token may be used for.

        client: An `httpx.AsyncClient` to use.
    """
    environ = os.environ
    scopes = scopes if isinstance(scopes, str) else list(scopes)
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    folder = environ.get("CLOUDSDK_CONFIG") or (
        Path(environ["APPDATA"], "gcloud") if environ.get("APPDATA") else Path("~/.config/gcloud").expanduser()
    )
    left = Path(folder, "application_default_credentials.json")
    return Fallback(
        environment=CredentialsFile(named, scopes=scopes, client=client)
        if named
        else Unset("GOOGLE_APPLICATION_CREDENTIALS is not set"),
        gcloud=CredentialsFile(left, scopes=scopes, client=client) if left.exists() else Unset(f"there is no {left}"),
        metadata=Unset("NO_GCE_CHECK is true")
        if environ.get("NO_GCE_CHECK", "").lower() == "true"
        else MetadataServer(scopes=scopes, client=client),
    )

"""Finds Application Default Credentials, which Google's tools would use here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evertoken._model.hosts import Reach
from evertoken.sources._detected import Detected
from evertoken.sources._path import is_content
from evertoken.sources._token_request import Endpoint
from evertoken.sources._unset import Unset
from evertoken.sources.google._info import CLOUD_PLATFORM, scope_of
from evertoken.sources.google.credentials_file import CredentialsFile
from evertoken.sources.google.metadata_server import FLAVOR, MetadataServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.protocols import TokenSource

__all__ = ["from_environment"]

_VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
_FILE: Final = "application_default_credentials.json"

#: Seconds for which the metadata server is looked for, as in google-auth.
_WITHIN: Final = 3.0


def from_environment(*, scopes: str | Iterable[str] = CLOUD_PLATFORM, client: Any = None) -> TokenSource:
    """
    Return the source that Google's tools would use here (Application Default Credentials), in their order.

    These are: the file of `GOOGLE_APPLICATION_CREDENTIALS`; the file from `gcloud auth application-default login`; the
    metadata server. Only the first one that exists is used. If a file cannot be used, that is an error, and the
    machine's own service account does not replace it. Variables and files are looked up when this function is called.

    Args:
        scopes: The scopes of the token.

        client: An `httpx.AsyncClient` to use.

    Raises:
        ValueError: *scopes* is invalid.
    """
    environ = os.environ
    scopes = scope_of(scopes)
    left = _left_by_gcloud(environ)
    named = environ.get(_VARIABLE, "")
    if is_content(named):
        return Unset(f"{_VARIABLE} holds the content of a file, but the path of the file is needed")
    # As in google-auth, this file may be missing even if the variable names it.
    if named.strip() and named != str(left):
        return CredentialsFile(named, scopes=scopes, client=client)
    if left is not None and os.path.isfile(left):  # noqa: PTH113 - pathlib raises if a folder may not be read
        return CredentialsFile(left, scopes=scopes, client=client)
    gcloud = "there is no home folder in which to look for a login of gcloud" if left is None else f"there is no {left}"
    looked = f"{_VARIABLE} is not set; {gcloud}"
    if environ.get("NO_GCE_CHECK", "").lower() == "true":
        return Unset(f"no credentials are configured: {looked}; NO_GCE_CHECK is true")
    try:
        own = MetadataServer(scopes=scopes, client=client)
    except ValueError as error:
        return Unset(f"GCE_METADATA_HOST is not a host: {error}")
    look = Endpoint(f"{own.provider}/", client=client, allow_http=Reach.PRIVATE, parameter="GCE_METADATA_HOST")
    return Detected(own, look=(look, FLAVOR), within=_WITHIN, looked=looked)


def _left_by_gcloud(environ: Mapping[str, str]) -> Path | None:
    if environ.get("CLOUDSDK_CONFIG"):
        return Path(environ["CLOUDSDK_CONFIG"], _FILE)
    if os.name == "nt" and environ.get("APPDATA"):
        return Path(environ["APPDATA"], "gcloud", _FILE)
    try:
        return Path.home() / ".config" / "gcloud" / _FILE
    except RuntimeError:
        # The user has no home.
        return None

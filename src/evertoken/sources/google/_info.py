"""Reads the JSON files with credentials that Google issues."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from evertoken._model.errors import GrantRejected
from evertoken._model.redaction import quoted
from evertoken._signing.secret import resolve
from evertoken.sources._path import wrong_path

if TYPE_CHECKING:
    from evertoken._model.answer import Answer

__all__ = [
    "CLOUD_PLATFORM",
    "IAM",
    "TOKEN_URI",
    "UNIVERSE",
    "Info",
    "basic",
    "identity_in",
    "quota_told",
    "read_info",
    "scope_of",
    "text_in",
    "universe_of",
    "wrong_info",
]

UNIVERSE: Final = "googleapis.com"

TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - a URL, not a secret

#: The default scope: all that the owner of the credentials may do.
CLOUD_PLATFORM: Final = "https://www.googleapis.com/auth/cloud-platform"

#: The scope of a token that is only used to act as another account.
IAM: Final = "https://www.googleapis.com/auth/iam"

# Advice for files with other content.
_HINTS: Final = {
    "client": "this is the file of an OAuth client, with which a person logs in; give the file that the login leaves",
    "gdch_service_account": "accounts of Google Distributed Cloud are not built in; give a function that asks"
    " google-auth (google.oauth2.gdch_credentials) for a token",
}

#: The content of such a file, or the path of the file, which is read for each fetch.
Info: TypeAlias = Mapping[str, Any] | Path


def wrong_info(info: object) -> str | None:
    """Return the fault of *info*, without repeating *info*, or None if it may be the content or a path."""
    if isinstance(info, Path):
        return wrong_path("info", info)
    if isinstance(info, Mapping):
        return None
    return f"info must be the content of a credentials file, or a pathlib.Path to one, not {type(info).__name__}"


async def read_info(info: Info, *kinds: str) -> Mapping[str, Any]:
    """
    Return the content, which must have one of *kinds*.

    Raises:
        OSError: The file cannot be read.
        GrantRejected: It is not such a file.
    """
    where = "the credentials" if isinstance(info, Mapping) else f"the credentials file {str(info)!r}"
    found: object = info
    if isinstance(info, Path):
        try:
            found = json.loads((await resolve(info, "info")).removeprefix("\ufeff"))
        except (ValueError, TypeError, RecursionError):
            found = None
    if not isinstance(found, Mapping):
        raise GrantRejected("invalid_request", f"{where} hold no JSON object; {' or '.join(kinds)} is needed")
    kind = found.get("type")
    if kind not in kinds:
        said = f"{where} are of type {quoted(kind)}, where {' or '.join(kinds)} is needed"
        hint = _HINTS["client"] if {"installed", "web"} & found.keys() else _HINTS.get(str(kind))
        raise GrantRejected("invalid_request", said if hint is None else f"{said}: {hint}")
    return found


def quota_told(answer: Answer, info: Mapping[str, Any]) -> Answer:
    """
    Return *answer* with the project that pays for requests as `quota_project_id`, if one is named.

    As in google-auth, `GOOGLE_CLOUD_QUOTA_PROJECT` takes precedence over the file.
    """
    project = os.environ.get("GOOGLE_CLOUD_QUOTA_PROJECT", "").strip() or info.get("quota_project_id")
    if not isinstance(project, str) or not project:
        return answer
    return answer.replace(fields={**answer.fields, "quota_project_id": project})


def universe_of(info: Mapping[str, Any]) -> str:
    """Return the domain of the file's cloud: "googleapis.com", or that of a sovereign cloud."""
    return str(info.get("universe_domain") or UNIVERSE)


def text_in(info: Mapping[str, Any], name: str) -> str:
    """
    Return a required member.

    Raises:
        GrantRejected: The member is missing.
    """
    value = info.get(name)
    if not isinstance(value, str) or not value:
        raise GrantRejected("invalid_request", f"the credentials of type {quoted(info.get('type'))} lack {name!r}")
    return value


def scope_of(scopes: object) -> str:
    """
    Return scopes as one text with spaces.

    Raises:
        ValueError: The scopes are invalid.
    """
    several: list[Any] = []
    if isinstance(scopes, Iterable):
        several = scopes.split() if isinstance(scopes, str) else list(scopes)
    if not several or not all(isinstance(one, str) and one for one in several):
        msg = f"scopes must be one or several strings, not {quoted(scopes)}"
        raise ValueError(msg)
    return " ".join(several)


def basic(name: str, secret: str) -> dict[str, str]:
    """Return the header field that authenticates a client at Google's Security Token Service."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def identity_in(info: Info, *members: str) -> list[str] | None:
    """Return the *members* of *info* that distinguish it from other accounts, or None for a file."""
    return None if isinstance(info, Path) else [str(info.get(member)) for member in members]

"""What Google hands out as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from evertoken._model.errors import GrantRejected
from evertoken._signing.secret import resolve

__all__ = ["CLOUD_PLATFORM", "IAM", "TOKEN_URI", "Info", "check_info", "read_info", "scope_of", "text_in"]

TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - a URL, and no secret

#: What may be done with it unless told: all that its owner may.
CLOUD_PLATFORM: Final = "https://www.googleapis.com/auth/cloud-platform"

#: All that a token needs which is only used to act as another account.
IAM: Final = "https://www.googleapis.com/auth/iam"

#: The content of such a file, or where the file is; it is read at each fetch.
Info: TypeAlias = Mapping[str, Any] | Path


def check_info(info: object) -> None:
    """Raise ValueError where *info* is neither."""
    if not isinstance(info, Mapping | Path):
        msg = f"info must be the content of a credentials file, or a pathlib.Path to one, not {type(info).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake


async def read_info(info: Info, *kinds: str) -> Mapping[str, Any]:
    """
    Return the content, of one of *kinds*.

    Raises:
        OSError: The file cannot be read.
        GrantRejected: It is no such file.
    """
    where = "the credentials" if isinstance(info, Mapping) else f"the credentials file {str(info)!r}"
    found: object = info
    if isinstance(info, Path):
        try:
            found = json.loads(await resolve(info, "info"))
        except (ValueError, TypeError, RecursionError):
            found = None
    if not isinstance(found, Mapping) or found.get("type") not in kinds:
        kind = found.get("type") if isinstance(found, Mapping) else None
        raise GrantRejected("invalid_request", f"{where} are of type {kind!r}, where {' or '.join(kinds)} is needed")
    return found


def text_in(info: Mapping[str, Any], name: str) -> str:
    """
    Return a member that must be there.

    Raises:
        GrantRejected: It is not.
    """
    value = info.get(name)
    if not isinstance(value, str) or not value:
        raise GrantRejected("invalid_request", f"the credentials of type {info.get('type')!r} lack {name!r}")
    return value


def scope_of(scopes: object) -> str:
    """
    Return scopes as they are sent: with spaces between.

    Raises:
        ValueError: They are none.
    """
    several: list[Any] = []
    if isinstance(scopes, Iterable):
        several = scopes.split() if isinstance(scopes, str) else list(scopes)
    if not several or not all(isinstance(one, str) and one for one in several):
        msg = f"scopes must be one or several strings, not {scopes!r}"
        raise ValueError(msg)
    return " ".join(several)

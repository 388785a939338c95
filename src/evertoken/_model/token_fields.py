"""Translates token answers with other field names, or with a nested object, to the names of RFC 6749."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["standard_fields"]

# The names of RFC 6749 section 5.1, and Microsoft's names for instants, in camel case.
_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accessToken": "access_token",
        "expiresAt": "expires_at",
        "expiresIn": "expires_in",
        "expiresOn": "expires_on",
        "refreshExpiresIn": "refresh_expires_in",
        "refreshIn": "refresh_in",
        "refreshOn": "refresh_on",
        "refreshToken": "refresh_token",
        "refreshTokenExpiresIn": "refresh_token_expires_in",
        "tokenType": "token_type",
    }
)


def standard_fields(fields: Mapping[str, Any], /) -> Mapping[str, Any]:
    """
    Return *fields* with the names of RFC 6749 section 5.1.

    Names in camel case are translated. If there is no access token, but exactly one member is an object with an access
    token, the fields of that object are used. Fields with a standard name stay as they are.
    """
    if fields.get("access_token"):
        return fields
    renamed = _renamed(fields)
    if renamed.get("access_token"):
        return renamed
    inner = {name: _renamed(value) for name, value in fields.items() if isinstance(value, Mapping)}
    found = [name for name, value in inner.items() if isinstance(value.get("access_token"), str)]
    if len(found) != 1:
        return fields
    outer = {name: value for name, value in fields.items() if name != found[0]}
    return {**outer, **inner[found[0]]}


def _renamed(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if not fields.get("access_token") and not fields.get("accessToken"):
        return fields
    others = {_NAMES[name]: value for name, value in fields.items() if name in _NAMES}
    return {**others, **{name: value for name, value in fields.items() if name not in _NAMES}}

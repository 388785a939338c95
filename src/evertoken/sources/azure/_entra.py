"""Microsoft Entra ID: the address of its token endpoint."""

from __future__ import annotations

from typing import Final

from evertoken.sources._url import check_name_in_path

__all__ = ["AUTHORITY", "identity_named", "resource_of", "token_endpoint_of"]

AUTHORITY: Final = "https://login.microsoftonline.com"


def token_endpoint_of(tenant_id: object, authority: str) -> str:
    """
    Return the token endpoint of a tenant.

    Raises:
        ValueError: *tenant_id* is not a tenant.
    """
    check_name_in_path("tenant_id", tenant_id)
    host = authority if "://" in authority else f"https://{authority}"
    return f"{host.rstrip('/')}/{tenant_id}/oauth2/v2.0/token"


def resource_of(scope: str) -> str:
    """
    Return the resource of a scope such as "https://vault.azure.net/.default", as managed identities need it.

    Raises:
        ValueError: *scope* is not such a scope.
    """
    if not isinstance(scope, str) or not scope or " " in scope:
        msg = f"scope must be one resource's, as in 'https://vault.azure.net/.default', not {scope!r}"
        raise ValueError(msg)
    return scope.removesuffix("/.default")


def identity_named(**which: str | None) -> dict[str, str]:
    """
    Return the one entry of *which* that names a user-assigned identity, if there is one.

    Raises:
        ValueError: More than one entry is given.
    """
    named = {name: value for name, value in which.items() if value is not None}
    if len(named) > 1:
        msg = "only one of client_id, object_id and resource_id may say which identity is meant"
        raise ValueError(msg)
    return named

"""Recognises the address of a PostgreSQL server, as opposed to a part of a password that was not quoted."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_loopback", "is_plain", "place_of"]

#: A URL as libpq reads it: the user's part ends at the first @ before any slash.
_URL: Final = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?(?P<hosts>[^/?]*)(?P<path>/[^?]*)?(?P<query>\?.*)?", re.DOTALL)

#: Patterns for hosts or socket directories, ports, and names of databases without quotes.
_HOST: Final = r"(?:[\w.:%-]*|@?/[\w.:/~+ -]*)"
_HOSTS: Final = re.compile(rf"{_HOST}(?:,{_HOST})*")
_PORTS: Final = re.compile(r"(?:\d{1,5})?(?:,(?:\d{1,5})?)*")
_NAME: Final = re.compile(r"[\w.$-]+")

#: Text that a name of a database contains only if a part of an address got into it.
_STRAYED: Final = re.compile(r"[@=]|://")


def is_plain(conninfo: str, known: Mapping[str, object]) -> bool:
    """Tell whether libpq reads a plausible host, port and database in *conninfo*. *known* has these values."""
    url = _URL.fullmatch(conninfo)
    # If a password was not quoted, its @ is in another part.
    if url is not None and any("@" in (url[part] or "") for part in ("hosts", "path", "query")):
        return False
    host, port, name = (str(known.get(field) or "") for field in ("host", "port", "dbname"))
    return bool(_HOSTS.fullmatch(host) and _PORTS.fullmatch(port)) and (url is not None or not _STRAYED.search(name))


def place_of(known: Mapping[str, object]) -> str:
    """Return the host, the port and the database in *known*, as far as they are plausible."""
    plain = {"host": _HOSTS, "port": _PORTS, "dbname": _NAME}
    named = {field: str(known[field]) for field in plain if field in known}
    return " ".join(f"{field}={value}" for field, value in named.items() if plain[field].fullmatch(value))


def is_loopback(address: str) -> bool:
    """Tell whether *address* is on this host. It is an IP address, or empty for a socket."""
    try:
        return not address or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False

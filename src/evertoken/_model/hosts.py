"""Tells how far away a host is, from its name or address alone. No name is resolved."""

from __future__ import annotations

import enum
import ipaddress
import re
import unicodedata
from typing import Final

__all__ = ["Reach", "reach_of"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(enum.IntEnum):
    """The place of a host, the nearest first."""

    #: This machine: 127.0.0.0/8, ::1, an unspecified address, and names that end in "localhost" (RFC 6761).
    LOOPBACK = 0
    #: The host's own link, where platforms have their metadata services: 169.254.0.0/16, fe80::/10, and the like.
    LINK_LOCAL = 1
    #: A private or unroutable address (RFC 1918, RFC 4193, RFC 6598), or a name such as "host" or "host.internal".
    PRIVATE = 2
    #: All other hosts.
    PUBLIC = 3

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


# Metadata services and similar services of platforms, at addresses that are not link-local: AWS, Google Cloud, Alibaba
# Cloud, Azure, Oracle Cloud.
_PLATFORM: Final = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)
_PLATFORM_NAMES: Final = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})

# Names from RFC 6761, RFC 6762 and RFC 8375, and the name that ICANN reserved in 2024.
_LOCAL: Final = re.compile(r"(?:.+\.)?(?:localhost|localhost\.localdomain|localhost6|ip6-localhost|ip6-loopback)")
_PRIVATE: Final = re.compile(r"[^.]*|(?:.+\.)(?:local|localdomain|internal|home\.arpa)")

# IPv6 networks whose addresses end with an IPv4 address: translation (RFC 6052, RFC 2765), and RFC 4291 2.5.5.1.
_TRANSLATED: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))

_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")
_LAST_IS_NUMBER: Final = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)")
_LONGEST: Final = 255
_DOTS: Final = str.maketrans("\u3002\uff0e\uff61", "...")


def reach_of(host: str, /, *, strict: bool = False) -> Reach:
    """
    Return the place of *host*.

    Args:
        host: A name, or an address in any spelling that a resolver may take: "127.1", "0x7f000001", "::ffff:7f00:1".

        strict: Use True to ask whether something may be *allowed* there. Then a spelling that not all software reads in
            the same way counts as a public host. Otherwise it counts as the nearest host that it may mean.
    """
    if len(host) > _LONGEST:
        return Reach.PUBLIC if strict else Reach.LOOPBACK
    if not strict:
        host = unicodedata.normalize("NFKC", host.translate(_DOTS))
    host = host.lower().strip("[]").partition("%")[0]
    host = host.removesuffix(".") if strict else host.strip(". ")
    found = _addresses(host, strict=strict)
    if found:
        return min(_reach(address, strict=strict) for address in found)
    if not host or _LAST_IS_NUMBER.fullmatch(host) or (strict and not host.isascii()):
        # No name ends in a number. Different software gives such a host different meanings.
        return Reach.PUBLIC if strict else Reach.LOOPBACK
    if _LOCAL.fullmatch(host):
        return Reach.LOOPBACK
    if host in _PLATFORM_NAMES:
        return Reach.LINK_LOCAL
    return Reach.PRIVATE if _PRIVATE.fullmatch(host) else Reach.PUBLIC


def _addresses(host: str, *, strict: bool) -> list[_Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        # Some software reads a leading zero as octal, and other software refuses it.
        found = [] if strict else [_numbers(host, octal=8), _numbers(host, octal=10)]
        return [address for address in found if address is not None]


def _numbers(host: str, *, octal: int) -> ipaddress.IPv4Address | None:
    """Return the address as the C function inet_aton reads it: the last of up to four numbers fills the rest."""
    parts = host.split(".")
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):  # noqa: PLR2004 - bytes of an address
        return None
    try:
        *leading, last = [
            int(part[2:] or "0", 16) if part.startswith("0x") else int(part, octal if part.startswith("0") else 10)
            for part in parts
        ]
    except ValueError:
        return None
    room = 4 - len(leading)
    if last >= 256**room or any(number > 255 for number in leading):  # noqa: PLR2004 - the largest byte
        return None
    return ipaddress.IPv4Address(bytes((*leading, *last.to_bytes(room, "big"))))


def _reach(address: _Address, *, strict: bool) -> Reach:
    if address.is_loopback or (address.is_unspecified and not strict):
        return Reach.LOOPBACK
    inner = None if isinstance(address, ipaddress.IPv4Address) else _inside(address, strict=strict)
    if inner is not None:
        return _reach(inner, strict=strict)
    if isinstance(address, ipaddress.IPv6Address) and address.sixtofour is not None:
        # Releases of Python differ about these addresses.
        return Reach.PUBLIC
    if address.is_link_local or address in _PLATFORM:
        return Reach.LINK_LOCAL
    return Reach.PUBLIC if address.is_global and not address.is_multicast else Reach.PRIVATE


def _inside(address: ipaddress.IPv6Address, *, strict: bool) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None or strict:
        # The operating system itself takes this address for the one inside. The others are translated by gateways.
        return address.ipv4_mapped
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour or (None if address.teredo is None else address.teredo[1])

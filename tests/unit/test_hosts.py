"""How far away hosts are, in every spelling of an address."""

from __future__ import annotations

import pytest

from evertoken._model.hosts import Reach, reach_of

# The class of a host in a document from the network, and the place that is allowed, or None if it is the same.
HOSTS: dict[Reach, dict[str, Reach | None]] = {
    Reach.LOOPBACK: {
        "127.0.0.1": None, "127.255.0.3": None, "::1": None, "[::1]": None, "::ffff:127.0.0.1": None,
        "::ffff:7f00:1": None, "0:0:0:0:0:0:0:1": None, "localhost": None, "LOCALHOST": None, "localhost.": None,
        "a.localhost": None, "a.b.localhost.": None, "localhost.localdomain": None, "ip6-localhost": None,
        "0.0.0.0": Reach.PRIVATE, "::": Reach.PRIVATE,
        "127.1": Reach.PUBLIC, "127.0.1": Reach.PUBLIC, "2130706433": Reach.PUBLIC, "0x7f000001": Reach.PUBLIC,
        "0X7F.1": Reach.PUBLIC, "0x7f.0.0.1": Reach.PUBLIC, "0177.0.0.1": Reach.PUBLIC, "017700000001": Reach.PUBLIC,
        "0127.0.0.1": Reach.PUBLIC, "127.0.0.1.": None, "0": Reach.PUBLIC, "0x0": Reach.PUBLIC,
        "127\u30020\uff0e0\uff611": Reach.PUBLIC, "\u2460\u2461\u2466.0.0.1": Reach.PUBLIC,
        "\uff4cocalhost": Reach.PUBLIC, "64:ff9b::7f00:1": Reach.PUBLIC, "2002:7f00:1::": Reach.PUBLIC,
        "::127.0.0.1": Reach.PUBLIC, "::ffff:0:127.0.0.1": Reach.PUBLIC, "": Reach.PUBLIC, ".": Reach.PUBLIC,
        "1.2.3.4.5": Reach.PUBLIC, "256.256.256.256": Reach.PUBLIC, "a" * 300: Reach.PUBLIC,
    },
    Reach.LINK_LOCAL: {
        "169.254.169.254": None, "169.254.170.2": None, "fe80::1": None, "fe80::1%eth0": None,
        "::ffff:169.254.169.254": None, "fd00:ec2::254": None, "FD00:EC2:0::254": None, "fd20:ce::254": None,
        "100.100.100.200": None, "168.63.129.16": None, "192.0.0.192": None, "metadata.google.internal": None,
        "Metadata.Google.Internal.": None, "metadata": None, "instance-data": None,
        "2852039166": Reach.PUBLIC, "0xa9fea9fe": Reach.PUBLIC, "0xa9.0xfe.0xa9.0xfe": Reach.PUBLIC,
        "169.16689662": Reach.PUBLIC, "0251.0376.0251.0376": Reach.PUBLIC, "64:ff9b::a9fe:a9fe": Reach.PUBLIC,
    },
    Reach.PRIVATE: {
        "10.0.0.1": None, "10.255.255.255": None, "172.16.0.1": None, "172.31.255.255": None, "192.168.0.1": None,
        "100.64.0.1": None, "fc00::1": None, "fdff::1": None, "::ffff:10.0.0.1": None, "224.0.0.1": None,
        "ff02::1": None, "255.255.255.255": None, "240.0.0.1": None, "198.18.0.1": None,
        "intranet": None, "keycloak.svc.cluster.local": None, "as.internal": None, "host.docker.internal": None,
        "router.home.arpa": None, "printer.local.": None, "0xa000001": Reach.PUBLIC, "167772161": Reach.PUBLIC,
        "10.1": Reach.PUBLIC, "012.0.0.1": Reach.PUBLIC, "2002:a00:1::": Reach.PUBLIC,
    },
    Reach.PUBLIC: {
        "8.8.8.8": None, "172.32.0.1": None, "172.15.0.1": None, "100.128.0.1": None, "169.253.0.1": None,
        "11.0.0.1": None, "2606:4700::1111": None, "::ffff:8.8.8.8": None, "64:ff9b::808:808": None,
        "as.example.com": None, "as.example.com.": None, "localhost.example.com": None, "127.0.0.1.example.com": None,
        "notlocalhost.com": None, "metadata.google.internal.example.com": None, "xn--mnchen-3ya.example": None,
        "134744072": None, "0x08080808": None, "internal.example.com": None,
    },
}  # fmt: skip
TABLE = [(host, reach, sure) for reach, hosts in HOSTS.items() for host, sure in hosts.items()]


@pytest.mark.parametrize(("host", "reach", "sure"), TABLE)
def test_reach(host, reach, sure):
    """S2: a host in an odd spelling is the nearest that it may be where it is refused, and far where it is allowed."""
    assert reach_of(host) is reach
    assert reach_of(host, strict=True) is (reach if sure is None else sure)
    assert "_" not in str(reach)

"""U4: every kind of redirect, with every kind of credentials, through every client: who gets them, and who does not."""

from __future__ import annotations

import asyncio
import functools
from typing import Any
from urllib.parse import urlsplit

import httpx
import httpx2
import pytest
from tests.sources.keys import ec_pem

from evertoken import DPoPKey, Token, TokenManager
from evertoken.clients import httpx as for_httpx, httpx2 as for_httpx2
from evertoken.sources.aws import AwsCredentials

LIBRARIES = {"httpx": (httpx, for_httpx), "httpx2": (httpx2, for_httpx2)}
STATUSES = (301, 302, 303, 307, 308)
OWN = "https://api.example.com"

# Where a redirect from OWN leads, and whether that is still one of the origins that may see the credentials.
SHAPES = {
    # The same origin, in other words.
    "path": ("/end", True),
    "relative": ("end", True),
    "dot segments": ("./a/../end", True),
    "query": ("/end?x=https://evil.test", True),
    "absolute": (f"{OWN}/end", True),
    "default port": (f"{OWN}:443/end", True),
    "upper case": ("HTTPS://API.EXAMPLE.COM/end", True),
    "without a scheme": ("//api.example.com/end", True),
    "fragment": ("/end#there", True),
    "two hops": ("/again?to=/end", True),
    # Another origin.
    "host": ("https://other.example.net/end", False),
    "host without a scheme": ("//other.example.net/end", False),
    "port": (f"{OWN}:8443/end", False),
    "downgrade": ("http://api.example.com/end", False),
    "downgrade to the port": ("http://api.example.com:443/end", False),
    "subdomain": ("https://v2.api.example.com/end", False),
    "parent domain": ("https://example.com/end", False),
    "sibling": ("https://www.example.com/end", False),
    "longer host": ("https://api.example.com.evil.test/end", False),
    "host with our name in it": ("https://api.example.com-evil.test/end", False),
    "final dot": ("https://api.example.com./end", False),
    "our name as user": ("https://api.example.com@evil.test/end", False),
    "our name and a port as user": ("https://api.example.com:443@evil.test/end", False),
    "our name in the path": ("https://evil.test/api.example.com/end", False),
    "our name in the query": ("https://evil.test/?https://api.example.com/end", False),
    "loopback": ("http://127.0.0.1/end", False),
    "loopback by name": ("http://localhost:2375/end", False),
    "IPv6": ("https://[::1]/end", False),
    "metadata service": ("http://169.254.169.254/latest/meta-data", False),
    "international name": ("https://\u00e4pi.example.com/end", False),
    "our name in other letters": ("https://\u0430pi.example.com/end", False),
    # By way of one's own, or of a stranger.
    "two hops to a stranger": ("/again?to=https://evil.test/end", False),
    "a stranger twice": ("https://evil.test/again?to=https://other.example.net/end", False),
}

KEY = DPoPKey(ec_pem())
SECRETS = (b"planted-token", b"planted-session", b"AKIAPLANTED", b"planted-secret")


def bearer(module: Any, tokens: TokenManager[Any], **options: Any) -> Any:
    return module.BearerAuth(tokens.handle(), **options)


def field(module: Any, tokens: TokenManager[Any], **options: Any) -> Any:
    return module.HeaderAuth(tokens.handle(), "X-Api-Key", **options)


def dpop(module: Any, tokens: TokenManager[Any], **options: Any) -> Any:
    return module.DPoPAuth(tokens.handle(), KEY, **options)


def signed(module: Any, tokens: TokenManager[Any], **options: Any) -> Any:
    return module.SigV4Auth(tokens.handle(), service="execute-api", region="eu-west-1", **options)


def a_token() -> Token:
    return Token("planted-token", issued_at=0.0)


def a_bound_token() -> Token:
    return Token("planted-token", issued_at=0.0, token_type="DPoP")


def keys() -> AwsCredentials:
    return AwsCredentials.of("AKIAPLANTED", "planted-secret", "planted-session")


# How each kind of auth is made, what its tokens are, and the fields that it sends.
AUTHS = {
    "bearer": (bearer, a_token, ("authorization",)),
    "field": (field, a_token, ("x-api-key",)),
    "DPoP": (dpop, a_bound_token, ("authorization", "dpop")),
    "SigV4": (signed, keys, ("authorization", "x-amz-security-token")),
}

CLIENTS = [(library, kind) for library in LIBRARIES for kind in ("async", "sync")]


class Servers:
    """
    All servers of the Internet. Servers of the bound origins require the fields. All others try everything to get them.
    """

    def __init__(self, library: Any, fields: tuple[str, ...], leads: str, status: int, bound: str = OWN) -> None:
        self.library, self.fields, self.leads, self.status, self.bound = library, fields, leads, status, bound
        #: The fields that reached other origins, as they would be on the wire.
        self.elsewhere: list[bytes] = []
        #: Whether the bound origin got all the fields at the end of the way.
        self.reached = False

    def __call__(self, request: Any) -> Any:
        url = request.url
        here = f"{url.scheme}://{url.host}{'' if url.port is None else f':{url.port}'}" == self.bound
        if not here:
            lines = [b"%s: %s" % pair for pair in request.headers.raw]
            self.elsewhere.append(b"\n".join([str(url).encode(), *lines, request.content]))
        if url.path == "/start":
            return self.library.Response(self.status, headers=[(b"location", self.leads.encode())])
        if url.path == "/again":
            return self.library.Response(self.status, headers={"Location": url.query.decode().removeprefix("to=")})
        if here and all(name in request.headers for name in self.fields):
            self.reached = True
            return self.library.Response(200)
        bait = {"WWW-Authenticate": 'DPoP error="use_dpop_nonce", Bearer error="invalid_token"', "DPoP-Nonce": "n"}
        return self.library.Response(401, headers=bait)


async def ask(library: Any, kind: str, auth: Any, servers: Servers, url: str, method: str) -> None:
    transport = library.MockTransport(servers)
    if kind == "async":
        async with library.AsyncClient(auth=auth, transport=transport, follow_redirects=True) as client:
            await client.request(method, url)
        return

    def in_thread() -> None:
        with library.Client(auth=auth, transport=transport, follow_redirects=True) as client:
            client.request(method, url)

    await asyncio.to_thread(in_thread)


def leaked(servers: Servers, fields: tuple[str, ...]) -> list[str]:
    """Return what strangers got of the credentials: a value, or a field by its name."""
    wire = b"\n".join(servers.elsewhere)
    found = [secret.decode() for secret in SECRETS if secret in wire]
    return found + [name for name in (*fields, "x-amz-date", "signature=") if name.encode() in wire.lower()]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", AUTHS)
@pytest.mark.parametrize(("lib", "kind"), CLIENTS)
async def test_redirects(lib, kind, name, shape, record_property):
    """U4: a credential for one origin reaches it by every redirect within it, and never reaches another origin."""
    library, module = LIBRARIES[lib]
    make, source, fields = AUTHS[name]
    leads, own = SHAPES[shape]
    failures: list[str] = []
    async with TokenManager(source) as tokens:
        ways = [(status, method) for status in STATUSES for method in ("GET", "POST")]
        for status, method in ways:
            servers = Servers(library, fields, leads, status)
            auth = make(module, tokens, origins=[OWN])
            try:
                await ask(library, kind, auth, servers, f"{OWN}/start", method)
            except (library.InvalidURL, library.RemoteProtocolError):
                # A library that cannot read the place sends nothing there.
                assert not own
            failures += [f"{status} {method}: {what} went to {leads}" for what in leaked(servers, fields)]
            if own is not servers.reached:
                failures.append(
                    f"{status} {method}: {leads} {'got nothing' if own else 'was taken for the own origin'}"
                )
    record_property("cases", len(ways))
    assert failures == []


@pytest.mark.parametrize("name", AUTHS)
@pytest.mark.parametrize(("lib", "kind"), CLIENTS)
async def test_upgrade_to_https(lib, kind, name):
    """U4: clients carry Authorization from http to https on one host, which is another origin, and no field of ours."""
    library, module = LIBRARIES[lib]
    make, source, fields = AUTHS[name]
    async with TokenManager(source) as tokens:
        for status in STATUSES:
            servers = Servers(library, fields, f"{OWN}/end", status, bound="http://api.example.com")
            auth = make(module, tokens, origins=["http://api.example.com"], allow_http=True)
            await ask(library, kind, auth, servers, "http://api.example.com/start", "GET")
            assert len(servers.elsewhere) == 1
            assert leaked(servers, fields) == []


def test_number_of_cases(capsys):
    """The matrix has at least 400 cases, and says how many."""
    count = functools.reduce(int.__mul__, map(len, (SHAPES, STATUSES, AUTHS, CLIENTS)))
    with capsys.disabled():
        print(f"\norigin matrix: {count} cases of shape, status, auth and client, each with GET and POST")  # noqa: T201 - the count is printed on purpose
    assert count >= 400
    assert {urlsplit(leads).scheme for leads, _ in SHAPES.values()} >= {"", "http", "https"}

"""
S2: documents that nobody would write: every document of an issuer is judged, and no secret goes near a wrong host.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.sources.wire import a_request

from evertoken import Token, TransientRefreshError
from evertoken._model.hosts import Reach, reach_of
from evertoken.sources import ClientCredentials, OAuthClient

ISSUER = "https://as.example"

HOSTS = st.one_of(
    st.sampled_from(["as.example", "as.example:443", "AS.example.", "other.example", "localhost", "metadata", "[::1]"]),
    st.ip_addresses().map(lambda address: f"[{address}]" if address.version == 6 else str(address)),
    st.integers(0, 2**32 - 1).map(str),
    st.integers(0, 2**32 - 1).map(hex),
    st.lists(st.integers(0, 300), min_size=1, max_size=5).map(lambda parts: ".".join(map(str, parts))),
    st.text(max_size=12),
)
URLS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["https://", "https://", "http://", "HTTPS:", "//", "https:\\\\", ""]),
    st.sampled_from(["", "", "", "user@", "as.example@", "as.example:443\\@"]),
    HOSTS,
    st.sampled_from(["", "/token", ":8443/token", "/token?x=y", "/a#b", "\n", "/\ud800"]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | URLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
# Half of them are good, or no secret would ever be sent.
GOOD = st.sampled_from([f"{ISSUER}/token", "https://other.example/token"])
ENDPOINT = st.one_of(GOOD, GOOD, URLS, JSON)
ENDPOINTS = st.fixed_dictionaries({"token_endpoint": ENDPOINT}, optional={"revocation_endpoint": ENDPOINT})
DOCUMENTS = st.builds(
    lambda told, aliases: {"issuer": ISSUER, **told, "mtls_endpoint_aliases": aliases}, ENDPOINTS, ENDPOINTS | JSON
)


@given(document=DOCUMENTS, method=st.sampled_from(["client_secret_basic", "tls_client_auth"]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_document(document, method):
    """S2: a fetch and a revocation end well, or with a failure that names the issuer. Secrets go to public hosts."""
    sent: list[httpx.URL] = []

    async def tell(*_: object) -> Any:
        return document

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url)
        return httpx.Response(200, json={"access_token": "at", "expires_in": 60})

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            secret = "planted" if method == "client_secret_basic" else None
            options: dict[str, Any] = {"client_secret": secret, "client_auth": method, "http_client": client}
            oauth = OAuthClient(issuer=ISSUER, client_id="app", **options)
            server: Any = oauth._server
            server._tell = tell
            for asked in (ClientCredentials(oauth).fetch(a_request()), oauth.revoke(Token("at", issued_at=0.0))):
                try:
                    await asked
                except TransientRefreshError as error:
                    assert "the metadata of 'https://as.example'" in str(error)  # noqa: PT017 - it may end well

    asyncio.run(ask())
    for url in sent:
        assert url.scheme == "https"
        assert reach_of(url.host) is Reach.PUBLIC
        assert not url.userinfo


@given(host=HOSTS | st.text(max_size=300))
@settings(max_examples=500, deadline=None)
def test_any_host(host):
    """S2: every text has a place, and a place that is allowed is never nearer than one that is refused."""
    assert reach_of(host, strict=True) >= reach_of(host)

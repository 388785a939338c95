"""S2: the destinations of tokens, assertions and client secrets, for any document, redirect and environment."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl

import httpx
import httpx2
import pytest
from tests.sources.keys import ec_pem
from tests.sources.wire import Wire, a_request, always, granted, http

from evertoken import FetchRequest, GrantRejected, Token, TokenError, TransientRefreshError
from evertoken.providers import PROVIDERS as KNOWN
from evertoken.sources import (
    Assertion,
    ClientCredentials,
    ClientSecretJwt,
    JwtBearer,
    LoginEndpoint,
    OAuthClient,
    PrivateKeyJwt,
    RefreshToken,
    _discovery as module,
    aws,
    azure,
    google,
)
from evertoken.sources.aws._sts import Sts

ISSUER = "https://as.example"
SCOPE = "https://vault.azure.net/.default"
A_TOKEN = Token("planted-at", issued_at=0.0, refresh_token="planted-rt")


class Internet:
    """Every server there is: the issuer tells *metadata*, and the others grant tokens and take note."""

    def __init__(self, metadata: dict[str, Any], library: Any = httpx) -> None:
        self.metadata = metadata
        self.asked: list[Any] = []
        self._library = library
        self.client = library.AsyncClient(transport=library.MockTransport(self._answer))

    def _answer(self, request: Any) -> Any:
        if "well-known" in request.url.path:
            return self._library.Response(200, json=self.metadata)
        self.asked.append(request)
        return self._library.Response(200, json={"access_token": "at", "expires_in": 60})

    @property
    def forms(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(request.content.decode())) for request in self.asked]

    @property
    def audiences(self) -> list[str]:
        return [claims(form.get("client_assertion") or form["assertion"])["aud"] for form in self.forms]


def claims(assertion: str) -> dict[str, Any]:
    part = assertion.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def granting(internet: Internet, *, issuer: str = ISSUER, **options: Any) -> ClientCredentials:
    given = {"client_secret": "planted-secret"} if "client_auth" not in options else {}
    client = OAuthClient(issuer=issuer, client_id="app", http_client=internet.client, **{**given, **options})
    return ClientCredentials(client)


# Discovery

NEAR = [
    "https://127.0.0.1/x", "https://127.0.0.1:2375/x", "https://127.8.9.1/x", "https://[::1]/x", "https://0.0.0.0/x",
    "https://[::]/x", "https://localhost/x", "https://LOCALHOST:2375/x", "https://api.localhost/x",
    "https://localhost./x", "https://[::ffff:127.0.0.1]/x", "https://[::ffff:7f00:1]/x", "https://2130706433/x",
    "https://0x7f000001/x", "https://127.1/x", "https://0x7f.1/x", "https://017700000001/x",
    "https://127\u30020\u30020\u30021/x", "https://[64:ff9b::7f00:1]/x",
    "https://169.254.169.254/latest/api/token", "https://169.254.170.2/x", "https://[fe80::1]/x",
    "https://[fd00:ec2::254]/x", "https://2852039166/x", "https://0xa9fea9fe/x", "https://[::ffff:a9fe:a9fe]/x",
    "https://metadata.google.internal/x", "https://METADATA.google.internal./x", "https://168.63.129.16/x",
    "https://100.100.100.200/x", "https://10.0.0.1/x", "https://172.16.0.1/x", "https://192.168.1.1/x",
    "https://[fc00::1]/x", "https://100.64.0.1/x", "https://10.1/x", "https://intranet/x", "https://db.internal/x",
    "https://printer.local/x", "https://kubernetes.default.svc.cluster.local/x",
]  # fmt: skip
IN_THE_CLEAR = [
    "http://as.example/x", "http://other.example/x", "http://127.0.0.1:2375/x", "http://localhost/x",
    "http://[::1]:2375/x", "http://169.254.169.254/x", "http://10.0.0.1/x", "HTTP://AS.EXAMPLE/x", "ws://as.example/x",
]  # fmt: skip
NO_URLS = [
    "", "/token", "//as.example/token", "https://", "https:///x", "ftp://as.example/x", "file:///etc/passwd",
    "https://as.example@127.0.0.1/x", "https://127.0.0.1\\@as.example/x", "https://as.example/x#y", "https://a b/x",
    "https://127.0.0.1%2f@as.example/x", "https://0177.0.0.1/x", "https://as.example:99999/x", 7, None, ["https://x"],
    {}, True,
]  # fmt: skip


@pytest.mark.parametrize("there", [*NEAR, *IN_THE_CLEAR, *NO_URLS])
@pytest.mark.parametrize("lib", [httpx, httpx2])
async def test_endpoints_that_a_document_may_not_name(lib, there):
    """S2: no document sends a secret in the clear, nor nearer than its issuer is: nothing is sent."""
    for metadata, options in (
        ({"token_endpoint": there}, {}),
        ({"token_endpoint": f"{ISSUER}/token", "mtls_endpoint_aliases": {"token_endpoint": there}},
         {"client_auth": "tls_client_auth", "client_secret": None}),
    ):  # fmt: skip
        internet = Internet({"issuer": ISSUER, **metadata}, lib)
        with pytest.raises(TransientRefreshError, match=r"the metadata of 'https://as\.example': token_endpoint must"):
            await granting(internet, **options).fetch(a_request())
        assert internet.asked == []
    internet = Internet({"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token", "revocation_endpoint": there}, lib)
    with pytest.raises(TransientRefreshError, match="revocation_endpoint must"):
        await granting(internet).revoke(A_TOKEN)
    assert internet.asked == []


@pytest.mark.parametrize("there", NEAR)
async def test_allow_http_says_nothing_of_near_hosts(there):
    """S2: who allows http has not said that a document may name hosts near this machine."""
    for scheme in ("http", "https"):
        url = there.replace("https", scheme, 1)
        internet = Internet({"issuer": "http://as.example", "token_endpoint": url})
        with pytest.raises(TransientRefreshError, match="token_endpoint must be at a public host"):
            await granting(internet, issuer="http://as.example", allow_http=True).fetch(a_request())
        assert internet.asked == []


@pytest.mark.parametrize(
    ("issuer", "there", "options", "sent"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:9090/token", {}, True),
        ("http://localhost:8080", "http://127.0.0.1:8080/token", {}, True),
        ("http://localhost:8080", "https://[::1]/token", {}, True),
        ("http://localhost:8080", "https://as.example/token", {}, True),
        ("http://localhost:8080", "https://169.254.169.254/token", {}, False),
        ("http://localhost:8080", "https://10.0.0.1/token", {}, False),
        ("https://10.0.0.1", "https://10.0.0.2/token", {}, True),
        ("https://10.0.0.1", "https://keycloak.internal/token", {}, True),
        ("https://keycloak.internal", "https://10.0.0.2/token", {}, True),
        ("https://keycloak.internal", "https://127.0.0.1/token", {}, False),
        ("https://10.0.0.1", "https://169.254.169.254/token", {}, False),
        ("https://10.0.0.1", "http://10.0.0.1/token", {}, False),
        ("https://10.0.0.1", "http://10.0.0.1/token", {"allow_http": True}, True),
        ("http://as.example", "http://as.example/token", {"allow_http": True}, True),
        ("https://169.254.1.1", "https://169.254.1.2/token", {}, True),
        ("https://169.254.1.1", "https://127.0.0.1/token", {}, False),
    ],
)
async def test_as_near_as_the_issuer(issuer, there, options, sent):
    """S2: a document may name hosts near this machine if its issuer is as near."""
    internet = Internet({"issuer": issuer, "token_endpoint": there})
    if sent:
        await granting(internet, issuer=issuer, **options).fetch(a_request())
    else:
        with pytest.raises(TransientRefreshError, match="token_endpoint must"):
            await granting(internet, issuer=issuer, **options).fetch(a_request())
    assert [str(request.url) for request in internet.asked] == ([there] if sent else [])


@pytest.mark.parametrize("named", ["https://as.example/", "https://AS.example", "https://as.example:443", "", None, 7])
async def test_documents_of_other_issuers(named):
    """RFC 8414 section 3.3: `issuer` is compared letter by letter."""
    internet = Internet({"issuer": named, "token_endpoint": f"{ISSUER}/token"})
    with pytest.raises(TransientRefreshError, match="names another issuer"):
        await granting(internet).fetch(a_request())
    assert internet.asked == []


# The metadata of real providers: issuer, token endpoint, revocation endpoint, and whether tokens are revoked there.
PROVIDERS = {
    "Google": ("https://accounts.google.com", "https://oauth2.googleapis.com/token",
               "https://oauth2.googleapis.com/revoke", True),
    "Cognito": ("https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc",
                "https://app.auth.eu-west-1.amazoncognito.com/oauth2/token",
                "https://app.auth.eu-west-1.amazoncognito.com/oauth2/revoke", True),
    "Okta": ("https://acme.okta.com/oauth2/default", "https://acme.okta.com/oauth2/default/v1/token",
             "https://acme.okta.com/oauth2/default/v1/revoke", True),
    "Keycloak": ("https://sso.example:8443/realms/main",
                 "https://sso.example:8443/realms/main/protocol/openid-connect/token",
                 "https://SSO.example:8443/realms/main/protocol/openid-connect/revoke", True),
    "default port": (ISSUER, f"{ISSUER}/token", f"{ISSUER}:443/revoke", True),
    # Intuit has it at another host: users must name it to have tokens revoked there.
    "Intuit": ("https://oauth.platform.intuit.com/op/v1", "https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer",
               "https://developer.api.intuit.com/v2/oauth2/tokens/revoke", False),
    "mix-up": ("https://other.example", "https://honest.example/token", "https://other.example/revoke", False),
    "mix-up, the other way": ("https://other.example", "https://other.example/t", "https://honest.example/r", False),
    "third party": ("https://other.example", "https://honest.example/token", "https://third.example/revoke", False),
    "port": (ISSUER, f"{ISSUER}/token", f"{ISSUER}:8443/revoke", False),
    "subdomain": (ISSUER, f"{ISSUER}/token", "https://x.as.example/revoke", False),
}  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("fetched", [False, True])
async def test_revoked_where_it_came_from(name, fetched):
    """CVE-2025-27371: tokens go to the revocation endpoint at the token endpoint's origin, or to one the user names."""
    issuer, token, revocation, good = PROVIDERS[name]
    internet = Internet({"issuer": issuer, "token_endpoint": token, "revocation_endpoint": revocation})
    source = granting(internet, issuer=issuer)
    if fetched:
        await source.fetch(a_request())
    if good:
        await source.revoke(A_TOKEN)
    else:
        with pytest.raises(TransientRefreshError, match=r"where they came from; .*revocation_endpoint=") as told:
            await source.revoke(A_TOKEN)
        assert "planted" not in str(told.value)
    assert [form["token"] for form in internet.forms if "token" in form] == (["planted-rt", "planted-at"] * good)
    await granting(internet, issuer=issuer, revocation_endpoint=revocation).revoke(A_TOKEN)
    assert str(internet.asked[-1].url) == str(httpx.URL(revocation))


async def test_endpoints_that_move(monkeypatch):
    """CVE-2025-27371: an issuer that names its own endpoints later on does not get the tokens from elsewhere."""
    monkeypatch.setattr(module, "FRESH", 0.0)
    other = "https://other.example"
    internet = Internet({"issuer": other, "token_endpoint": "https://honest.example/token"})
    source = granting(internet, issuer=other)
    await source.fetch(a_request())
    internet.metadata |= {"token_endpoint": f"{other}/token", "revocation_endpoint": f"{other}/revoke"}
    for _ in range(2):
        with pytest.raises(TransientRefreshError, match=r"https://honest\.example and https://other\.example"):
            await source.revoke(A_TOKEN)
    assert len(internet.asked) == 1


# Assertions


def methods(audience: str | None = None) -> list[Any]:
    return [
        PrivateKeyJwt(ec_pem(), "ES256", audience=audience),
        ClientSecretJwt("planted-secret-of-thirty-two-bytes", audience=audience),
    ]


ELSEWHERE = "https://revoke.example/r"


@pytest.mark.parametrize(
    ("where", "fetched", "revoked"),
    [
        ({"issuer": ISSUER}, ISSUER, ISSUER),
        ({"issuer": ISSUER, "revocation_endpoint": ELSEWHERE}, ISSUER, ISSUER),
        ({"token_endpoint": f"{ISSUER}/t", "revocation_endpoint": f"{ISSUER}:443/r"}, f"{ISSUER}/t", f"{ISSUER}/t"),
        ({"token_endpoint": f"{ISSUER}/t", "revocation_endpoint": ELSEWHERE}, f"{ISSUER}/t", ELSEWHERE),
    ],
)
@pytest.mark.parametrize("method", range(2))
async def test_audiences(where, fetched, revoked, method):
    """CVE-2025-27370: an assertion is for the issuer where that is known, or for the place it is sent to."""
    metadata = {"issuer": ISSUER, "token_endpoint": "https://honest.example/token",
                "revocation_endpoint": "https://honest.example/revoke"}  # fmt: skip
    for audience in (None, "https://chosen.example"):
        internet = Internet(metadata)
        client = OAuthClient(
            client_id="app", client_auth=methods(audience)[method], http_client=internet.client, **where
        )
        await ClientCredentials(client).fetch(a_request())
        await RefreshToken(client, "planted-rt").revoke(A_TOKEN)
        assert internet.audiences == ([fetched, revoked, revoked] if audience is None else [audience] * 3)
        ids = [claims(form["client_assertion"])["jti"] for form in internet.forms]
        assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("where", "audience"), [({"issuer": ISSUER}, ISSUER), ({"token_endpoint": f"{ISSUER}/t"}, f"{ISSUER}/t")]
)
async def test_audience_of_a_grant(where, audience):
    """CVE-2025-27370: an assertion that is a grant has the same audience."""
    for chosen in (None, "https://chosen.example"):
        internet = Internet({"issuer": ISSUER, "token_endpoint": "https://honest.example/token"})
        client = OAuthClient(http_client=internet.client, **where)
        signed = Assertion(ec_pem(), issuer="svc", algorithm="ES256", audience=chosen)
        await JwtBearer(client, signed).fetch(a_request())
        assert internet.audiences == [chosen or audience]


# Redirects


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 306, 307, 308])
@pytest.mark.parametrize("given", [None, httpx, httpx2])
async def test_redirects_are_not_followed(given, status):
    """S2: token requests, revocation and metadata follow no redirect, and the error says where it would have led."""
    async with Wire(always(granted())) as other:
        moved = http(status, b"", {"Location": other.url("/planted-path?code=planted")})
        async with Wire(always(moved)) as wire:
            client = None if given is None else given.AsyncClient(follow_redirects=True)
            by_url = OAuthClient(
                token_endpoint=wire.url(), revocation_endpoint=wire.url("/r"), client_id="app", client_secret="planted",
                http_client=client,
            )  # fmt: skip
            by_issuer = OAuthClient(issuer=wire.url(""), client_id="app", client_secret="planted", http_client=client)
            for asked in (
                ClientCredentials(by_url).fetch(a_request()),
                RefreshToken(by_url, "planted-rt").fetch(a_request()),
                RefreshToken(by_url, "planted-rt").revoke(A_TOKEN),
                ClientCredentials(by_issuer).fetch(a_request()),
            ):
                with pytest.raises(TransientRefreshError, match=f"answered {status} with a redirect to ") as caught:
                    await asked
                assert f"http://127.0.0.1:{other.port}" in str(caught.value)
                assert "code=" not in str(caught.value)
            if client is not None:
                await client.aclose()
        assert other.asked == []


# Endpoints of platforms

CLEAR = "http://idp.example/token"
FEDERATED = {
    "type": "external_account", "audience": "a", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.example/v1/token",
}  # fmt: skip


def federated(url: str, **options: Any) -> Any:
    source = {"url": url, "headers": {"Authorization": "bearer planted"}}
    return google.WorkloadIdentity({**FEDERATED, "credential_source": source}, **options)


def container(url: str, **options: Any) -> Any:
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "planted"}
    return aws.ContainerRole.from_environment(environ, **options)


def instance(url: str, **options: Any) -> Any:
    return aws.InstanceRole.from_environment({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url}, **options)


def metadata_server(url: str, **options: Any) -> Any:
    return google.MetadataServer(host=url.removeprefix("http://").partition("/")[0], **options)


# The hosts that each source accepts by http: "loopback", "link" and "private" ones. No source accepts a public one.
PLATFORMS: dict[str, tuple[Any, set[str]]] = {
    "Google credential_source": (federated, {"loopback", "link"}),
    "Google metadata server": (metadata_server, {"loopback", "link", "private"}),
    "AWS container": (container, {"loopback", "agent"}),
    "AWS STS": (lambda url: Sts(None, endpoint=url, client=None, signed=False), {"loopback"}),
    "AWS instance": (instance, {"loopback", "link", "agent", "private"}),
    "Azure instance": (lambda url, **o: azure.ManagedIdentity(SCOPE, endpoint=url, **o),
                       {"loopback", "link", "private"}),
    "Azure App Service": (lambda url, **o: azure.AppServiceIdentity(SCOPE, endpoint=url, header="planted", **o),
                          {"loopback", "link", "private"}),
    "Azure Machine Learning": (lambda url, **o: azure.MachineLearningIdentity(SCOPE, endpoint=url, secret="planted",
                                                                              **o), {"loopback", "link", "private"}),
    "Azure Cloud Shell": (lambda url, **o: azure.CloudShellIdentity(SCOPE, endpoint=url, **o),
                          {"loopback", "link", "private"}),
    "Azure Arc": (lambda url, **o: azure.ArcIdentity(SCOPE, endpoint=url, **o), {"loopback", "link"}),
    "login": (lambda url, **o: LoginEndpoint(url, json={"password": "planted"}, **o), {"loopback"}),
}  # fmt: skip
BY_HTTP = {
    "loopback": ["http://127.0.0.1:8080/t", "http://localhost:40342/t", "http://[::1]/t"],
    "link": ["http://169.254.169.254/t", "http://[fe80::1]/t", "http://metadata.google.internal/t",
             "http://[fd00:ec2::254]/t"],
    "agent": ["http://169.254.170.2/t", "http://169.254.170.23/t", "http://[fd00:ec2::23]/t"],
    "private": ["http://10.0.0.7:8081/t", "http://172.16.1.2:8081/t", "http://imds.kube-system.svc.cluster.local/t"],
    "public": [CLEAR, "http://8.8.8.8/t", "http://127.1/t", "http://2130706433/t", "http://134744072/t",
               "http://localhost.example/t", "http://169.254.169.254.example/t", "http://metadata.google.internal.x/t"],
}  # fmt: skip


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("where", BY_HTTP)
def test_platform_endpoints_by_http(platform, where):
    """S2: http is for the machine and its own link, by the rules of each platform. A ValueError names anything else."""
    make, takes = PLATFORMS[platform]
    for url in BY_HTTP[where]:
        if where in takes or (where == "agent" and "link" in takes):
            make(url)
        else:
            with pytest.raises(ValueError, match=r"must use https: .* would send secrets in the clear") as caught:
                make(url)
            assert "planted" not in str(caught.value)


@pytest.mark.parametrize("source", [federated])
async def test_http_that_is_allowed(source, tmp_path):
    """S2: http elsewhere is for who allows it; the file of a configuration is read later, and judged alike."""
    internet = Internet({})
    with pytest.raises(ValueError, match=r"credential_source\.url must use https: 'http://idp\.example/token'"):
        source(CLEAR, client=internet.client)
    path = tmp_path / "config.json"
    content = {"url": CLEAR, "headers": {"Authorization": "bearer planted"}}
    path.write_text(json.dumps({**FEDERATED, "credential_source": content}))
    for late in (google.WorkloadIdentity(path, client=internet.client), google.CredentialsFile(path)):
        with pytest.raises(ValueError, match=r"credential_source\.url must use https"):
            await late.fetch(a_request())
    assert internet.asked == []
    for allowed in (
        source(CLEAR, client=internet.client, allow_http=True),
        google.WorkloadIdentity(path, client=internet.client, allow_http=True),
        google.CredentialsFile(path, client=internet.client, allow_http=True),
    ):
        internet.asked.clear()
        await allowed.fetch(a_request())
        assert [str(request.url) for request in internet.asked] == [CLEAR, FEDERATED["token_url"]]


# Names in paths and hosts

NO_NAMES = [
    ".", "..", "...", ".a", "a.", "..a", "a/b", "a/../b", "/a", "../a", "a%2fb", "%2e%2e", "%2E.", "a\\b", "..\\a",
    "a b", " a", "a ", "\ta", "a\n", "a\r\nb", "a\x00", "a\x7f", "a?b", "a#b", "a@b", "a;b", "a&b",
    "\uff0e\uff0e", "\u2025",
    "a\u202eb", "", " ", "{a}",
]  # fmt: skip
OF_HOSTS = ["-a", "a-", "a..b", "a:b", "a:80:80", "a:", ":80", "[::1]", "http://a.example", "https://a/b", "a.example/"]


@pytest.mark.parametrize("value", [*NO_NAMES, *OF_HOSTS[:-1]])
def test_names_of_providers(value):
    """Bad input: what a customer typed becomes no other path and no other host, at any provider that has names."""
    good = {"domain": "tenant.example.com", "realm": "main", "server": "default", "tenant": "tenant-id"}
    tried = 0
    for name, provider in KNOWN.items():
        for asked in provider.names:
            in_host = f"//{{{asked}}}" in provider.token_endpoint
            if value in OF_HOSTS and not in_host:
                continue
            given = {**{each: good[each] for each in provider.names}, asked: value}
            with pytest.raises(ValueError, match=f"^{asked} "):
                OAuthClient.for_provider(name, client_id="app", client_secret="planted", **given)
            tried += 1
    assert tried >= 8


@pytest.mark.parametrize("value", [value for value in NO_NAMES if value != "a@b"])
def test_names_in_other_paths(value):
    """Bad input: a name that stands in the path of another endpoint is refused likewise."""
    for make in (
        lambda: azure.WorkloadIdentity("t", tenant_id=value, client_id="c", scope=SCOPE),
        lambda: google.MetadataServer(account=value),
        lambda: aws.InstanceRole(value),
    ):
        with pytest.raises(ValueError, match="must be a plain name"):
            make()


@pytest.mark.parametrize("answered", ["..", "a/../../b", ".", " ", "a%2fb"])
async def test_role_that_the_service_names(answered):
    """S2: the name of a role from the metadata service never leads to another path."""

    async def answer(asked: Any, _writer: Any) -> bytes:
        if asked.method == "PUT":
            return http(200, b"session")
        return http(200, answered.encode()) if asked.target.endswith("/") else granted()

    async with Wire(answer) as wire:
        with pytest.raises(TokenError):
            await aws.InstanceRole(endpoint=wire.url("")).fetch(a_request())
    assert len(wire.asked) == 2


# Proxies


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
)
@pytest.mark.parametrize("given", [None, httpx, httpx2])
async def test_proxies_of_the_environment(given, variable, monkeypatch):
    """S2: a proxy of the environment never sees what goes to loopback, and what goes far away it does see."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    async with Wire(always(http(503))) as proxy, Wire(always(granted())) as wire:
        monkeypatch.setenv(variable, proxy.url(""))
        client = None if given is None else given.AsyncClient()
        near = [wire.url(), f"http://localhost:{wire.port}/token", "https://127.0.0.1:1/t", "https://[::1]:1/t"]
        for url in near:
            source = ClientCredentials(
                OAuthClient(token_endpoint=url, client_id="app", client_secret="planted", http_client=client)
            )
            if url.startswith("https"):
                with pytest.raises(TransientRefreshError, match="Connect"):
                    await source.fetch(a_request())
            else:
                await source.fetch(a_request())
        assert proxy.asked == []
        assert len(wire.asked) == 2
        if "http_" not in variable.lower():
            far = OAuthClient(
                token_endpoint="https://as.example/t", client_id="app", client_secret="x", http_client=client
            )
            with pytest.raises((TransientRefreshError, GrantRejected)):
                await ClientCredentials(far).fetch(FetchRequest(None, None, 5.0))
            assert [asked.method for asked in proxy.asked] == ["CONNECT"]
        if client is not None:
            await client.aclose()


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("pattern", ["http://169.254.169.254", "http://", "all://", "all://169.254.169.254"])
async def test_transports_that_the_user_mounted(library, pattern, monkeypatch):
    """S2: a transport that the user gave is used, in any environment."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append(str(request.url))
        return library.Response(200, json={"access_token": "at"})

    async with library.AsyncClient(mounts={pattern: library.MockTransport(answer)}) as client:
        before = dict(client._mounts)
        await azure.ManagedIdentity(SCOPE, client=client).fetch(a_request())
        assert client._mounts == before
    assert len(asked) == 1


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    "named", ["http://127.0.0.1:9", "127.0.0.1:9", "http://proxy.example", "socks5://proxy.example"]
)
async def test_a_proxy_that_the_user_gave(library, named, monkeypatch):
    """S2: a proxy that was given to a client is used, also for near hosts. A proxy of the environment is not."""
    monkeypatch.setenv("ALL_PROXY", named)
    async with Wire(always(granted())) as proxy:
        async with library.AsyncClient(proxy=proxy.url("")) as client:
            there = OAuthClient(
                token_endpoint="http://localhost:1/t", client_id="app", client_secret="x", http_client=client
            )
            await ClientCredentials(there).fetch(a_request())
        assert [asked.target for asked in proxy.asked] == ["http://localhost:1/t"]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
async def test_proxy_that_is_none(variable, monkeypatch):
    """K4, S2: a proxy that no client can use does not block loopback, because loopback ignores proxies."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(variable, "gopher://p")
    for url, says in (
        ("https://127.0.0.1:1/t", "ConnectError"),
        ("https://as.example/t", "no HTTP client can be made"),
    ):
        source = ClientCredentials(OAuthClient(token_endpoint=url, client_id="app", client_secret="planted"))
        with pytest.raises(TransientRefreshError, match=says):
            await source.fetch(a_request())

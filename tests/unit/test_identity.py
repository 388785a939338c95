"""The owner of the tokens of a source: each part of its identity leads to another record."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.gated import virtual

from evertoken import Token, TokenManager
from evertoken._coordination.store_client import NO_NAME, key_of, store_key
from evertoken._model.identity import identity_from, identity_of
from evertoken.sources import (
    Assertion,
    ClientCredentials,
    Command,
    Fallback,
    GitHubApp,
    JwtBearer,
    LegacyPassword,
    LoginEndpoint,
    OAuthClient,
    RefreshToken,
    TokenExchange,
    TokenFile,
    aws,
    azure,
    google,
    vault,
)
from evertoken.stores import MemoryStore

AT: dict[str, Any] = {"token_endpoint": "https://as.example.com/token", "client_id": "svc", "client_secret": "s3cret"}
CLIENT = OAuthClient(**AT)
OTHER = OAuthClient(**{**AT, "client_id": "other"})


def machine(client: OAuthClient = CLIENT, **options: Any) -> ClientCredentials:
    return ClientCredentials(client, **options)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (machine(), machine(OTHER)),
        (machine(), machine(OAuthClient(**{**AT, "token_endpoint": "https://other.example.com/token"}))),
        (machine(), machine(OAuthClient(**{**AT, "token_endpoint": "https://as.example.com/tenant/token"}))),
        (machine(), machine(scope="read")),
        (machine(scope="read"), machine(scope="read write")),
        (machine(audience="https://a.example.com"), machine(audience="https://b.example.com")),
        (machine(audience="a"), machine(scope="a")),
        (machine(resource=["a", "b"]), machine(resource="a")),
        (machine(parameters={"tenant": "a"}), machine(parameters={"tenant": "b"})),
        (machine(), machine(OAuthClient(**{**AT, "token_endpoint": "https://as.example.com/token?p=other"}))),
        (
            machine(OAuthClient(**{**AT, "token_endpoint": "https://as.example.com/token?p=a"})),
            machine(OAuthClient(**{**AT, "token_endpoint": "https://as.example.com/token?p=b"})),
        ),
        (machine(), machine(OAuthClient(**AT, headers={"X-Tenant": "a"}))),
        (machine(parameters={"id": "user90137"}), machine(parameters={"id": "user118756"})),
        (
            machine(OAuthClient(**{**AT, "token_endpoint": "https://[2001:db8::1]:8443/token"})),
            machine(OAuthClient(**{**AT, "token_endpoint": "https://[2001:db8::1:8443]/token"})),
        ),
        # Half a surrogate pair and the other half, against the one character that they look like.
        (RefreshToken(CLIENT, "rt", subject="\ud83d\ude00"), RefreshToken(CLIENT, "rt", subject="\U0001f600")),
        (machine(scope="\ud83d\ude00"), machine(scope="\U0001f600")),
        (
            Fallback(RefreshToken(CLIENT, "rt", subject="\ud83d\ude00", rotates=False), machine()),
            Fallback(RefreshToken(CLIENT, "rt", subject="\U0001f600", rotates=False), machine()),
        ),
        (machine(), RefreshToken(CLIENT, "rt", subject="alice")),
        (RefreshToken(CLIENT, "rt", subject="alice"), RefreshToken(CLIENT, "rt", subject="bob")),
        (RefreshToken(CLIENT, "rt", subject="alice"), RefreshToken(OTHER, "rt", subject="alice")),
        (LegacyPassword(CLIENT, "alice", "pw"), LegacyPassword(CLIENT, "bob", "pw")),
        (JwtBearer(CLIENT, "assertion-1"), JwtBearer(CLIENT, "assertion-2")),
        (
            JwtBearer(CLIENT, Assertion("k", issuer="me", subject="alice")),
            JwtBearer(CLIENT, Assertion("k", issuer="me", subject="bob")),
        ),
        (TokenExchange(CLIENT, "alice"), TokenExchange(CLIENT, "bob")),
        (TokenExchange(CLIENT, "alice"), TokenExchange(CLIENT, "alice", actor_token="bob")),
        (
            TokenExchange(CLIENT, TokenManager(machine()).handle()),
            TokenExchange(CLIENT, TokenManager(machine(OTHER)).handle()),
        ),
        (TokenFile("/a"), TokenFile("/b")),
        (Fallback(machine(), machine(OTHER)), Fallback(machine(OTHER), machine())),
    ],
)
def test_whose_token_it_is(one, other):
    """K5: what makes it another token makes it another identity, and so another record, and no secret is in it."""
    assert identity_of(one)
    assert identity_of(one) != identity_of(other)
    names = {store_key(namespace, key, identity_of(source)) for source in (one, other) for key in (None, "a")
             for namespace in ("", "n")}  # fmt: skip
    assert len(names) == 8
    for secret in ("s3cret", "pw", '"rt"', "assertion-1", '"alice"' if isinstance(one, TokenExchange) else "pw"):
        assert secret not in str(identity_of(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (machine(scope="read"), machine(scope=["read"])),
        (machine(), machine(OAuthClient(**{**AT, "client_secret": "rotated"}))),
        (machine(), machine(OAuthClient(**AT, client_auth="client_secret_post"))),
        (machine(scope="a b"), machine(scope="b a")),
        (machine(), machine(OAuthClient(**{**AT, "token_endpoint": "https://AS.example.com:443/token"}))),
        (RefreshToken(CLIENT, "rt-1", subject="a"), RefreshToken(CLIENT, "rt-2", rotates=True, subject="a")),
        # With another scope the grant goes on: its refresh token has been spent already.
        (RefreshToken(CLIENT, "rt", subject="a", scope="a"), RefreshToken(CLIENT, "rt", subject="a", scope="b")),
        (RefreshToken(CLIENT, "rt", subject="a"), RefreshToken(CLIENT, "rt", subject="a", audience="b")),
        (LegacyPassword(CLIENT, "alice", "pw"), LegacyPassword(CLIENT, "alice", "changed")),
    ],
)
def test_what_may_change(one, other):
    """K5, K6: a rotated secret, a changed password and a new login belong to the same record."""
    assert identity_of(one) == identity_of(other)


async def fetch() -> str:
    return "token"


@pytest.mark.parametrize(
    "source",
    [
        fetch,
        RefreshToken(CLIENT, "rt"),
        JwtBearer(CLIENT, lambda: "jwt"),
        JwtBearer(CLIENT, Path("/var/run/secrets/token")),
        TokenExchange(CLIENT, Path("/var/run/secrets/token")),
        Fallback(machine(), fetch),
    ],
)
@pytest.mark.parametrize("how", ["one", "mapping", "source_for"])
async def test_a_store_needs_to_know(source, how):
    """K5: a source that does not say whose tokens it gives is refused where there is a store and no namespace."""
    options: dict[str, Any] = {
        "one": {"source": source},
        "mapping": {"source": {"k": source}},
        "source_for": {"source_for": lambda _: source},
    }[how]
    with pytest.raises(ValueError, match="give the manager a namespace="):
        async with TokenManager(**options, store=MemoryStore()) as tokens:
            await tokens.get(*(() if how == "one" else ("k",)))
    TokenManager(**options, store=MemoryStore(), namespace="app")
    TokenManager(**options)


class Api:
    """A source of one API."""

    rotates = False

    def __init__(self, clock: Any, name: str) -> None:
        self.clock, self.identity, self.fetches = clock, name, 0

    async def fetch(self, _request: object) -> Token:
        self.fetches += 1
        now = self.clock.time()
        return Token(f"{self.identity}-{self.fetches}", issued_at=now, expires_at=now + 600.0)


@virtual
async def test_two_apis_in_one_store(clock):
    """K5: managers of two APIs on one store stay apart, after any calls, and a restart finds its own records."""
    store = MemoryStore(clock=clock)
    bank, weather = Api(clock, "bank"), Api(clock, "weather")
    async with (
        TokenManager(bank, store=store, clock=clock) as one,
        TokenManager(weather, store=store, clock=clock) as other,
    ):
        assert [(await tokens.get()).access_token for tokens in (one, other)] == ["bank-1", "weather-1"]
        await one.refresh()
        await other.revoke()
        await asyncio.sleep(1.0)
        assert (await one.get()).access_token == "bank-2"
    async with TokenManager(bank, store=store, clock=clock) as again:
        assert (await again.get()).access_token == "bank-2"
    keys = [json.loads(key) async for key in store.keys()]  # noqa: SIM118
    assert sorted(key[:2] for key in keys) == [["", None], ["", None]]
    assert len({key[2] for key in keys}) == 2


@virtual
async def test_a_peer_is_heard_under_its_identity(clock):
    """K5, K2: a notice of the store reaches the manager of the same identity, and no other."""
    store = MemoryStore(clock=clock)
    async with (
        TokenManager(Api(clock, "bank"), store=store, clock=clock) as one,
        TokenManager(Api(clock, "bank"), store=store, clock=clock) as two,
        TokenManager(Api(clock, "weather"), store=store, clock=clock) as other,
    ):
        for tokens in (one, two, other):
            await tokens.get()
        newer = await one.refresh()
        await asyncio.sleep(1.0)
        assert two.peek() == newer
        assert other.peek() != newer


CLOUD: dict[str, Any] = {
    "aws role": lambda name: aws.AssumeRole(aws.Profile("base"), f"arn:aws:iam::123456789012:role/{name}"),
    "aws session": lambda name: aws.AssumeRole(
        aws.Profile("base"), "arn:aws:iam::123456789012:role/r", session_name=name
    ),
    "aws web identity": lambda name: aws.AssumeRoleWithWebIdentity("jwt", f"arn:aws:iam::123456789012:role/{name}"),
    "azure tenant": lambda name: azure.WorkloadIdentity("jwt", tenant_id=name, client_id="c", scope="s"),
    "azure client": lambda name: azure.WorkloadIdentity("jwt", tenant_id="t", client_id=name, scope="s"),
    "azure scope": lambda name: azure.WorkloadIdentity("jwt", tenant_id="t", client_id="c", scope=name),
    "azure machine": lambda name: azure.ManagedIdentity("https://vault.azure.net/.default", client_id=name),
    "github": lambda name: GitHubApp(name, 7, "key"),
    "github repositories": lambda name: GitHubApp(1, 7, "key", repositories=[name]),
    "google user": lambda name: google.AuthorizedUser({"client_id": name, "refresh_token": "planted"}),
    "google account": lambda name: google.ServiceAccount({"client_email": name, "private_key": "planted"}),
    "google subject": lambda name: google.ServiceAccount({"client_email": "a"}, subject=name),
    "google audience": lambda name: google.ServiceAccount({"client_email": "a"}, audience=name),
    "google scopes": lambda name: google.ServiceAccount({"client_email": "a"}, scopes=name),
    "google workload": lambda name: google.WorkloadIdentity({"audience": name}),
    "google machine": lambda name: google.MetadataServer(account=f"{name}@example.com"),
    "vault role": lambda name: vault.JwtLogin("https://vault.example.com", name, "planted"),
    "vault role id": lambda name: vault.AppRole("https://vault.example.com", name, "planted"),
    "vault namespace": lambda name: vault.AppRole("https://vault.example.com", "r", "planted", namespace=name),
    "login": lambda name: LoginEndpoint(
        "https://a.example.com?key=planted", json={"user": name, "password": "planted"}
    ),
    "login by form": lambda name: LoginEndpoint("https://a.example.com", form={"user": name}),
    "login by query": lambda name: LoginEndpoint(f"https://a.example.com?tenant={name}"),
    "login for": lambda name: LoginEndpoint("https://a.example.com", token=name),
    "login to": lambda name: LoginEndpoint(f"https://{name}.example.com"),
}


@pytest.mark.parametrize("name", CLOUD)
def test_whose_token_it_is_in_a_cloud(name):
    """K5: the sources of clouds and logins state whose token they give, and no secret."""
    make = CLOUD[name]
    found = {identity_of(make(one)) for one in ("alice", "bob")}
    assert None not in found
    assert len(found) == 2
    assert identity_of(make("alice")) in found
    assert "planted" not in str(found)


@pytest.mark.parametrize(
    "source",
    [
        aws.InstanceRole(),
        aws.Profile("base"),
        aws.ContainerRole("http://169.254.170.2/role"),
        azure.ManagedIdentity("https://vault.azure.net/.default"),
        google.MetadataServer(),
        vault.AppRole("https://vault.example.com", lambda: "r", "s"),
        LoginEndpoint("https://a.example.com", form={"user": lambda: "a"}),
        LoginEndpoint("https://a.example.com", json={"login": {"names": [{"user": Path("/a")}]}}),
        google.CredentialsFile("key.json"),
        google.ServiceAccount(Path("key.json")),
        Command(["az", "account", "get-access-token"]),
    ],
)
def test_what_depends_on_the_machine(source):
    """K5: a source that gives another identity on another machine states none, so that a store needs a namespace."""
    assert identity_of(source) is None


def test_an_identity_from_parts():
    """K5: a mapping counts without its order, each part counts, and a part that is unknown leaves none."""
    one = identity_from("kind", {"a": 1, "b": {"c": 2, "d": 3}}, "x")
    assert one == identity_from("kind", {"b": {"d": 3, "c": 2}, "a": 1}, "x")
    others = [("other", {"a": 1}, "x"), ("kind", {"a": 2}, "x"), ("kind", {"a": 1}, "y"), ("kind", {"a": 1})]
    assert len({identity_from(*parts) for parts in others}) == len(others)
    assert identity_from("kind", {"a": 1}, None) is None


@pytest.mark.parametrize("namespace", ["", "t", "team"])
@pytest.mark.parametrize("key", [None, "k", 5, ("a", 1)])
@pytest.mark.parametrize("identity", [None, "i"])
def test_the_key_of_a_name(namespace, key, identity):
    """K5: the name of a record leads back to its key, and only in its own namespace."""
    name = store_key(namespace, key, identity)
    assert key_of("".join(list(namespace)), name) == key
    assert key_of("other", name) == NO_NAME
    assert key_of(namespace, "no name") == NO_NAME

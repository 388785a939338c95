"""How a client shows who it is, field by field, as the server sees it."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.sources.keys import authority as authority_pem, ec_pem, rsa_key, rsa_pem, rsa_public_pem, signed
from tests.sources.wire import Asked, Wire, always, granted, http

from evertoken import FetchRequest, GrantRejected, TransientRefreshError
from evertoken.sources import (
    Assertion,
    ClientCredentials,
    ClientSecretJwt,
    JwtBearer,
    LegacyPassword,
    OAuthClient,
    PrivateKeyJwt,
    TlsClientAuth,
    TokenExchange,
)

SECRET = "s" * 40
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "PS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
PEMS = {
    name: key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    for name, key in KEYS.items()
}


def a_request() -> FetchRequest:
    return FetchRequest(None, None, 5.0)


async def asked_by(make, **options):
    """Return the form fields of the first request of the source that *make* makes."""
    async with Wire(always(granted())) as wire:
        await make(token_endpoint=wire.url(), **options).fetch(a_request())
        return dict(wire.asked[0].form), wire.asked[0].headers, wire.url()


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("audience", [None, "https://issuer.example.com"])
async def test_private_key_jwt(algorithm, audience):
    """RFC 7523 section 3: the key signs one assertion for this client and this server, valid for a minute."""
    method = PrivateKeyJwt(PEMS[algorithm], algorithm, key_id="key-1", audience=audience)
    form, headers, url = await asked_by(
        lambda **given: ClientCredentials(OAuthClient(**given)), client_id="svc", client_auth=method
    )

    assertion = form.pop("client_assertion")
    assert form == {
        "grant_type": "client_credentials",
        "client_id": "svc",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert "authorization" not in headers
    claims = jwt.decode(assertion, KEYS[algorithm].public_key(), [algorithm], audience=audience or url)
    assert (claims["iss"], claims["sub"]) == ("svc", "svc")
    assert claims["exp"] - claims["iat"] == 60
    assert 8.0 <= time.time() - claims["iat"] <= 30.0
    assert jwt.get_unverified_header(assertion) == {"alg": algorithm, "kid": "key-1", "typ": "JWT"}


async def test_each_assertion_is_new():
    """RFC 7523 section 3: no two assertions have the same `jti`."""
    async with Wire(always(granted())) as wire:
        source = ClientCredentials(
            OAuthClient(token_endpoint=wire.url(), client_id="svc", client_auth=PrivateKeyJwt(PEMS["ES256"], "ES256"))
        )
        for _ in range(3):
            await source.fetch(a_request())
        seen = {
            jwt.decode(dict(asked.form)["client_assertion"], options={"verify_signature": False})["jti"]
            for asked in wire.asked
        }
    assert len(seen) == 3


async def test_client_secret_jwt(tmp_path):
    """OpenID Connect Core section 9: the secret signs, is read from its file each time, and stays at home."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    method = ClientSecretJwt(tmp_path / "secret")
    form, _, url = await asked_by(
        lambda **given: ClientCredentials(OAuthClient(**given)), client_id="svc", client_auth=method
    )

    assert jwt.decode(form["client_assertion"], SECRET, ["HS256"], audience=url)["iss"] == "svc"
    assert SECRET not in str(form)


async def test_secret_in_a_file_that_is_rotated(tmp_path):
    """S1: a secret in a file is read at each fetch, without its line break."""
    path = tmp_path / "secret"
    async with Wire(always(granted())) as wire:
        source = ClientCredentials(OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret=path))
        for secret in ("first", "second"):
            path.write_text(f"{secret}\n")
            await source.fetch(a_request())
        sent = [base64.b64decode(asked.headers["authorization"].split()[1]).decode() for asked in wire.asked]
    assert sent == ["svc:first", "svc:second"]


@pytest.fixture
async def guarded(tmp_path) -> AsyncIterator[Wire]:
    """A server that talks to nobody without a certificate, and gives a token to whom the certificate names."""
    for name in ("authority", "server", "svc"):
        certificate, key = (authority_pem(), "") if name == "authority" else signed(name)
        (tmp_path / f"{name}.pem").write_text(certificate)
        (tmp_path / f"{name}.key").write_text(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tmp_path / "authority.pem")
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        shown = {part[0] for part in writer.get_extra_info("peercert")["subject"]}
        known = ("commonName", dict(asked.form)["client_id"]) in shown
        return granted() if known else http(401, {"error": "invalid_client"})

    async with Wire(answer, tls=context) as wire:
        yield wire


@pytest.mark.parametrize("trusted", ["given", "of the environment"])
@pytest.mark.parametrize("by_client", [False, True])
async def test_tls_client_auth(guarded, tmp_path, by_client, trusted, monkeypatch):
    """RFC 8705 section 2: the certificate speaks, in the handshake; the form carries the client's id alone."""
    authority = tmp_path / "authority.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    given = authority if trusted == "given" else None
    method = TlsClientAuth(tmp_path / "svc.pem", tmp_path / "svc.key", authority=given)
    async with httpx.AsyncClient(verify=method.context()) as client:
        options = {"client_auth": "tls_client_auth", "http_client": client} if by_client else {"client_auth": method}
        for client_id, granted_ in (("svc", True), ("somebody-else", False)):
            source = ClientCredentials(OAuthClient(token_endpoint=guarded.url(), client_id=client_id, **options))
            if granted_:
                await source.fetch(a_request())
            else:
                with pytest.raises(GrantRejected, match="invalid_client"):
                    await source.fetch(a_request())
    assert [dict(asked.form) for asked in guarded.asked] == [
        {"grant_type": "client_credentials", "client_id": client_id} for client_id in ("svc", "somebody-else")
    ]
    assert not any("authorization" in asked.headers for asked in guarded.asked)


async def test_certificate_that_is_renewed(guarded, tmp_path):
    """
    RFC 8705 section 2: the files are read at each fetch. A missing file is a transient failure, and nothing is sent.
    """
    certificate, key = tmp_path / "mine.pem", tmp_path / "mine.key"
    method = TlsClientAuth(certificate, key, authority=tmp_path / "authority.pem")
    source = ClientCredentials(OAuthClient(token_endpoint=guarded.url(), client_id="new", client_auth=method))
    contents = {
        "No such file": None,
        "invalid_client": signed("old"),
        "granted": signed("new"),
        "MISMATCH": (signed("new")[0], signed("new")[1]),
        "none": ("", ""),
    }
    for says, content in contents.items():
        if content is not None:
            certificate.write_text(content[0])
            key.write_text(content[1])
        if says == "granted":
            await source.fetch(a_request())
            continue
        with pytest.raises((TransientRefreshError, GrantRejected)) as caught:
            await source.fetch(a_request())
        assert says == "none" or says in str(caught.value)
        assert isinstance(caught.value, GrantRejected) == (says == "invalid_client")
        assert not getattr(caught.value, "ambiguous", False)
        assert "PRIVATE" not in str(caught.value)
    assert len(guarded.asked) == 2


async def test_no_certificate(guarded, tmp_path):
    """RFC 8705 section 2: a server that gets no certificate does not reject the grant, and reads no request."""
    context = ssl.create_default_context(cafile=tmp_path / "authority.pem")
    async with httpx.AsyncClient(verify=context) as client:
        source = ClientCredentials(
            OAuthClient(token_endpoint=guarded.url(), client_id="svc", client_auth="none", http_client=client)
        )
        with pytest.raises(TransientRefreshError):
            await source.fetch(a_request())
    assert guarded.asked == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"client_auth": "tls_client_auth"}, "needs http_client="),
        (
            {"client_auth": TlsClientAuth(Path("x")), "client_secret": "x"},
            "takes no client_secret, and no http_client=",
        ),
        (
            {"client_auth": TlsClientAuth(Path("x")), "http_client": httpx.AsyncClient()},
            "takes no client_secret, and no",
        ),
        ({"client_auth": "private_key_jwt", "client_secret": "x"}, r"PrivateKeyJwt\(...\)"),
        ({"client_auth": "client_secret_post"}, "needs a client_secret"),
        ({"client_auth": PrivateKeyJwt("x"), "client_secret": "x"}, "takes no client_secret beside"),
        ({"client_secret": ""}, "client_secret must be a non-empty string, a pathlib.Path"),
    ],
)
def test_bad_combinations(options, says):
    """Arguments that contradict each other are refused when the source is made, by name."""
    with pytest.raises(ValueError, match=says):
        ClientCredentials(OAuthClient(token_endpoint="https://as.example.com/token", client_id="svc", **options))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PrivateKeyJwt("pem", "HS256"), "algorithm must be one of RS256"),
        (lambda: ClientSecretJwt("secret", "RS256"), "algorithm must be one of HS256"),
        (lambda: PrivateKeyJwt(""), "key must be"),
        (lambda: TlsClientAuth("client.pem"), "certificate must be a pathlib.Path"),  # type: ignore[arg-type]
        (lambda: TlsClientAuth(Path("a"), authority="b"), "authority must be a pathlib.Path"),  # type: ignore[arg-type]
        (lambda: PrivateKeyJwt("pem", lifetime=0.0), "lifetime must be at least 1 second"),
        (lambda: Assertion("pem", issuer=""), "issuer must be"),
        (lambda: Assertion("pem", issuer="me", algorithm="none"), "algorithm must be"),
        (lambda: JwtBearer(OAuthClient(token_endpoint="https://as.example.com"), ""), "assertion must be"),
        (lambda: LegacyPassword(OAuthClient(token_endpoint="https://as.example.com"), "", "x"), "username must be"),
        (lambda: TokenExchange(OAuthClient(token_endpoint="https://as.example.com"), ""), "subject_token must be"),
        (
            lambda: TokenExchange(OAuthClient(token_endpoint="https://as.example.com", client_secret="x"), "x"),
            "need a client_id",
        ),
    ],
)
def test_bad_arguments(make, says):
    """Bad input is refused when it is given, and named."""
    with pytest.raises(ValueError, match=says):
        make()


async def test_wrong_key_is_not_shown():
    """S1: a key that does not sign is an error that does not show it."""
    planted = "-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----"
    source = ClientCredentials(
        OAuthClient(token_endpoint="https://as.example.com/token", client_id="svc", client_auth=PrivateKeyJwt(planted))
    )
    with pytest.raises(ValueError, match="the key does not sign with RS256") as caught:
        await source.fetch(a_request())
    assert "planted" not in str(caught.value)
    assert caught.value.__context__ is None
    assert "planted" not in repr(source)


def _encrypted(form: serialization.PrivateFormat) -> str:
    lock = serialization.BestAvailableEncryption(b"pw")
    return rsa_key().private_bytes(serialization.Encoding.PEM, form, lock).decode()


UNUSABLE = {
    "encrypted": (lambda: _encrypted(serialization.PrivateFormat.PKCS8), "it is encrypted with a password"),
    "encrypted, old": (
        lambda: _encrypted(serialization.PrivateFormat.TraditionalOpenSSL),
        "it is encrypted with a password",
    ),
    "public": (rsa_public_pem, "it is a public key"),
    "certificate": (
        lambda: "-----BEGIN CERTIFICATE-----\nplanted\n-----END CERTIFICATE-----",
        "a public key or a certificate",
    ),
    "cut": (lambda: rsa_pem()[:500], "its end is missing"),
    "none": (lambda: "planted", "it is not PEM"),
    "another kind": (ec_pem, "the key does not sign with RS256: "),
}


@pytest.mark.parametrize("kind", UNUSABLE)
async def test_keys_that_cannot_sign(kind, tmp_path):
    """Bad input: the message describes the mistake in a key, given directly or read from a file."""
    make, says = UNUSABLE[kind]
    path = tmp_path / "key.pem"
    path.write_text(make())
    for key in (make(), path):
        with pytest.raises(ValueError, match=says) as caught:
            method = PrivateKeyJwt(key)
            client = OAuthClient(token_endpoint="https://as.example.com", client_id="svc", client_auth=method)
            await ClientCredentials(client).fetch(a_request())
        assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "spell",
    [
        lambda pem: pem.replace("\n", "\\n"),
        lambda pem: pem.replace("\n", "\\r\\n"),
        lambda pem: pem.replace("\n", "\r\n"),
        lambda pem: f"\n{pem}\n\n",
    ],
    ids=["spelled out", "spelled out as of Windows", "of Windows", "with lines around it"],
)
async def test_line_breaks_of_keys(spell):
    """A key in an environment variable often has its line breaks spelled out. Such a key is read correctly."""
    assertion = Assertion(spell(rsa_pem()), issuer="me")
    form, _, url = await asked_by(lambda **options: JwtBearer(OAuthClient(**options), assertion))
    assert jwt.decode(form["assertion"], rsa_key().public_key(), ["RS256"], audience=url)["iss"] == "me"


async def test_secret_file_with_a_mark(tmp_path):
    """A file of Windows may begin with a byte order mark, which is no part of the secret."""
    path = tmp_path / "secret"
    path.write_bytes(b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n")
    form, _, _ = await asked_by(
        lambda **given: ClientCredentials(OAuthClient(**given)),
        client_id="svc",
        client_secret=path,
        client_auth="client_secret_post",
    )
    assert form["client_secret"] == SECRET


async def test_jwt_bearer():
    """RFC 7523 section 2.1: the assertion is signed here for the endpoint, and no client is needed."""
    assertion = Assertion(PEMS["RS256"], issuer="me@example.com", key_id="k", claims={"scope": "read"})
    form, headers, url = await asked_by(lambda **options: JwtBearer(OAuthClient(**options), assertion))

    claims = jwt.decode(form.pop("assertion"), KEYS["RS256"].public_key(), ["RS256"], audience=url)
    assert (claims["iss"], claims["sub"], claims["scope"]) == ("me@example.com", "me@example.com", "read")
    assert form == {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}
    assert "authorization" not in headers


async def test_jwt_bearer_signed_elsewhere():
    """RFC 7523 section 2.1: an assertion from elsewhere is asked for at each fetch; a client goes along."""

    async def assertion() -> str:
        return "signed-elsewhere"

    form, headers, _ = await asked_by(
        lambda **options: JwtBearer(
            OAuthClient(client_id="svc", client_secret="s3cret", **options), assertion, scope="read"
        )
    )
    assert (form["assertion"], form["scope"]) == ("signed-elsewhere", "read")
    assert headers["authorization"].startswith("Basic ")


async def test_password():
    """RFC 6749 section 4.3: name and password; a refresh token that comes along is not kept."""
    async with Wire(always(granted(refresh_token="unused"))) as wire:
        source = LegacyPassword(OAuthClient(token_endpoint=wire.url(), client_id="app"), "alice", lambda: "pass word")
        answer = await source.fetch(a_request())
        assert dict(wire.asked[0].form) == {
            "grant_type": "password", "username": "alice", "password": "pass word", "client_id": "app",
        }  # fmt: skip
    assert "refresh_token" not in answer.fields

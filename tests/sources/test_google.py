"""Google: service accounts, logins of gcloud, the metadata server, workload identity, and the default choice."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from tests.sources.keys import rsa_pem, rsa_public_pem
from tests.sources.wire import Asked, Wire, a_request, always, granted, http

from evertoken import FetchRequest, GrantRejected, Token, TokenManager, TokenUnavailable, TransientRefreshError
from evertoken._engine.clock import SystemClock
from evertoken._model.token import origin_of
from evertoken.sources.google import (
    AuthorizedUser,
    CredentialsFile,
    MetadataServer,
    ServiceAccount,
    WorkloadIdentity,
    from_environment,
)

FLAVOR = {"Metadata-Flavor": "Google"}
LATER = "2035-01-01T00:00:00Z"


def account(wire: Wire) -> dict[str, Any]:
    return {
        "type": "service_account", "client_email": "svc@project.iam.gserviceaccount.com", "private_key": rsa_pem(),
        "private_key_id": "kid-1", "token_uri": wire.url(),
    }  # fmt: skip


def user(wire: Wire) -> dict[str, Any]:
    return {
        "type": "authorized_user", "client_id": "svc", "client_secret": "planted-1", "refresh_token": "planted-2",
        "token_uri": wire.url(),
    }  # fmt: skip


def federated(wire: Wire, source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "external_account", "audience": "//iam.googleapis.com/pool",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": wire.url(),
        "credential_source": source, **more,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this machine's own settings out."""
    for name in (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GCE_METADATA_HOST",
        "NO_GCE_CHECK",
        "APPDATA",
        "GOOGLE_CLOUD_QUOTA_PROJECT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))


async def test_service_account(tmp_path):
    """RFC 7523: the assertion verifies with the public key, and the file is read again at each fetch."""
    async with Wire(always(granted())) as wire:
        file = tmp_path / "key.json"
        file.write_text(json.dumps(account(wire)))
        async with TokenManager(ServiceAccount(file, scopes=["read", "write"], subject="alice")) as tokens:
            await tokens.get()
            file.write_text(json.dumps({**account(wire), "client_email": "other@project"}))
            await tokens.refresh()
    issuers = []
    for asked in wire.asked:
        text = dict(asked.form)["assertion"]
        claims = jwt.decode(
            text, rsa_public_pem(), algorithms=["RS256"], audience="https://oauth2.googleapis.com/token"
        )
        issuers.append(claims["iss"])
        assert (claims["scope"], claims["sub"], claims["exp"] - claims["iat"]) == ("read write", "alice", 3600)
        assert jwt.get_unverified_header(text)["kid"] == "kid-1"
    assert issuers == ["svc@project.iam.gserviceaccount.com", "other@project"]


async def test_id_token():
    """An ID token is a token like any other, with the expiry that its claim says."""
    dies = int(time.time()) + 1800
    text = jwt.encode({"exp": dies}, "k" * 32, algorithm="HS256")
    async with Wire(always(http(200, {"id_token": text}))) as wire:
        async with TokenManager(ServiceAccount(account(wire), audience="https://run.example.com")) as tokens:
            token = await tokens.get()
    assert (token.access_token, token.expires_at) == (text, pytest.approx(dies, abs=2.0))
    async with Wire(always(granted())) as wire:
        with pytest.raises(TransientRefreshError, match="no id_token"):
            await ServiceAccount(account(wire), audience="https://run.example.com").fetch(a_request())
    async with Wire(always(http(200, text.encode(), FLAVOR))) as wire:
        source = MetadataServer(audience="https://run.example.com", host=wire.url("").removeprefix("http://"))
        async with TokenManager(source) as tokens:
            assert (await tokens.get()).access_token == text
        (asked,) = wire.asked
    assert asked.target.endswith("/default/identity?audience=https%3A%2F%2Frun.example.com&format=full")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"type": "authorized_user"}, GrantRejected, "type 'authorized_user', where service_account is needed"),
        ({"private_key": None}, GrantRejected, "lack 'private_key'"),
        ({"client_email": ""}, GrantRejected, "lack 'client_email'"),
        ({"private_key": "planted-key"}, ValueError, "does not sign with RS256"),
        ({"token_uri": "http://elsewhere.example.com"}, ValueError, "token_uri must use https"),
    ],
)
async def test_key_file_that_is_none(change, error, says):
    """Bad input: the message describes the mistake in the file, and shows no secret of it."""
    async with Wire(always(granted())) as wire:
        with pytest.raises(error, match=says) as caught:
            await ServiceAccount({**account(wire), **change}).fetch(a_request())
    assert "planted" not in str(caught.value)
    assert wire.asked == []


async def test_garbled_file(tmp_path):
    """A file that is no JSON is named; one that is missing may come yet."""
    file = tmp_path / "key.json"
    async with TokenManager(CredentialsFile(file)) as tokens:
        with pytest.raises(TokenUnavailable, match=r"the credentials file .*key\.json': No such file"):
            await tokens.get()
    file.write_text("{")
    with pytest.raises(GrantRejected, match=r"key\.json"):
        await ServiceAccount(file).fetch(a_request())


async def test_login_that_is_over(tmp_path):
    """F4: a person whose login was revoked has to log in again, and is told so."""
    async with Wire(
        always(http(400, {"error": "invalid_grant", "error_description": "Token revoked: planted-2"}))
    ) as wire:
        with pytest.raises(GrantRejected, match="invalid_grant") as caught:
            await AuthorizedUser(user(wire), scopes="read").fetch(a_request())
    assert "planted" not in str(caught.value)
    assert dict(wire.asked[0].form)["scope"] == "read"


@pytest.mark.parametrize("whole", [AuthorizedUser, CredentialsFile])
async def test_a_person_logs_in_anew(whole, tmp_path):
    """K6: the newest refresh token is presented, until a person logs in anew and the file has another one."""
    path, request = tmp_path / "user.json", a_request(Token("a", issued_at=0.0, refresh_token="newest"))
    async with Wire(always(granted())) as wire:
        for in_file in ("planted-2", "planted-3"):
            path.write_text(json.dumps({**user(wire), "refresh_token": in_file}))
            request = FetchRequest(None, request.current, 5.0, origins=request.origins)
            await whole(path).fetch(request)
    assert [dict(asked.form)["refresh_token"] for asked in wire.asked] == ["newest", "planted-3"]
    assert request.began_anew
    assert request.origins == (origin_of("planted-2"), origin_of("planted-3"))


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (http(404, b"not found", FLAVOR), TransientRefreshError, "404.*may not be ready"),
        (http(503, b"", FLAVOR), TransientRefreshError, "503"),
        (granted(), TransientRefreshError, "does not say that it is a metadata server of Google"),
        (http(404, b"not found"), TransientRefreshError, "does not say that it is a metadata server of Google"),
        (http(302, b"", {"Location": "https://portal.example.com"}), TransientRefreshError, "does not say that"),
        (http(200, b"<html>", FLAVOR), TransientRefreshError, "200"),
    ],
)
async def test_metadata_server_that_has_none(answer, error, says):
    """F4: a server that is not ready yet passes; a captive portal is not believed."""
    async with Wire(always(answer)) as wire:
        with pytest.raises(error, match=says):
            await MetadataServer(host=wire.url("").removeprefix("http://")).fetch(a_request())
    assert wire.asked[0].headers["metadata-flavor"] == "Google"


NOT_THERE = http(404, b"not found", FLAVOR)
THERE = http(200, {"access_token": "at-1", "expires_in": 3600}, FLAVOR)


@pytest.mark.parametrize(
    "answers",
    [
        # Seconds since the first request, the answer, and the outcome.
        [(0, NOT_THERE, TransientRefreshError), (5, THERE, None)],
        [(0, NOT_THERE, TransientRefreshError), (59, NOT_THERE, TransientRefreshError)],
        [(0, NOT_THERE, TransientRefreshError), (61, NOT_THERE, GrantRejected)],
        [(0, THERE, None), (5, NOT_THERE, GrantRejected)],
        [(0, NOT_THERE, TransientRefreshError), (5, THERE, None), (6, NOT_THERE, GrantRejected)],
    ],
)
async def test_first_minute_of_a_machine(answers, monkeypatch):
    """F4: a 404 passes for the first minute, until the server has worked once; then it needs a person."""
    now = [1000.0]
    monkeypatch.setattr(SystemClock, "monotonic", lambda: now[0])
    said: list[bytes] = []

    async def service(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return said[-1]

    async with Wire(service) as wire:
        source = MetadataServer(host=wire.url("").removeprefix("http://"))
        for after, answer, error in answers:
            now[0] = 1000.0 + after
            said.append(answer)
            if error is None:
                assert (await source.fetch(a_request())).fields["access_token"] == "at-1"
            else:
                with pytest.raises(error, match="404"):
                    await source.fetch(a_request())


@pytest.mark.parametrize("kind", ["text file", "json file", "text url", "json url"])
async def test_workload_identity(kind, tmp_path):
    """RFC 8693: the other provider's token comes from a file or a URL, plain or in JSON, and acts as an account."""
    form = {"format": {"type": "json", "subject_token_field_name": "tok"}} if "json" in kind else {}
    subject = json.dumps({"tok": "subject-1"}) if form else "subject-1"
    (tmp_path / "subject").write_text(subject)

    async def service(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/subject":
            return http(200 if asked.headers.get("x-key") == "planted" else 403, subject.encode())
        if asked.target == "/act":
            good = asked.headers["authorization"] == "Bearer at-1"
            return http(200 if good else 403, {"accessToken": "ya29", "expireTime": LATER})
        return granted()

    async with Wire(service) as wire:
        at = {"file": str(tmp_path / "subject")} if "file" in kind else {
            "url": wire.url("/subject"), "headers": {"X-Key": "planted"},
        }  # fmt: skip
        info = federated(wire, {**at, **form}, service_account_impersonation_url=wire.url("/act"))
        async with TokenManager(WorkloadIdentity(info, scopes="read")) as tokens:
            token = await tokens.get()
    assert (token.access_token, token.expires_at) == ("ya29", pytest.approx(2051222400.0, abs=5.0))
    assert dict(wire.asked[-2].form)["subject_token"] == "subject-1"
    assert json.loads(wire.asked[-1].body)["scope"] == ["read"]


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ({"environment_id": "aws1", "url": "http://127.0.0.1:1/role"}, GrantRejected, "signed for AWS are not built"),
        ({"executable": {"command": "get-token"}}, GrantRejected, "evertoken.sources.Command"),
        ({"certificate": {"use_default_certificate_config": True}}, GrantRejected, "certificates are not shown"),
        (None, GrantRejected, "no file and no url"),
        ({"file": "/nowhere"}, OSError, "No such file"),
    ],
)
async def test_workload_identity_that_is_none(source, error, says):
    """Bad input: what the configuration names and is not there, or is not followed, is told."""
    async with Wire(always(granted())) as wire:
        with pytest.raises(error, match=says):
            await WorkloadIdentity(federated(wire, source)).fetch(a_request())
    assert wire.asked == []


async def test_workload_identity_of_aws_without_its_id():
    """Bad input: the type of the subject token alone says that the configuration is for AWS."""
    kind = "urn:ietf:params:aws:token-type:aws4_request"
    async with Wire(always(granted())) as wire:
        info = federated(wire, {"url": wire.url("/role")}, subject_token_type=kind)
        with pytest.raises(GrantRejected, match="is for AWS"):
            await WorkloadIdentity(info).fetch(a_request())
    assert wire.asked == []


@pytest.mark.parametrize(
    "more", [{}, {"workforce_pool_user_project": "p"}, {"client_id": "c", "client_secret": "planted"}]
)
async def test_client_of_workload_identity(more, tmp_path):
    """RFC 8693: a client that the configuration names is authenticated, and stands in place of a project."""
    (tmp_path / "subject").write_text("subject-1")
    async with Wire(always(granted())) as wire:
        both = {**more, "workforce_pool_user_project": "p"} if "client_id" in more else more
        await WorkloadIdentity(federated(wire, {"file": str(tmp_path / "subject")}, **both)).fetch(a_request())
    (asked,) = wire.asked
    named = base64.b64encode(b"c:planted").decode()
    assert asked.headers.get("authorization") == (f"Basic {named}" if "client_id" in more else None)
    assert ("options" in dict(asked.form)) == ("client_id" not in more and bool(more))


async def test_json_without_the_field(tmp_path):
    """F4: a file that is being rewritten, and has no token yet, is read again."""
    (tmp_path / "subject").write_text("{}")
    source = {"file": str(tmp_path / "subject"), "format": {"type": "json", "subject_token_field_name": "tok"}}
    async with Wire(always(granted())) as wire:
        with pytest.raises(TransientRefreshError, match="no token at 'tok'"):
            await WorkloadIdentity(federated(wire, source)).fetch(a_request())


async def test_every_kind_of_file(tmp_path):
    """A credentials file of any kind is followed, impersonation included."""

    async def service(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/act":
            assert json.loads(asked.body)["delegates"] == ["middle"]
            return http(200, {"accessToken": "ya29", "expireTime": LATER})
        return granted(access_token=dict(asked.form)["grant_type"].rpartition(":")[2])

    (tmp_path / "subject").write_text("subject-1")
    async with Wire(service) as wire:
        acting = {
            "type": "impersonated_service_account", "service_account_impersonation_url": wire.url("/act"),
            "delegates": ["middle"], "source_credentials": user(wire),
        }  # fmt: skip
        expected = {
            "jwt-bearer": account(wire),
            "refresh_token": user(wire),
            "token-exchange": federated(wire, {"file": str(tmp_path / "subject")}),
            "ya29": acting,
        }
        for token, content in expected.items():
            file = tmp_path / "file.json"
            file.write_text(json.dumps(content))
            async with TokenManager(CredentialsFile(file)) as tokens:
                assert (await tokens.get()).access_token == token
        file.write_text(json.dumps({**acting, "source_credentials": acting}))
        with pytest.raises(GrantRejected, match="no known type"):
            await CredentialsFile(file).fetch(a_request())


async def test_person_of_a_workforce(tmp_path):
    """A login through workforce federation is refreshed at its token_url, with the client in Basic."""
    async with Wire(always(granted(refresh_token="next"))) as wire:
        info = {**user(wire), "type": "external_account_authorized_user", "token_url": wire.url("/sts")}
        (tmp_path / "user.json").write_text(json.dumps(info))
        async with TokenManager(CredentialsFile(tmp_path / "user.json")) as tokens:
            assert (await tokens.get()).refresh_token == "next"
    (asked,) = wire.asked
    assert (asked.target, asked.form) == ("/sts", [("grant_type", "refresh_token"), ("refresh_token", "planted-2")])
    assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"svc:planted-1").decode()
    with pytest.raises(GrantRejected, match="lack 'token_url'"):
        await AuthorizedUser({key: value for key, value in info.items() if key != "token_url"}).fetch(a_request())


@pytest.mark.parametrize("kind", ["service_account", "authorized_user", "external_account", "acting", "universe"])
async def test_project_that_pays(kind, tmp_path, monkeypatch):
    """
    The project, from any file or from the variable, comes along with the token, for the field x-goog-user-project.
    """

    async def service(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return http(200, {"accessToken": "ya29", "expireTime": LATER}) if asked.target == "/act" else granted()

    (tmp_path / "subject").write_text("subject-1")
    async with Wire(service) as wire:
        contents: dict[str, dict[str, Any]] = {
            "service_account": account(wire),
            "authorized_user": user(wire),
            "external_account": federated(wire, {"file": str(tmp_path / "subject")}),
            "acting": {
                "type": "impersonated_service_account", "service_account_impersonation_url": wire.url("/act"),
                "source_credentials": user(wire),
            },
            "universe": {**account(wire), "universe_domain": "cloud.example"},
        }  # fmt: skip
        (tmp_path / "file.json").write_text(json.dumps({**contents[kind], "quota_project_id": "payer"}))
        async with TokenManager(CredentialsFile(tmp_path / "file.json")) as tokens:
            assert (await tokens.get()).extra["quota_project_id"] == "payer"
            monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "another")
            assert (await tokens.refresh()).extra["quota_project_id"] == "another"


async def test_account_of_another_universe():
    """In a sovereign cloud the token is a JWT that is signed here, with the scope in it; no server is asked."""
    async with Wire(always(granted())) as wire:
        info = {**account(wire), "universe_domain": "cloud.example"}
        async with TokenManager(ServiceAccount(info, scopes=["read", "write"])) as tokens:
            token = await tokens.get()
        assert wire.asked == []
    claims = jwt.decode(token.access_token, rsa_public_pem(), algorithms=["RS256"])
    email = "svc@project.iam.gserviceaccount.com"
    assert (claims["iss"], claims["sub"], claims["scope"]) == (email, email, "read write")
    assert jwt.get_unverified_header(token.access_token)["kid"] == "kid-1"
    assert token.lifetime == pytest.approx(3600.0, abs=2.0)
    for option in ({"subject": "alice"}, {"audience": "https://run.example.com"}):
        with pytest.raises(GrantRejected, match=f"{next(iter(option))}= is not built in"):
            await ServiceAccount(info, **option).fetch(a_request())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"installed": {"client_id": "c"}}', "the file of an OAuth client"),
        ('{"web": {"client_id": "c"}}', "the file of an OAuth client"),
        ('{"type": "gdch_service_account"}', "Google Distributed Cloud are not built in"),
        ('{"type": "surprise"}', "of type 'surprise'"),
        ("[1]", "no JSON object"),
        ("not json", "no JSON object"),
        ("", "no JSON object"),
    ],
)
async def test_files_of_other_kinds(content, says, tmp_path):
    """Bad input: a file of another kind is named, with what to do."""
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(GrantRejected, match=says) as caught:
        await CredentialsFile(tmp_path / "file.json").fetch(a_request())
    assert "file.json" in str(caught.value)


async def test_byte_order_mark(tmp_path):
    """A file that an editor of Windows has written is read."""
    async with Wire(always(granted())) as wire:
        (tmp_path / "file.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(account(wire)).encode())
        assert (await CredentialsFile(tmp_path / "file.json").fetch(a_request())).fields["access_token"] == "at-1"


CONTENTS = {
    "json": '{"type": "service_account", "private_key": "planted"}',
    "json with a mark": '\ufeff {"private_key": "planted"}',
    "pem": "-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----\n",
    "pem in one line": "-----BEGIN PRIVATE KEY-----planted",
    "base64": "planted" * 50,
    "jwt": "eyJplanted.a.b",
}


MAKERS: dict[str, Callable[[str], object]] = {
    "CredentialsFile": CredentialsFile,
    "CredentialsFile of a path": lambda text: CredentialsFile(Path(text)),
    "ServiceAccount of a path": lambda text: ServiceAccount(Path(text)),
    "AuthorizedUser of a path": lambda text: AuthorizedUser(Path(text)),
    "WorkloadIdentity of a path": lambda text: WorkloadIdentity(Path(text)),
    "ServiceAccount": ServiceAccount,  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("kind", MAKERS)
def test_content_where_the_path_belongs(kind, name):
    """S1: a key that was given as a path is told, and nothing of it is in the message or in any frame of ours."""
    with pytest.raises(ValueError, match="content") as caught:
        MAKERS[kind](CONTENTS[name])
    assert "planted" not in str(caught.value)
    frames = [
        frame.frame
        for frame in inspect.getinnerframes(caught.tb)
        if "evertoken/" in frame.filename and "/tests/" not in frame.filename
    ]
    assert frames
    assert not [
        name
        for frame in frames
        for name, value in frame.f_locals.items()
        if name != "self" and "planted" in repr(value)
    ]


async def test_content_in_the_variable(monkeypatch):
    """S1: a variable that holds the key in place of its path is named, and the key is not repeated."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", CONTENTS["json"])
    source = from_environment()
    with pytest.raises(GrantRejected, match="GOOGLE_APPLICATION_CREDENTIALS holds the content") as caught:
        await source.fetch(a_request())
    assert "planted" not in f"{caught.value} {source!r}"


async def test_host_that_is_none(monkeypatch):
    """Bad input: a variable that is wrong is named at the fetch; an argument that is wrong, at once."""
    monkeypatch.setenv("GCE_METADATA_HOST", "a b")
    with pytest.raises(GrantRejected, match="GCE_METADATA_HOST is not a host"):
        await from_environment().fetch(a_request())
    with pytest.raises(ValueError, match="scopes must be"):
        from_environment(scopes=[])


@pytest.mark.parametrize("home", ["none", "forbidden", "blank"])
async def test_environment_without_a_home(home, monkeypatch, tmp_path):
    """K11: a user without a home, or with one that may not be read, still has the metadata server."""
    monkeypatch.delenv("CLOUDSDK_CONFIG")
    if home == "none":
        monkeypatch.setattr(Path, "home", _no_home)
    else:
        monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    if home == "forbidden":
        monkeypatch.setattr("os.stat", _forbidden)
    if home == "blank":
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", " ")
        monkeypatch.setenv("CLOUDSDK_CONFIG", "")
    async with Wire(always(THERE)) as machine:
        monkeypatch.setenv("GCE_METADATA_HOST", machine.url("").removeprefix("http://"))
        async with TokenManager(from_environment()) as tokens:
            assert (await tokens.get()).access_token == "at-1"


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def _forbidden(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


async def test_silent_metadata_server(monkeypatch):
    """An address that swallows packets is given up after a short time. The message lists the checked places."""

    async def silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("evertoken.sources.google._environment._WITHIN", 0.05)
    async with Wire(silent) as machine:
        monkeypatch.setenv("GCE_METADATA_HOST", machine.url("").removeprefix("http://"))
        with pytest.raises(TransientRefreshError, match=r"not set; there is no .*did not answer within 0.05 s"):
            await from_environment().fetch(a_request(timeout=600.0))


async def test_environment_in_order(monkeypatch, tmp_path):
    """Application Default Credentials: the named file, gcloud's, the metadata server; the first that works."""
    async with Wire(always(http(200, json.loads(granted().partition(b"\r\n\r\n")[2]), FLAVOR))) as machine:
        monkeypatch.setenv("GCE_METADATA_HOST", machine.url("").removeprefix("http://"))
        async with TokenManager(from_environment(scopes=iter(["read"]))) as tokens:
            assert (await tokens.get()).access_token == "at-1"
        assert "scopes=read" in machine.asked[1].target
        async with Wire(always(granted(access_token="of-gcloud"))) as wire:
            (tmp_path / "gcloud").mkdir()
            (tmp_path / "gcloud" / "application_default_credentials.json").write_text(json.dumps(user(wire)))
            async with TokenManager(from_environment()) as tokens:
                assert (await tokens.get()).access_token == "of-gcloud"
        async with Wire(always(granted(access_token="of-the-file"))) as wire:
            (tmp_path / "key.json").write_text(json.dumps(account(wire)))
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
            async with TokenManager(from_environment()) as tokens:
                assert (await tokens.get()).access_token == "of-the-file"


async def test_environment_that_offers_nothing(monkeypatch):
    """If nothing works, the message lists the attempts and why each failed."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(GrantRejected) as caught:
        await from_environment().fetch(a_request())
    for said in ("GOOGLE_APPLICATION_CREDENTIALS is not set", "there is no ", "NO_GCE_CHECK is true"):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ServiceAccount("key.json"), "info must be"),  # type: ignore[arg-type]
        (lambda: ServiceAccount({}, scopes=[]), "scopes must be"),
        (lambda: WorkloadIdentity({}, scopes=7), "scopes must be one or"),  # type: ignore[arg-type]
        (lambda: MetadataServer(host="a b"), "host must be"),
    ],
)
def test_bad_arguments(make, says):
    """Bad input: a mistake is told at construction, by the parameter's name."""
    with pytest.raises(ValueError, match=says):
        make()

"""AWS: the roles of instances and containers, the shared profile, assumed roles, and the tokens that they all give."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.lacking import needed
from tests.sources.aws_machine import Ahead
from tests.sources.wire import Asked, Wire, a_request, always, http

from evertoken import (
    GrantRejected,
    Lease,
    Record,
    RedactedToken,
    RefreshPolicy,
    Token,
    TokenManager,
    TransientRefreshError,
)
from evertoken.sources import aws
from evertoken.sources.aws import (
    AssumeRole,
    AssumeRoleWithWebIdentity,
    AwsCredentials,
    ContainerRole,
    InstanceRole,
    Profile,
    from_environment,
)
from evertoken.stores import FileStore

ARN = "arn:aws:iam::123456789012:role/reader"
ROLES = "/latest/meta-data/iam/security-credentials/"


def in_iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def keys(name: str = "ASIA", *, lives: float = 3600.0, **more: Any) -> dict[str, Any]:
    return {
        "AccessKeyId": f"{name}-id", "SecretAccessKey": f"{name}-planted-secret", "Token": f"{name}-planted-session",
        "Expiration": in_iso(lives), "Code": "Success", **more,
    }  # fmt: skip


def sts(action: str = "AssumeRole", name: str = "STS") -> bytes:
    found = keys(name)
    found["SessionToken"] = found.pop("Token")
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in found.items() if tag != "Code")
    result = f"<{action}Result><Credentials>{inner}</Credentials></{action}Result>"
    text = f"<{action}Response xmlns='x'>{result}</{action}Response>"
    return http(200, text.encode(), {"Content-Type": "text/xml"})


class Metadata:
    """The instance metadata service, as strict as the real one about sessions."""

    def __init__(self) -> None:
        self.answer = http(200, keys("IMDS"))
        self.role = http(200, b"reader")
        self.token = http(200, b"session-1")

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/latest/api/token":
            lasting = asked.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            return self.token if asked.method == "PUT" and lasting.isdigit() else http(400)
        if asked.headers.get("x-aws-ec2-metadata-token") != "session-1":
            return http(401)
        return self.role if asked.target == ROLES else self.answer


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this machine's own settings out."""
    for name in (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_EC2_METADATA_DISABLED",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_REGION", "AWS_DEFAULT_REGION",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


async def test_three_by_key(tmp_path):
    """Section 6 of the sources: an instance's role, a pod's and a profile, by key, with a lead of 300 s."""
    (tmp_path / "credentials").write_text("[deploy]\naws_access_key_id = AKID\naws_secret_access_key = planted\n")
    (tmp_path / "pod-token").write_text("pod-1\n")
    async with Wire(Metadata()) as imds, Wire(always(http(200, keys("POD")))) as agent:
        sources = {
            "instance": InstanceRole(endpoint=imds.url("")),
            "pod": ContainerRole(agent.url("/v1/credentials"), authorization=tmp_path / "pod-token"),
            "profile": Profile("deploy"),
        }
        async with TokenManager(sources, policy=RefreshPolicy(lead_time=300), start="require") as tokens:
            found = {key: await tokens.get(key) for key in sources}
            due = {key: one.due_at for key, one in tokens.snapshot().keys.items()}
    assert {key: one.access_key_id for key, one in found.items()} == {
        "instance": "IMDS-id", "pod": "POD-id", "profile": "AKID",
    }  # fmt: skip
    for key in ("instance", "pod"):
        assert found[key].session_token
        assert found[key].expires_at == pytest.approx(time.time() + 3600.0, abs=10.0)
        at = due[key]
        assert at is not None
        assert found[key].expires_at - at == pytest.approx(300.0, abs=60.0)
    assert (found["profile"].session_token, found["profile"].expires_at) == (None, None)
    assert agent.asked[0].headers["authorization"] == "pod-1"


async def test_credentials_show_nothing(tmp_path):
    """S1: they sign and cannot be sent. No secret shows, and a store returns them unchanged."""
    made = AwsCredentials.of("AKID", "planted-key", "planted-session", issued_at=1.0, expires_at=time.time() + 60.0)
    for text in (repr(made), str(made), f"{made}", repr(pickle.dumps(made)), repr({"a": made})):
        assert "planted" not in text
    assert isinstance(pickle.loads(pickle.dumps(made)), RedactedToken)
    with pytest.raises(TypeError, match="SigV4Auth"):
        made.authorization  # noqa: B018 - reading it raises
    assert type(made.shifted(5.0)) is AwsCredentials
    assert made.replace(expires_at=None).secret_access_key == "planted-key"
    with pytest.raises(ValueError, match="secret_access_key"):
        AwsCredentials.of("AKID", "")
    store = FileStore(tmp_path / "store")
    lease = (await store.begin("k", "me", 10.0)).lease
    assert isinstance(lease, Lease)
    assert await store.commit(Record("k", 1, made), lease)
    record = await store.read("k")
    assert record is not None
    assert record.token == made
    assert type(record.token) is AwsCredentials


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"token": http(403)}, GrantRejected, "answered 403"),
        ({"role": http(404)}, GrantRejected, "answered 404"),
        ({"answer": http(404)}, GrantRejected, "answered 404"),
        ({"answer": http(200, {"Code": "AssumeRoleUnauthorizedAccess"})}, GrantRejected, "may not assume its role"),
        ({"answer": http(200, {"Code": "Failed"})}, TransientRefreshError, "says 'Failed'"),
        ({"answer": http(200, keys(Expiration="soon"))}, TransientRefreshError, "Expiration is not an instant"),
        ({"answer": http(500)}, TransientRefreshError, "500"),
        ({"token": http(200, b"")}, TransientRefreshError, "200"),
    ],
)
async def test_instance_that_has_none(change, error, says):
    """F4: a role that is missing needs a person after the first minute; before, the instance may not be ready."""
    service = Metadata()
    vars(service).update(change)
    clock = Ahead()
    async with Wire(service) as wire:
        source = InstanceRole(endpoint=wire.url(""))
        source._clock = clock
        for clock.seconds in (0.0, 59.0):
            with pytest.raises(TransientRefreshError, match=says):
                await source.fetch(a_request())
        clock.seconds = 61.0
        with pytest.raises(error, match=says):
            await source.fetch(a_request())


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://169.254.170.2/v2/credentials/1", True),
        ("http://169.254.170.23/v1/credentials", True),
        ("http://[fd00:ec2::23]/v1/credentials", True),
        ("http://127.0.0.1:80/c", True),
        ("https://agent.example.com/c", True),
        ("http://agent.example.com/c", False),
        ("http://169.254.169.254/c", False),
    ],
)
def test_container_agents(url, good):
    """S2: the authorization goes out in the clear to the agents of ECS and EKS alone."""
    if good:
        ContainerRole(url)
    else:
        with pytest.raises(ValueError, match="url must use https"):
            ContainerRole(url)


async def test_container_by_environment(tmp_path):
    """The variables that ECS and EKS set are understood, and the token file is read at each fetch."""
    with pytest.raises(LookupError, match="RELATIVE_URI"):
        ContainerRole.from_environment({})
    ecs = ContainerRole.from_environment({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1"})
    assert "http://169.254.170.2/v2/credentials/1" in repr(ecs)
    file = tmp_path / "token"
    async with Wire(always(http(200, keys()))) as agent:
        source = ContainerRole.from_environment(
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.url("/c"),
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file),
            }
        )
        for text in ("first", "second"):
            file.write_text(text)
            await source.fetch(a_request())
    assert [asked.headers["authorization"] for asked in agent.asked] == ["first", "second"]


async def test_profile_that_runs_a_process(tmp_path):
    """A credential_process is run without a shell, and its answer understood."""
    printed = json.dumps({"Version": 1, **{k: v for k, v in keys("PROC").items() if k != "Token"}, "SessionToken": "s"})
    script = tmp_path / "process.py"
    script.write_text(f"print({printed!r})")
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process = {sys.executable} '{script}'\n")
    async with TokenManager(Profile("p")) as tokens:
        found = await tokens.get()
    assert (found.access_key_id, found.session_token) == ("PROC-id", "s")
    assert found.expires_at == pytest.approx(time.time() + 3600.0, abs=10.0)


async def test_profile_that_assumes_a_role(tmp_path):
    """A role is assumed with its source_profile, and with a web identity where the profile has one."""
    (tmp_path / "token").write_text("web-identity")
    (tmp_path / "credentials").write_text("[base]\naws_access_key_id=AKBASE\naws_secret_access_key=planted\n")
    (tmp_path / "config").write_text(
        f"[profile chained]\nrole_arn={ARN}\nsource_profile=middle\nexternal_id=x-1\nduration_seconds=900\n"
        f"[profile middle]\nrole_arn={ARN}2\nsource_profile=base\nrole_session_name=middle\n"
        f"[profile web]\nrole_arn={ARN}\nweb_identity_token_file={tmp_path / 'token'}\nregion=eu-west-1\n"
    )

    async def service(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return sts(dict(asked.form)["Action"], name=dict(asked.form).get("RoleSessionName", ""))

    async with Wire(service) as wire:
        chained = await Profile("chained", sts_endpoint=wire.url("/")).fetch(a_request())
        web = await Profile("web", sts_endpoint=wire.url("/")).fetch(a_request())
    first, second, third = wire.asked
    assert dict(first.form)["RoleArn"] == f"{ARN}2"
    assert "Credential=AKBASE/" in first.headers["authorization"]
    assert dict(second.form) | {"ExternalId": "x-1", "DurationSeconds": "900", "RoleArn": ARN} == dict(second.form)
    assert "Credential=middle-id/" in second.headers["authorization"]
    assert second.headers["x-amz-security-token"] == "middle-planted-session"
    assert dict(third.form)["WebIdentityToken"] == "web-identity"
    assert "authorization" not in third.headers
    assert (chained.access_key_id, web.access_key_id) == ("evertoken-id", "evertoken-id")


async def test_profile_whose_role_has_a_source_of_its_own(monkeypatch, tmp_path):
    """A credential_source is asked where the environment says it is; its region goes before the profile's."""
    (tmp_path / "config").write_text(
        "".join(
            f"[profile 'my {name}']\nrole_arn={ARN}\ncredential_source={name}\n"
            for name in ("Environment", "Ec2InstanceMetadata", "EcsContainer")
        )
        + f"[profile 'my region']\nrole_arn={ARN}\ncredential_source=Environment\nregion=eu-west-3\n"
    )
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    async with Wire(Metadata()) as imds, Wire(always(http(200, keys("POD")))) as agent, Wire(always(sts())) as service:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url(""))
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url("/c"))
        for name in ("Environment", "Ec2InstanceMetadata", "EcsContainer", "region"):
            await Profile(f"my {name}", sts_endpoint=service.url("/")).fetch(a_request())
    scopes = [asked.headers["authorization"].partition("Credential=")[2].partition(",")[0] for asked in service.asked]
    assert [scope.split("/")[0] for scope in scopes] == ["AKENV", "IMDS-id", "POD-id", "AKENV"]
    assert [scope.split("/")[2] for scope in scopes] == ["eu-west-2"] * 4


def test_sts_of_each_region(monkeypatch):
    """For each region, in every partition, the endpoint is the one that botocore asks."""
    botocore_session = needed("botocore.session")
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "regional")
    session = botocore_session.Session()
    session.set_credentials("AKID", "secret")
    seen = 0
    for partition in session.get_available_partitions():
        for region in session.get_available_regions("sts", partition_name=partition)[:3]:
            theirs = session.create_client("sts", region_name=region).meta.endpoint_url
            assert AssumeRoleWithWebIdentity("t", ARN, region=region).provider == theirs
            seen += 1
    assert seen > 8


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        (None, TransientRefreshError, "cannot be read: no file of"),
        ("[profile other]\nregion=x\n", GrantRejected, "it is in neither of"),
        ("[profile 'p]\nregion=x\n", GrantRejected, "it is in neither of"),
        ("[profile p]\nregion=x\n", GrantRejected, "no keys, role_arn or credential_process"),
        ("[profile p]\nsso_session=corp\n", GrantRejected, "export-credentials"),
        (f"[profile p]\nrole_arn={ARN}\n", GrantRejected, "no source_profile"),
        (f"[profile p]\nrole_arn={ARN}\nsource_profile=q\n[profile q]\nrole_arn={ARN}\nsource_profile=p\n",
         GrantRejected, "leads back: p -> q -> p"),
        (f"[profile p]\nrole_arn={ARN}\nmfa_serial=arn:aws:iam::1:mfa/a\n", GrantRejected, "an MFA device"),
        ("[profile p]\nrole_arn=reader\n", GrantRejected, "role_arn must be"),
        (f"[profile p]\nrole_arn={ARN}\nduration_seconds=1h\n", GrantRejected, "invalid literal"),
        (f"[profile p]\nrole_arn={ARN}\nregion=evil.example.com/\n", GrantRejected, "region must be"),
        (f"[profile p]\nrole_arn={ARN}\ncredential_source=Environment\n", GrantRejected, "AWS_ACCESS_KEY_ID"),
        ("[profile p\nregion=x\n", TransientRefreshError, "config cannot be read: line 1 is before"),
        ("[profile p]\ncredential_process = /nowhere\n", TransientRefreshError, "cannot be run"),
        (f"[profile p]\ncredential_process = {sys.executable} -c 'print(7)'\n", TransientRefreshError, "print a JSON"),
    ],
)  # fmt: skip
async def test_profile_that_gives_none(tmp_path, config, error, says):
    """F4: a useless profile is a rejection, and the message says which mistake stands where."""
    if config is not None:
        (tmp_path / "config").write_text(config)
    with pytest.raises(error, match=says):
        await Profile("p").fetch(a_request())


def failed(code: str, status: int = 400) -> bytes:
    text = (
        "<ErrorResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><Error><Type>Sender</Type>"
        f"<Code>{code}</Code><Message>words of STS</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
    return http(status, text.encode(), {"Content-Type": "text/xml"})


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (failed("AccessDenied", 403), GrantRejected, "access_denied: words of STS"),
        (failed("InvalidClientTokenId", 403), GrantRejected, "invalid_client"),
        (failed("InvalidIdentityToken"), TransientRefreshError, "InvalidIdentityToken: words of STS"),
        (failed("ValidationError"), GrantRejected, "invalid_request"),
        (failed("ExpiredTokenException"), TransientRefreshError, "ExpiredTokenException"),
        (failed("Throttling"), TransientRefreshError, "Throttling"),
        (failed("AccessDenied", 503), TransientRefreshError, "503"),
        (http(200, b"<a><b>no keys</b></a>"), TransientRefreshError, "holds no credentials"),
        (http(200, b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), TransientRefreshError, "document type"),
        (http(200, b"not XML"), TransientRefreshError, "200"),
    ],
)
async def test_sts_that_refuses(answer, error, says):
    """F4: the codes of STS are rejections or pass, and its words are told."""
    async with Wire(always(answer)) as wire:
        with pytest.raises(error, match=says):
            await AssumeRoleWithWebIdentity(lambda: "planted", ARN, endpoint=wire.url("/")).fetch(a_request())


async def test_role_of_another_key():
    """A role may be assumed with another key of the same manager: its parent is made valid first."""
    async with Wire(Metadata()) as imds, Wire(always(sts())) as service:
        tokens: TokenManager[AwsCredentials, str] = TokenManager(
            source_for=lambda key: (
                InstanceRole(endpoint=imds.url(""))
                if key == "base"
                else AssumeRole(tokens.handle("base"), ARN, region="eu-west-1", endpoint=service.url("/"))
            )
        )
        async with tokens:
            assert (await tokens.get("child")).access_key_id == "STS-id"
            assert (await tokens.get("base")).access_key_id == "IMDS-id"
    assert "Credential=IMDS-id/" in service.asked[0].headers["authorization"]
    assert "/eu-west-1/sts/aws4_request" in service.asked[0].headers["authorization"]


async def test_parent_that_gives_no_keys():
    """A parent that gives bearer tokens is named as the mistake that it is."""

    class Bearer:
        async def fetch(self, request: Any) -> Any:
            return Token("a", issued_at=0.0)

    with pytest.raises(TypeError, match="gives Token"):
        await AssumeRole(Bearer(), ARN).fetch(a_request())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AssumeRole(AwsCredentials.of("a", "b"), "reader"), "role_arn must be"),
        (lambda: AssumeRole(AwsCredentials.of("a", "b"), ARN, session_name="a b"), "session_name must be"),
        (lambda: AssumeRole(AwsCredentials.of("a", "b"), ARN, duration=60), "duration must be"),
        (lambda: AssumeRoleWithWebIdentity("t", ARN, region="a.example.com/"), "region must be"),
        (lambda: AssumeRole("AKID", ARN), "credentials must be"),  # type: ignore[arg-type]
        (lambda: AssumeRoleWithWebIdentity("", ARN), "token must be"),
        (lambda: InstanceRole(endpoint="nowhere"), "endpoint must be"),
    ],
)
def test_bad_arguments(make, says):
    """Bad input: a mistake is told at construction, by the parameter's name."""
    with pytest.raises((ValueError, TypeError), match=says):
        make()


async def test_environment_in_order(monkeypatch, tmp_path):
    """
    The choice of AWS tools: keys before web identity, profile, container and instance. The first that works is taken.
    """
    async with Wire(Metadata()) as imds, Wire(always(http(200, keys("POD")))) as agent, Wire(always(sts())) as service:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url(""))

        async def found() -> str:
            async with TokenManager(from_environment(sts_endpoint=service.url("/"))) as tokens:
                return (await tokens.get()).access_key_id

        assert await found() == "IMDS-id"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url("/c"))
        assert await found() == "POD-id"
        (tmp_path / "credentials").write_text("[default]\naws_access_key_id=AKFILE\naws_secret_access_key=planted\n")
        assert await found() == "AKFILE"
        (tmp_path / "web").write_text("web-identity")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "web"))
        monkeypatch.setenv("AWS_ROLE_ARN", ARN)
        assert await found() == "STS-id"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
        assert await found() == "AKENV"


async def test_environment_that_offers_nothing(monkeypatch):
    """If nothing is configured, the message lists the places that were checked."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with TokenManager(from_environment()) as tokens:
        with pytest.raises(GrantRejected) as caught:
            await tokens.get()
    said = str(caught.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "no profile 'default'", "RELATIVE_URI", "is true"):
        assert name in said
    assert aws.__all__

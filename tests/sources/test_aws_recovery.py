"""AWS sources that recover: STS errors that pass, parents whose keys were rewritten, metadata services in trouble."""

from __future__ import annotations

import asyncio
import pickle
import re
import time
from dataclasses import dataclass
from typing import Any

import pytest
from tests.sources.aws_machine import ARN, Ahead, nowhere  # noqa: F401 - a fixture
from tests.sources.wire import Asked, Wire, a_request, always, http
from tests.test_secrets import rendered

from evertoken import FetchRequest, GrantRejected, TokenManager, TransientRefreshError
from evertoken.clients.httpx import SigV4Auth
from evertoken.sources.aws import (
    AssumeRole,
    AssumeRoleWithWebIdentity,
    AwsCredentials,
    ContainerRole,
    InstanceRole,
    Profile,
    from_environment,
)
from evertoken.sources.aws.instance_role import OUTAGE


def iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def failed(code: str, message: str, status: int) -> bytes:
    text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return http(status, text.encode(), {"Content-Type": "text/xml"})


def assumed(name: str) -> bytes:
    leaves = {"AccessKeyId": name, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": iso(3600.0)}
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in leaves.items())
    return http(200, f"<R>{inner}</R>".encode(), {"Content-Type": "text/xml"})


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        (400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider", None),
        (400, "InvalidIdentityToken", "The web identity token could not be validated", None),
        (400, "InvalidIdentityToken", "Token must not be used before its nbf; it is not yet valid", None),
        (400, "InvalidIdentityToken", "Incorrect token audience", "invalid_grant"),
        (400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://x", "invalid_grant"),
        (400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT", "invalid_grant"),
        (400, "IDPCommunicationError", "could not reach", None),
        (403, "IDPRejectedClaim", "The token has expired", None),
        (403, "IDPRejectedClaim", "The claim was rejected", "invalid_grant"),
        (400, "ExpiredTokenException", "Token expired", None),
        (403, "SignatureDoesNotMatch", "Signature expired: 20261125T120000Z is now earlier than 20261125T1230Z", None),
        (
            403,
            "SignatureDoesNotMatch",
            "Signature not yet current: 20261125T123000Z is still later than 20261125T1200Z",
            None,
        ),
        (403, "SignatureDoesNotMatch", "The request signature we calculated does not match", "invalid_client"),
        (403, "RequestTimeTooSkewed", "The difference is too large", None),
        (403, "RequestExpired", "Request has expired", None),
        (400, "Throttling", "Rate exceeded", None),
        (400, "ThrottlingException", "Rate exceeded", None),
        (500, "InternalFailure", "oops", None),
        (403, "AccessDenied", "User: arn:aws:sts::1:assumed-role/clock-skew/x is not authorized", "access_denied"),
        (403, "InvalidClientTokenId", "The security token included in the request is invalid", "invalid_client"),
        (400, "ValidationError", "1 validation error", "invalid_request"),
    ],
)
@pytest.mark.parametrize("how", ["role", "web identity"])
async def test_sts_errors(how, status, code, message, error):
    """K6: what passes by itself is tried again; what the service said is told, also then."""
    async with Wire(always(failed(code, message, status))) as wire:
        source: Any = {
            "role": lambda: AssumeRole(AwsCredentials.of("AKID", "planted-key"), ARN, endpoint=wire.url("/")),
            "web identity": lambda: AssumeRoleWithWebIdentity("ey.J.x", ARN, endpoint=wire.url("/")),
        }[how]()
        with pytest.raises(TransientRefreshError if error is None else GrantRejected) as caught:
            await source.fetch(a_request())
    # Instants without separators look like secrets, and are not repeated.
    assert message.partition(": 2026")[0] in str(caught.value)
    assert (code in str(caught.value)) == (error is None)
    assert error is None or isinstance(caught.value, GrantRejected)
    if isinstance(caught.value, GrantRejected):
        assert caught.value.error == error


@pytest.mark.parametrize(
    ("status", "code", "asked"),
    [
        (403, "ExpiredToken", ["OLD", "NEW"]),
        (400, "ExpiredTokenException", ["OLD", "NEW"]),
        (403, "InvalidClientTokenId", ["OLD", "NEW"]),
        (403, "UnrecognizedClientException", ["OLD", "NEW"]),
        (403, "SignatureDoesNotMatch", ["OLD", "NEW"]),
        (403, "AccessDenied", ["OLD"]),
        (400, "Throttling", ["OLD"]),
        (503, "ServiceUnavailable", ["OLD"]),
    ],
)
@pytest.mark.parametrize("rewritten", [True, False])
async def test_parent_that_was_rewritten(rewritten, status, code, asked, tmp_path):
    """K10: keys that the service blames are reported to the parent once, and the role asked for with the next ones."""
    seen: list[str] = []

    async def sts(request: Asked, writer: asyncio.StreamWriter) -> bytes:
        found = re.search("Credential=([^/]+)/", request.headers["authorization"])
        assert found
        seen.append(found[1])
        return failed(code, "why", status) if found[1] == "OLD" else assumed("ROLE")

    def write(name: str) -> None:
        text = f"[default]\naws_access_key_id={name}\naws_secret_access_key=s-{name}\naws_session_token=t-{name}\n"
        (tmp_path / "credentials").write_text(text)

    write("OLD")
    base = Profile(credentials_file=tmp_path / "credentials", config_file=tmp_path / "none")
    async with Wire(sts) as wire, TokenManager({"base": base}) as parents:
        await parents.get("base")
        if rewritten:
            write("NEW")
        role = AssumeRole(parents.handle("base"), ARN, endpoint=wire.url("/"))
        if rewritten and asked[-1] == "NEW":
            assert (await role.fetch(a_request())).access_key_id == "ROLE"
        else:
            with pytest.raises((GrantRejected, TransientRefreshError), match="why"):
                await role.fetch(a_request())
    # Keys that are still the same are no reason to ask again.
    assert seen == (asked if rewritten else ["OLD"])


@dataclass
class Metadata:
    """The metadata service: each answer is given until the test puts another in its place."""

    token: bytes | None = None
    role: bytes | None = None
    keys: bytes | None = None
    silent: bool = False
    asked: int = 0

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if asked.target == "/latest/api/token":
            return self.token or http(200, b"session")
        if asked.target.endswith("/security-credentials/"):
            return self.role or http(200, b"node")
        return self.keys or node(3600.0)


def node(lives: float, **more: Any) -> bytes:
    said = {"Code": "Success", "AccessKeyId": "NODE", "SecretAccessKey": "planted-key", "Token": "planted-token"}
    return http(200, {**said, "Expiration": iso(lives), **more})


TROUBLE: dict[str, dict[str, Any]] = {
    "no session, 500": {"token": http(500)},
    "no session, 401": {"token": http(401)},
    "no list, 500": {"role": http(500)},
    "no keys, 503": {"keys": http(503)},
    "no keys in the answer": {"keys": http(200, {"Code": "Failed"})},
    "no JSON": {"keys": http(200, b"<html>")},
    "silent": {"silent": True},
}


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize(
    ("later", "put_off"), [(0.0, False), (3500.0, False), (3550.0, True), (3700.0, True), (90_000.0, True)]
)
async def test_last_credentials_of_an_instance(trouble, later, put_off):
    """Static stability: where the service fails and the last credentials end, they are used for ten minutes more."""
    service, clock = Metadata(), Ahead()
    async with Wire(service) as wire:
        source = InstanceRole(endpoint=wire.url(""))
        source._clock = clock
        first = await source.fetch(a_request())
        vars(service).update(TROUBLE[trouble])
        clock.seconds = later
        request = FetchRequest(None, None, 0.5)
        if not put_off:
            with pytest.raises(TransientRefreshError):
                await source.fetch(request)
            return
        found = await source.fetch(request)
        assert found.secret_access_key == first.secret_access_key
        assert found.expires_at == pytest.approx(clock.time() + OUTAGE, abs=2.0)
        assert found.issued_at == pytest.approx(clock.time(), abs=2.0)
        vars(service).update(vars(Metadata()), keys=node(later + 7200.0, AccessKeyId="NEXT"))
        assert (await source.fetch(a_request())).access_key_id == "NEXT"


@pytest.mark.parametrize("lives", [-1.0, -3600.0, -90_000.0])
async def test_expired_credentials_of_an_instance(lives):
    """Static stability: credentials that the service gives past their end are used, at first and later."""
    async with Wire(Metadata(keys=node(lives))) as wire:
        source = InstanceRole(endpoint=wire.url(""))
        for _ in range(2):
            found = await source.fetch(a_request())
            assert found.expires_at == pytest.approx(time.time() + OUTAGE, abs=5.0)
    async with Wire(always(node(lives))) as wire:
        with pytest.raises(TransientRefreshError, match="already expired"):
            await ContainerRole(wire.url("/c")).fetch(a_request())


@pytest.mark.parametrize("how", ["environment", "profile"])
async def test_the_instance_is_remembered(how, monkeypatch, tmp_path):
    """Static stability: the environment and a profile put off the credentials of the instance as well."""
    service = Metadata(keys=node(30.0))
    signing: list[str] = []

    async def sts(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        signing.append(asked.headers["x-amz-security-token"])
        return assumed("ROLE")

    async with Wire(service) as imds, Wire(sts) as wire:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url(""))
        (tmp_path / "config").write_text(f"[profile p]\nrole_arn={ARN}\ncredential_source=Ec2InstanceMetadata\n")
        source: Any = from_environment()
        if how == "profile":
            source = Profile("p", config_file=tmp_path / "config", sts_endpoint=wire.url("/"))
        first = await source.fetch(a_request())
        service.token = http(500)
        again = await source.fetch(a_request())
    assert again.access_key_id == first.access_key_id == ("NODE" if how == "environment" else "ROLE")
    assert signing == ([] if how == "environment" else ["planted-token"] * 2)


async def test_a_role_that_was_taken_away():
    """K9: once it has worked, an instance without a role needs a person, and the last credentials are not put off."""
    service, clock = Metadata(), Ahead()
    async with Wire(service) as wire:
        source = InstanceRole(endpoint=wire.url(""))
        source._clock = clock
        await source.fetch(a_request())
        service.role = http(404)
        clock.seconds = 3700.0
        with pytest.raises(GrantRejected, match="answered 404"):
            await source.fetch(a_request())


@pytest.mark.parametrize("late", ["token", "role", "keys"])
async def test_an_instance_that_is_not_ready(late, monkeypatch):
    """K9: a service that has no role in its first seconds is asked again soon, alone and in from_environment()."""
    answer = http(403 if late == "token" else 404)
    for make in (lambda url: InstanceRole(endpoint=url), lambda _: from_environment()):
        service = Metadata()
        setattr(service, late, answer)
        async with Wire(service) as wire:
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", wire.url(""))
            source: Any = make(wire.url(""))
            with pytest.raises(TransientRefreshError, match="the instance may not have its role yet"):
                await source.fetch(a_request())
            setattr(service, late, None)
            assert (await source.fetch(a_request())).access_key_id == "NODE"


@pytest.mark.parametrize(("said", "bound"), [(None, 2.0), ("0.05", 0.05), ("30", 0.2)])
async def test_a_silent_metadata_service(said, bound, monkeypatch):
    """K1: if nothing answers at its address, the error soon lists the checked places."""
    if said is not None:
        monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", said)
    async with Wire(Metadata(silent=True)) as wire:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", wire.url(""))
        with pytest.raises(TransientRefreshError, match=rf"AWS_ACCESS_KEY_ID.* does not answer within {bound:g} s"):
            await from_environment().fetch(FetchRequest(None, None, 0.2 if said == "30" else 5.0))


@pytest.mark.parametrize("said", ["soon", "0", "-1"])
async def test_a_bad_metadata_timeout(said, monkeypatch):
    """Bad input: the variable is named."""
    monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", said)
    with pytest.raises(GrantRejected, match="AWS_METADATA_SERVICE_TIMEOUT must be seconds above zero"):
        await from_environment().fetch(a_request())


async def test_the_last_one_is_not_remembered(monkeypatch, tmp_path):
    """K1: the configured source is asked at each fetch, even if another one worked before."""
    answers = [http(503), assumed("POD"), http(503)]

    async def sts(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return answers.pop(0)

    async with Wire(sts) as service, Wire(Metadata()) as imds:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url(""))
        source = from_environment(sts_endpoint=service.url("/"))
        assert (await source.fetch(a_request())).access_key_id == "NODE"
        (tmp_path / "jwt").write_text("jwt")
        monkeypatch.setenv("AWS_ROLE_ARN", ARN)
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "jwt"))
        with pytest.raises(TransientRefreshError, match="503"):
            await source.fetch(a_request())
        assert (await source.fetch(a_request())).access_key_id == "POD"
        with pytest.raises(TransientRefreshError, match="503"):
            await source.fetch(a_request())


SECRET = "planted-secret"


@pytest.mark.parametrize("status", [200, 400, 403, 404, 500])
async def test_direct_calls_show_no_secret(status, monkeypatch, tmp_path):
    """S1: no frame that the error of a direct call can reach has a secret in its locals."""
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id=AKID\naws_secret_access_key={SECRET}\n"
        f"[half]\naws_secret_access_key={SECRET}\n"
        f"[role]\nrole_arn={ARN}\nsource_profile=default\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", SECRET)

    async def service(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/latest/api/token":
            return http(200, SECRET.encode())
        if asked.method == "POST":
            return failed("AccessDenied", SECRET, status)
        return http(status, {"AccessKeyId": "A", "SecretAccessKey": SECRET, "Token": SECRET, "Expiration": "never"})

    async with Wire(service) as wire:
        sources: list[Any] = [
            AssumeRole(AwsCredentials.of("AKID", SECRET, SECRET), ARN, endpoint=wire.url("/")),
            AssumeRoleWithWebIdentity(tmp_path / "token", ARN, endpoint=wire.url("/")),
            ContainerRole(wire.url("/c"), authorization=SECRET),
            InstanceRole(endpoint=wire.url("")),
            Profile("half"),
            Profile("role", sts_endpoint=wire.url("/")),
        ]
        for source in sources:
            with pytest.raises((GrantRejected, TransientRefreshError)) as caught:
                await source.fetch(a_request())
            assert SECRET not in rendered(caught.value), source
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        with pytest.raises(GrantRejected) as caught:
            await from_environment().fetch(a_request())
        assert SECRET not in rendered(caught.value)


@pytest.mark.parametrize("variable", ["AWS_CREDENTIAL_FILE", "BOTO_CONFIG"])
async def test_files_of_older_tools(variable, monkeypatch):
    """K1: an identity in a file that is not read is an error, and no other identity is served."""
    async with Wire(Metadata()) as imds:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url(""))
        monkeypatch.setenv(variable, "/nowhere")
        with pytest.raises(GrantRejected, match=f"{variable} names a file that is not read: put its keys into a"):
            await from_environment().fetch(a_request())
    assert imds.asked == []


@pytest.mark.parametrize("make", [from_environment, Profile, InstanceRole])
def test_the_environment_is_not_pickled(make):
    """S1: what reads the environment, or remembers credentials, is not pickled with them."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(make())


@pytest.mark.parametrize("region", ["*", "us-*", "us-east-1,us-west-2"])
def test_sets_of_regions(region):
    """SigV4a is not built, and the error says what to use."""
    with pytest.raises(ValueError, match="SigV4a is not built; use the endpoint of one region"):
        SigV4Auth(TokenManager(InstanceRole()).handle(), service="s3", region=region)

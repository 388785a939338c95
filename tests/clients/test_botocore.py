"""Sessions of botocore and aiobotocore, with boto3 and their own clients, against services that look at the key."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
import weakref
from typing import Any, ClassVar

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config
from tests.clients.sdk_contract import SdkContract, Service
from tests.gated import until
from tests.sources.wire import Asked, Wire, http

from evertoken import TokenManager
from evertoken.clients import aiobotocore, botocore as adapter
from evertoken.sources.aws import AwsCredentials

IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::1:user/u</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"""
REFUSED = "<{0}><Error><Code>{1}</Code><Message>who?</Message></Error></{0}>"
AWS: dict[str, Any] = {"region_name": "eu-west-1"}
ONCE = Config(retries={"total_max_attempts": 1, "mode": "standard"}, s3={"payload_signing_enabled": False})

SESSIONS: weakref.WeakKeyDictionary[adapter.Session, boto3.Session] = weakref.WeakKeyDictionary()
MAKING = threading.Lock()


class Sts(Service):
    """An endpoint of STS that looks at the session token, and checks that key and token belong together."""

    url: str
    status = 403
    code = "ExpiredToken"
    served = IDENTITY

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        self.bodies.append(asked.body)
        token = asked.headers["x-amz-security-token"]
        assert f"Credential={key_id(token)}/" in asked.headers["authorization"]
        if self.accepts(token):
            return http(200, self.served, {"Content-Type": "text/xml"})
        return http(self.status, REFUSED.format("ErrorResponse", self.code).encode(), {"Content-Type": "text/xml"})


def key_id(token: str) -> str:
    # It is no secret, and is in the logs of botocore.
    return f"AKIA{token.rpartition('-')[2]}"


def key(token: str) -> AwsCredentials:
    return AwsCredentials.of(key_id(token), f"key of {token}", token, expires_at=4e9)


class _Aws(SdkContract):
    library_frames = "The requests of botocore show the session token in their `repr`, without the key that it needs"

    @contextlib.asynccontextmanager
    async def server(self):
        sts = Sts()
        async with Wire(sts.answer) as wire:
            sts.url = wire.url("")
            yield sts

    def token(self, number):
        return key(f"secret-{number}")


class TestBoto3(_Aws):
    name = "boto3.Session"
    extra = "aws"
    library: ClassVar[str | None] = "boto3"
    lines = 'boto3.Session(botocore_session=Session(tokens.handle()), region_name="eu-west-1")'
    without = 8
    blocking = True

    def given(self, handle):
        return adapter.Session(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        # boto3 wants one of its sessions for one of botocore, and makes one client at a time.
        with MAKING:
            if given not in SESSIONS:
                SESSIONS[given] = boto3.Session(botocore_session=given, **AWS)
            client = SESSIONS[given].client("sts", endpoint_url=server.url, config=ONCE)
        try:
            yield client.get_caller_identity
        finally:
            client.close()


class TestAiobotocore(_Aws):
    name = "aiobotocore.session.AioSession"
    extra = "aiobotocore"
    lines = 'Session(tokens.handle()).create_client("s3")'
    without = 6

    def given(self, handle):
        return aiobotocore.Session(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async with given.create_client("sts", endpoint_url=server.url, config=ONCE, **AWS) as client:
            yield client.get_caller_identity


class Bucket(Sts):
    """A bucket of S3, whose errors are spelled otherwise."""

    status = 400
    served = b""


class Unseekable(io.RawIOBase):
    """A body that can be read once."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found, self.content = self.content, b""
        return found


@contextlib.asynccontextmanager
async def calling(service: str, api: Sts, config: Config = ONCE):
    """Give the manager and its source's fetches, and a client of botocore."""
    fetches: list[str] = []

    async def fetch() -> AwsCredentials:
        fetches.append(f"secret-{len(fetches) + 1}")
        await api.issue(fetches[-1])
        return key(fetches[-1])

    async with Wire(api.answer) as wire, TokenManager(fetch) as tokens:
        await tokens.get()
        session = adapter.Session(tokens.handle())
        client = session.create_client(service, endpoint_url=wire.url(""), config=config, **AWS)
        try:
            yield fetches, client
        finally:
            client.close()


@pytest.mark.parametrize(
    ("code", "heals"),
    [
        ("InvalidClientTokenId", True),
        ("UnrecognizedClientException", True),
        ("ExpiredTokenException", True),
        ("AccessDenied", False),
        ("SignatureDoesNotMatch", False),
    ],
)
async def test_codes(code, heals):
    """
    U1: An error that blames the key is healed. An error that blames the rights or the signature goes to the caller.
    """
    api = Sts()
    api.code = code
    async with calling("sts", api) as (fetches, client):
        await api.revoke("secret-1")
        if heals:
            await asyncio.to_thread(client.get_caller_identity)
        else:
            with pytest.raises(botocore.exceptions.ClientError, match=code):
                await asyncio.to_thread(client.get_caller_identity)
        assert len(fetches) == 1 + heals


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
async def test_retries_of_botocore(mode):
    """U1: A refusal is healed beside each of botocore's own ways to retry, and a lasting one costs one fetch."""
    api = Sts()
    config = Config(retries={"mode": mode, "total_max_attempts": 3})
    async with calling("sts", api, config) as (fetches, client):
        await api.revoke("secret-1")
        await asyncio.to_thread(client.get_caller_identity)
        api.accepts = lambda token: False
        for _ in range(3):
            with pytest.raises(botocore.exceptions.ClientError, match="ExpiredToken"):
                await asyncio.to_thread(client.get_caller_identity)
        assert len(fetches) == 2


@pytest.mark.parametrize("kind", ["bytes", "file"])
async def test_bodies(kind):
    """U3: Bytes and files are sent again whole."""
    api = Bucket()
    async with calling("s3", api) as (_, client):
        await api.revoke("secret-1")
        body = b"x" * 3000
        given = body if kind == "bytes" else io.BytesIO(body)
        await asyncio.to_thread(client.put_object, Bucket="b", Key="k", Body=given, ContentLength=3000)
    assert [one.count(b"x") for one in api.bodies] == [3000, 3000]


async def test_used_up_bodies():
    """U3: A body that can be read only once is not sent again. The key is reported, and the caller gets the refusal."""
    api = Bucket()
    own = Config(request_checksum_calculation="when_required", s3={"payload_signing_enabled": False}).merge(ONCE)
    async with calling("s3", api, own) as (fetches, client):
        await api.revoke("secret-1")
        body = Unseekable(b"onetwo")
        with pytest.raises(botocore.exceptions.ClientError, match="ExpiredToken"):
            await asyncio.to_thread(client.put_object, Bucket="b", Key="k", Body=body, ContentLength=6)
        await until(lambda: len(fetches) == 2)
    assert api.bodies == [b"onetwo"]


async def test_head():
    """U1: The answer to a HEAD has no code, so that nobody can tell why it was refused: it is the caller's."""
    api = Bucket()
    async with calling("s3", api) as (fetches, client):
        await api.revoke("secret-1")
        with pytest.raises(botocore.exceptions.ClientError, match="400"):
            await asyncio.to_thread(client.head_object, Bucket="b", Key="k")
        assert len(fetches) == 1


async def test_credentials_alone():
    """U1: The credentials by themselves read the handle each time, and belong together."""
    async with TokenManager(lambda: key("secret-1")) as tokens:
        credentials = adapter.Credentials(tokens.handle())
        await tokens.get()
        assert (credentials.access_key, credentials.secret_key, credentials.token) == (
            "AKIA1", "key of secret-1", "secret-1"
        )  # fmt: skip
        await tokens.put(key("secret-2"))
        frozen = credentials.get_frozen_credentials()
        assert (frozen.access_key, frozen.secret_key, frozen.token) == ("AKIA2", "key of secret-2", "secret-2")
        assert "secret-2" not in repr(frozen)


async def test_other_tokens():
    """A manager of other tokens is told that it gives no keys."""
    async with TokenManager(lambda: ("secret-1", 60.0)) as tokens:
        await tokens.get()
        with pytest.raises(TypeError, match="AwsCredentials, and the manager gives Token"):
            adapter.Credentials(tokens.handle()).get_frozen_credentials()


async def test_nothing_of_the_profile(monkeypatch, tmp_path):
    """K5: Region and the like come from the profile; a key that lies there is not used."""
    (tmp_path / "config").write_text("[profile p]\nregion = eu-north-1\naws_access_key_id = AKIAX\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    async with TokenManager(lambda: key("secret-1")) as tokens:
        await tokens.get()
        session = adapter.Session(tokens.handle(), profile="p")
        assert session.get_config_variable("region") == "eu-north-1"
        assert session.get_credentials().access_key == "AKIA1"
        assert aiobotocore.Session(tokens.handle(), profile="p").get_config_variable("region") == "eu-north-1"

"""botocore and aiobotocore, whose requests are answered before they are sent."""

from __future__ import annotations

import contextlib
from typing import Any

import botocore.session
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSResponse

from evertoken import TokenManager
from evertoken.clients import aiobotocore as aio_adapter, botocore as adapter
from evertoken.sources.aws import AwsCredentials

AT: dict[str, Any] = {"region_name": "eu-west-1", "endpoint_url": "https://sts.example.com"}
IDENTITY = b"<GetCallerIdentityResponse><GetCallerIdentityResult/></GetCallerIdentityResponse>"


class Body:
    def stream(self, *args: Any, **options: Any) -> Any:
        yield IDENTITY


class AioResponse(AWSResponse):  # type: ignore[misc]  # it ships no types
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._identity = IDENTITY

    @property
    async def content(self) -> bytes:
        return self._identity


def answered(client: Any, kind: type[AWSResponse]) -> Any:
    def answer(request: Any, **_: Any) -> AWSResponse:
        assert "Credential=AKIA/" in str(request.headers["Authorization"])
        return kind(request.url, 200, {"content-type": "text/xml"}, Body())

    client.meta.events.register("before-send.sts", answer)
    return client.get_caller_identity


def key() -> AwsCredentials:
    return AwsCredentials.of("AKIA", "key", "token", expires_at=4e9)


@contextlib.asynccontextmanager
async def pair(_tokens):
    async with TokenManager(key) as tokens:
        await tokens.get()
        static = botocore.session.Session()
        static.set_credentials("AKIA", "key", "token")
        ours = adapter.Session(tokens.handle())
        with contextlib.closing(static.create_client("sts", **AT)) as one:
            with contextlib.closing(ours.create_client("sts", **AT)) as other:
                yield answered(one, AWSResponse), answered(other, AWSResponse)


@contextlib.asynccontextmanager
async def aio_pair(_tokens):
    async with TokenManager(key) as tokens:
        await tokens.get()
        static = AioSession()
        static.set_credentials("AKIA", "key", "token")
        async with static.create_client("sts", **AT) as one:
            async with aio_adapter.Session(tokens.handle()).create_client("sts", **AT) as other:
                ask_one, ask_other = answered(one, AioResponse), answered(other, AioResponse)

                async def ask_static() -> None:
                    await ask_one()

                async def ask_ours() -> None:
                    await ask_other()

                yield ask_static, ask_ours


PAIRS = {"boto3.Session": pair, "aiobotocore.session.AioSession": aio_pair}

"""A key of AWS is deleted on a server that others wrote: boto3 and aiobotocore go on with the next one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

from evertoken import TokenManager
from evertoken.clients import aiobotocore, botocore as adapter
from evertoken.sources.aws import AwsCredentials

if TYPE_CHECKING:
    from tests.thirdparty.conftest import MotoServer

ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'


class Iam:
    """A user whose keys the server checks from now on, and whose older key can be deleted."""

    def __init__(self, url: str) -> None:
        self.at: dict[str, Any] = {"endpoint_url": url, "region_name": "us-east-1"}
        self.user = "reader"
        self.keys: list[dict[str, str]] = []
        anybody = boto3.Session("AKIA", "secret").client("iam", **self.at)
        # These calls, and no others, need no key that the server knows.
        httpx.post(f"{url}/moto-api/reset", trust_env=False)
        httpx.post(f"{url}/moto-api/reset-auth", content="4", trust_env=False)
        anybody.create_user(UserName=self.user)
        anybody.put_user_policy(UserName=self.user, PolicyName="all", PolicyDocument=ALL)
        for _ in range(2):
            self.keys.append(anybody.create_access_key(UserName=self.user)["AccessKey"])
        anybody.close()
        self.given = 0

    def fetch(self) -> AwsCredentials:
        """Give the next key."""
        found = self.keys[min(self.given, 1)]
        self.given += 1
        return AwsCredentials.of(found["AccessKeyId"], found["SecretAccessKey"], expires_at=4e9)

    def delete_first(self) -> None:
        first, second = self.keys
        session = boto3.Session(second["AccessKeyId"], second["SecretAccessKey"])
        with contextlib.closing(session.client("iam", **self.at)) as client:
            client.delete_access_key(UserName=self.user, AccessKeyId=first["AccessKeyId"])


@pytest.mark.parametrize("library", ["boto3", "aiobotocore"])
async def test_deleted_key(moto_server: MotoServer, library: str):
    """U1: A key that was deleted is refused by the server, and the same call succeeds with the next one."""
    iam = await asyncio.to_thread(Iam, moto_server.url)
    async with TokenManager(iam.fetch) as tokens:
        if library == "boto3":
            made = boto3.Session(botocore_session=adapter.Session(tokens.handle()))
            with contextlib.closing(made.client("sts", **iam.at)) as client:
                assert (await asyncio.to_thread(client.get_caller_identity))["Arn"].endswith("user/reader")
                await asyncio.to_thread(iam.delete_first)
                assert (await asyncio.to_thread(client.get_caller_identity))["Arn"].endswith("user/reader")
        else:
            async with aiobotocore.Session(tokens.handle()).create_client("sts", **iam.at) as client:
                assert (await client.get_caller_identity())["Arn"].endswith("user/reader")
                await asyncio.to_thread(iam.delete_first)
                assert (await client.get_caller_identity())["Arn"].endswith("user/reader")
    assert iam.given == 2

"""Credentials of AWS before servers that others wrote, over a real socket."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest

from evertoken import TokenManager
from evertoken.clients.httpx import SigV4Auth
from evertoken.sources.aws import AssumeRole, AssumeRoleWithWebIdentity, AwsCredentials, InstanceRole, Profile

if TYPE_CHECKING:
    from tests.thirdparty.conftest import MotoServer

ARN = "arn:aws:iam::123456789012:role/reader"


async def who_is_it(tokens: TokenManager[Any, Any], server: MotoServer) -> str:
    """Ask the service, with a signed request, whose credentials they are."""
    auth = SigV4Auth(tokens.handle(), service="sts", region="us-east-1")
    form = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}
    async with httpx.AsyncClient(auth=auth) as client:
        answer = await client.post(f"{server.url}/", data=form)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_instance_role(moto_server: MotoServer):
    """The session, the role's name and its credentials are got from a metadata service in its three steps (IMDSv2)."""
    async with TokenManager(InstanceRole(endpoint=moto_server.url), start="require") as tokens:
        found = await tokens.get()
    assert (found.access_key_id, found.session_token) == ("test-key", "test-session-token")
    assert found.expires_at == pytest.approx(time.time() + 86_400.0, abs=60.0)


@pytest.mark.parametrize("how", ["keys", "source", "profile", "web identity"])
async def test_assumed_role(moto_server: MotoServer, how: str, tmp_path: Path):
    """
    A role is assumed by each way to it, lives as long as was asked, and signs what the service takes for its session.
    """
    there: dict[str, Any] = {"session_name": "job", "duration": 1200, "endpoint": f"{moto_server.url}/"}
    (tmp_path / "credentials").write_text("[base]\naws_access_key_id=AKID\naws_secret_access_key=secret\n")
    (tmp_path / "config").write_text(
        f"[profile p]\nrole_arn={ARN}\nsource_profile=base\nrole_session_name=job\nduration_seconds=1200\n"
    )
    source: Any = {
        "keys": lambda: AssumeRole(AwsCredentials.of("AKID", "secret"), ARN, **there),
        "source": lambda: AssumeRole(InstanceRole(endpoint=moto_server.url), ARN, **there),
        "profile": lambda: Profile(
            "p",
            credentials_file=tmp_path / "credentials",
            config_file=tmp_path / "config",
            sts_endpoint=f"{moto_server.url}/",
        ),
        "web identity": lambda: AssumeRoleWithWebIdentity(
            jwt.encode({"sub": "pod"}, "k" * 32, algorithm="HS256"), ARN, **there
        ),
    }[how]()
    async with TokenManager(source, start="require") as tokens:
        found = await tokens.get()
        assert found.access_key_id.startswith("ASIA")
        assert found.session_token
        assert found.expires_at == pytest.approx(time.time() + 1200.0, abs=30.0)
        assert ":assumed-role/reader/job" in await who_is_it(tokens, moto_server)

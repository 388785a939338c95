"""AWS environments as they are found in the wild: which identity each gives, side by side with botocore."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.lacking import needed
from tests.sources.wire import Asked, Wire, a_request, http

from evertoken import GrantRejected, TransientRefreshError
from evertoken.sources.aws import AwsCredentials, from_environment

botocore_session = needed("botocore.session")

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "aws.md"
ROLE = "arn:aws:iam::123456789012:role/"
FAR = "2030-01-01T00:00:00Z"


def keys(name: str) -> str:
    return f"aws_access_key_id = {name}\naws_secret_access_key = s\n"


def role(name: str, **more: str) -> str:
    return f"role_arn = {ROLE}{name}\n" + "".join(f"{key} = {value}\n" for key, value in more.items())


def printing(name: str, **more: Any) -> str:
    said = json.dumps({"Version": 1, "AccessKeyId": name, "SecretAccessKey": "s", **more})
    return f"credential_process = {sys.executable} -c \"print('{said.replace(chr(34), chr(92) + chr(34))}')\"\n"


async def machine(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
    """STS, the agents of containers and the metadata service of the instance, at one port."""
    target = asked.target
    if asked.method == "POST":
        name = dict(asked.form)["RoleArn"].rpartition("/")[2]
        dies = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600.0))
        if name == "DOWN":
            return http(503)
        if name in {"AccessDenied", "InvalidIdentityToken", "Throttling"}:
            text = f"<ErrorResponse><Error><Code>{name}</Code><Message>why</Message></Error></ErrorResponse>"
            return http(403 if name == "AccessDenied" else 400, text.encode(), {"Content-Type": "text/xml"})
        action = dict(asked.form)["Action"]
        inner = (
            f"<AccessKeyId>{name}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
            f"<Expiration>{dies}</Expiration>"
        )
        text = (
            f"<{action}Response><{action}Result><Credentials>{inner}</Credentials></{action}Result></{action}Response>"
        )
        return http(200, text.encode(), {"Content-Type": "text/xml"})
    found = {"Code": "Success", "SecretAccessKey": "s", "Token": "t", "Expiration": FAR}
    if target == "/agent":
        return http(200, {**found, "AccessKeyId": "POD"})
    if target.startswith("/agent-"):
        return http(int(target.removeprefix("/agent-")))
    if target == "/latest/api/token":
        return http(200, b"session")
    if target == "/latest/meta-data/iam/security-credentials/":
        return http(200, b"node")
    if target == "/latest/meta-data/iam/security-credentials/node":
        return http(200, {**found, "AccessKeyId": "NODE"})
    return http(404)


@dataclass
class Env:
    """The configuration, the result of the source, and the result of botocore where it differs."""

    gives: str
    variables: dict[str, str] = field(default_factory=dict)
    config: str = ""
    credentials: str = ""
    instance: str = "{url}"
    theirs: str | None = None
    #: The name of the difference in the documentation.
    differs: str = ""


WEB = {"AWS_WEB_IDENTITY_TOKEN_FILE": "{dir}/jwt", "AWS_ROLE_ARN": f"{ROLE}WEB"}
ENV_KEYS = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s"}
BASE = f"[base]\n{keys('BASE')}"

ENVIRONMENTS: dict[str, Env] = {
    # Keys.
    "keys": Env("ENV", ENV_KEYS),
    "keys, and all else": Env(
        "ENV",
        {**ENV_KEYS, **WEB, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent"},
        credentials=f"[default]\n{keys('FILE')}",
    ),
    "keys, no secret": Env("misconfigured", {"AWS_ACCESS_KEY_ID": "ENV"}),
    "keys, secret alone": Env(
        "misconfigured", {"AWS_SECRET_ACCESS_KEY": "s"}, theirs="NODE", differs="half a key pair"
    ),
    "keys, empty": Env("NODE", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}),
    "keys, blank": Env("NODE", {"AWS_ACCESS_KEY_ID": " ", "AWS_SECRET_ACCESS_KEY": " "}, theirs=" ", differs="blank"),
    "keys with a line break": Env(
        "ENV",
        {"AWS_ACCESS_KEY_ID": "ENV\n", "AWS_SECRET_ACCESS_KEY": "s\n"},
        theirs="ENV\n",
        differs="white space around keys",
    ),
    "keys that expire": Env("ENV", {**ENV_KEYS, "AWS_CREDENTIAL_EXPIRATION": FAR}),
    "keys that have expired": Env("failed", {**ENV_KEYS, "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"}),
    "keys that expire some day": Env("misconfigured", {**ENV_KEYS, "AWS_CREDENTIAL_EXPIRATION": "some day"}),
    "keys, and a profile that is not there": Env("misconfigured", {**ENV_KEYS, "AWS_PROFILE": "typo"}),
    # Web identity.
    "web identity": Env("WEB", WEB),
    "web identity, no role": Env("misconfigured", {"AWS_WEB_IDENTITY_TOKEN_FILE": "{dir}/jwt"}),
    "web identity, no token": Env("NODE", {"AWS_ROLE_ARN": f"{ROLE}WEB"}),
    "web identity, no file": Env("failed", {**WEB, "AWS_WEB_IDENTITY_TOKEN_FILE": "{dir}/missing"}),
    "web identity, an empty file": Env("failed", {**WEB, "AWS_WEB_IDENTITY_TOKEN_FILE": "{dir}/empty"}),
    "web identity, STS down": Env("failed", {**WEB, "AWS_ROLE_ARN": f"{ROLE}DOWN"}),
    "web identity, STS throttles": Env("failed", {**WEB, "AWS_ROLE_ARN": f"{ROLE}Throttling"}),
    "web identity, refused": Env("refused", {**WEB, "AWS_ROLE_ARN": f"{ROLE}AccessDenied"}),
    "web identity, invalid": Env("failed", {**WEB, "AWS_ROLE_ARN": f"{ROLE}InvalidIdentityToken"}),
    "web identity, and keys of the default profile": Env("WEB", WEB, credentials=f"[default]\n{keys('FILE')}"),
    "web identity, and a role of the default profile": Env(
        "PROFILE", WEB, config="[default]\n" + role("PROFILE", source_profile="base"), credentials=BASE
    ),
    "web identity, and a role of AWS_PROFILE": Env(
        "PROFILE",
        {**WEB, "AWS_PROFILE": "p"},
        config="[profile p]\n" + role("PROFILE", source_profile="base"),
        credentials=BASE,
    ),
    "web identity of the profile": Env(
        "PROFILE", {"AWS_PROFILE": "p"}, config="[profile p]\n" + role("PROFILE", web_identity_token_file="{dir}/jwt")
    ),
    "web identity of the profile, role of the environment": Env(
        "WEB",
        {"AWS_PROFILE": "p", "AWS_ROLE_ARN": f"{ROLE}WEB"},
        config="[profile p]\n" + role("PROFILE", web_identity_token_file="{dir}/jwt"),
    ),
    "web identity of the profile, no role": Env(
        "misconfigured", {"AWS_PROFILE": "p"}, config="[profile p]\nweb_identity_token_file = {dir}/jwt\n"
    ),
    "web identity in the home": Env(
        "PROFILE",
        {"AWS_PROFILE": "p"},
        config="[profile p]\n" + role("PROFILE", web_identity_token_file="~/jwt"),
        theirs="failed",
        differs="home of a token file",
    ),
    # Profiles.
    "profile": Env("FILE", {"AWS_PROFILE": "p"}, credentials=f"[p]\n{keys('FILE')}"),
    "profile of the config file": Env("FILE", {"AWS_PROFILE": "p"}, config=f"[profile p]\n{keys('FILE')}"),
    "profile of both files": Env(
        "FILE", {"AWS_PROFILE": "p"}, config=f"[profile p]\n{keys('CONFIG')}", credentials=f"[p]\n{keys('FILE')}"
    ),
    "AWS_DEFAULT_PROFILE": Env("FILE", {"AWS_DEFAULT_PROFILE": "p"}, credentials=f"[p]\n{keys('FILE')}"),
    "AWS_DEFAULT_PROFILE and AWS_PROFILE": Env(
        "P", {"AWS_DEFAULT_PROFILE": "p", "AWS_PROFILE": "q"}, credentials=f"[p]\n{keys('P')}[q]\n{keys('Q')}"
    ),
    "profile that is not there": Env("misconfigured", {"AWS_PROFILE": "typo"}, credentials=f"[p]\n{keys('FILE')}"),
    "profile, half a pair": Env("misconfigured", {"AWS_PROFILE": "p"}, credentials="[p]\naws_access_key_id = FILE\n"),
    "profile, secret alone": Env(
        "misconfigured",
        {"AWS_PROFILE": "p"},
        credentials="[p]\naws_secret_access_key = s\n",
        theirs="NODE",
        differs="half a key pair",
    ),
    "profile without credentials": Env("NODE", {"AWS_PROFILE": "p"}, config="[profile p]\nregion = eu-west-1\n"),
    "profile without credentials, and an agent": Env(
        "POD",
        {"AWS_PROFILE": "p", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent"},
        config="[profile p]\nregion = eu-west-1\n",
    ),
    "default profile": Env(
        "FILE",
        credentials=f"[default]\n{keys('FILE')}",
        variables={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent"},
    ),
    "a file that is no INI": Env("failed", {"AWS_PROFILE": "p"}, config="what is this\n"),
    "a file that is no INI, no profile named": Env("failed", config="[default\nregion = x\n"),
    "a comment behind a value": Env(
        "FILE",
        {"AWS_PROFILE": "p"},
        credentials="[p]\naws_access_key_id = FILE # mine\naws_secret_access_key = s\n",
        theirs="FILE # mine",
        differs="comments behind values",
    ),
    "a prefix before default": Env(
        "PREFIXED",
        config=f"[profile default]\n{keys('PREFIXED')}[default]\n{keys('PLAIN')}",
        theirs="PLAIN",
        differs="`[profile default]`",
    ),
    "a profile twice": Env(
        "SECOND",
        {"AWS_PROFILE": "p"},
        credentials=f"[p]\n{keys('FIRST')}[p]\n{keys('SECOND')}",
        theirs="failed",
        differs="duplicates",
    ),
    "a role": Env(
        "PROFILE",
        {"AWS_PROFILE": "p"},
        config="[profile p]\n" + role("PROFILE", source_profile="base"),
        credentials=BASE,
    ),
    "a role, refused": Env(
        "refused",
        {"AWS_PROFILE": "p"},
        config="[profile p]\n" + role("AccessDenied", source_profile="base"),
        credentials=BASE,
    ),
    "a role, STS down": Env(
        "failed", {"AWS_PROFILE": "p"}, config="[profile p]\n" + role("DOWN", source_profile="base"), credentials=BASE
    ),
    "a role without source": Env("misconfigured", {"AWS_PROFILE": "p"}, config="[profile p]\n" + role("PROFILE")),
    "a role with two sources": Env(
        "misconfigured",
        {"AWS_PROFILE": "p"},
        config="[profile p]\n" + role("PROFILE", source_profile="base", credential_source="Environment"),
        credentials=BASE,
    ),
    "a role with a source that is not there": Env(
        "misconfigured", {"AWS_PROFILE": "p"}, config="[profile p]\n" + role("PROFILE", source_profile="typo")
    ),
    "a role with an empty source": Env(
        "misconfigured",
        {"AWS_PROFILE": "p"},
        config="[profile p]\n" + role("PROFILE", source_profile="q") + "[profile q]\nregion = eu-west-1\n",
    ),
    "a role that leads back": Env(
        "misconfigured",
        {"AWS_PROFILE": "p"},
        config="[profile p]\n" + role("P", source_profile="q") + "[profile q]\n" + role("Q", source_profile="p"),
    ),
    "a role of its own keys": Env(
        "PROFILE", {"AWS_PROFILE": "p"}, config="[profile p]\n" + role("PROFILE", source_profile="p") + keys("OWN")
    ),
    "a role of no keys of the environment": Env(
        "misconfigured", {"AWS_PROFILE": "p"}, config="[profile p]\n" + role("PROFILE", credential_source="Environment")
    ),
    "a role of the agent": Env(
        "PROFILE",
        {"AWS_PROFILE": "p", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent"},
        config="[profile p]\n" + role("PROFILE", credential_source="EcsContainer"),
    ),
    "a role of the agent, which fails": Env(
        "failed",
        {"AWS_PROFILE": "p", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent-500"},
        config="[profile p]\n" + role("PROFILE", credential_source="EcsContainer"),
    ),
    "a role of no agent": Env(
        "misconfigured",
        {"AWS_PROFILE": "p"},
        config="[profile p]\n" + role("PROFILE", credential_source="EcsContainer"),
    ),
    "a role of the instance": Env(
        "PROFILE",
        {"AWS_PROFILE": "p"},
        config="[profile p]\n" + role("PROFILE", credential_source="Ec2InstanceMetadata"),
    ),
    "a role of an unknown source": Env(
        "misconfigured", {"AWS_PROFILE": "p"}, config="[profile p]\n" + role("PROFILE", credential_source="Moon")
    ),
    "a process": Env("PROCESS", {"AWS_PROFILE": "p"}, config="[profile p]\n" + printing("PROCESS")),
    "a process, and keys of the config file": Env(
        "PROCESS", {"AWS_PROFILE": "p"}, config="[profile p]\n" + printing("PROCESS") + keys("FILE")
    ),
    "a process, and keys of the credentials file": Env(
        "FILE", {"AWS_PROFILE": "p"}, config="[profile p]\n" + printing("PROCESS"), credentials=f"[p]\n{keys('FILE')}"
    ),
    "a process of another version": Env(
        "failed", {"AWS_PROFILE": "p"}, config="[profile p]\n" + printing("PROCESS", Version=2)
    ),
    "a process that fails": Env(
        "failed",
        {"AWS_PROFILE": "p"},
        config=f"[profile p]\ncredential_process = {sys.executable} -c 'raise SystemExit(1)'\n",
    ),
    "a process that is not there": Env(
        "failed", {"AWS_PROFILE": "p"}, config="[profile p]\ncredential_process = /nowhere/tool\n"
    ),
    # Agents and the instance.
    "an agent": Env("POD", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent"}),
    "an agent that answers 404": Env("failed", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent-404"}),
    "an agent that answers 401": Env(
        "refused",
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent-401"},
        theirs="failed",
        differs="an agent that refuses",
    ),
    "an agent that answers 500": Env("failed", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent-500"}),
    "an agent that does not listen": Env("failed", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/agent"}),
    "an agent somewhere": Env(
        "misconfigured", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://agent.example.com/agent"}
    ),
    "an agent without its token": Env(
        "failed",
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{dir}/missing",
        },
    ),
    "an agent, its token with a line break": Env(
        "POD",
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/agent", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{dir}/token"},
        theirs="misconfigured",
        differs="line break",
    ),
    "the instance": Env("NODE"),
    "no role of the instance": Env("nothing", instance="{url}/gone"),
    "no instance": Env("nothing", instance="http://127.0.0.1:1"),
    "instance switched off": Env("nothing", {"AWS_EC2_METADATA_DISABLED": "true"}),
    "instance of the config file": Env(
        "NODE", config="[default]\nec2_metadata_service_endpoint = {url}\n", instance=""
    ),
    "instance by a bad mode": Env("misconfigured", {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv7"}, instance=""),
}


async def ours() -> str:
    try:
        found = await from_environment().fetch(a_request())
    except GrantRejected as error:
        return {"not_configured": "nothing", "invalid_request": "misconfigured"}.get(error.error, "refused")
    except TransientRefreshError as error:
        return "nothing" if str(error).startswith("no AWS credentials are configured") else "failed"
    assert isinstance(found, AwsCredentials)
    return found.access_key_id


def theirs() -> str:
    from botocore import exceptions  # noqa: PLC0415

    misconfigured = (
        exceptions.PartialCredentialsError, exceptions.ProfileNotFound, exceptions.InvalidConfigError, ValueError,
        exceptions.InvalidIMDSEndpointModeError,
    )  # fmt: skip
    try:
        found = botocore_session.Session().get_credentials()
        return "nothing" if found is None else found.get_frozen_credentials().access_key
    except misconfigured:
        return "misconfigured"
    except exceptions.CredentialRetrievalError as error:
        return "misconfigured" if "No credentials found in credential_source" in str(error) else "failed"
    except exceptions.ClientError as error:
        return "refused" if error.response["Error"]["Code"] == "AccessDenied" else "failed"
    except (exceptions.BotoCoreError, OSError, RuntimeError):
        return "failed"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore pause for no second between its attempts."""
    from botocore.utils import ContainerMetadataFetcher  # noqa: PLC0415

    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)


@pytest.mark.parametrize("name", ENVIRONMENTS)
async def test_the_identity_is_that_of_botocore(name, monkeypatch, tmp_path):
    """K1, K7, K16: the same identity, or the same kind of error, unless a difference is documented."""
    env = ENVIRONMENTS[name]
    for variable in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    (tmp_path / "jwt").write_text("ey.J.x")
    (tmp_path / "empty").write_text("")
    (tmp_path / "token").write_text("authorization\n")
    async with Wire(machine) as wire:

        def placed(text: str) -> str:
            return text.replace("{url}", wire.url("")).replace("{dir}", str(tmp_path))

        (tmp_path / "config").write_text(placed(env.config))
        (tmp_path / "credentials").write_text(placed(env.credentials))
        settings = {
            "HOME": "{dir}", "AWS_CONFIG_FILE": "{dir}/config", "AWS_SHARED_CREDENTIALS_FILE": "{dir}/credentials",
            "AWS_ENDPOINT_URL_STS": "{url}", "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULT_REGION": "eu-west-1",
            **({"AWS_EC2_METADATA_SERVICE_ENDPOINT": env.instance} if env.instance else {}), **env.variables,
        }  # fmt: skip
        for variable, value in settings.items():
            monkeypatch.setenv(variable, placed(value))
        found = {"ours": await ours(), "theirs": await asyncio.to_thread(theirs)}
    assert found == {"ours": env.gives, "theirs": env.gives if env.theirs is None else env.theirs}


def test_differences_are_documented():
    """Each difference to botocore has a row in the documentation, and there are enough environments."""
    text = DOCS.read_text("utf-8")
    table = text[text.index("## Differences to botocore") :]
    for name, env in ENVIRONMENTS.items():
        assert bool(env.differs) == (env.theirs not in {None, env.gives}), name
        assert env.differs in table, name
    assert len(ENVIRONMENTS) > 70

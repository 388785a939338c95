"""The files of AWS tools: the shared cases of the SDKs for their format and places, and the chains of roles."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.sources.wire import a_request
from tests.test_secrets import rendered

from evertoken import GrantRejected, TransientRefreshError
from evertoken.sources.aws import Profile, from_environment
from evertoken.sources.aws._shared_files import Locations
from evertoken.sources.aws._variables import Variables

ROLE = "arn:aws:iam::123456789012:role/"
KEYS = {"aws_access_key_id": "{0}", "aws_secret_access_key": "s"}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this machine's own settings out."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@dataclass
class File:
    """The content of the files, and the values that are read of each profile, or why they cannot be read."""

    config: str = ""
    credentials: str = ""
    profiles: dict[str, dict[str, str]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    says: str = ""


FILES = {
    "empty": File(absent=("default",)),
    "empty profile": File("[profile p]", profiles={"p": {}}),
    "characters of names": File("[profile a-b:c/d_e%f.g@h+]\nname = v", profiles={"a-b:c/d_e%f.g@h+": {"name": "v"}}),
    "open bracket": File("[profile p", says="line 1 is before any"),
    "open bracket of another": File("[profile p]\n[profile q\n", says="line 2 is neither"),
    "white space around the name": File("[profile \tp \t]\nname = v", profiles={"p": {"name": "v"}}),
    "white space around all": File("[   profile p    ]\nname = v", profiles={"p": {"name": "v"}}),
    "white space in the credentials": File("", "[   p    ]\nname = v", profiles={"p": {"name": "v"}}),
    "a tab": File("[profile\tp]\nname = v", profiles={"p": {"name": "v"}}),
    "no profile yet": File("name = v", says="line 1 is before any"),
    "line ends of Windows": File("[profile p]\r\nname = v\r\n", profiles={"p": {"name": "v"}}),
    "equals signs": File("[profile p]\nname = a=b=", profiles={"p": {"name": "a=b="}}),
    "letters": File("[profile p]\nname = \U0001f602", profiles={"p": {"name": "\U0001f602"}}),
    "several": File(
        "[profile p]\na = 1\nb = 2\n[profile q]\na = 3", profiles={"p": {"a": "1", "b": "2"}, "q": {"a": "3"}}
    ),
    "trimmed": File("[profile p]\nname \t=  \tv \t", profiles={"p": {"name": "v"}}),
    "no value": File("[profile p]\nname =", profiles={"p": {"name": ""}}),
    "no name": File("[profile p]\n= v", says="line 2 is neither"),
    "a colon, as botocore reads it": File("[profile p]\nname : v", profiles={"p": {"name": "v"}}),
    "neither": File("[profile p]\nwhat is this", says="line 2 is neither"),
    "blank lines": File(
        "\t \n[profile p]\n\t\n \nname = v\n\t \n[profile q]\n \t", profiles={"p": {"name": "v"}, "q": {}}
    ),
    "comments, #": File("# C\n[profile p] # C\nname = v # C with # sign", profiles={"p": {"name": "v"}}),
    "comments, ;": File("; C\n[profile p] ; C\nname = v ; C with ; sign", profiles={"p": {"name": "v"}}),
    "comments, both": File("# C\n[profile p] ; ]\nname = v # C with ; sign", profiles={"p": {"name": "v"}}),
    "comments, empty": File(";\n[profile p];\nname = v ;\n", profiles={"p": {"name": "v"}}),
    "comments at the bracket": File("[profile p]; C\n[profile q]# C", profiles={"p": {}, "q": {}}),
    "comments at the value": File("[profile p]\na = v; C\nb = v# C", profiles={"p": {"a": "v; C", "b": "v# C"}}),
    "continued": File(
        "[profile p]\nname = v\n \t -more \t \n -and more", profiles={"p": {"name": "v\n-more\n-and more"}}
    ),
    "continued with a sign": File(
        "[profile p]\nname = v\n -m # no C ; none", profiles={"p": {"name": "v\n-m # no C ; none"}}
    ),
    "continued nothing": File(" -more", says="line 1 is before any"),
    "continued no property": File("[profile p]\n -more", says="line 2 is neither"),
    "continued another profile": File("[profile p]\nname = v\n[profile p]\n -more", says="line 4 is neither"),
    "a profile twice": File("[profile p]\na = 1\n[profile p]\nb = 2", profiles={"p": {"a": "1", "b": "2"}}),
    "a property twice": File("[profile p]\na = 1\nA = 2", profiles={"p": {"a": "2"}}),
    "both twice": File("[profile p]\nA = 1\n[profile\tp]\na = 2", profiles={"p": {"a": "2"}}),
    "prefixed default first": File(
        "[profile default]\na = 1\n[default]\nb = 2", profiles={"default": {"a": "1", "b": ""}}
    ),
    "prefixed default last": File(
        "[default]\nb = 2\n[profile default]\na = 1", profiles={"default": {"a": "1", "b": ""}}
    ),
    "prefixed default twice": File(
        "[profile default]\na = 1\n[default]\nb = 2\n[profile default]\nc = 3",
        "[default]\nd = 4",
        profiles={"default": {"a": "1", "b": "", "c": "3", "d": "4"}},
    ),
    "names with blanks": File(
        "[profile in valid]\na = 1\n[profile 'in quotes']\na = 2",
        profiles={"in quotes": {"a": "2"}},
        absent=("in", "valid", "in valid"),
    ),
    "a quote that is open": File("[profile 'p]\na = 1", absent=("p", "'p")),
    "a property with a blank": File("[profile p]\nin valid = 1\na = 2", profiles={"p": {"in valid": "", "a": "2"}}),
    "below": File(
        "[profile p]\ns3 =\n a = 1\n\t \n in valid = 2\n b =", profiles={"p": {"s3": "\na = 1\nin valid = 2\nb ="}}
    ),
    "below, no property": File("[profile p]\ns3 =\n invalid", says="a line below s3 in [profile p] is not a property"),
    "below, no name": File("[profile p]\ns3 =\n = 1", says="a line below s3 in [profile p] is not a property"),
    "both files": File("[profile p]\na = 1\nb = 2", "[p]\na = 3", profiles={"p": {"a": "3", "b": "2"}}),
    "config without prefix": File("[p]\na = 1", absent=("p",)),
    "prefix without a blank": File("[profilep]\na = 1\n[profile q]", profiles={"q": {}}, absent=("p", "profilep")),
    "credentials with prefix": File("", "[profile p]\na = 1", absent=("p", "profile p")),
    "a login of SSO": File(
        "[sso-session p]\na = 1\n[sso-sesion q]\n[services r]\ns3 =\n a = 1", absent=("p", "q", "r", "services r")
    ),
    "a byte order mark": File(
        "\ufeff[default]\na = 1", "\ufeff[q]\nb = 2", profiles={"default": {"a": "1"}, "q": {"b": "2"}}
    ),
}


def located(folder: Path) -> Locations:
    return Locations(folder / "credentials", folder / "config", Variables({}))


@pytest.mark.parametrize("name", FILES)
async def test_format(name, tmp_path):
    """K16: the cases that the SDKs of AWS share for their parsers of profiles."""
    case = FILES[name]
    (tmp_path / "config").write_bytes(case.config.encode())
    (tmp_path / "credentials").write_bytes(case.credentials.encode())
    if case.says:
        with pytest.raises(TransientRefreshError, match=re.escape(f"config cannot be read: {case.says}")):
            await located(tmp_path).read()
        return
    files = await located(tmp_path).read()
    for profile, said in case.profiles.items():
        found = files.get(profile)
        assert found is not None
        assert {key: found.get(key) or "" for key in said} == {key: value.strip() for key, value in said.items()}
    assert [absent for absent in case.absent if files.get(absent) is not None] == []


@pytest.mark.parametrize("file", ["config", "credentials"])
async def test_what_is_no_text(file, tmp_path):
    """K16: a file of another encoding is named, with its line, and nothing of it is shown."""
    (tmp_path / file).write_bytes(b"[default]\naws_secret_access_key = planted\n# caf\xe9\n")
    with pytest.raises(TransientRefreshError, match=rf"{file} cannot be read: line 3 is not UTF-8") as caught:
        await located(tmp_path).read()
    assert "planted" not in rendered(caught.value)


@pytest.mark.parametrize(
    ("environ", "credentials", "config"),
    [
        ({}, "{home}/.aws/credentials", "{home}/.aws/config"),
        ({"AWS_CONFIG_FILE": "/other/config"}, "{home}/.aws/credentials", "/other/config"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "/other/keys"}, "/other/keys", "{home}/.aws/config"),
        ({"AWS_CONFIG_FILE": "~/config"}, "{home}/.aws/credentials", "{home}/config"),
        ({"AWS_CONFIG_FILE": "$HOME/config"}, "{home}/.aws/credentials", "{home}/config"),
        ({"AWS_CONFIG_FILE": " "}, "{home}/.aws/credentials", "{home}/.aws/config"),
    ],
)
def test_places(environ, credentials, config, tmp_path):
    """K16: where the files are, as the SDKs share it."""
    assert str(Locations(None, None, Variables(environ))) == f"{credentials}, {config}".replace("{home}", str(tmp_path))


@pytest.mark.parametrize("named", [False, True])
async def test_what_may_not_be_read(named, monkeypatch, tmp_path):
    """K11: an unreadable file in a home counts as missing. An unreadable file that was named is an error."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = s\n")
    if named:
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / ".aws" / "config"))

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(
        TransientRefreshError if named else GrantRejected, match="Permission denied" if named else "not_configured"
    ):
        await from_environment().fetch(a_request())


async def test_no_home(monkeypatch):
    """K11: without a home there are no files, and an identity that needs none works."""
    monkeypatch.delenv("HOME")

    def nobody(_: int) -> Any:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert (await from_environment().fetch(a_request())).access_key_id == "ENV"
    with pytest.raises(TransientRefreshError, match="no file of"):
        await Profile().fetch(a_request())


@pytest.mark.parametrize(
    ("key", "secret", "gives"),
    [
        ("AKID\n", "s\n", "AKID"),
        (" AKID ", "\ts", "AKID"),
        ("", "", "not_configured: no AWS credentials"),
        (" ", " ", "not_configured: no AWS credentials"),
        ("\n", "\t", "not_configured: no AWS credentials"),
        ("AKID", " ", "AWS_ACCESS_KEY_ID, and AWS_SECRET_ACCESS_KEY is not there or is blank"),
        (" ", "planted", "AWS_SECRET_ACCESS_KEY, and AWS_ACCESS_KEY_ID is not there or is blank"),
        ("AK ID", "planted", "AWS_ACCESS_KEY_ID of the environment has characters"),
        ("AK\u00e9", "planted", "AWS_ACCESS_KEY_ID of the environment has characters"),
    ],
    ids=range(9),
)
async def test_blank_keys(key, secret, gives, monkeypatch):
    """K11: a blank variable is not set, white space around a key is ignored, and the variable is named."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    if "_" not in gives:
        assert (await from_environment().fetch(a_request())).access_key_id == gives
        return
    with pytest.raises(GrantRejected, match=gives) as caught:
        await from_environment().fetch(a_request())
    assert "planted" not in rendered(caught.value)


@dataclass
class Chain:
    """Profiles, and the roles that are assumed for A with which key, or why no role is assumed."""

    profiles: dict[str, dict[str, str]]
    key: str = ""
    roles: tuple[str, ...] = ()
    says: str = ""
    form: dict[str, str] = field(default_factory=dict)


def a_role(name: str, **more: str) -> dict[str, str]:
    return {"role_arn": f"{ROLE}{name}", **more}


def pair(name: str) -> dict[str, str]:
    return {"aws_access_key_id": name, "aws_secret_access_key": "s"}


CHAINS = {
    "keys": Chain({"A": a_role("A", source_profile="B"), "B": pair("B")}, "B", ("A",)),
    "keys beside a source_profile": Chain(
        {"A": {**pair("A"), **a_role("A", source_profile="B")}, "B": pair("B")}, "B", ("A",)
    ),
    "session name": Chain(
        {"A": a_role("A", source_profile="B", role_session_name="me"), "B": pair("B")},
        "B",
        ("A",),
        form={"RoleSessionName": "me"},
    ),
    "external id": Chain(
        {"A": a_role("A", source_profile="B", external_id="x-1"), "B": pair("B")},
        "B",
        ("A",),
        form={"ExternalId": "x-1"},
    ),
    "duration": Chain(
        {"A": a_role("A", source_profile="B", duration_seconds="900"), "B": pair("B")},
        "B",
        ("A",),
        form={"DurationSeconds": "900"},
    ),
    "itself": Chain({"A": {**pair("A"), **a_role("A", source_profile="A")}}, "A", ("A",)),
    "itself without keys": Chain({"A": a_role("A", source_profile="A")}, says="leads back: A -> A"),
    "no source": Chain({"A": a_role("A")}, says="and no source_profile or credential_source"),
    "two sources": Chain(
        {"A": a_role("A", source_profile="B", credential_source="Environment"), "B": pair("B")},
        says="exclude each other",
    ),
    "no secret": Chain(
        {"A": a_role("A", source_profile="B"), "B": {"aws_access_key_id": "B"}},
        says="aws_access_key_id, and aws_secret_access_key is not",
    ),
    "no key id": Chain(
        {"A": a_role("A", source_profile="B"), "B": {"aws_secret_access_key": "s"}},
        says="aws_secret_access_key, and aws_access_key_id is not",
    ),
    "an empty source": Chain(
        {"A": a_role("A", source_profile="B"), "B": {}}, says="source_profile 'B' has no credentials"
    ),
    "configuration alone": Chain({"A": {"region": "eu-west-1"}}, says="it has no keys, role_arn or credential_process"),
    "no such source": Chain({"A": a_role("A", source_profile="B")}, says="source_profile 'B' is in neither"),
    "no such profile": Chain({"B": {}}, says="it is in neither"),
    "two roles": Chain(
        {"A": a_role("A", source_profile="B"), "B": a_role("B", source_profile="C"), "C": pair("C")}, "C", ("B", "A")
    ),
    "a source with keys and a role": Chain(
        {
            "A": {**pair("A"), **a_role("A", source_profile="B")},
            "B": {**pair("B"), **a_role("B", source_profile="C")},
            "C": pair("C"),
        },
        "B",
        ("A",),
    ),
    "a loop": Chain(
        {"A": a_role("A", source_profile="B"), "B": a_role("B", source_profile="A")}, says="leads back: A -> B -> A"
    ),
    "a loop with keys": Chain(
        {"A": {**pair("A"), **a_role("A", source_profile="B")}, "B": a_role("B", source_profile="A")},
        says="leads back: A -> B -> A",
    ),
    "web identity": Chain(
        {"A": a_role("A", web_identity_token_file="~/jwt")}, "", ("A",), form={"WebIdentityToken": "jwt"}
    ),
    "web identity, session name": Chain(
        {"A": a_role("A", web_identity_token_file="~/jwt", role_session_name="me")},
        "",
        ("A",),
        form={"RoleSessionName": "me"},
    ),
    "web identity without role": Chain(
        {"A": {"web_identity_token_file": "~/jwt"}},
        says="the AWS profile 'A' names a token file of a web identity and no role",
    ),
    "web identity as a source": Chain(
        {"A": a_role("A", source_profile="B"), "B": a_role("B", web_identity_token_file="~/jwt")}, "", ("B", "A")
    ),
    "a person, by session": Chain({"A": {"sso_session": "corp"}}, says="export-credentials"),
    "a person, by role": Chain({"A": {"sso_role_name": "r", "sso_account_id": "1"}}, says="SSO.*export-credentials"),
    "a person, as a source": Chain(
        {"A": a_role("A", source_profile="B"), "B": {"sso_role_name": "r", "sso_account_id": "1"}},
        says="'B' gives no.*SSO",
    ),
    "a person, by login": Chain({"A": {"login_session": "x"}}, says="login_session.*export-credentials"),
    "a device": Chain(
        {"A": a_role("A", source_profile="B", mfa_serial="m"), "B": pair("B")}, says="MFA device.*export-credentials"
    ),
    "an open quote": Chain(
        {"A": {"credential_process": "tool 'x"}}, says="credential_process cannot be read: No closing quotation"
    ),
}


@pytest.mark.parametrize("name", CHAINS)
async def test_chain(name, tmp_path):
    """K16: the cases that the SDKs of AWS share for roles that profiles assume."""
    chain = CHAINS[name]
    (tmp_path / "jwt").write_text("jwt\n")
    text = "".join(
        f"[profile {profile}]\n" + "".join(f"{key} = {value}\n" for key, value in said.items())
        for profile, said in chain.profiles.items()
    )
    (tmp_path / "config").write_text(text)
    asked: list[tuple[str, str]] = []
    forms: list[dict[str, str]] = []

    def sts(request: httpx.Request) -> httpx.Response:
        form = dict(httpx.QueryParams(request.content.decode()))
        signed = re.search("Credential=([^/]+)/", request.headers.get("Authorization", ""))
        role = form["RoleArn"].rpartition("/")[2]
        asked.append((signed[1] if signed else "", role))
        forms.append(form)
        inner = (
            f"<AccessKeyId>OF-{role}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        )
        return httpx.Response(200, content=f"<R>{inner}</R>".encode(), headers={"Content-Type": "text/xml"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(sts)) as client:
        source = Profile("A", config_file=tmp_path / "config", credentials_file=tmp_path / "none", client=client)
        if chain.says:
            with pytest.raises(GrantRejected, match=chain.says):
                await source.fetch(a_request())
            assert asked == []
            return
        found = await source.fetch(a_request())
    assert found.access_key_id == f"OF-{chain.roles[-1]}"
    signing = [chain.key, *(f"OF-{role}" for role in chain.roles)]
    assert asked == list(zip(signing, chain.roles, strict=False))
    assert chain.form.items() <= forms[-1].items()

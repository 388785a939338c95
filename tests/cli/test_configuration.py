"""`evertoken.toml`: its keys, and the exact words about every mistake."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from evertoken import Budget, RateLimit
from evertoken.cli.configuration import find, read
from evertoken.cli.managers import Managers
from evertoken.cli.sources import KINDS
from evertoken.cli.toml_table import ConfigurationError
from evertoken.providers import PROVIDERS

GOOD = """
[sources.billing]
kind = "client_credentials"
token_endpoint = "https://login.example.com/token"
client_id = "svc"
client_secret = { file = "secret" }
"""
ENVIRON = {"SECRET": "planted-secret", "EMPTY": " ", "STORE": "redis://user:planted-password@127.0.0.1/0"}


def write(folder: Path, text: str) -> Path:
    for name, content in {"secret": "planted-secret\n", "empty": "", "url": "postgresql://u:planted@h/d"}.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    path = folder / "evertoken.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    """Return the output, with the folder taken out."""
    path = write(folder, text)
    with pytest.raises(ConfigurationError) as caught:
        Managers(read(path, ENVIRON))
    assert "planted" not in str(caught.value)
    said = [message.removeprefix(f"{path}: ").replace(f"{folder}/", "") for message in caught.value.messages]
    said = [message.replace(str(folder), "FOLDER") for message in said]
    assert all(str(path) in message for message in caught.value.messages)
    return said


def changed(line: str, new: str) -> str:
    assert line in GOOD
    return GOOD.replace(line, new)


ENDPOINT = 'token_endpoint = "https://login.example.com/token"'

MISTAKES = tomllib.loads((Path(__file__).parent / "mistakes.toml").read_text(encoding="utf-8"))["mistake"]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one["name"])
def test_every_mistake_is_told(tmp_path, mistake):
    """Each mistake is told with the file, the table and the key, in exactly these words, and without a secret (S1)."""
    assert mistakes(tmp_path, mistake["file"]) == mistake["says"]


def test_the_table_covers_each_kind():
    """The table above has a mistake for each kind that may lack something."""
    files = "\n".join(one["file"] for one in MISTAKES)
    assert len({one["name"] for one in MISTAKES}) == len(MISTAKES) > 80
    assert all(f'"{kind}"' in files for kind in KINDS if kind != "google")


def test_what_is_right(tmp_path):
    """A file with everything in it is read, and its secrets are where it says."""
    path = write(
        tmp_path,
        """
        namespace = "prod"
        fetch_timeout = 12
        [store]
        url = "file:/nowhere/tokens"
        [refresh]
        lead_time = 30
        [agent]
        socket = "run/agent.sock"
        health_address = "[::1]:9090"
        health_file = "/run/health"
        close_grace = 2
        [rate_limits."https://login.example.com"]
        requests = 100
        per = 6
        burst = 5
        [budgets."https://login.example.com"]
        tokens = 1000
        per = 86400
        hard = true
        [sources.billing]
        kind = "client_credentials"
        token_endpoint = "https://login.example.com/token"
        client_id = "svc"
        client_secret = { env = "SECRET" }
        scope = ["a", "b"]
        headers = { x-tenant = "7" }
        key = ["tenant", 7]
        write_to = "run/billing"
        format = "netrc"
        host = "git.example.com"
        [sources.exchanged]
        kind = "token_exchange"
        provider = "keycloak"
        domain = "login.example.com"
        realm = "x"
        client_id = "svc"
        client_secret = { file = "secret" }
        subject_token = { source = "billing" }
        [sources.alice]
        kind = "refresh_token"
        issuer = "https://other.example.com"
        client_id = "svc"
        client_auth = "private_key_jwt"
        client_key = { file = "secret" }
        subject = "alice"
        [sources.pod]
        kind = "token_file"
        path = "token"
        single = true
        [sources.cloud]
        kind = "aws"
        [sources.az]
        kind = "command"
        arguments = ["az", "account", "get-access-token"]
        lifetime = 600
        """,
    )
    found = read(path, ENVIRON)
    assert list(found.sources) == ["billing", "exchanged", "alice", "pod", "cloud", "az"]
    assert (found.namespace, found.fetch_timeout, found.policy.lead_time) == ("prod", 12.0, 30.0)
    assert found.agent.health_address == ("::1", 9090)
    assert found.agent.socket == tmp_path / "run" / "agent.sock"
    assert found.rate_limits == {"https://login.example.com": RateLimit(requests=100, per=6, burst=5)}
    assert found.budgets == {"https://login.example.com": Budget(tokens=1000, per=86400, hard=True)}
    billing = found.sources["billing"]
    assert (billing.key, billing.write_to, billing.form.host) == (
        ("tenant", 7),
        tmp_path / "run/billing",
        "git.example.com",
    )
    assert (found.sources["alice"].key, found.sources["pod"].key) == ("alice", None)
    assert [name for _, name in found.sources["exchanged"].parents] == ["billing"]
    assert len(Managers(found).all) == 2
    assert set(Managers(found, ["exchanged"])) == {"exchanged", "billing"}
    assert "planted" not in repr(found) + repr(billing)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_by_name(tmp_path, provider):
    """Each known provider can be named, with what its endpoints have in braces."""
    names = "".join(f'{name} = "x.example.com"\n' for name in PROVIDERS[provider].names)
    # One whose new token kills the one before needs a store.
    store = '[store]\nurl = "file:/nowhere/tokens"\n'
    path = write(tmp_path, store + changed(ENDPOINT, f'provider = "{provider}"\n{names}'))
    assert "billing" in read(path, ENVIRON).sources


@pytest.mark.parametrize(("mode", "fine"), [(0o600, True), (0o644, True), (0o664, False), (0o646, False)])
def test_who_may_change_the_file(tmp_path, mode, fine):
    """A file that others could change is refused: it may name a command to run (S3)."""
    path = write(tmp_path, GOOD)
    path.chmod(mode)
    if fine:
        assert read(path, ENVIRON)
        return
    with pytest.raises(ConfigurationError, match=rf"others may write to .* \(mode {mode:04o}\): chmod go-w"):
        read(path, ENVIRON)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"x" * 1_100_000, "is larger than 1048576 bytes"),
        (b"a = 1\na = 2", "is not valid TOML: Cannot overwrite a value"),
        (b"client_secret = planted-secret", "is not valid TOML: Invalid value"),
    ],
)
def test_a_file_that_is_none(tmp_path, content, says):
    """If a file is not such a file, the message says so and repeats nothing of its content."""
    path = write(tmp_path, "")
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        read(path, ENVIRON)
    assert str(caught.value).startswith(f"{path}: {says}")
    assert "planted" not in str(caught.value)


def test_a_store_that_others_may_read(tmp_path):
    """The file with the URL of a store must be private, because the URL may contain a password."""
    text = 'namespace = "x"\n[store]\nurl = { file = "url" }\n' + GOOD
    path = write(tmp_path, text)
    (tmp_path / "url").chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"\[store\] url: .* may be read by others \(mode 0644\)"):
        read(path, ENVIRON)


def test_where_it_is(tmp_path, monkeypatch):
    """The file is where the option, the variable or the user's folder says, and never in the working directory."""
    write(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert find(None, environ) is None
    (tmp_path / "config" / "evertoken").mkdir(parents=True)
    users = tmp_path / "config" / "evertoken" / "evertoken.toml"
    users.write_text(GOOD)
    assert find(None, environ) == users
    assert find(None, {**environ, "EVERTOKEN_CONFIG": "/x"}) == Path("/x")
    assert find(Path("/y"), {**environ, "EVERTOKEN_CONFIG": "/x"}) == Path("/y")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user(tmp_path):
    """A file of another user is refused (S3)."""
    path = write(tmp_path, GOOD)
    os.chown(path, 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        read(path, ENVIRON)

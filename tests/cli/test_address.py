"""S1: a store's password may come from the environment, a file or a prompt, and is never shown."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from tests.cli.test_store import fill
from tests.stores.servers import valkey

from evertoken.cli.address import _check_private, address_of
from evertoken.cli.main import main
from evertoken.stores import FileStore, RedisStore

PASSWORD = "planted-Pass/word@1"
SPELLED = "planted-Pass%2Fword%401"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = main(["store", *arguments])
    except SystemExit as error:
        status = int(str(error.code))
    said = capsys.readouterr()
    assert "planted" not in said.out + said.err, "a password is shown"
    return status, said.out, said.err


@pytest.fixture
def url(tmp_path):
    asyncio.run(fill(FileStore(tmp_path / "tokens")))
    return f"file:{tmp_path / 'tokens'}"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("EVERTOKEN_STORE", raising=False)


def test_from_the_environment(url, monkeypatch, capsys):
    """The URL may stand in a variable, also where another argument follows."""
    monkeypatch.setenv("EVERTOKEN_STORE", f" {url}\n")
    assert run(capsys, "check")[0] == 0
    status, out, err = run(capsys, "show", "valid")
    assert (status, "version:         7" in out, err) == (0, True, "")
    assert run(capsys, "purge", "--key", "valid")[1].startswith("would take out valid")


def test_an_argument_counts_first(url, tmp_path, monkeypatch, capsys):
    """A URL given by hand takes precedence over the environment. Two URLs by hand are refused."""
    monkeypatch.setenv("EVERTOKEN_STORE", "file:/nowhere")
    file = private(tmp_path, url)
    assert run(capsys, "show", url, "valid")[0] == 0
    assert run(capsys, "show", "--store-file", str(file), "valid")[0] == 0
    status, _, err = run(capsys, "check", url, "--store-file", str(file))
    assert (status, "is given twice" in err) == (2, True)


def private(folder: Any, text: str, mode: int = 0o600) -> Any:
    file = folder / "store-url"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
@pytest.mark.parametrize("text", ["{url}", "{url}\n", "\n {url} \r\n\n"])
def test_from_a_file(url, tmp_path, capsys, mode, text):
    """A file with the URL in a line, which nobody else may read."""
    file = private(tmp_path, text.format(url=url), mode)
    assert run(capsys, "check", "--store-file", str(file))[0] == 0


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_a_file_that_others_may_touch(url, tmp_path, capsys, mode):
    """A file that others may read or write is refused, and the message says what to do."""
    status, _, err = run(capsys, "check", "--store-file", str(private(tmp_path, url, mode)))
    assert (status, f"(mode {mode:04o})" in err, "chmod 600" in err) == (2, True, True)


@pytest.mark.parametrize(
    ("owner", "mode", "says"),
    [
        (0, 0o640, None), (0, 0o440, None), (0, 0o600, None), (0, 0o644, "mode 0644"), (0, 0o660, "mode 0660"),
        (0, 0o604, "mode 0604"), (1234, 0o600, "another user (uid 1234)"), (1234, 0o644, "another user (uid 1234)"),
    ],
)  # fmt: skip
def test_whose_file_it_is(monkeypatch, owner, mode, says):
    """A group may read a file of the administrator, as with libpq. A file of any other user is refused."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found: Any = SimpleNamespace(st_uid=owner, st_mode=0o100000 | mode)
    with nullcontext() if says is None else pytest.raises(ValueError, match=re.escape(says)):
        _check_private(Path("/etc/app/store"), found)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"redis://:planted@a\nredis://b\n", b"\xff\xfeplanted", b"a" * 70_000 + b"\nplanted"]
)
def test_a_file_without_a_url(tmp_path, capsys, content):
    """A file that holds something else is told by its name, and nothing of it is."""
    file = private(tmp_path, "")
    file.write_bytes(content)
    status, _, err = run(capsys, "check", "--store-file", str(file))
    assert (status, str(file) in err or "begins with one of" in err) == (2, True)


def test_a_file_that_is_not_there(capsys):
    """A file that cannot be read is told by its name."""
    status, _, err = run(capsys, "check", "--store-file", "/nowhere/store-url")
    assert (status, "/nowhere/store-url" in err) == (2, True)


def test_from_a_pipe(url):
    """The file may be a pipe, as a shell makes it of another command."""
    ours, theirs = os.pipe()
    os.write(theirs, url.encode())
    os.close(theirs)
    command = [sys.executable, "-m", "evertoken", "store", "check", "--store-file", f"/dev/fd/{ours}"]
    done = subprocess.run(command, pass_fds=[ours], capture_output=True, text=True, check=False)
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_given(capsys):
    """Without a URL the message says how to give one."""
    status, _, err = run(capsys, "check")
    assert (status, "EVERTOKEN_STORE" in err, "--store-file" in err) == (2, True, True)


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ("redis://user:planted@127.0.0.1:1/0", True),
        ("redis://:planted@127.0.0.1:1/0", True),
        ("rediss://127.0.0.1:1/0?password=planted", True),
        ("postgresql://user:planted@127.0.0.1:1/x", True),
        ("postgresql://127.0.0.1:1/x?user=a&password=planted", True),
        ("redis://user@127.0.0.1:1/0", False),
        ("redis://127.0.0.1:1/0", False),
        ("postgresql://user@127.0.0.1:1/x", False),
        ("file:/nowhere", False),
        ("file:/no:where@at/all", False),
    ],
)
def test_a_password_in_an_argument(given, warned, capsys):
    """A password in the list of processes is warned of, with a better way; in the environment it is not."""
    status, _, err = run(capsys, "check", given)
    assert status in {1, 2}
    assert ("all users of this machine can see the password" in err) == warned
    assert not warned or ("EVERTOKEN_STORE" in err and "--store-file" in err and "--ask-password" in err)


# Each is no URL of a store, or of one that is not there, and each has a password somewhere.
UNREADABLE = [
    "redis://user:planted/x@127.0.0.1:1/0", "redis://user:planted?x@127.0.0.1:1/0", "redis://user:planted#x@h:1/0",
    "redis://user:planted@127.0.0.1:port/0", "redis://[user:planted@h/0", "redis://user:planted]@h/0",
    "redis://user:planted\u2100@h/0", "redis://user:planted x@h:1/0", "redis:user:planted@h:1/0",
    "redis:/user:planted@h:1/0", "redis//user:planted@h:1/0", "reddis://user:planted@h:1/0", "http://u:planted@h/",
    "postgresql://user:planted/x@127.0.0.1:1/x", "postgresql://user:planted\\@127.0.0.1:1/x",
    "postgresql://user:planted%@127.0.0.1:1/x", "postgresql://user:planted%zz@127.0.0.1:1/x",
    "postgresql://127.0.0.1:1/x?password=planted%zz", "postgres:user:planted@127.0.0.1:1/x", "user:planted@h",
    "unix://user:planted@/nowhere.sock", "rediss://user:pla\nnted@127.0.0.1:1/0", "redis://user:planted\x00@h/0",
]  # fmt: skip


@pytest.mark.parametrize("given", UNREADABLE)
@pytest.mark.parametrize("how", ["argument", "variable", "file", "in the place of an action", "one too many"])
def test_a_url_that_cannot_be_read(given, how, monkeypatch, tmp_path, capsys):
    """A message about a wrong URL never shows its password, for every kind and place of mistake."""
    arguments = ["check"]
    if how == "argument":
        arguments.append(given)
    elif how == "variable" and "\0" not in given:
        monkeypatch.setenv("EVERTOKEN_STORE", given)
    elif how == "file":
        arguments += ["--store-file", str(private(tmp_path, given))]
    elif how == "in the place of an action":
        arguments = [given]
    else:
        arguments += ["file:/nowhere", given]
    status, _, err = run(capsys, *arguments)
    assert status in {1, 2}
    assert "nted" not in err
    assert err


class Terminal:
    """The input of a terminal, or of none."""

    def __init__(self, *, present: bool) -> None:
        self.present = present

    def isatty(self) -> bool:
        return self.present


def ask(monkeypatch: pytest.MonkeyPatch, typed: str | type[BaseException], *, present: bool = True) -> list[str]:
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        if isinstance(typed, str):
            return typed
        raise typed

    monkeypatch.setattr(sys, "stdin", Terminal(present=present))
    monkeypatch.setattr(getpass, "getpass", answer)
    return prompts


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("redis://user@host:6380/1", f"redis://user:{SPELLED}@host:6380/1"),
        ("rediss://host", f"rediss://:{SPELLED}@host"),
        (
            "postgresql://user@[::1]:5432/db?sslmode=require",
            f"postgresql://user:{SPELLED}@[::1]:5432/db?sslmode=require",
        ),
    ],
)
def test_a_prompt(given, url, monkeypatch):
    """A password that is typed goes into the URL as it must be spelled there."""
    prompts = ask(monkeypatch, PASSWORD)
    assert address_of(given, file=None, ask=True).url == url
    assert len(prompts) == 1
    assert "planted" not in repr(address_of(url, file=None, ask=False))


@pytest.mark.parametrize(
    ("given", "typed", "present", "says"),
    [
        ("redis://user@host/0", PASSWORD, False, "needs a terminal"),
        ("redis://user@host/0", EOFError, True, "no password could be asked for"),
        ("redis://user@host/0", getpass.GetPassWarning, True, "no password could be asked for"),
        ("redis://user:planted@host/0", PASSWORD, True, "has a password already"),
        ("file:/var/lib/tokens", PASSWORD, True, "is for the URL of a server"),
        ("redis://[x/0", PASSWORD, True, "is for the URL of a server"),
    ],
)
def test_no_prompt(given, typed, present, says, monkeypatch, capsys):
    """If nobody can be asked, or there is no password to ask for, the message says so."""
    prompts = ask(monkeypatch, typed, present=present)
    status, _, err = run(capsys, "check", given, "--ask-password")
    assert (status, says in err) == (2, True), err
    assert not [one for one in prompts if "planted" in one]


def test_a_password_that_is_asked_for_opens_the_store(monkeypatch, capsys):
    """The server gets exactly the password that was typed."""
    with valkey("--requirepass", PASSWORD) as server:
        place, prefix = f"127.0.0.1:{server.port}/0", f"{uuid4().hex}:"
        asyncio.run(fill(RedisStore(f"redis://:{SPELLED}@{place}", prefix=prefix)))
        ask(monkeypatch, PASSWORD)
        assert run(capsys, "check", f"redis://{place}", "--ask-password", "--prefix", prefix)[0] == 0
        ask(monkeypatch, "planted-other")
        assert run(capsys, "check", f"redis://{place}", "--ask-password", "--prefix", prefix)[0] == 1
        monkeypatch.setenv("EVERTOKEN_STORE", f"redis://:{SPELLED}@{place}")
        assert run(capsys, "check", "--prefix", prefix)[0::2] == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o444, 0o640, 0o666])
@pytest.mark.parametrize("mounted", [True, False])
def test_a_mounted_file(mode, mounted, tmp_path, monkeypatch):
    """S3: a secret of Kubernetes is read-only, and all in the container may read it; elsewhere it is refused."""
    path = tmp_path / "store"
    path.write_text("redis://host/0\n")
    path.chmod(mode)
    if mounted:
        monkeypatch.setattr(os, "fstatvfs", lambda _fd: SimpleNamespace(f_flag=os.ST_RDONLY))
    with nullcontext() if mounted else pytest.raises(ValueError, match="may be read by others"):
        assert address_of(None, file=path, ask=False).url == "redis://host/0"

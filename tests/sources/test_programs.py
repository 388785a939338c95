"""The program that a command source runs, the program's environment, and the quoted part of its output."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from evertoken import FetchRequest, GrantRejected, TransientRefreshError
from evertoken.sources import Command, aws

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = FetchRequest(None, None, 20.0)
SECRET = "planted-secret-words"


def plant(folder: Path, says: str, name: str = "tool") -> Path:
    """Put a program into *folder*, which prints *says*."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!{sys.executable}\nprint({says!r})\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("path", "runs"),
    [
        ("{good}", "good"),
        (":{good}", "good"),
        ("{good}:", "good"),
        (".:{good}", "good"),
        ("::{good}", "good"),
        ("./:bin:../here:{good}", "good"),
        ("bin:{other}:{good}", "other"),
        ("~:$HOME:{good}", "good"),
        ("/nowhere:{good}", "good"),
        ("", None),
        (":", None),
        (".", None),
        ("bin", None),
        ("./bin:.", None),
        ("/nowhere", None),
    ],
)
@pytest.mark.parametrize("given", [False, True])
async def test_where_a_program_is_looked_for(tmp_path, monkeypatch, path, runs, given):
    """S2: a name is looked up in the absolute parts of PATH; one in the working directory is never run."""
    here = tmp_path / "here"
    plant(here, "from-here")
    plant(here / "bin", "from-a-relative-part")
    good, other = plant(tmp_path / "good", "good"), plant(tmp_path / "other", "other")
    monkeypatch.chdir(here)
    path = path.format(good=good.parent, other=other.parent)
    if given:
        source = Command(["tool"], environment={"PATH": path})
    else:
        monkeypatch.setenv("PATH", path)
        source = Command(["tool"])
    if runs is None:
        with pytest.raises(TransientRefreshError, match="'tool' cannot be run: it is in no directory of PATH"):
            await source.fetch(REQUEST)
        return
    assert await source.fetch(REQUEST) == {"access_token": runs}
    assert repr(source) == f"Command({str(tmp_path / runs / 'tool')!r}, ...)"


async def test_a_program_is_looked_up_once(tmp_path, monkeypatch):
    """S2: a PATH that changes later changes nothing, and a program that is installed later is found."""
    monkeypatch.setenv("PATH", str(tmp_path / "late"))
    source = Command(["tool"])
    with pytest.raises(TransientRefreshError, match="in no directory of PATH"):
        await source.fetch(REQUEST)
    plant(tmp_path / "late", "late")
    assert await source.fetch(REQUEST) == {"access_token": "late"}
    plant(tmp_path / "first", "first")
    monkeypatch.setenv("PATH", f"{tmp_path / 'first'}:{tmp_path / 'late'}")
    assert await source.fetch(REQUEST) == {"access_token": "late"}


@pytest.mark.parametrize("name", ["./tool", "bin/tool", "../tool", "tool/", "./bin/../tool", "."])
def test_a_relative_program_is_refused(name):
    """S2: a path that means another file in another directory is refused when it is given, and the reason is told."""
    with pytest.raises(ValueError, match=r"is a relative path.* give its absolute path"):
        Command([name, "print"])


@pytest.mark.parametrize("arguments", [[], "tool", [""], ["tool", "a\0b"], ["to\0ol"]])
def test_no_program(arguments):
    """Arguments that no program can be run with are refused when they are given."""
    with pytest.raises(ValueError, match="arguments must"):
        Command(arguments)


async def test_a_relative_credential_process_is_refused(tmp_path, monkeypatch):
    """S2: the same holds for the program that a profile of AWS names."""
    plant(tmp_path, "{}")
    (tmp_path / "config").write_text("[profile p]\ncredential_process = ./tool --print\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(GrantRejected, match=r"'./tool' is a relative path"):
        await aws.Profile("p").fetch(REQUEST)


SHOW = "import json, os; print(json.dumps({'token': 't', 'expires_on': dict(os.environ)}))"


async def seen(**options: Any) -> dict[str, str]:
    fields = await Command([sys.executable, "-c", SHOW], **options).fetch(REQUEST)
    found: dict[str, str] = fields["expires_at"]
    return found


async def test_the_environment_of_a_program(monkeypatch):
    """S1: a program inherits the environment without this library's variables, or receives exactly the given one."""
    monkeypatch.setenv("EVERTOKEN_STORE", f"redis://:{SECRET}@127.0.0.1/0")
    monkeypatch.setenv("EVERTOKEN_ANY", SECRET)
    monkeypatch.setenv("OTHER_EVERTOKEN", "kept")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    found = await seen()
    assert {name for name in os.environ if name not in found} == {"EVERTOKEN_STORE", "EVERTOKEN_ANY"}
    assert (found["OTHER_EVERTOKEN"], found["HTTPS_PROXY"]) == ("kept", "http://proxy:3128")
    assert SECRET not in json.dumps(found)
    own = await seen(environment={"ONLY": "this"})
    # Variables that Python and the system add by themselves.
    assert {name for name in own if not name.startswith(("LC_", "__"))} == {"ONLY"}
    assert not [name for name in await seen(environment={}) if not name.startswith(("LC_", "__"))]


WORDS = "import sys; sys.stderr.write({!r}); sys.exit(3)"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        ([f"--token={SECRET}"], {}),
        (["--password", SECRET], {}),
        (["-api-key", SECRET], {}),
        ([f"client_secret={SECRET}"], {}),
        ([], {"PASSWORD": SECRET}),
        ([], {"MY_ACCESS_TOKEN": SECRET}),
        ([], {"AWS_SECRET_ACCESS_KEY": SECRET}),
        ([], {"DB_PASSWD": SECRET}),
        ([], {"API_KEY": SECRET}),
        ([], None),
    ],
)
async def test_what_a_program_repeats(monkeypatch, arguments, environment):
    """S1: if the last output of a program repeats its secrets, the error does not show them."""
    monkeypatch.setenv("SERVICE_TOKEN", SECRET)
    code = WORDS.format(f"first line\nlogin of {SECRET} failed: no session")
    source = Command([sys.executable, "-c", code, *arguments], environment=environment)
    with pytest.raises(TransientRefreshError, match=r"ended with 3: login of \*\*\* failed: no session") as caught:
        await source.fetch(REQUEST)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("b'x' * 10_000_000", None),
        ("b'word ' * 2_000_000", None),
        ("b'first\\n' * 1_000_000 + b'the last words'", ": the last words"),
        (r"b'\n\n\nlast\n\n'", ": last"),
        ("b''", ""),
        (r"b'a\x1b[2Jb\x07c'", ": a[2Jbc"),
        (r"b'\xff\xfe'", ": \ufffd\ufffd"),
        (r"'a\u202eb'.encode()", ": ab"),
    ],
)
async def test_words_are_bounded(written, told):
    """S1: what a program says on stderr is told in a line of bounded length, without control characters."""
    source = Command([sys.executable, "-c", f"import sys; sys.stderr.buffer.write({written}); sys.exit(3)"])
    with pytest.raises(TransientRefreshError, match="ended with 3") as caught:
        await source.fetch(REQUEST)
    words = str(caught.value).partition("ended with 3")[2]
    assert len(words) <= 1010
    assert words.isprintable()
    assert told is None or words == told


async def test_what_a_failed_program_printed_is_in_no_frame():
    """S1: a program that prints a token and then fails leaves neither it nor its own environment in the traceback."""
    source = Command(
        [sys.executable, "-c", f"print({SECRET!r}); raise SystemExit(3)"], environment={"PASSWORD": SECRET}
    )
    for broken in (source, Command(["/nowhere/tool", SECRET], environment={"PASSWORD": SECRET})):
        with pytest.raises(TransientRefreshError) as caught:
            await broken.fetch(REQUEST)
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        frames = [line for line in shown.format() if "test_programs" not in line]
        assert SECRET not in "".join(frames)
        assert caught.value.__context__ is None

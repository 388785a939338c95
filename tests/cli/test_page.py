"""The guide to the command line is run as it stands there: files are written, lines typed, their output compared."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.world import ROOT, World

from evertoken.cli.commands import add_commands, add_grant_actions
from evertoken.cli.configuration import read
from evertoken.cli.oauth_table import CLIENT
from evertoken.cli.sources import COMMON, KINDS

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "how-to" / "command-line.md").read_text(encoding="utf-8")
KEYS = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(toml|console|sh)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

# A command goes on after a backslash, and its output ends before the next one.
TYPED = re.compile(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", re.MULTILINE)


def told(world: World, text: str) -> str:
    """The page's addresses, as this server has them."""
    text = text.replace("https://login.example.com", world.server.url).replace("/var/lib/billing", str(world.folder))
    return text.replace("https://api.example.com/invoices", world.server.resource)


def folder_of(world: World) -> Path:
    return world.folder / ".config" / "evertoken"


@pytest.mark.breakage
def test_the_page(world):
    """From `pip install` to a token in curl, an agent and logins of people, by following one page."""
    shims = world.folder / "bin"
    shims.mkdir()
    (shims / "evertoken").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evertoken "$@"\n')
    (shims / "evertoken").chmod(0o755)
    lines = [json.dumps({"key": key, "refresh_token": world.server.issue_grant(key)}) for key in ("alice", "bob")]
    world.rewrite(world.folder / "logins.jsonl", "\n".join(lines))
    environ = {**world.environ, "PATH": f"{shims}:{world.environ['PATH']}"}
    del environ["EVERTOKEN_CONFIG"]
    options: Any = {"cwd": world.folder, "env": environ, "text": True, "umask": 0o077}
    files: dict[str, str] = {}
    agent: subprocess.Popen[str] | None = None
    try:
        for kind, text in BLOCKS:
            if kind == "toml":
                # A later table takes the place of an earlier one, and what belongs to no table stands first.
                name = re.findall(r"^\[(sources\.\w+|store)\]", text, re.MULTILINE)[-1]
                files[name] = told(world, text)
                parts = [files[name] for name in sorted(files, key=lambda name: name != "store")]
                world.rewrite(folder_of(world) / "evertoken.toml", "\n".join(parts))
                continue
            if kind == "sh":
                # A script says in its second line where it is saved.
                for name in re.findall(r"\A#!/bin/sh\n# ~/(\S+)\n", text):
                    world.rewrite(world.folder / name, told(world, text))
                continue
            for command, output in TYPED.findall(text):
                if command.startswith("pip "):
                    continue
                if command.endswith(" &"):
                    with (world.folder / "log").open("w") as log:
                        agent = subprocess.Popen([str(shims / "evertoken"), "agent"], stderr=log, **options)
                    end = time.monotonic() + 30
                    while not (folder_of(world) / "token").exists():
                        assert agent is not None
                        assert agent.poll() is None, (world.folder / "log").read_text()
                        assert time.monotonic() < end
                        time.sleep(0.05)
                    continue
                typed = ["bash", "-c", told(world, command)]
                done = subprocess.run(typed, check=False, capture_output=True, timeout=60, **options)
                assert (done.returncode, done.stderr) == (0, ""), command
                pattern = re.sub(r"([\[\]])", r"[\1]", output).replace("…", "*").rstrip("\n")
                assert fnmatch.fnmatchcase(done.stdout.rstrip("\n"), pattern), (command, done.stdout)
    finally:
        if agent is not None:
            agent.terminate()
            agent.wait(30)
    assert agent is not None
    assert agent.returncode == 0


def test_the_page_shows_enough():
    """The page shows the commands of the way it leads."""
    typed = "\n".join(text for kind, text in BLOCKS if kind == "console")
    for command in ("check", "get", "exec", "agent", "top", "store import", "store revoke"):
        assert f"evertoken {command} " in typed or f"evertoken {command}\n" in typed, command


@pytest.mark.parametrize("kind", KINDS)
def test_each_key_is_in_the_reference(kind):
    """The reference of the configuration has each key of each kind, in a table row of its own."""
    for key in {*COMMON, *KINDS[kind], *CLIENT}:
        assert re.search(rf"^\| `{key}` \|", KEYS, re.MULTILINE), key
    assert f"`{kind}`" in KEYS


def test_each_command_is_in_the_reference():
    """The reference of the command line has each command and each option of the new ones."""

    class Told:
        def __init__(self) -> None:
            self.names: list[str] = []

        def add_parser(self, name: str, **_: object) -> Told:
            self.names.append(name)
            return self

        def add_argument(self, *names: str, **_: object) -> Told:
            self.names += names
            return self

        def set_defaults(self, **_: object) -> None:
            pass

    told_of = Told()
    # The part of the usage that is written as NAME=VARIABLE.
    skipped = {"assignments"}
    add_commands(told_of)
    add_grant_actions(told_of)
    names = [name for name in told_of.names if name not in skipped]
    missing = [name for name in names if f"`{name}" not in COMMANDS and f" {name}" not in COMMANDS]
    assert missing == []


def test_the_reference_shows_a_file_that_is_right(tmp_path):
    """The file at the head of the reference is one that can be read."""
    (example,) = re.findall(r"^```toml\n(.*?)^```$", KEYS, re.DOTALL | re.MULTILINE)
    for name in ("billing-secret", "store-url"):
        World.rewrite(tmp_path / name, "redis://127.0.0.1/0")
    assert set(read(World.rewrite(tmp_path / "evertoken.toml", example)).sources) == {"billing", "reports"}

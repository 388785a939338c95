"""Stores of a program's own on the command line, by their import path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evertoken.cli.main import main

MODULE = """
from evertoken import Record, Token
from evertoken.stores import FileStore, MemoryStore

store = FileStore("tokens")
number = 7

class Holder:
    inner = store

def make():
    return store

async def later():
    return store

def fails():
    raise RuntimeError("password=hunter2-hunter2")

def makes_nothing():
    return None

class Bare:
    async def read(self, key): ...

bare = Bare()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "program_of_a_user.py").write_text(MODULE, "utf-8")
    (tmp_path / "broken_of_a_user.py").write_text("import a_module_that_is_not_there\n", "utf-8")
    (tmp_path / "raising_of_a_user.py").write_text("1 / 0\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("program_of_a_user", "broken_of_a_user", "raising_of_a_user"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["store", "make", "Holder.inner"])
def test_a_store_is_named_by_its_import_path(folder, name, capsys):
    """L2: the commands open any store that a program has made, or that a function of it makes."""
    assert main(["store", "list", "--store", f"program_of_a_user:{name}"]) == 0
    assert "KEY" in capsys.readouterr().out
    assert main(["store", "check", "--store", f"program_of_a_user:{name}"]) == 0
    assert main(["store", "show", "--store", f"program_of_a_user:{name}", "key"]) == 1
    assert "no record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("program_of_a_user", "app.tokens:store"),
        ("program_of_a_user:", "app.tokens:store"),
        ("redis://user:hunter2-hunter2@host/0", "app.tokens:store"),
        ("no_such_module_of_a_user:store", "there is no module 'no_such_module_of_a_user'"),
        ("program_of_a_user.deeper:store", "program_of_a_user.deeper"),
        ("program_of_a_user:nothing", "there is no 'nothing' in program_of_a_user"),
        ("program_of_a_user:number", "is of type int, and no store"),
        ("program_of_a_user:later", "an async function"),
        ("program_of_a_user:fails", "failed: RuntimeError"),
        ("program_of_a_user:makes_nothing", "is of type NoneType, and no store"),
        ("program_of_a_user:bare", "lacks keys, holder"),
        ("broken_of_a_user:store", "cannot be imported: No module named 'a_module_that_is_not_there'"),
        ("raising_of_a_user:store", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_an_import_path(folder, path, said, capsys):
    """S1: each mistake in an import path has a message of its own, status 2, and tells no secret."""
    assert main(["store", "list", "--store", path]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "hunter2" not in err


def test_a_named_store_has_no_url(folder, capsys):
    """L2: what describes a store that is to be made is refused beside one that is made already."""
    more = ["file:/x", "--prefix", "p", "--ask-password"]
    assert main(["store", "list", "--store", "program_of_a_user:store", *more]) == 2
    assert "leave out the URL, --ask-password, --prefix" in capsys.readouterr().err


CONFIG = """
namespace = "app"
[store]
import = "{path}"
{more}
[sources.crm]
kind = "command"
arguments = ["echo", "the-token"]
lifetime = 3600
"""


def test_the_configuration_names_a_store(folder, capsys, monkeypatch):
    """L2: evertoken.toml takes an import path, of installed modules and of PYTHONPATH, for the store of all sources."""
    config = folder / "evertoken.toml"
    config.write_text(CONFIG.format(path="program_of_a_user:make", more=""), "utf-8")
    assert main(["check", "--config", str(config)]) == 2
    assert "there is no module 'program_of_a_user'" in capsys.readouterr().err
    monkeypatch.syspath_prepend(folder)
    assert main(["check", "--config", str(config), "--fetch"]) == 0
    assert "store: it answers" in capsys.readouterr().out
    assert main(["get", "crm", "--config", str(config)]) == 0
    assert main(["store", "list", "--store", "program_of_a_user:store"]) == 0
    assert "valid" in capsys.readouterr().out
    config.write_text(CONFIG.format(path="program_of_a_user:make", more='prefix = "p"'), "utf-8")
    assert main(["check", "--config", str(config)]) == 2
    assert "leave the other keys of this table out" in capsys.readouterr().err

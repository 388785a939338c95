"""The complete example of the page on testing: its files, saved and run with pytest, do what the page shows."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import subprocess
import sys
from typing import get_args

import pytest
from tests.docs.files import ROOT, environ, fences_of, files_of

from evertoken.testing import FaultKind, TokenServer

PAGE = "testing.md"


@pytest.mark.breakage
def test_the_example(tmp_path):
    """The tests of the page pass, and one of them fails if a promise that it shows does not hold."""
    for name, text in files_of(PAGE).items():
        (tmp_path / name).write_text(text)
    (console,) = fences_of(PAGE, "console")
    command, expected = console.split("\n", 1)

    def run() -> subprocess.CompletedProcess[str]:
        # The plugin comes by its entry point where the package is installed.
        line = [sys.executable, "-m", *command.removeprefix("$ ").split(), "-p", "no:cacheprovider"]
        return subprocess.run(
            line, check=False, cwd=tmp_path, env=environ(PYTHONWARNINGS=""), capture_output=True, text=True, timeout=60
        )

    done = run()
    assert fnmatch.fnmatchcase(done.stdout, expected.replace("[", "[[]").replace("…", "*")), done.stdout

    source = tmp_path / "invoices.py"
    source.write_text(source.read_text().replace("except TokenUnavailable", "except ZeroDivisionError"))
    assert "1 failed, 4 passed" in run().stdout


def test_habits():
    """The page has each habit of the server, and each of its faults."""
    page = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    told = set(re.findall(r'`"?(\w+)"?`', "\n".join(cells)))
    assert {field.name for field in dataclasses.fields(TokenServer) if field.init} <= told
    assert set(get_args(FaultKind)) <= told

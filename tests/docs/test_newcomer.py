"""A newcomer's path: each program of the tutorial prints what the page shows, each in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")

PROGRAM = re.compile(
    r"[Ss]ave this (?:program )?as `(?P<name>\w+\.py)`.*?^```python\n(?P<source>.*?)^```$", re.DOTALL | re.MULTILINE
)
COMMAND = re.compile(r"^```console\n\$ python (?P<command>.*?)\n(?P<output>.*?)^```$", re.DOTALL | re.MULTILINE)

FILES = {found["name"]: found["source"] for found in PROGRAM.finditer(TUTORIAL)}
COMMANDS = {found["command"]: found["output"] for found in COMMAND.finditer(TUTORIAL)}


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, check=False, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alike(output: str) -> str:
    """Return the output without fingerprints, times and ports, which differ from run to run."""
    return re.sub(r"<[0-9a-f]{8}>|\d+\.\d+(?=[s,)])|(?<=127\.0\.0\.1:)\d+", "...", output)


def test_the_tutorial_shows_all_steps():
    """Each file that the tutorial asks for is complete, and each command is one that the next test runs."""
    assert list(FILES) == ["first_token.py", "request.py", "revoked.py", "ahead.py", "billing.py", "test_billing.py"]
    assert list(COMMANDS) == [
        "first_token.py", "request.py", "revoked.py", "ahead.py 2> errors.log", "-m pytest -q",
    ]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_each_step_prints_what_the_page_shows(command: str, tmp_path: Path):
    """A newcomer who saves the programs and types the commands sees the output of the page."""
    for name, source in FILES.items():
        (tmp_path / name).write_text(source, encoding="utf-8")

    shown = run(tmp_path, *command.partition(" 2>")[0].split())

    assert alike(shown) == alike(COMMANDS[command])


def test_the_first_program_runs_as_pasted(tmp_path: Path):
    """The README's first program is a complete file, and prints what the README says."""
    (tmp_path / "program.py").write_text(README.split("```python\n")[1].split("```")[0], encoding="utf-8")

    assert "It prints `<Response [200 OK]>` twice." in README
    assert run(tmp_path, "program.py") == 2 * "<Response [200 OK]>\n"


def test_each_extra_is_explained():
    """The page about installing has a line for each extra, in the order of pyproject.toml."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `([\w-]+)` \|", page, flags=re.MULTILINE) == list(extras)


def test_the_readme_quotes_what_was_measured():
    """The figures of the README are those of its picture and of the benchmarks' page."""
    rows = [line for line in README.splitlines() if line.startswith("| ") and "python -m tests.benchmarks" in line]
    measured = (ROOT / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert len(rows) == 4
    for figure in (*re.findall(r"[\d.]+ (?:ms|ns)\b", "".join(rows[:1] + rows[2:3])), "3.6 x", "1, 500"):
        assert figure == "300 ms" or figure in measured, figure

    failed = re.search(r"\| (\d+ of \d+) requests fail \| (\d+ of \d+) fail \|", README)
    assert failed is not None
    for picture in ("demo.svg", "demo-dark.svg"):
        # matplotlib writes each text as a comment, too.
        text = (ROOT / "docs" / "_static" / picture).read_text(encoding="utf-8")
        assert f"<!-- the snippet everyone writes: {failed[1]} failed" in text
        assert f"<!-- evertoken: {failed[2]} failed" in text

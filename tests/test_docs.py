"""
All programs of the documentation run: each `python` block of the README, its neighbours, and the pages under docs.

The blocks of one page share their names and one event loop, and run in order in a folder of their own. A block may
`await` at its top level. Code that readers do not need stands in a comment. MyST and GitHub hide it, and it runs like
the rest:

    <!-- hidden: python
    server = await TokenServer().__aenter__()
    -->

A block that cannot be run is preceded by the reason: `<!-- not run: needs a Redis server -->`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"""
    (?P<excuse> ^[ ]*<!--[ ]not[ ]run:[ ]\S[^\n]*-->[ ]*\n\s* )?
    ^(?P<indent>[ ]*)
    (?:
        ```python[ ]*\n (?P<shown>.*?) ^(?P=indent)```[ ]*$
        | <!--[ ]hidden:[ ]python[ ]*\n (?P<hidden>.*?) ^(?P=indent)-->[ ]*$
    )
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


PAGE = """
```python
import asyncio
event = asyncio.Event()
```

- in a list:

  ```python
  task = asyncio.create_task(event.wait())
  await asyncio.sleep(0)
  ```

<!-- hidden: python
event.set()
assert await task
-->

<!-- not run: it would fail -->

```python
1 / 0
```

```python
async def main():
    return 1

done = asyncio.run(main())
```
"""


def blocks(text: str) -> list[tuple[int, str]]:
    """Return each block to run, with the line before its first line."""
    return [
        (text.count("\n", 0, found.start(part)), re.sub(rf"^{found['indent']}", "", found[part], flags=re.MULTILINE))
        for found in BLOCK.finditer(text)
        if not found["excuse"]
        for part in ("shown", "hidden")
        if found[part] is not None
    ]


def run(text: str, name: str) -> dict[str, object]:
    """Run the blocks of a page, and return the names they leave behind."""
    # A module that is not imported, for dataclasses and the like look themselves up by name.
    names: dict[str, object] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for line, source in blocks(text):
            # Tracebacks point at the page.
            code = compile("\n" * line + source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if inspect.iscoroutine(result):
                runner.run(result)
    return names


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.relative_to(ROOT).as_posix())
        for page in PAGES
        if "```python" in page.read_text("utf-8")
    ],
)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every example of a page runs as it stands there."""
    monkeypatch.chdir(tmp_path)
    run(page.read_text(encoding="utf-8"), str(page))


def test_every_python_fence_is_found():
    """No fence is passed over because it is written in another way, such as `py` or `{code-block} python`."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fences = re.findall(r"^[ >*+-]*[`~:]{3,}.*\b(?:py|python|python3|pycon)\b.*$", text, flags=re.MULTILINE)
        assert len(fences) == sum(found["shown"] is not None for found in BLOCK.finditer(text)), page


def test_blocks_share_names_and_one_loop():
    """A block can use the resources that an earlier block opened, awaiting or not, also in hidden blocks."""
    names = run(PAGE, "page.md")

    assert names["done"] == 1


def test_failure_points_at_its_line():
    """An example that fails is found by page and line."""
    with pytest.raises(ZeroDivisionError) as caught:
        run("# Title\n\n```python\nfine = 1\nawait __import__('asyncio').sleep(0)\n1 / 0\n```\n", "page.md")

    assert (str(caught.traceback[-1].path), caught.traceback[-1].lineno + 1) == ("page.md", 6)


def test_readme_shows_the_command_that_ci_runs():
    """The README's command for the tests is the one that CI runs, word for word."""
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().splitlines()[-1]

    assert f"\n{command}\n" in README.read_text(encoding="utf-8")


THREATS = (ROOT / "docs" / "explanation" / "threat-model.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in THREATS.split("## Threats")[1].splitlines()
    if line.startswith("| ") and not line.startswith(("| threat ", "| --- "))
]


def test_every_threat_has_a_clause_and_a_test():
    """The threat model names clauses of the contract, and existing tests, for each threat."""
    clauses = set(re.findall(r"^([A-Z]\d)$", (ROOT / "docs" / "contract.md").read_text("utf-8"), flags=re.MULTILINE))
    assert len(ROWS) > 30
    for threat, named, defence, tests in ROWS:
        assert set(named.split(", ")) <= clauses, threat
        assert defence, threat
        found = re.findall(r"`([^`]+)`", tests)
        assert ", ".join(f"`{one}`" for one in found) == tests, threat
        for one in found:
            file, _, name = one.partition("::")
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert not name or name in {getattr(node, "name", None) for node in tree.body}, one


def test_the_threat_model_covers_each_boundary():
    """Each party that the process trusts in part has its own table of threats."""
    headings = re.findall(r"^### (.*)$", THREATS, flags=re.MULTILINE)
    for party in ("Logs", "authorization server", "API servers", "proxies", "Stores", "tenants", "users of the machine",
                  "Child processes", "Supply chain"):  # fmt: skip
        assert any(party in heading for heading in headings), party


def test_matrix():
    """The table of sources says what the sources and the tests are: `python -m tests.matrix` writes it."""
    from tests import matrix  # noqa: PLC0415 - it imports every source

    assert matrix.parts()[1] == f"\n{matrix.table()}\n"
    own = matrix.by_own_server()
    assert all(own.get(name) for name in matrix.sources())


def test_table_of_clients():
    """The tables of clients say what their contracts are: `python -m tests.clients.adapters` writes them."""
    from tests.clients import adapters  # noqa: PLC0415 - it imports every client

    _, clients, _, sdks, _ = adapters.parts()
    assert clients == f"\n{adapters.table()}\n"
    assert sdks == f"\n{adapters.sdk_table()}\n"
    assert all(1 <= len(one.lines.splitlines()) <= 3 for one in [*adapters.ADAPTERS, *adapters.sdks()])

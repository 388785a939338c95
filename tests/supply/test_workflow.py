"""The actions of the CI are pinned, and have the fewest possible permissions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.y*ml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
class TestWorkflow:
    """One file of GitHub's."""

    def test_actions_are_pinned_by_hash(self, workflow):
        """A tag can be moved to other code, and a commit cannot; the tag stands beside it for people."""
        uses = re.findall(r"^\s*-?\s*uses:\s*(.*)$", workflow.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert uses
        for one in uses:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", one), one

    def test_least_permissions(self, workflow):
        """The workflow has no permission, and each job that has one may read the repository and nothing else."""
        text = workflow.read_text(encoding="utf-8")
        assert "\npermissions: {}\n" in text
        inner = re.findall(r"^ +permissions:(.*(?:\n +[\w-]+: (?:read|write|none))*)", text, flags=re.MULTILINE)
        assert {re.sub(r"\s+", " ", one).strip() for one in inner} <= {"contents: read"}
        assert "pull_request_target" not in text
        assert text.count("actions/checkout@") == text.count("persist-credentials: false")

    def test_tools_are_pinned(self, workflow):
        """All programs that are installed before nox takes over have a named version."""
        installed = re.findall(r"pip install (.*)$", workflow.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert installed
        for one in installed:
            for wanted in one.split():
                assert re.fullmatch(r'"?[\w-]+(\[[\w,]+\])?==[\w.]+"?', wanted), one

    def test_nothing_from_outside_is_run(self, workflow):
        """No text that a stranger may write, such as the title of a pull request, becomes part of a command."""
        text = workflow.read_text(encoding="utf-8")
        for expression in re.findall(r"\$\{\{\s*([^}]*?)\s*\}\}", text):
            assert not re.search(r"github\.(event\.(?!_)\w+\.(title|body|head)|head_ref)", expression), expression
            assert re.match(r"(matrix\.|github\.(workflow|ref|event_name)|join\(needs)", expression), expression

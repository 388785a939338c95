"""The command line, as a stranger types it."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from evertoken.cli import main as command, plot as pictures
from evertoken.cli.load import Sample
from evertoken.cli.main import main
from evertoken.cli.plan import Plan
from evertoken.cli.result import Result, column_of, promises_of
from evertoken.cli.snippet import SnippetTokens

PLAN = Plan.of(20.0, 100.0)


def evertoken(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "evertoken", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
        **options,
    )


def judged(samples: list[Sample], **changes: Any) -> Result:
    column = column_of("evertoken", samples, PLAN, token_requests=9, tokens_issued=7)
    facts: dict[str, Any] = {"waits": [(1.0, 1e-5)], "healing_fetches": 1, "most_in_flight": 1, **changes}
    return Result(plan=PLAN, evertoken=column, snippet=column, promises=promises_of(column, PLAN, **facts))


GOOD = [Sample(at=number / 10.0, latency=0.01, status=200) for number in range(200)]


@pytest.mark.breakage
def test_demo_as_json_with_a_picture(tmp_path: Path):
    """One run tells machines all of it, draws the picture, and ends with 0 because the promises were kept."""
    picture = tmp_path / "demo.svg"
    dark = tmp_path / "dark.svg"
    pictures = "--plot", str(picture), "--plot-dark", str(dark)
    run = evertoken("demo", "--seconds", "16", "--rate", "25", "--json", *pictures)

    result = json.loads(run.stdout)
    assert (run.returncode, run.stderr) == (0, ""), result["promises"]
    ours, theirs = result["evertoken"], result["snippet"]
    assert ours["requests"] == theirs["requests"] == 400
    assert ours["failed"] == ours["unauthorized"] == 0
    assert theirs["failed_after_revocation"] >= theirs["unauthorized"] > 0
    assert ours["tokens_issued"] <= ours["token_requests"]
    assert result["kept"]
    assert len(result["promises"]) == 6
    assert all(one.read_text().startswith("<?xml") and one.stat().st_size < 300_000 for one in (picture, dark))
    assert "#ffffff" in picture.read_text()
    assert "#ffffff" not in dark.read_text()


@pytest.mark.breakage
def test_demo_as_a_log():
    """Where there is no terminal the demo writes lines without escape codes, and the table at the end."""
    run = evertoken("demo", "--seconds", "12", "--rate", "20", env={**os.environ, "FORCE_COLOR": "", "TERM": "xterm"})

    assert run.returncode == 0, run.stdout + run.stderr
    assert "\x1b" not in run.stdout
    assert "the token endpoint goes down" in run.stdout
    assert "all access tokens are revoked" in run.stdout
    assert "evertoken's promises" in run.stdout
    assert "BROKEN" not in run.stdout
    assert max(map(len, run.stdout.split("evertoken's promises")[0].splitlines()[-14:])) <= 80


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for a single process on Windows")
def test_interrupt_ends_with_a_summary():
    """Ctrl-C ends the demo with the numbers so far, status 130 and no traceback."""
    # A run in the background may have begun with SIGINT ignored, which processes inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "evertoken", "demo", "--rate", "20"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline().lstrip().startswith(("0.", "1.", "2."))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert err == ""
    assert "cut short" in out
    assert "the token endpoint is back" not in out


def test_a_bad_argument_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """A wrong argument is reported by its name, before anything starts."""
    folder = tmp_path / "folder.svg"
    folder.mkdir()
    for arguments, words in [
        (["demo", "--seconds", "soon"], "--seconds: must be a number from 5 to 600"),
        (["demo", "--rate", "0"], "--rate: must be a number from 1 to 500"),
        (["demo", "--plot", "demo.gif"], "--plot: must end in .svg or .png"),
        (["demo", "--plot", "no/such/folder/demo.svg"], "--plot: there is no folder"),
        (["demo", "--plot", str(folder)], "--plot: cannot write"),
        (["fly"], "invalid choice"),
        ([], "COMMAND"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert words in capsys.readouterr().err


def test_a_reader_who_has_read_enough():
    """Where the output goes to a pipe that is closed, as by `head`, the demo ends without a traceback."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "evertoken", "demo", "--seconds", "5", "--rate", "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()

    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=20) == 141


def test_a_picture_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """A failure at the very end, such as a full disk, is reported in one line, after the summary."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logging.getLogger("evertoken"), "propagate", True)
    monkeypatch.setattr(command, "_run", lambda *_: (judged(GOOD), None))
    monkeypatch.setattr(pictures, "plot", full)

    assert main(["demo", "--plot", str(tmp_path / "demo.svg")]) == 1
    out, err = capsys.readouterr()
    assert "evertoken's promises" in out
    assert err.startswith("evertoken: cannot write")
    assert err.endswith("No space left on device\n")


@pytest.mark.parametrize("seconds", [5.0, 8.0, 20.0, 600.0])
def test_the_timetable_is_in_proportion(seconds: float):
    """However long the demo takes, the outage meets both sides when they refresh, and the revocation neither."""
    plan = Plan.of(seconds, 100.0)
    ours = [number * plan.lifetime / 2.0 for number in range(1, 7)]
    theirs = [number * (plan.lifetime - plan.margin + plan.latency) - plan.latency for number in range(1, 4)]

    for due in (ours, theirs):
        assert any(plan.outage[0] < at < plan.outage[1] for at in due)
        assert not any(at <= plan.revocation <= at + plan.latency for at in due)


async def test_the_snippet_s_margin():
    """The snippet fetches a token once, and again when the remaining lifetime is shorter than its margin."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"access_token": "t", "expires_in": 60}))
    async with httpx.AsyncClient(transport=transport) as client:
        for margin, fetches in ((50.0, 1), (70.0, 3)):
            asked: list[httpx.Request] = []

            async def count(request: httpx.Request, asked: list[httpx.Request] = asked) -> None:
                asked.append(request)

            client.event_hooks = {"request": [count]}
            snippet = SnippetTokens(client, "https://as.example.com/token", "app", "secret", margin)
            assert [await snippet.get() for _ in range(3)] == ["t"] * 3
            assert len(asked) == fetches


@pytest.mark.parametrize("missing", ["uvicorn", "matplotlib"])
def test_a_missing_extra_is_named(missing: str):
    """Without an optional dependency the command says which extra to install, and no traceback."""
    code = f"import sys; sys.modules[{missing!r}] = None; from evertoken.cli.main import main; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-c", code, "demo", "--plot", "x.svg"], capture_output=True, check=False, text=True, timeout=30
    )

    assert run.returncode == 2
    assert "pip install 'evertoken[" in run.stderr
    assert "Traceback" not in run.stderr


def test_kept_promises():
    """A run in which nothing failed and nothing waited keeps every promise."""
    assert judged(GOOD).kept


@pytest.mark.parametrize(
    ("samples", "changes"),
    [
        ([*GOOD, Sample(5.0, 0.01, 500)], {}),
        ([*GOOD, Sample(5.0, 0.01, 0, "TokenUnavailable")], {}),
        ([*GOOD, Sample(15.0, 0.01, 401)], {}),
        (GOOD, {"waits": [(5.0, 0.3)]}),
        (GOOD, {"waits": []}),
        (GOOD, {"healing_fetches": 2}),
        (GOOD, {"most_in_flight": 2}),
        ([], {}),
    ],
)
def test_broken_promises(samples: list[Sample], changes: dict[str, object]):
    """Each planted failure breaks a promise, so that the demo could not end with 0."""
    assert not judged(samples, **changes).kept


def test_waits_while_a_revocation_heals_are_no_breach():
    """A caller right after the revocation waits for the new token, as promised."""
    assert judged(GOOD, waits=[(PLAN.revocation + 0.1, 0.3), (1.0, 1e-5)]).kept


def test_version(capsys: pytest.CaptureFixture[str]):
    """The version is that of the package."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("evertoken 0.")

"""`evertoken get`, `exec`, `check` and `top` without an agent: their output and their exit status."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console
from tests.cli.world import BILLING, SECRET

from evertoken.cli.commands import complete
from evertoken.cli.main import _parser, main
from evertoken.cli.readings import KeyLine, ProviderLine, Reading
from evertoken.cli.top import life_bar, lines_of
from evertoken.cli.top_view import TopView

STORE = 'namespace = "x"\n[store]\nurl = "file:{folder}/tokens"\n'


@pytest.fixture
def run(world, monkeypatch, capsys):
    """Run the command line in this process; return its status, output and errors."""
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("EVERTOKEN_SOCKET", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(arguments)
        said = capsys.readouterr()
        assert SECRET not in said.out + said.err
        return status, said.out, said.err

    return run


def test_nothing_but_the_token(world, run):
    """The standard output is the token and a line break, also where there is something to warn of."""
    world.write(BILLING)
    status, out, err = run("get", "billing", "--min-ttl", "7200")
    assert (status, out.count("\n"), out.startswith("access-")) == (0, 1, True)
    assert err == f"evertoken: warning: the longest obtainable token lives {err.split()[-2]} s\n"


def test_the_store_is_shared(world, run):
    """K2: each call takes the token from the store; the server is asked once."""
    world.write(STORE + BILLING)
    tokens = {run("get", "billing")[1] for _ in range(3)}
    assert (len(tokens), len(world.server.requests)) == (1, 1)


def test_a_rotating_refresh_token_goes_on(world, run):
    """K1: each call presents the refresh token that the call before has kept, and never a spent one."""
    world.server.lifetime = 0.5
    world.rewrite(world.folder / "login", world.server.issue_grant())
    text = BILLING.replace("client_credentials", "refresh_token") + 'refresh_token = {{ file = "login" }}\n'
    world.write(STORE + text)
    used: set[str] = set()
    while len(used) < 4:
        assert run("get", "billing")[0] == 0
        used |= {dict(request.form)["refresh_token"] for request in world.server.requests}
    # A second presentation of the same refresh token would have ended the grant.
    assert len(used) == len(world.server.requests)


@pytest.mark.parametrize(
    ("fault", "arguments", "status", "says"),
    [
        ({"what": 500}, (), 3, "answered 500"),
        ({"what": "error", "error": "invalid_client", "status": 401}, (), 4, "a person must act: invalid_client"),
        ({"what": 500, "times": 2}, ("--timeout", "20"), 0, ""),
        ({}, ("--format", "netrc"), 2, "give --host HOST"),
        ({}, ("--format", "aws-process"), 2, "aws-process is for a source of the kind aws"),
        ({}, ("--socket", "/nowhere/agent.sock"), 0, ""),
    ],
)
def test_how_it_ends(world, run, fault, arguments, status, says):
    """The exit status says whether to try again, to correct something, or to call a person."""
    world.write(BILLING)
    if fault:
        what = fault.pop("what")
        world.server.fail(what, **fault)
    found, out, err = run("get", "billing", *arguments)
    assert (found, says in err or not says) == (status, True), err
    assert bool(out) == (status == 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("get", "biling"), "there is no source 'biling' (did you mean 'billing'?)"),
        (("exec", "billing=T"), "exec needs a command after --"),
        (("exec", "billing", "--", "true"), "is NAME=VARIABLE, as in billing=TOKEN, not 'billing'"),
        (("exec", "=T", "--", "true"), "is NAME=VARIABLE"),
        (("exec", "billing=A B", "--", "true"), "is NAME=VARIABLE"),
        (("exec", "biling=T", "--", "true"), "there is no source 'biling'"),
        (("get", "billing", "--config", "/nowhere.toml"), "/nowhere.toml: cannot be read: No such file or directory"),
        (("top",), "no agent runs, and the configuration has no [store] to look into"),
        (("store", "revoke", "billing"), "there is no [store], which this command needs"),
        (("store", "import", "billing"), "there is no [store], which this command needs"),
    ],
)
def test_what_makes_no_sense(world, run, arguments, says):
    """A wrong command line ends with 2 and a message that says what to do."""
    world.write(BILLING)
    status, out, err = run(*arguments)
    assert (status, out, says in err) == (2, "", True), err


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("/etc/hostname", 126)])
def test_a_command_that_cannot_be_run(world, command, status):
    """Like a shell, `exec` ends with 126 or 127 if the program cannot be run or does not exist."""
    world.write(BILLING)
    done = world.run("exec", "billing=T", "--", command)
    # A file that nobody may execute is not found in the first place.
    assert done.returncode in {status, 127}
    assert "access-" not in done.stdout + done.stderr


def test_a_rejection_is_told_once(world):
    """A caller with a rejected grant reads one line, with an agent and without."""
    world.write(BILLING.replace('"svc"', '"nobody"') + '[agent]\nsocket = "agent.sock"\n')
    with world.start("agent") as agent:
        agent.until(lambda: "serving" in agent.said)
        told = [world.run("get", "billing")]
        assert agent.end() == 0
    told.append(world.run("get", "billing"))
    for done in told:
        assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
        assert done.stderr.startswith("evertoken: a person must act: invalid_client"), done.stderr


def test_top_of_a_store_that_is_down(world):
    """`top` reports the fault of a store in one line."""
    world.write('namespace = "x"\n[store]\nurl = "redis://127.0.0.1:1/0"\n' + BILLING)
    done = world.run("top")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith("evertoken: the store failed: ConnectionError: "), done.stderr


def test_exec_takes_its_place(world):
    """Exec becomes the command: its output, its status, its variables and its options are its own."""
    world.write(BILLING + BILLING.replace("billing", "second"))
    code = "import os, sys; print(os.environ['A'] != os.environ['B'], sys.argv[1:]); sys.exit(7)"
    done = world.run("exec", "billing=A", "second=B", "--", sys.executable, "-c", code, "--min-ttl", "--", "x")
    assert (done.returncode, done.stdout, done.stderr) == (7, "True ['--min-ttl', '--', 'x']\n", "")


def test_check(world, run):
    """Check tells all mistakes at once; with --fetch it tells of each source."""
    world.write("fetch_timeout = 0\n" + BILLING.replace('"svc"', "7"))
    status, _, err = run("check")
    assert (status, len(err.splitlines())) == (2, 2)
    world.write(BILLING + BILLING.replace("billing", "wrong").replace('"svc"', '"nobody"'))
    assert run("check")[:2] == (0, f"{world.config}: no mistake found; sources: billing, wrong\n")
    assert world.server.requests == []
    status, out, _ = run("check", "--fetch")
    assert (status, out.splitlines()[1].startswith("billing: a token ")) == (1, True)
    assert "wrong: a person must act: invalid_client" in out


READING = Reading(
    at=1000.0,
    keys=[
        KeyLine(name="billing", state="fresh", token="0123abcd", issued_at=900.0, expires_at=1100.0, due_at=1060.0),
        KeyLine(name="evil\x1b[2J", state="failing", failures=3, error="down\x1b[2J"),
        KeyLine(name="endless", state="fresh", token="0123abcd", issued_at=900.0),
    ],
    providers=[ProviderLine(name="https://x", rate=1.5, attempts=7, down_since=940.0, budget_used=5, budget_left=2)],
    fetches=7,
    failed=3,
)


def test_top_in_plain_lines():
    """L2: a line for each key and provider, with its remaining life and its failure, and without control characters."""
    lines = list(lines_of(READING))
    assert lines[1].split() == ["billing", "fresh", "0123abcd", "1.7m", "1.0m"]
    assert lines[2].split() == ["evil?[2J", "failing", "-", "-", "-", "3", "(down?[2J)"]
    assert lines[5].split() == ["https://x", "1.5/s", "7", "0", "5", "(2", "left)", "for", "1.0m"]
    assert lines[-1] == "token requests: 7, failed: 3"
    assert "\x1b" not in "".join(lines)


def test_top_on_a_terminal():
    """The same is drawn on a terminal, with a bar for each life."""
    console = Console(record=True, width=120, force_terminal=True)
    with TopView(console) as view:
        view.update(READING)
    drawn = console.export_text()
    assert life_bar(READING.keys[0], READING.at) in drawn
    for words in ("billing", "evil?[2J", "3: down?[2J", "https://x", "for 1.0m", "token requests: 7"):
        assert words in drawn


@pytest.mark.parametrize(("now", "full"), [(900.0, 16), (1000.0, 8), (1100.0, 0), (2000.0, 0)])
def test_life_bar(now, full):
    """A bar shows the share of the life that is left."""
    line = KeyLine(name="x", state="fresh", token="t", issued_at=900.0, expires_at=1100.0)
    assert life_bar(line, now, 16) == "█" * full + "░" * (16 - full)


def test_top_of_a_store(world, run):
    """Where no agent runs, top shows what the store has."""
    world.write(STORE + BILLING)
    run("get", "billing")
    status, out, _ = run("top")
    assert (status, '["x","billing"' in out, " valid " in out, "access-" in out) == (0, True, True, False)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run, shell):
    """Each shell is told how to complete the command."""
    status, out, _ = run("completion", shell)
    assert (status, "evertoken" in out) == (0, True)


def test_completion_names_the_sources(world):
    """The name of a source is completed from the configuration."""
    world.write(BILLING)
    line = "evertoken get bil"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(
        world.folder / "completions"), "_ARGCOMPLETE_IFS": "\n"}  # fmt: skip
    world.run(env={**world.environ, **asked})
    assert (world.folder / "completions").read_text().strip() == "billing"


def test_nobody_asks_for_completion(monkeypatch):
    """Without a shell that asks, nothing is imported for it."""
    monkeypatch.delenv("_ARGCOMPLETE", raising=False)
    monkeypatch.setitem(sys.modules, "evertoken.cli.completion", None)
    complete(_parser())


@pytest.mark.parametrize(
    ("url", "says", "status"),
    [
        ("file:{folder}/tokens", "store: it answers\n", 0),
        ("sqlite:{folder}/tokens.db", "store: it answers\n", 0),
        ("redis://127.0.0.1:1/0", "store: ConnectionError: ", 1),
        ("postgresql://127.0.0.1:1/db", "store: OperationalError: ", 1),
    ],
)
def test_check_asks_the_store(world, run, url, says, status):
    """A store that is down is told of: a token of this process alone would look like one that is shared."""
    world.write(f'namespace = "x"\n[store]\nurl = "{url.format(folder=world.folder)}"\n' + BILLING)
    ended, out, _ = run("check", "--fetch")
    assert says in out
    assert "billing: a token " in out
    assert ended == status

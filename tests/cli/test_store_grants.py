"""`evertoken store revoke`, `import` and `keep-alive`: logins of people, shared with running services."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from types import SimpleNamespace

import pytest
from tests.cli.world import BILLING, SECRET

from evertoken import GrantRejected, TokenManager
from evertoken.cli.main import main
from evertoken.sources import RefreshToken
from evertoken.stores import FileStore

PEOPLE = (
    'namespace = "app"\n[store]\nurl = "file:{folder}/tokens"\n'
    + BILLING.replace("client_credentials", "refresh_token").replace("billing", "people")
    + 'revocation_endpoint = "{issuer}/revoke"\n'
)


@pytest.fixture
def run(world, monkeypatch, capsys):
    """Run the command line in this process, with a standard input; return its status, output and errors."""
    monkeypatch.setenv("EVERTOKEN_CONFIG", str(world.config))

    def run(*arguments: str, given: str = "") -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(given.encode())))
        status = main(["store", *arguments])
        said = capsys.readouterr()
        assert SECRET not in said.out + said.err
        assert "planted" not in said.out + said.err
        return status, said.out, said.err

    return run


def service(world) -> TokenManager:
    """A running service with the same store, namespace and grants."""
    source = world.server.oauth_client(revocation_endpoint=f"{world.server.url}/revoke")
    store = FileStore(world.folder / "tokens")
    return TokenManager(source_for=lambda _: RefreshToken(source), store=store, namespace="app")


def test_a_service_uses_what_was_imported(world, run):
    """K5: a service finds the logins that were imported under its own keys, texts, numbers and tuples."""
    world.write(PEOPLE)
    keys = ["alice", 7, ["tenant", 7]]
    lines = [json.dumps({"key": key, "refresh_token": world.server.issue_grant(str(key))}) for key in keys]
    assert run("import", "people", given="\n".join([*lines, "", ""])) == (
        0, "imported 3, kept 0 that were there, failed 0\n", "",
    )  # fmt: skip
    assert run("import", "people", given=lines[0])[1] == "imported 0, kept 1 that were there, failed 0\n"
    assert run("import", "people", "--replace", given=lines[0])[1] == "imported 1, kept 0 that were there, failed 0\n"

    async def use() -> None:
        async with service(world) as tokens:
            for key in ("alice", 7, ("tenant", 7)):
                assert (await tokens.get(key)).access_token

    asyncio.run(use())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"refresh_token": "planted"}', "needs a key: a string, a whole number or an array"),
        ('{"key": 1.5, "refresh_token": "planted"}', "needs a key: a string, a whole number or an array"),
        ('{"key": true, "refresh_token": "planted"}', "needs a key: a string, a whole number or an array"),
        ('{"key": "a"}', "is no grant: refresh_token must be a non-empty string, not str"),
        ('{"key": "a", "refresh_token": 7}', "is no grant: refresh_token must be a non-empty string, not int"),
        ('{"key": "a", "refresh_token": "planted", "token": "planted"}',
         "has the unknown field 'token'; known are key, refresh_token, scope, issued_at, expires_at, extra"),
        ('{"key": "a", "refresh_token": "planted", "issued_at": "now"}',
         "is no grant: issued_at must be a finite number of epoch seconds or None, not str"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_grant(world, run, line, says):
    """A line that cannot be imported is told by its number, and nothing of it is repeated (S1)."""
    world.write(PEOPLE)
    good = json.dumps({"key": "good", "refresh_token": "planted-good"})
    status, _, err = run("import", "people", given=f"{good}\n{line}\n")
    assert (status, err) == (2, f"evertoken: standard input, line 2: {says}\n")


def test_revoke(world, run):
    """K6: a service stops using the token of a key that was signed out, and the server is told."""
    world.write(PEOPLE)
    grant = json.dumps({"key": "alice", "refresh_token": world.server.issue_grant("alice")})
    run("import", "people", given=grant)

    async def use() -> None:
        async with service(world) as tokens:
            token = await tokens.get("alice")
            assert run("revoke", "people", "--key", "alice")[1].endswith("say --yes to do it\n")
            assert (await tokens.get("alice")).access_token == token.access_token
            done = await asyncio.to_thread(world.run, "store", "revoke", "people", "--key", "alice", "--yes")
            assert done.stdout == "signed out 'alice' of people; the server was told\n", done.stderr
            for _ in range(100):
                try:
                    await tokens.get("alice")
                except GrantRejected:
                    return
                await asyncio.sleep(0.1)
            pytest.fail("the service still uses the token")

    asyncio.run(use())


@pytest.mark.parametrize("idle", [None, "1000000"])
def test_keep_alive_once(world, run, idle):
    """One pass refreshes the grants that are about to die, each once, and leaves the others alone."""
    world.write(PEOPLE)
    now = world.server.now()
    ages = {"old": 999_990.0, "new": 10.0, "dead": 999_990.0}
    lines = [
        json.dumps({"key": key, "refresh_token": world.server.issue_grant(key), "issued_at": now - age})
        for key, age in ages.items()
    ]
    run("import", "people", given="\n".join(lines).replace(json.loads(lines[2])["refresh_token"], "unknown-grant"))
    more = () if idle is None else ("--idle", idle)
    status, out, _ = run("keep-alive", "people", "--once", *more)
    # Without --idle nobody says after how long they die.
    expected = (0, "refreshed 0, failed 0\n") if idle is None else (1, "refreshed 1, failed 1\n")
    assert (status, out) == expected
    assert run("keep-alive", "people", "--once", *more)[1] == "refreshed 0, failed 0\n"


@pytest.mark.breakage
def test_keep_alive_goes_on(world):
    """Without --once it goes on until SIGTERM."""
    world.write(PEOPLE)
    with world.start("store", "keep-alive", "people", "--idle", "1000") as running:
        running.until(lambda: "keeping the grants of people alive" in running.said)
        assert running.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("revoke", "people", "--key", "x"), "[sources.people] is single, and has no keys"),
        (("import", "people"), "[sources.people] is single, and takes no grants by key"),
    ],
)
def test_a_single_source_has_no_keys(world, run, arguments, says):
    """A source that is a manager's only one takes no key."""
    world.write(PEOPLE + "single = true\n")
    status, _, err = run(*arguments)
    assert (status, says in err) == (2, True), err

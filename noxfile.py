# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.10.14"]
# ///
"""
All checks of the project. Every session installs all it needs. `nox` runs the checks, `nox --list` names them.

The Pythons are those of the classifiers in pyproject.toml; one that is not installed is skipped. Arguments after `--`
go to the tool: `nox -s tests-3.13 -- -k refused -x`.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False

# Set once for all that the sessions start: a notice of pip's about itself is no result of ours.
os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
# niquests replaces urllib3, which the tests need. It is there where types and pages are made, and where nothing runs.
EXTRAS = ",".join(sorted({*PYPROJECT["project"]["optional-dependencies"]} - {"niquests"}))
EVERYTHING = f".[{EXTRAS}]"
ALL_EXTRAS = f".[{EXTRAS},niquests]"

# Only an extra, or the test runner, may be what a module misses.
IMPORT_ALL = """
import importlib, pkgutil
import evertoken

optional = {
    "aio_pika", "aiobotocore", "aiohttp", "aiokafka", "anthropic", "argcomplete", "asyncpg", "azure", "botocore",
    "cryptography", "filelock", "google", "grpc", "httpx2", "jwt", "keyring", "matplotlib", "mcp", "niquests",
    "obstore", "opentelemetry", "prometheus_client", "psycopg", "pymongo", "pytest", "redis", "requests", "rich",
    "sqlalchemy", "structlog", "uvicorn", "websockets",
}
for module in pkgutil.walk_packages(evertoken.__path__, "evertoken."):
    if module.name == "evertoken.__main__":
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if getattr(missing, "name", None) not in optional:
            raise
        print(f"{module.name}: waits for {missing.name}")
"""


def group(name: str) -> list[str]:
    """Return what the dependency group *name* asks for."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


#: Whether a session of this run has played what kills processes and servers: it takes minutes, on any Python.
BROKEN = [False]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """
    Run all tests on each Python present, against the package as users install it; the long ones on the first.

    Tests that kill processes and servers, and tests in debug mode, run once in a run of several Pythons. A session that
    is asked for alone, as in `nox -s tests-3.13`, leaves nothing out.
    """
    if not session.posargs:
        session.notify(f"niquests-{session.python}")
    session.install(EVERYTHING, *group("test"))
    selected = ["-m", "not breakage and not debug"] if BROKEN[0] and not session.posargs else []
    BROKEN[0] = True
    # One more worker than there are cores, because many tests wait for a server. An idle worker takes tests from the
    # others.
    workers = (os.cpu_count() or 1) + 1
    session.run("python", "-m", "pytest", f"--numprocesses={workers}", "--dist=worksteal", *selected, *session.posargs)


@nox.session(python=PYTHONS, default=False)
def niquests(session: nox.Session) -> None:
    """Run the tests of niquests, which replaces urllib3 and has an environment of its own. `tests` asks for it."""
    session.install(".[niquests]", *group("niquests"))
    session.run("python", "-m", "pytest", "tests/own_environment", *session.posargs)


@nox.session
def core(session: nox.Session) -> None:
    """Import every module with nothing installed but the required dependencies."""
    session.install(".")
    session.run("python", "-W", "error", "-c", IMPORT_ALL)


@nox.session(python=PYTHONS[0])
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest versions that pyproject.toml allows, on the oldest Python."""
    session.install("uv")
    lowest = "uv", "pip", "install", "--quiet", "--resolution=lowest-direct"
    session.run(*lowest, EVERYTHING, *group("test"))
    session.run("python", "-m", "pytest", *session.posargs)
    # It comes last, because it replaces urllib3.
    session.run(*lowest, ".[niquests]", *group("niquests"))
    session.run("python", "-m", "pytest", "tests/own_environment")


@nox.session
def coverage(session: nox.Session) -> None:
    """Run all tests and show the lines and branches that none of them took."""
    session.install(EVERYTHING, *group("test"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    if session.posargs:
        session.skip("part of the tests says nothing about coverage")
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, spelling, plain sentences, that each test has one, and pyproject.toml itself."""
    session.install(*group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("interrogate", "tests")
    session.run("codespell")
    session.run("python", "-m", "tests.prose")
    session.run("validate-pyproject", "pyproject.toml")


@nox.session
def types(session: nox.Session) -> None:
    """Check types inside, and that what users see of them is complete."""
    session.install(ALL_EXTRAS, *group("types"), *group("test"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "evertoken", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, and check links and pictures; a broken reference is an error. Examples are tests."""
    session.install(ALL_EXTRAS, *group("docs"))
    session.run("sphinx-build", "-n", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs)
    # Without the settings of the other tests, which need more packages.
    alone = "--noconftest", "-c", os.devnull, "--rootdir", "."
    checks = "python", "-m", "pytest", *alone, "-p", "no:cacheprovider", "tests/docs/test_site.py"
    session.run(*checks, env={"EVERTOKEN_SITE": "docs/_build/html"})


@nox.session
def demo(session: nox.Session) -> None:
    """Install the demo as a user would and run it: it fails unless evertoken kept its promises."""
    session.install(".[demo]")
    session.run("python", "-m", "evertoken", "demo", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel twice, compare them byte for byte, and leave them in dist."""
    session.install(*group("release"))
    session.run("python", "-m", "tests.supply.build", *(session.posargs or ["dist"]))


@nox.session
def sbom(session: nox.Session) -> None:
    """Write dist/sbom.cdx.json: the dependencies of evertoken and all its extras, in the format of CycloneDX."""
    session.install(*group("release"))
    # An environment of its own, or the list would name the tool that writes it.
    place = Path(session.create_tmp()) / "environment"
    session.run("python", "-m", "venv", "--clear", str(place))
    python = str(place / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "--quiet", ALL_EXTRAS, external=True)
    session.run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip", external=True)
    Path("dist").mkdir(exist_ok=True)
    session.run(
        "cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--mc-type", "library", "--output-reproducible",
        "--output-format", "JSON", "--output-file", "dist/sbom.cdx.json", python,
    )  # fmt: skip


@nox.session(default=False)
def enumeration(session: nox.Session) -> None:
    """
    Play every pair of faults in a refresh, or `-- --stress 10000` seeds of random use. `-- --help` names the options.
    """
    session.install(".[testing]")
    session.run("python", "-m", "tests.enumeration", *session.posargs)


@nox.session(default=False)
def leaks(session: nox.Session) -> None:
    """Make every public call with secrets planted, and look for them as error reporters do. `-- 9`: one of nine."""
    session.install(EVERYTHING, *group("test"))
    session.run("python", "-m", "tests.leaks", *session.posargs)


@nox.session(python=PYTHONS, default=False)
def benchmarks(session: nox.Session) -> None:
    """Measure the promised speed, as ratios within one run, on each Python present."""
    session.install(EVERYTHING, *group("test"))
    session.run("python", "-m", "pytest", "-s", "--timeout=600", "tests/benchmarks", *session.posargs)


@nox.session(default=False)
def comparison(session: nox.Session) -> None:
    """
    Run other libraries beside evertoken at the same work, and write docs/comparison.md: about ten minutes.

    `nox -s comparison -- --peer msal --scenario revoked` prints a part of it and leaves the page alone.
    """
    session.install(".[file,testing]", *group("comparison"))
    session.run("python", "-m", "tests.comparison", *session.posargs)


@nox.session(python=PYTHONS[0], default=False)
def chaos(session: nox.Session) -> None:
    """
    Stop stores and kill, freeze and replace members, ten times for each store and each length: about an hour.

    `nox -s chaos -- --runs 3 --seed 100 --seconds 10 --stores valkey` plays a part of it; the seeds are printed.
    """
    session.install(EVERYTHING, *group("test"))
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session(python=PYTHONS[0], default=False)
def mutation(session: nox.Session) -> None:
    """
    Change the core at 300 places, one at a time, and count the changes that a test notices: about an hour.

    `nox -s mutation -- --mutants 20 --seed 7` takes a smaller sample; `-- --list` prints the sample and runs nothing.
    """
    session.install(EVERYTHING, *group("test"), *group("mutation"))
    session.run("python", "-m", "tests.mutation", *session.posargs)

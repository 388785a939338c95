"""
The architecture rules that a reader can check in the source: the imports, the use of clocks, the length of files.

Sources are parsed, not imported, so that imports inside functions and for type checkers count as well.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "evertoken"

# The packages in the order in which they may use each other: each uses itself and those of a lower rank.
RANKS = {"_model": 0, "_engine": 1, "_coordination": 2, "_signing": 2, "_manager": 3, "_handle": 3}
ROOMS = ("sources", "stores", "clients", "observability")
# Public names gathered from below, and data.
FACADES = ("evertoken", "evertoken.events", "evertoken.health", "evertoken.providers")
OUTER = ("testing", "cli", "__main__")
# Python files that may stand at the package's root.
ROOT_FILES = 8

# Why each may look up.
UPWARD = {
    ("evertoken._manager", "evertoken.clients.httpx"): "auth() makes one, and imports it inside the method",
    ("evertoken._handle", "evertoken.clients.httpx"): "the type that auth() returns, for type checkers alone",
}

# Code for values and arithmetic needs no other module of the standard library.
PURE = {
    "__future__", "base64", "binascii", "collections", "collections.abc", "dataclasses", "datetime", "email.utils",
    "enum", "functools", "hashlib", "heapq", "html", "inspect", "ipaddress", "itertools", "json", "math", "re", "sys",
    "types", "typing", "unicodedata", "urllib.parse",
}  # fmt: skip

REQUIRED = {
    "httpx": "a dependency",
    "anyio": "a dependency",
    "idna": "comes with both, and writes a host as httpx does",
    "typing_extensions": "for type checkers alone, which bring it",
    "pytest": "the plugin is loaded by pytest, and by nobody else",
}

# Distributions whose module has another name.
MODULES = {
    "pyjwt": "jwt", "psycopg2-binary": "psycopg2", "pynacl": "nacl", "grpcio": "grpc", "pyyaml": "yaml",
    "azure-core": "azure", "google-auth": "google", "opentelemetry-api": "opentelemetry", "prometheus-client":
    "prometheus_client",
}  # fmt: skip
# Files that need what another one is the door to, and why.
SECOND_DOORS = {
    "_signing/jose.py": ("cryptography", "PyJWT signs with its keys, comes with it, and makes none itself"),
    "clients/botocore.py": ("botocore", "what its clients take, which has nothing to do with our own signatures"),
    "clients/psycopg.py": ("psycopg", "a client of its own, which the store in PostgreSQL does not know"),
    "stores/_own_table.py": ("sqlalchemy", "a store in tables, which the login of an engine does not know"),
    "clients/redis.py": ("redis", "a client of its own, which the store in Redis does not know"),
    "sources/aws/botocore_session.py": ("botocore", "what a session raises, which its user has"),
    "sources/google/google_auth_credentials.py": (
        "google",
        "what credentials raise, which their user has, and what they send with",
    ),
}

LONGEST = 330

# The timers that are not the clock's.
TIMERS = {
    ("_engine/supervisor.py", "call_later"): "the pause after a crash, for the clock may be what crashed",
    ("_engine/session.py", "time"): "a close ends within its bounds, also where the clock that was passed in is broken",
    ("_engine/reader.py", "call_later"): "the look at another loop's session, on a loop that has no clock",
    ("clients/_bearer.py", "sleep"): "the moment until a new token is known everywhere, on a loop that has no clock",
    ("stores/file.py", "sleep"): "the pause between two looks at a file that other processes write",
    ("stores/sqlite.py", "sleep"): "the pause between two looks at a database that other processes write",
    ("stores/_redis_client.py", "sleep"): "the pause between two looks at a pool that others have emptied",
    ("stores/redis.py", "sleep"): "the pause between two attempts to watch as a user who may not",
}

# The doors for time, and why there is more than one.
DOORS = {
    "_engine/clock.py": "the door",
    "stores/_host_clock.py": "leases between processes need the clock that counts from the boot",
}

NAMELESS = ("_manager", "_engine.supervisor", "_engine.flight")
NAMES = re.compile(
    r"""
    oauth | openid | \bjwt | \bsaml | dpop | sigv4
    | client_credentials | clientcredentials | refreshtoken | refresh_token | authorization_code | device_code
    | jwt-bearer | token-exchange | grant_type | token_endpoint | client_id | client_secret
    | httpx | httpcore | aiohttp | urllib | \brequests\.(?:get|post|session|auth) | botocore | niquests
    | google | gcloud | azure | microsoft | entra\b | \baws | amazon | github | gitlab | okta | auth0 | keycloak
    | salesforce | \bvault | openbao | kubernetes | spotify | atlassian | stripe
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass
class Module:
    """One file of the package."""

    name: str
    path: Path
    text: str
    tree: ast.Module
    imports: list[Import] = field(default_factory=list)

    @property
    def room(self) -> str:
        return (*self.name.split("."), "")[1]

    @property
    def rank(self) -> int | None:
        return RANKS.get(self.room)

    @property
    def where(self) -> str:
        return self.path.relative_to(PACKAGE).as_posix()


@dataclass(frozen=True)
class Import:
    """One import: of what, at which line, whether at run time, whether as soon as the module is imported."""

    target: str
    line: int
    at_runtime: bool
    at_once: bool


def imports(tree: ast.AST, known: set[str], *, at_runtime: bool = True, at_once: bool = True) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_runtime, at_once)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                # `from evertoken._model import events` means the module.
                deeper = f"{node.module}.{alias.name}"
                yield Import(deeper if deeper in known else str(node.module), node.lineno, at_runtime, at_once)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(ast.Module(node.body, []), known, at_runtime=False, at_once=False)
            yield from imports(ast.Module(node.orelse, []), known, at_runtime=at_runtime, at_once=at_once)
        else:
            later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, known, at_runtime=at_runtime, at_once=at_once and not later)


def read() -> dict[str, Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("evertoken", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, text, ast.parse(text))
    for module in found.values():
        module.imports = list(imports(module.tree, set(found)))
    return found


HOUSE = read()
INNER = [module for module in HOUSE.values() if module.room not in OUTER]


def of_package(name: str) -> list[Module]:
    return [module for module in HOUSE.values() if module.room == name]


def rank_of(target: str) -> int | None:
    """Return the rank of an imported module, or None if the module is outside the ranked packages."""
    return HOUSE[target].rank if target in HOUSE else None


def extras() -> dict[str, str]:
    """Return the module of each distribution that an extra of pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        match[0].lower()
        for wanted in project["optional-dependencies"].values()
        for requirement in wanted
        if (match := re.match(r"[A-Za-z0-9._-]+", requirement))
    }
    return {name: MODULES.get(name, name.replace("-", "_")) for name in sorted(named - {"evertoken"})}


OPTIONAL = extras()


def attributes(module: Module) -> Iterator[tuple[int, str, str]]:
    """Yield line, receiver and name of each attribute that is looked up."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node.value), node.attr


def told(offences: list[str]) -> None:
    assert not offences, "\n" + "\n".join(offences)


def test_there_is_a_house():
    """The walk finds the packages, their files, imports and the extras; else nothing below would say anything."""
    assert set(RANKS) <= {module.room for module in HOUSE.values()}
    assert len(HOUSE) > 50
    targets = {one.target for module in HOUSE.values() for one in module.imports}
    assert {"asyncio", "httpx", "evertoken._model.events", "evertoken._model.token"} <= targets
    assert {"httpx2", "matplotlib", "rich", "uvicorn"} <= set(OPTIONAL)
    manager = {one.target: one for one in HOUSE["evertoken._manager"].imports if one.at_runtime}
    assert manager["evertoken._engine.registry"].at_once
    assert not manager["evertoken.clients.httpx"].at_once


def test_every_module_has_its_place():
    """Section 3: each module stands in a ranked package, in a room, or among the public names; few at the root."""
    told(
        [
            f"{module.where}: put it into a package"
            for module in HOUSE.values()
            if module.rank is None and module.name not in FACADES and module.room not in (*ROOMS, *OUTER)
        ]
    )
    assert len([path.name for path in PACKAGE.glob("*.py")]) <= ROOT_FILES


def test_imports_point_down():
    """Section 3: a package uses itself and those of a lower rank; the exceptions are listed, and are needed."""
    offences, used = [], set()
    for module in HOUSE.values():
        for one in module.imports:
            if module.rank is None or not one.target.startswith("evertoken"):
                continue
            above = rank_of(one.target)
            own = one.target in HOUSE and HOUSE[one.target].room == module.room
            if own or (above is not None and (above < module.rank or above == module.rank == RANKS["_manager"])):
                continue
            if (module.name, one.target) in UPWARD and not one.at_once:
                used.add((module.name, one.target))
                continue
            offences.append(f"{module.where}:{one.line}: {module.room} imports {one.target}")
    told(offences)
    assert used == set(UPWARD)


def test_auth_alone_imports_upwards_at_run_time():
    """Section 4: the one import that points up when the code runs stands inside TokenManager.auth()."""
    upward = [
        (name, one.line) for name, target in UPWARD for one in HOUSE[name].imports
        if one.target == target and one.at_runtime
    ]  # fmt: skip
    assert [name for name, _ in upward] == ["evertoken._manager"]
    auth = next(
        node
        for node in ast.walk(HOUSE["evertoken._manager"].tree)
        if isinstance(node, ast.FunctionDef) and node.name == "auth"
    )
    assert auth.end_lineno is not None
    assert auth.lineno < upward[0][1] <= auth.end_lineno


def test_no_import_runs_in_a_circle():
    """Section 4: at run time the modules can be put in an order, each after those that it imports at once."""
    uses = {
        name: {one.target for one in module.imports if one.at_once and one.target in HOUSE and one.target != name}
        for name, module in HOUSE.items()
    }
    assert list(graphlib.TopologicalSorter(uses).static_order())


def test_rooms_do_not_know_each_other():
    """Section 4: sources, stores, clients and observability import themselves and what lies below the manager."""
    offences = []
    for module in HOUSE.values():
        if module.room not in ROOMS:
            continue
        for one in module.imports:
            own = one.target.startswith(f"evertoken.{module.room}")
            rank = rank_of(one.target)
            below = (rank is not None and rank < RANKS["_manager"]) or one.target == "evertoken.providers"
            if one.target.startswith("evertoken") and not own and not below:
                offences.append(f"{module.where}:{one.line} imports {one.target}")
    told(offences)


def test_nobody_uses_what_uses_everything():
    """Section 4: testing and cli are imported by themselves alone, and the public names by those two."""
    offences = []
    for module in HOUSE.values():
        for one in module.imports:
            target = (*one.target.split("."), "")[1]
            inside = module.room in OUTER
            if one.target.startswith("evertoken") and target in OUTER and not inside:
                offences.append(f"{module.where}:{one.line} imports {one.target}")
            if one.target == "evertoken" and not inside:
                offences.append(f"{module.where}:{one.line} imports the public names, which are made of it")
            if module.room == "testing" and target == "cli":
                offences.append(f"{module.where}:{one.line} imports {one.target}")
    told(offences)


def test_the_model_is_pure():
    """Section 4: values and arithmetic import no event loop, no clock, no I/O and nothing of others."""
    told(
        [
            f"{module.where}:{one.line} imports {one.target}"
            for module in of_package("_model")
            for one in module.imports
            if one.target not in PURE and not one.target.startswith("evertoken") and one.at_runtime
        ]
    )


def test_protocols_hold_no_implementation():
    """Section 3: the methods of a protocol are words alone."""
    module = HOUSE["evertoken._model.protocols"]
    for cls in ast.walk(module.tree):
        if isinstance(cls, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in cls.bases):
            for method in cls.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    (only,) = method.body
                    assert isinstance(only, ast.Expr), f"{cls.name}.{method.name}"
                    assert isinstance(only.value, ast.Constant), f"{cls.name}.{method.name}"


def test_what_others_wrote_is_declared():
    """Section 1: each import names a module of Python, one of ours, a required dependency, or a package of an extra."""
    allowed = {"evertoken", *sys.stdlib_module_names, *REQUIRED, *OPTIONAL.values()}
    told(
        [
            f"{module.where}:{one.line} imports {one.target}, which pyproject.toml does not name"
            for module in HOUSE.values()
            for one in module.imports
            if one.target.partition(".")[0] not in allowed
        ]
    )
    told(
        [
            f"{module.where}:{one.line} imports {one.target}: {REQUIRED[one.target]}"
            for module in HOUSE.values()
            for one in module.imports
            if (one.target == "typing_extensions" and one.at_runtime)
            or (one.target == "pytest" and module.room != "testing")
        ]
    )


@pytest.mark.parametrize("distribution", OPTIONAL)
def test_optional_dependency_has_one_door(distribution):
    """Section 1: an optional dependency is imported in one file of the library, and at most one of testing and cli."""
    wanted = OPTIONAL[distribution]
    doors = {
        module.where: module.room if module.room in OUTER else "library"
        for module in HOUSE.values()
        for one in module.imports
        if one.target.partition(".")[0] == wanted and SECOND_DOORS.get(module.where, ("",))[0] != wanted
    }
    assert doors
    assert len(doors) == len(set(doors.values())), doors


@pytest.mark.parametrize("distribution", OPTIONAL)
def test_missing_optional_dependency_names_its_extra(distribution):
    """Section 1: if an extra is missing, the ImportError says which one to install."""
    wanted = OPTIONAL[distribution]
    for module in HOUSE.values():
        if not any(one.target.partition(".")[0] == wanted and one.at_runtime for one in module.imports):
            continue
        assert re.search(r"except (?:ImportError|ModuleNotFoundError) as", module.text), module.where
        assert re.search(r"pip install 'evertoken\[[a-z0-9,-]+\]'", module.text), module.where


@pytest.mark.parametrize("name", NAMELESS)
def test_engine_knows_no_provider(name):
    """Section 4: the engine's heart names no grant, vendor or HTTP library, auth() and its type excepted."""
    module = HOUSE[f"evertoken.{name}"]
    lines = module.text.splitlines()
    if name == "_manager":
        for node in ast.walk(module.tree):
            is_auth = isinstance(node, ast.FunctionDef) and node.name == "auth"
            is_type = isinstance(node, ast.ImportFrom) and node.module == "evertoken.clients.httpx"
            if is_auth or is_type:
                assert isinstance(node, ast.FunctionDef | ast.ImportFrom)
                for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                    lines[line - 1] = ""
    told([f"{module.where}:{number}: {line}" for number, line in enumerate(lines, 1) if NAMES.search(line)])


def test_names_of_providers_are_recognized():
    """The test above would see a grant, a vendor and a library, and takes no plain word for one."""
    assert all(map(NAMES.search, ("import httpx", "the AWS way", "grant_type", "`OAuth`", "GitHub")))
    assert not any(map(NAMES.search, ("GrantRejected", "laws", "each requests one", "a token is refreshed", "default")))


def test_no_file_is_too_long():
    """Section 4: a file is something a reader can hold in the head."""
    lengths = {module.where: len(module.text.splitlines()) for module in HOUSE.values()}
    told([f"{where} has {length} lines, of at most {LONGEST}" for where, length in lengths.items() if length > LONGEST])


def test_one_door_for_time():
    """T3: the library imports no `time`, sleeps nowhere, and asks nothing but a clock; exceptions have a reason."""
    offences, used = [], set()
    for module in INNER:
        if module.where in DOORS:
            continue
        offences += [
            f"{module.where}:{one.line} imports {one.target}"
            for one in module.imports
            if one.target in {"time", "sched", "timeit"}
        ]
        for line, receiver, name in attributes(module):
            clock = receiver.lower().endswith("clock")
            asks = name in {"time", "monotonic", "perf_counter", "call_later", "call_at"} and not clock
            today = name in {"now", "utcnow", "today"} and re.search(r"\b(?:date|datetime|dt)$", receiver)
            timer = receiver in {"asyncio", "anyio"} and re.fullmatch(
                "sleep.*|timeout(_at)?|wait_for|(fail|move_on)_.*|current_time", name
            )
            if (module.where, name) in TIMERS and not clock:
                used.add((module.where, name))
            elif asks or today or timer:
                offences.append(f"{module.where}:{line}: {receiver}.{name}")
    told(offences)
    assert used == set(TIMERS)


def test_the_door_is_one():
    """T3: the clock module itself asks the system, so the test above searches for calls that really exist."""
    door = HOUSE["evertoken._engine.clock"]
    assert "time" in {one.target for one in door.imports}
    assert {"time", "monotonic", "call_later"} <= {name for _, _, name in attributes(door)}


def test_every_task_has_an_owner():
    """F5: a task that nobody refers to may be collected in mid-flight; only a task group keeps its own."""
    offences = []
    for module in HOUSE.values():
        groups = {
            ast.unparse(item.optional_vars)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.AsyncWith)
            for item in node.items
            if item.optional_vars is not None and "TaskGroup" in ast.unparse(item.context_expr)
        }
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                called = node.value.func
                name = called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)
                owner = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
                if name in {"create_task", "ensure_future"} and owner not in groups:
                    offences.append(f"{module.where}:{node.lineno}: {ast.unparse(node)[:80]}")
    told(offences)


def test_nothing_is_shielded_or_polled():
    """Section 5: a shield per waiter is quadratic to cancel, and an Event per key costs more than all else of it."""
    offences = []
    for module in INNER:
        offences += [
            f"{module.where}:{line}: {receiver}.{name}"
            for line, receiver, name in attributes(module)
            if (receiver, name) in {("asyncio", "shield"), ("asyncio", "Event"), ("asyncio", "get_event_loop")}
        ]
    told(offences)


def test_the_library_prints_nothing():
    """L2: what happens is told by events and the log; only the command line prints."""
    told(
        [
            f"{module.where}:{node.lineno}: {ast.unparse(node)[:80]}"
            for module in HOUSE.values()
            if module.room != "cli"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "sys.stdout.write", "breakpoint"}
        ]
    )


def test_nothing_is_left_for_later():
    """Open tasks stand in issues, not in the code, and no debugging aid is left behind."""
    unfinished = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|\bpdb\b|NotImplementedError")
    told(
        [
            f"{module.where}:{module.text.count(chr(10), 0, found.start()) + 1}: {found[0]}"
            for module in HOUSE.values()
            for found in unfinished.finditer(module.text)
        ]
    )


def test_every_module_says_what_it_is():
    """Each file opens with a docstring, and each but the package's doors names what others may take from it."""
    told(
        [
            f"{module.where} has no docstring"
            for module in HOUSE.values()
            if not (ast.get_docstring(module.tree) or "").strip()
        ]
    )
    told(
        [
            f"{module.where} has no __all__"
            for module in INNER
            if "__all__" not in module.text and any(isinstance(node, ast.ClassDef) for node in module.tree.body)
        ]
    )

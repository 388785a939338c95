"""The table of sources in the documentation, read off the sources and the tests: `python -m tests.matrix` writes it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "providers.md"
BEGIN, END = "<!-- matrix: written by python -m tests.matrix -->\n", "<!-- end of matrix -->\n"

ROOMS = ("", "aws", "azure", "google", "vault")
#: The parameters of a source that asks a server itself.
ASKS = {"client", "credentials", "options"}
SERVERS = {"Wire", "TokenServer"}

#: The peer libraries of tests/sources/test_against_peers.py, by the start of the function that runs each.
PEERS = {
    "oauth2_client": "requests-oauth2client",
    "google_": "google-auth",
    "botocore_": "botocore",
    "azure_identity": "azure-identity",
    "pygithub": "PyGithub",
    "hvac_": "hvac",
}
#: The peer libraries of the modules in tests/thirdparty.
THIRD_PARTY = {
    "test_authlib.py": "Authlib",
    "test_django_oauth_toolkit.py": "django-oauth-toolkit",
    "test_moto.py": "moto",
}


def sources() -> dict[str, type]:
    """Return each public source by the name users write."""
    found = {}
    for room in ROOMS:
        module: ModuleType = importlib.import_module(".".join(filter(None, ("evertoken.sources", room))))
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) and hasattr(thing, "fetch"):
                found[".".join(filter(None, (room, name)))] = thing
    return found


def calls(tree: ast.AST) -> set[str]:
    """Return the names of all that is called, and of all methods that are."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            # By its name alone, through its room, or by a class method.
            names.update(re.findall(r"[A-Za-z_][\w.]*", ast.unparse(node.func)))
    return names | {name.rpartition(".")[2] for name in names} | {name.partition(".")[0] for name in names}


def used(tree: ast.AST) -> list[str]:
    """Return the names, as users write them, that the file imports from the sources and calls."""
    called = calls(tree)
    return [
        ".".join(filter(None, ((node.module or "").removeprefix("evertoken.sources").lstrip("."), alias.name)))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evertoken.sources")
        for alias in node.names
        if alias.name in called
    ]


def by_own_server() -> dict[str, list[str]]:
    """Return which test modules drive a source against a server of ours."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests" / "sources").glob("test_*.py")):
        if path.name in {"test_against_peers.py", "test_classification.py"}:
            continue
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        if (SERVERS | {"a_request"}) & calls(tree):
            for source in used(tree):
                found.setdefault(source, []).append(path.name)
    return found


def by_peer() -> dict[str, set[str]]:
    """Return which clients of others are asked for the same as a source."""
    tree = ast.parse((ROOT / "tests" / "sources" / "test_against_peers.py").read_text("utf-8"))
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Case":
            ours, theirs = node.args[:2]
            asked = ast.unparse(theirs)
            peer = next(name for prefix, name in PEERS.items() if re.search(rf"\b{prefix}", asked))
            source = next(one for one in re.findall(r"[A-Za-z_][\w.]*", ast.unparse(ours)) if one in sources())
            found.setdefault(source, set()).add(peer)
    return found


def by_third_party() -> dict[str, set[str]]:
    """Return which servers of others a source is driven against."""
    found: dict[str, set[str]] = {}
    for name, server in THIRD_PARTY.items():
        for source in used(ast.parse((ROOT / "tests" / "thirdparty" / name).read_text("utf-8"))):
            found.setdefault(source, set()).add(server)
    return found


def supports(source: type) -> str:
    """Return what a source can do besides giving tokens."""
    parameters = inspect.signature(source).parameters
    doc = inspect.getdoc(source) or ""
    found = []
    if getattr(source, "credential", None) is not None:
        found.append("key pairs")
    if hasattr(source, "revoke"):
        found.append("revocation")
    of_client = "client" in parameters and "OAuthClient" in str(parameters["client"].annotation)
    if of_client:
        found += ["providers by name", "DPoP"]
    if of_client or "read for each" in doc or "Path" in doc or "rewrite" in doc:
        found.append("secrets read anew")
    extra = re.search(r"extra `(\w+)`", doc)
    if extra is not None:
        found.append(f"needs `{extra[1]}`")
    return ", ".join(found) or "-"


def table() -> str:
    """Return the table, in Markdown."""
    own, peers, servers = by_own_server(), by_peer(), by_third_party()
    lines = [
        "| source | supports | own server | client of others | server of others |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, source in sorted(sources().items(), key=lambda item: ("." in item[0], item[0])):
        checked = [
            ("yes" if ASKS & set(inspect.signature(source).parameters) else "(asks none)") if own.get(name) else "-",
            ", ".join(sorted(peers.get(name, ()))) or "-",
            ", ".join(sorted(servers.get(name, ()))) or "-",
        ]
        lines.append(f"| `{name}` | {supports(source)} | {' | '.join(checked)} |")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    """Return the part of the page before the table, the table itself, and the part after it."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    written, _, behind = rest.partition(END)
    return before, written, behind


if __name__ == "__main__":
    before, _, behind = parts()
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{behind}", "utf-8")

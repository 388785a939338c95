"""The public names: they are importable and documented, and the reference lists and shows them."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import evertoken

ROOT = Path(__file__).parent.parent
PAGES = {page: page.read_text("utf-8") for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
EXAMPLES = "\n".join(
    found[1]
    for text in PAGES.values()
    for found in re.finditer(r"(?:```|<!-- hidden: )python *\n(.*?)^ *(?:```|-->) *$", text, re.DOTALL | re.MULTILINE)
)
REFERENCE = "\n".join(text for page, text in PAGES.items() if page.parent.name == "reference")

#: Where users import from.
PUBLIC = (
    "evertoken",
    "evertoken.events",
    "evertoken.health",
    "evertoken.providers",
    "evertoken.sources",
    "evertoken.sources.aws",
    "evertoken.sources.azure",
    "evertoken.sources.google",
    "evertoken.sources.mcp",
    "evertoken.sources.vault",
    "evertoken.stores",
    "evertoken.testing",
    "evertoken.clients.aio_pika",
    "evertoken.clients.aiobotocore",
    "evertoken.clients.aiohttp",
    "evertoken.clients.aiokafka",
    "evertoken.clients.anthropic",
    "evertoken.clients.asyncpg",
    "evertoken.clients.azure",
    "evertoken.clients.botocore",
    "evertoken.clients.google",
    "evertoken.clients.grpc",
    "evertoken.clients.httpx",
    "evertoken.clients.httpx2",
    "evertoken.clients.kafka",
    "evertoken.clients.kubernetes",
    "evertoken.clients.mcp",
    "evertoken.clients.obstore",
    "evertoken.clients.psycopg",
    "evertoken.clients.pymongo",
    "evertoken.clients.redis",
    "evertoken.clients.requests",
    "evertoken.clients.sqlalchemy",
    "evertoken.clients.websockets",
    "evertoken.observability.opentelemetry",
    "evertoken.observability.prometheus",
    "evertoken.observability.structlog",
)

#: Section 4 of the design.
FIXED = {
    "evertoken": """
        TokenManager Token RefreshPolicy RetryPolicy TokenSource TokenStore TokenUnavailable GrantRejected
        TransientRefreshError ManagerClosed
    """,
    "evertoken.sources": "ClientCredentials RefreshToken",
    "evertoken.stores": "MemoryStore",
}


def names() -> list[Any]:
    return [
        pytest.param(module, name, id=f"{module}.{name}")
        for module in PUBLIC
        for name in importlib.import_module(module).__all__
        if not (module == "evertoken" and name == "events")
    ]


@pytest.mark.parametrize(("module", "name"), names())
def test_every_public_name(module, name):
    """Each public name exists, has a docstring unless it is an alias, stands in the reference, and in a run example."""
    thing = getattr(importlib.import_module(module), name)
    if isinstance(thing, type):
        assert thing.__doc__
    assert re.search(rf"\b{name}\b", REFERENCE), f"{name} is missing in docs/reference"
    assert re.search(rf"\b{name}\b", EXAMPLES), f"{name} is in no example that is run"


@pytest.mark.parametrize("module", FIXED)
def test_fixed_names(module):
    """Section 4: the names that are promised for good are there."""
    assert set(FIXED[module].split()) <= set(importlib.import_module(module).__all__)


def test_errors_are_siblings():
    """F4: who handles one failure does not handle the other by accident."""
    assert not issubclass(evertoken.TokenUnavailable, evertoken.GrantRejected)
    assert not issubclass(evertoken.GrantRejected, evertoken.TokenUnavailable)
    assert issubclass(evertoken.TokenUnavailable, evertoken.TokenError)
    assert issubclass(evertoken.GrantRejected, evertoken.TokenError)


def test_every_method_says_what_it_does():
    """Each public method of a public class has a docstring."""
    silent = []
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            thing = getattr(importlib.import_module(module), name)
            for method, value in vars(thing).items() if isinstance(thing, type) else ():
                if not method.startswith("_") and callable(value) and not value.__doc__:
                    silent.append(f"{module}.{name}.{method}")
    assert not silent


def test_importing_brings_nothing_optional():
    """Section 1: `import evertoken` imports anyio, none of the extras, and nothing that only some programs need."""
    code = "import sys, evertoken; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, check=True, text=True)
    optional = {"uvicorn", "rich", "httpx2", "matplotlib", "pytest", "redis", "psycopg", "cryptography", "filelock"}
    optional |= {"aiohttp", "requests", "httpx", "httpcore", "email", "urllib", "pathlib", "secrets"}
    assert not optional & set(run.stdout.split())


def test_every_module_can_be_imported_alone():
    """Each module imports by itself, in any order."""
    modules = [found.name for found in pkgutil.walk_packages(evertoken.__path__, "evertoken.")]
    modules.remove("evertoken.__main__")
    # They need an environment of their own: `nox -s niquests`.
    modules.remove("evertoken.clients.niquests")
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"
    subprocess.run([sys.executable, "-W", "error", "-c", code, *reversed(modules)], check=True)

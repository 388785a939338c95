"""No release with a known hole is allowed by pyproject.toml, as far as the data in advisories.toml goes."""

from __future__ import annotations

import datetime as dt
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
DATA = tomllib.loads((Path(__file__).parent / "advisories.toml").read_text(encoding="utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]

USERS = {"dependencies": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
OURS = {
    f"group {name}": [one for one in wanted if isinstance(one, str)]
    for name, wanted in PYPROJECT["dependency-groups"].items()
}


def allowed() -> list[tuple[str, Requirement]]:
    """Return each requirement, with the place it stands in."""
    return [(place, Requirement(one)) for place, wanted in {**USERS, **OURS}.items() for one in wanted]


def floor(wanted: Requirement) -> Version | None:
    """Return the oldest version that *wanted* allows."""
    found = [Version(one.version) for one in wanted.specifier if one.operator in {">=", "==", "~="}]
    return max(found, default=None)


def named(package: str) -> list[tuple[str, Requirement]]:
    return [(place, one) for place, one in allowed() if canonicalize_name(one.name) == canonicalize_name(package)]


@pytest.mark.parametrize("advisory", DATA["advisory"], ids=lambda one: f"{one['package']}-{one['id']}")
def test_floors_exclude_what_has_a_hole(advisory: dict[str, Any]):
    """Every requirement of a package with an advisory begins at the fixed release, or at one that asks for it."""
    through = advisory.get("through")
    package, fixed = (advisory["package"], advisory["fixed_in"]) if not through else through.values()
    found = named(package)
    assert found, f"nothing asks for {package}: is the advisory {advisory['id']} still of use?"
    for place, wanted in found:
        oldest = floor(wanted)
        assert oldest is not None, f"{place} asks for {wanted}, of any version"
        assert oldest >= Version(fixed), (
            f"{place} allows {package} {oldest}, which has {advisory['id']}: {advisory['about']}; ask for "
            f">={fixed} ({advisory['source']})"
        )


@pytest.mark.parametrize("advisory", DATA["advisory"], ids=lambda one: f"{one['package']}-{one['id']}")
def test_an_older_floor_would_be_found(advisory):
    """The check is one: a requirement that begins just before the fixed release is older than it."""
    older = floor(Requirement(f"{advisory['package']}>={advisory['fixed_in']}.dev0"))
    assert older is not None
    assert older < Version(advisory["fixed_in"])
    assert advisory["source"].startswith("https://")
    assert advisory["id"].startswith(("CVE-", "GHSA-", "PYSEC-"))


def test_every_dependency_was_looked_at():
    """
    Every dependency is either without a known security hole, or has its lower bound above one.

    New dependencies are checked.
    """
    known = {canonicalize_name(one["package"]) for one in DATA["advisory"]} | set(DATA["none_found"])
    known |= {canonicalize_name(one["through"]["package"]) for one in DATA["advisory"] if "through" in one}
    asked = {canonicalize_name(Requirement(one).name) for wanted in USERS.values() for one in wanted}
    assert asked <= known
    assert set(DATA["none_found"]) <= asked
    assert DATA["looked_at"] >= dt.date(2026, 11, 26)


def test_tests_run_with_what_users_may_have():
    """A group asks for the same lower bound as the extra, so that `nox -s minimums` tests the promised versions."""
    for wanted in (one for asked in USERS.values() for one in asked):
        mine = Requirement(wanted)
        for place, other in named(mine.name):
            assert floor(other) == floor(mine), f"{place}: {other}, elsewhere {mine}"


def test_what_is_imported_is_declared():
    """Httpx and anyio bring idna, and the library imports it: so it is a dependency of its own."""
    imported = [path for path in (ROOT / "src").rglob("*.py") if "import idna" in path.read_text(encoding="utf-8")]
    assert bool(imported) == bool([place for place, _ in named("idna") if place == "dependencies"])

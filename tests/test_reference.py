"""The tables of the reference are complete, and name the defaults of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import evertoken
from evertoken import Budget, KeepAlivePolicy, RateLimit, RefreshPolicy, RetryPolicy, TokenManager, events
from evertoken.sources import OAuthClient, RefreshToken, TokenFile
from evertoken.stores import FileStore, PostgresStore, RedisStore, SQLiteStore
from evertoken.stores.encryption import AesGcm

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"

# These stand in the table with all parameters that have a default, and those below with some of them.
WHOLE = (TokenManager, RefreshPolicy, RetryPolicy, KeepAlivePolicy, RateLimit, Budget)
NAMED: dict[str, Any] = {
    **{one.__name__: one for one in WHOLE},
    **{one.__name__: one for one in (OAuthClient, RefreshToken, TokenFile, AesGcm)},
    **{one.__name__: one for one in (FileStore, PostgresStore, RedisStore, SQLiteStore)},
    **{name: getattr(TokenManager, name) for name in ("auth", "get", "events", "import_grants")},
}


def rows(page: str) -> list[list[str]]:
    lines = (REFERENCE / page).read_text("utf-8").splitlines()
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines if line.startswith("| `")]


def settings() -> list[tuple[str, str, str]]:
    """Return the callable, the parameter and the default of each row of the table of settings."""
    return [
        (name, parameter, default)
        for row in rows("configuration.md")
        for owners, parameter, default in re.findall(r"^(.*)<br>`(\w+)=([^`]+)`$", row[0])
        for name in re.findall(r"[A-Za-z_]+", owners)
    ]


def default_of(name: str, parameter: str) -> Any:
    return inspect.signature(NAMED[name]).parameters[parameter].default


@pytest.mark.parametrize(("name", "parameter", "default"), settings())
def test_settings_have_the_stated_default(name, parameter, default):
    """Each row of the table of settings names a parameter that exists, with its default."""
    found = default_of(name, parameter)
    if isinstance(found, RefreshPolicy | RetryPolicy) or type(found).__name__ == "SystemClock":
        assert default == f"{type(found).__name__}()"
    elif isinstance(found, float):
        assert float(default) == found
    else:
        assert default.replace('"', "'") == repr(found)


@pytest.mark.parametrize("one", WHOLE, ids=lambda one: one.__name__)
def test_all_settings_are_in_the_table(one):
    """The table has every parameter with a default of the manager and the policies, except the sources themselves."""
    listed = {parameter for name, parameter, _ in settings() if name == one.__name__}
    optional = {name for name, found in inspect.signature(one).parameters.items() if found.default is not found.empty}
    assert listed == optional - {"source", "source_for"}


def test_every_setting_has_a_reason():
    """No row of the table of settings leaves a cell empty."""
    assert settings()
    for row in rows("configuration.md"):
        if "<br>" in row[0]:
            assert [bool(cell) for cell in row] == [True] * 3, row


def test_every_event_is_in_the_table():
    """The table of events has each event, its log level, and what to do."""
    listed = {name: row for row in rows("events.md") for name in re.findall(r"`(\w+)`", row[0])}
    kinds = {name for name in events.__all__ if isinstance(getattr(events, name), type)} - {"Event"}
    kinds = {name for name in kinds if issubclass(getattr(events, name), events.Event)}
    assert set(listed) == kinds
    assert all([bool(cell) for cell in row] == [True] * 4 for row in listed.values())


def test_every_exception_is_in_the_table():
    """The table of exceptions has each public exception, with its cause and the reaction."""
    listed = {row[0].strip("`"): row for row in rows("errors.md") if len(row) == 3}
    public = {
        name
        for name in evertoken.__all__
        if isinstance(getattr(evertoken, name), type) and issubclass(getattr(evertoken, name), Exception)
    }
    assert public <= set(listed)

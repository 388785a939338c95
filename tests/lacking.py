"""Decides what happens to a test that lacks its server, or a library that it compares with."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def unavailable(reason: str) -> None:
    """Skip on a user's machine; fail where all must run."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def needed(module: str) -> Any:
    """Return the *module* of another library, without which the test is `unavailable`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        return unavailable(f"{module} is not installed: {error}")

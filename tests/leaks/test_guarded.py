"""Copies and pickles of objects that work with secrets."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import evertoken
from evertoken._model.guarded import Guarded
from evertoken.sources import Fallback, TlsClientAuth, TokenFile
from evertoken.sources.google import MetadataServer
from evertoken.stores import FileStore, MemoryStore, SQLiteStore


def below(kind: type[Any]) -> Iterator[type[Any]]:
    one: type[Any]
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


for module in pkgutil.walk_packages(evertoken.__path__, "evertoken."):
    if not module.name.endswith("__main__"):
        # A class that needs an extra may not be importable.
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)

CLASSES = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in below(Guarded) if not inspect.isabstract(kind)}

MADE: dict[str, Any] = {
    "a file of tokens": TokenFile("/run/token"),
    "a certificate": TlsClientAuth(Path("/run/planted.pem")),
    "a metadata server": MetadataServer(),
    "sources in a row": Fallback(TokenFile("/run/one"), TokenFile("/run/other")),
    "a folder of records": FileStore("/run/tokens"),
    "a database of records": SQLiteStore("/run/tokens.db"),
    "records in memory": MemoryStore(),
}


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("name", MADE)
def test_a_copy_works(name, make):
    """S1: configurations are copied, as part of settings are, and the copy does what the first one does."""
    assert repr(make({"it": MADE[name]})["it"]) == repr(MADE[name])


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_no_pickle(name):
    """S1: no pickle or state shows the content, for any class: a TypeError says so."""
    it = object.__new__(CLASSES[name])
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(it, protocol)
    with pytest.raises(TypeError, match="does not tell its state"):
        it.__getstate__()
    assert copy.copy(it) is it
    assert copy.deepcopy(it) is it

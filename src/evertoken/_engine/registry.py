"""
The dict of keys, guarded by one lock: which keys there are, and what source each has.

The lock guards opening, evicting, start and close. It is never held across a fetch, a store call or a `yield`, and
readers of an open key do not take it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, final

from evertoken._engine.callable_source import as_source
from evertoken._model.key_state import NOBODY, Entry

if TYPE_CHECKING:
    from evertoken._model.protocols import TokenSource

__all__ = ["Registry"]


@final
class Registry:
    """
    Keys and their entries.

    Args:
        source: A source or function (then the only key is None), or a mapping of keys to those.

        source_for: Called with a key on its first use, to return its source.

        shared: Whether there is a store.

    Raises:
        TypeError: Neither or both were given, or something is no source.
        ValueError: The mapping is empty, or a source whose new token kills the old one has no store.
    """

    def __init__(self, source: object, source_for: Callable[[Any], object] | None, *, shared: bool = False) -> None:
        if (source is None) == (source_for is None):
            msg = "give either source (a source, a function or a mapping of keys to those) or source_for, and not both"
            raise TypeError(msg)
        if source_for is not None and not callable(source_for):
            msg = f"source_for must be a function that takes a key and returns its source, not {source_for!r}"
            raise TypeError(msg)
        if inspect.iscoroutinefunction(source_for):
            msg = f"source_for must be a plain function, called as a key is opened; got the async {source_for!r}"
            raise TypeError(msg)
        self.lock: asyncio.Lock = asyncio.Lock()
        self._shared = shared
        self.entries: dict[Hashable, Entry] = {}
        self.source_for = source_for
        self.keyed: bool = source_for is not None or isinstance(source, Mapping)
        if isinstance(source, Mapping):
            if not source:
                msg = "source must name at least one key; an empty mapping serves nobody"
                raise ValueError(msg)
            for key, one in source.items():
                if key is None:
                    msg = "None cannot be a key: it stands for the only key of a single source"
                    raise ValueError(msg)
                self.entries[key] = Entry(key, self._checked(one, f"source[{key!r}]"))
        elif source is not None:
            self.entries[None] = Entry(None, self._checked(source, "source"))

    @property
    def only(self) -> Entry:
        """
        The entry of a single source; where there are keys, one that is never valid.
        """
        return NOBODY if self.keyed else self.entries[None]

    def provider_of(self, entry: Entry) -> Hashable:
        """
        Return what shares a limit of concurrent fetches with *entry*.

        That is its provider by name, if its source states one; else its source, or all of what `source_for` makes.
        """
        provider = getattr(entry.source, "provider", None)
        if isinstance(provider, str):
            return provider
        return id(entry.source) if self.source_for is None else id(self.source_for)

    def find(self, key: Hashable) -> Entry | None:
        """
        Return the entry of *key* if it is open.

        Raises:
            TypeError: A key is given where there is but one, or missing where there are several, or not hashable.
            LookupError: No source has this key.
        """
        if self.keyed == (key is None):
            msg = (
                "this manager has several tokens: say which, as in get(key)"
                if self.keyed
                else f"this manager has a single token and takes no key, but was asked for {key!r}"
            )
            raise TypeError(msg)
        entry = self.entries.get(key)
        if entry is None and self.source_for is None:
            known = ", ".join(repr(known) for known in list(self.entries)[:10])
            msg = f"unknown key {key!r}; this manager has {known}"
            raise LookupError(msg)
        return entry

    async def open(self, key: Hashable) -> tuple[Entry, bool]:
        """
        Return the entry of *key* and whether it was opened now, by asking `source_for`.
        """
        async with self.lock:
            entry = self.entries.get(key)
            if entry is not None:
                return entry, False
            if self.source_for is None:
                msg = f"unknown key {key!r}"
                raise LookupError(msg)
            source = self._checked(self.source_for(key), f"source_for({key!r})")
            entry = self.entries[key] = Entry(key, source)
            return entry, True

    async def evict_idle(self, entry: Entry) -> bool:
        """
        Drop *entry* unless it has a flight or was used meanwhile; tell whether it was dropped.
        """
        async with self.lock:
            if self.entries.get(entry.key) is not entry or entry.flight is not None or entry.idle_since is None:
                return False
            del self.entries[entry.key]
            entry.closed()
            return True

    def _checked(self, source: object, parameter: str) -> TokenSource:
        checked = as_source(source, parameter=parameter)
        if getattr(checked, "exclusive", False) and not self._shared:
            msg = (
                f"{parameter} is exclusive: its new token kills the one before, so two processes would take turns in "
                "killing each other's; give a store that they share"
            )
            raise ValueError(msg)
        return checked

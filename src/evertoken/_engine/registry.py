"""
The dict of keys. It knows each key, its source, and the provider whose limit it shares.

It outlives sessions. Each session has a lock that guards the dict while keys are opened or evicted and while the
session starts or closes. The lock is never held across a fetch, a store call or a `yield`. Callers that read an open
key do not take it.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, final

from evertoken._engine.callable_source import CallableSource, as_source
from evertoken._engine.provider_book import ProviderBook
from evertoken._model.grant import Grant, token_of
from evertoken._model.identity import identity_of
from evertoken._model.key import check_key
from evertoken._model.key_state import NO_KEY, KeyState
from evertoken._model.redaction import quoted
from evertoken._model.token import Token

if TYPE_CHECKING:
    from evertoken._engine.options import Settings
    from evertoken._model.protocols import TokenSource

__all__ = ["Registry"]


@final
class Registry:
    """
    Keys and their states.

    Args:
        source: A source or function (then the only key is None), or a mapping of keys to sources.

        source_for: A function that returns the source of a key when the key is first used.

        settings: The settings that it uses: the store, the namespace (which replaces the identity of sources), the
            limits, and the critical keys (None means all keys known now).

        initial: The token or grant with which a single source begins, or a mapping of keys to those.

    Raises:
        TypeError: Both of *source* and *source_for* were given, or neither of them, or a value has a wrong type (see
            `check_key`).
        ValueError: The mapping is empty. Or *initial* or *critical* has an unknown key, or limits are given for an
            unknown provider. Or a source is exclusive and there is no store. Or there is a store, and a source has no
            identity and the manager has no namespace.
    """

    def __init__(
        self,
        source: object,
        source_for: Callable[[Any], object] | None,
        settings: Settings,
        *,
        initial: object = None,
    ) -> None:
        if (source is None) == (source_for is None):
            msg = "give either source (a source, a function or a mapping of keys to those) or source_for, and not both"
            raise TypeError(msg)
        if source_for is not None and not callable(source_for):
            msg = f"source_for must be a function that takes a key and returns its source, not {quoted(source_for)}"
            raise TypeError(msg)
        if inspect.iscoroutinefunction(source_for):
            msg = f"source_for must be a plain function, called as a key is opened; got the async {quoted(source_for)}"
            raise TypeError(msg)
        self._shared, self._named = settings.store is not None, settings.namespace is not None
        #: The state of each provider.
        self.providers: ProviderBook = ProviderBook(settings.rate_limits or {}, settings.budgets or {})
        self.keys: dict[Hashable, KeyState] = {}
        #: The tokens of keys that were signed out and of which their servers have not been told, with their sources.
        self.untold: dict[Hashable, list[tuple[Any, Token]]] = {}
        #: By how much the wall clock was ahead of the monotonic one when the last session ended.
        self.offset: float | None = None
        self.source_for = source_for
        self.keyed: bool = source_for is not None or isinstance(source, Mapping)
        now = 0.0 if initial is None else settings.clock.time()
        self._initial = self._checked_initial(initial, source, now)
        if isinstance(source, Mapping):
            if not source:
                msg = "source must name at least one key, but the mapping is empty"
                raise ValueError(msg)
            for key, one in source.items():
                if key is None:
                    msg = "None cannot be a key: it is reserved for the only key of a single source"
                    raise ValueError(msg)
                check_key(key)
                self.keys[key] = self._made(key, self._checked(one, f"source[{key!r}]"))
        elif source is not None:
            self.keys[None] = self._made(None, self._checked(source, "source"))
        if source_for is None:
            self.providers.check({self.provider_of(state) for state in self.keys.values()})
        critical = settings.critical
        self.critical: frozenset[Hashable] = frozenset(self.keys) if critical is None else critical
        unknown = [key for key in self.critical if source_for is None and key not in self.keys]
        if unknown or (source_for is not None and None in self.critical):
            msg = f"critical has the key {unknown[0] if unknown else None!r}, which the source does not have"
            raise ValueError(msg)

    @property
    def only(self) -> KeyState:
        """The state of the only key. With several keys, it is a state that is never valid."""
        return NO_KEY if self.keyed else self.keys[None]

    def provider_of(self, state: KeyState) -> Hashable:
        """
        Return a value that is equal for all keys that share the limits of *state*.

        It is the provider's name, if the source states one. Otherwise it is the source, or all sources of `source_for`.
        """
        source = state.source
        provider = getattr(source, "provider", None)
        if isinstance(provider, str):
            return provider
        if self.source_for is not None:
            return id(self.source_for)
        # Many keys may use the same function, also with different arguments.
        return _function_of(source) if isinstance(source, CallableSource) else id(source)

    def is_alone(self, state: KeyState) -> bool:
        """Tell whether no other open key has the provider of *state*."""
        provider = self.provider_of(state)
        return not any(one is not state and self.provider_of(one) == provider for one in list(self.keys.values()))

    def find(self, key: Hashable) -> KeyState | None:
        """
        Return the state of *key* if it is open.

        Raises:
            TypeError: The key was given although there is only one source, or is missing, or has a wrong type.
            ValueError: The key cannot be written.
            LookupError: No source has this key.
        """
        if self.keyed == (key is None):
            msg = (
                "this manager has several tokens: say which, as in get(key)"
                if self.keyed
                else f"this manager has a single token and takes no key, but was asked for {key!r}"
            )
            raise TypeError(msg)
        check_key(key)
        state = self.keys.get(key)
        if state is None and self.source_for is None:
            known = ", ".join(repr(known) for known in list(self.keys)[:10])
            msg = f"unknown key {key!r}; this manager has {known}"
            raise LookupError(msg)
        return state

    def open(self, key: Hashable) -> tuple[KeyState, bool]:
        """Return the state of *key*, and whether it was opened by this call. The caller holds the lock."""
        state = self.keys.get(key)
        if state is not None:
            return state, False
        state = self.keys[key] = self._made(key, self.source_of(key))
        return state, True

    def source_of(self, key: Hashable) -> TokenSource:
        """Return the source that `source_for` makes for *key*."""
        if self.source_for is None:
            msg = f"unknown key {key!r}"
            raise LookupError(msg)
        return self._checked(self.source_for(key), f"source_for({key!r})")

    def identity_of(self, key: Hashable) -> str | None:
        """Return the identity of the source of *key*, if it states one."""
        state = self.keys.get(key)
        return identity_of(self.source_of(key) if state is None else state.source)

    def drop(self, state: KeyState) -> None:
        """Remove *state*, if it is in the dict. The caller holds the lock."""
        if self.keys.get(state.key) is state:
            del self.keys[state.key]

    def _made(self, key: Hashable, source: TokenSource) -> KeyState:
        state = KeyState(key, source)
        token = self._initial.get(key)
        if token is not None:
            state.seeded(token, shared=self._shared)
        return state

    def _checked_initial(self, initial: object, source: object, now: float) -> dict[Hashable, Token]:
        if initial is None:
            return {}
        if self.keyed != isinstance(initial, Mapping):
            wanted = "a mapping of keys to tokens or grants" if self.keyed else "a Token or a Grant"
            msg = f"initial must be {wanted}, as there {'are keys' if self.keyed else 'is one source'}"
            del initial
            raise TypeError(msg)
        given: Mapping[Any, Any] = initial if isinstance(initial, Mapping) else {None: initial}
        unknown = [key for key in given if isinstance(source, Mapping) and key not in source]
        if unknown:
            msg = f"initial has the key {unknown[0]!r}, which the source does not have"
            del initial, given
            raise ValueError(msg)
        wrong = [key for key, one in given.items() if not isinstance(one, Token | Grant)]
        if wrong:
            msg = f"initial must hold Tokens and Grants, but the value for {wrong[0]!r} is neither"
            del initial, given
            raise TypeError(msg)
        return {key: token_of(one, now) for key, one in given.items()}

    def _checked(self, source: object, parameter: str) -> TokenSource:
        checked = as_source(source, parameter=parameter)
        if getattr(checked, "exclusive", False) and not self._shared:
            msg = (
                f"{parameter} is exclusive: a new token invalidates the previous one, so that two processes would "
                "invalidate each other's tokens: give the manager a store that they share"
            )
            raise ValueError(msg)
        if self._shared and not self._named and identity_of(checked) is None:
            msg = (
                f"{parameter} does not say whose tokens it gives (it has no identity), so the store could serve "
                "them to another manager, or another's tokens to this one: give the manager a namespace="
            )
            raise ValueError(msg)
        self.providers.know(checked)
        return checked


def _function_of(source: CallableSource) -> Hashable:
    function = source.function
    while isinstance(function, functools.partial):
        function = function.func
    # A bound method is a new object at each lookup, but equal to the earlier ones.
    return function if isinstance(function, types.MethodType) and _is_hashable(function) else id(function)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True

"""The options of a manager, their defaults, and the checks of their values."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict, final, get_args

from evertoken._engine.clock import SystemClock
from evertoken._model.frozen import Frozen, frozen
from evertoken._model.policy import KeepAlivePolicy, RefreshPolicy, RetryPolicy
from evertoken._model.provider_limits import Budget, RateLimit
from evertoken._model.redaction import quoted

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.grant import Grant
    from evertoken._model.protocols import Clock, Observer, TokenStore
    from evertoken._model.token import Token

__all__ = ["Options", "Settings", "StartMode", "critical_keys"]

StartMode: TypeAlias = Literal["lazy", "warm", "require"]

DEFAULT_FETCH_TIMEOUT: Final = 30.0
DEFAULT_START_TIMEOUT: Final = 10.0
DEFAULT_CLOSE_GRACE: Final = 5.0
DEFAULT_CONCURRENCY: Final = 16
DEFAULT_IDLE_AFTER: Final = 3600.0
DEFAULT_CHECK_EVERY: Final = 30.0


class Options(TypedDict, total=False):
    """The keyword arguments of `TokenManager`, for type checkers."""

    policy: RefreshPolicy
    retry: RetryPolicy
    store: TokenStore | None
    namespace: str | None
    strict_persist: bool
    initial: Token | Grant | Mapping[Any, Token | Grant] | None
    keep_alive: float | KeepAlivePolicy | None
    critical: Iterable[Hashable] | None
    health_file: str | os.PathLike[str] | None
    start: StartMode
    observers: Sequence[Observer]
    clock: Clock
    fetch_timeout: float
    start_timeout: float
    close_grace: float
    concurrency: int
    rate_limits: Mapping[str, RateLimit] | None
    budgets: Mapping[str, Budget] | None
    idle_after: float | None
    check_every: float | None


@final
@frozen()
class Settings(Frozen):
    """
    The options of a manager with their defaults. Their values are checked.

    Raises:
        TypeError: An argument is of the wrong kind; the message names it.
        ValueError: An argument is out of range; the message names it.
    """

    policy: RefreshPolicy = RefreshPolicy()
    retry: RetryPolicy = RetryPolicy()
    store: TokenStore | None = None
    namespace: str | None = None
    strict_persist: bool = False
    keep_alive: float | KeepAlivePolicy | None = None
    critical: frozenset[Hashable] | None = None
    health_file: str | os.PathLike[str] | None = None
    start: StartMode = "lazy"
    observers: Sequence[Observer] = ()
    clock: Clock = SystemClock()
    fetch_timeout: float = DEFAULT_FETCH_TIMEOUT
    start_timeout: float = DEFAULT_START_TIMEOUT
    close_grace: float = DEFAULT_CLOSE_GRACE
    concurrency: int = DEFAULT_CONCURRENCY
    rate_limits: Mapping[str, RateLimit] | None = None
    budgets: Mapping[str, Budget] | None = None
    idle_after: float | None = DEFAULT_IDLE_AFTER
    check_every: float | None = DEFAULT_CHECK_EVERY

    def __post_init__(self) -> None:
        _of("policy", self.policy, RefreshPolicy)
        _of("retry", self.retry, RetryPolicy)
        if self.namespace is not None:
            _of("namespace", self.namespace, str)
            _written("namespace", self.namespace)
        _of("strict_persist", self.strict_persist, bool)
        _with("store", self.store, "read", "begin", "mark", "commit", "abandon", "renew")
        _with("clock", self.clock, "time", "monotonic", "call_later")
        if self.start not in get_args(StartMode):
            msg = f"start must be one of {', '.join(map(repr, get_args(StartMode)))}, not {self.start!r}"
            raise ValueError(msg)
        for name in ("fetch_timeout", "start_timeout"):
            _positive(name, getattr(self, name))
        _positive("close_grace", self.close_grace, or_zero=True)
        for name in ("idle_after", "check_every"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        if isinstance(self.concurrency, bool) or not isinstance(self.concurrency, int) or self.concurrency < 1:
            msg = f"concurrency must be a whole number of at least 1, not {self.concurrency!r}"
            raise ValueError(msg)
        _named("rate_limits", self.rate_limits, RateLimit)
        _named("budgets", self.budgets, Budget)
        _observers(self.observers)
        if self.strict_persist and self.store is None:
            msg = "strict_persist needs a store"
            raise ValueError(msg)
        if self.health_file is not None and not isinstance(self.health_file, str | os.PathLike):
            msg = f"health_file must be a path, not {type(self.health_file).__name__}"
            raise TypeError(msg)
        if self.keep_alive is not None:
            self._check_keep_alive()

    def _check_keep_alive(self) -> None:
        if not isinstance(self.keep_alive, KeepAlivePolicy):
            _positive("keep_alive", self.keep_alive)
        if self.store is None or not callable(getattr(self.store, "keys", None)):
            msg = "keep_alive needs a store that lists its keys (ListedStore): unused grants are only found there"
            raise ValueError(msg)


def critical_keys(given: Iterable[Hashable] | None, /) -> frozenset[Hashable] | None:
    """
    Return the keys that *given* names, or None.

    Raises:
        TypeError: It is a single text, or not a collection of keys.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable | None):
        msg = f"critical must be several keys, as in critical=['billing'], not {quoted(given)}"
        raise TypeError(msg)
    return None if given is None else frozenset(given)


def _of(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        msg = f"{name} must be a {kind.__name__}, not {type(value).__name__}"
        raise TypeError(msg)


def _written(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = f"{name} must be text that UTF-8 can write, and {value!r} has half a surrogate pair"
        raise ValueError(msg) from None


def _with(name: str, value: object, *methods: str) -> None:
    missing = [method for method in methods if value is not None and not callable(getattr(value, method, None))]
    if missing:
        msg = f"{name} lacks {', '.join(missing)}: {type(value).__name__} cannot be used as {name}"
        raise TypeError(msg)


def _positive(name: str, value: Any, *, or_zero: bool = False) -> None:
    # isfinite() is not used, because it overflows for a very large int.
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not number or value < 0 or (value == 0 and not or_zero):
        msg = f"{name} must be a number of seconds {'of at least' if or_zero else 'above'} 0, not {value!r}"
        raise ValueError(msg)


def _named(name: str, value: object, kind: type) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        msg = f"{name} must be a mapping of provider names to {kind.__name__}, not {type(value).__name__}"
        raise TypeError(msg)
    for provider, one in value.items():
        if not isinstance(provider, str):
            msg = f"{name} must name providers by strings, not by {provider!r}"
            raise TypeError(msg)
        _of(f"{name}[{provider!r}]", one, kind)


def _observers(observers: object) -> None:
    if not isinstance(observers, Sequence):
        msg = f"observers must be a sequence of functions, not {type(observers).__name__}"
        raise TypeError(msg)
    for observer in observers:
        if not callable(observer) or inspect.iscoroutinefunction(observer):
            msg = f"observers must be plain functions that take an event; got {quoted(observer)}"
            raise TypeError(msg)

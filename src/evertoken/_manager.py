"""TokenManager: the public class that fetches tokens, keeps them fresh and hands them out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, cast, final, overload

from evertoken._coordination.choice import maker_of
from evertoken._engine.bare_tokens import BareTokens
from evertoken._engine.clock import SystemClock
from evertoken._engine.key_commands import KeyCommands
from evertoken._engine.lifecycle import Lifecycle
from evertoken._engine.options import (
    DEFAULT_CHECK_EVERY,
    DEFAULT_CLOSE_GRACE,
    DEFAULT_CONCURRENCY,
    DEFAULT_FETCH_TIMEOUT,
    DEFAULT_IDLE_AFTER,
    DEFAULT_START_TIMEOUT,
    Options,
    Settings,
    StartMode,
    critical_keys,
)
from evertoken._engine.read_path import seconds
from evertoken._engine.registry import Registry
from evertoken._engine.session_owner import SessionOwner
from evertoken._engine.watching import Watching
from evertoken._handle import TokenHandle
from evertoken._model.generic import KeyT, OfTokenAndKey, TokenT
from evertoken._model.key import is_key
from evertoken._model.key_state import NO_KEY
from evertoken._model.policy import RefreshPolicy, RetryPolicy
from evertoken._model.protocols import CredentialSource, SourceCallable, TokenSource
from evertoken._model.token import Token

if TYPE_CHECKING:
    from os import PathLike
    from typing import TypeVar

    from evertoken._model.key_state import KeyState
    from evertoken._model.policy import KeepAlivePolicy
    from evertoken._model.protocols import Clock, Observer, TokenStore
    from evertoken._model.provider_limits import Budget, RateLimit
    from evertoken.clients.httpx import BearerAuth

    T = TypeVar("T", bound=Token)
    K = TypeVar("K", bound=Hashable)

__all__ = ["TokenManager"]

AnySource: TypeAlias = TokenSource | SourceCallable | Callable[[Token | None], Any]

_OBTAIN = attrgetter("read_path.obtain")


@final
class TokenManager(SessionOwner, KeyCommands[TokenT], BareTokens, Watching[TokenT], OfTokenAndKey[TokenT, KeyT]):
    """
    Keeps tokens fresh. A supervisor task refreshes each token before it expires, and callers only read.

    Use it as an async context manager, or call `start` and `aclose`, more than once if you like. Durations are seconds.

    Args:
        source:
            A `TokenSource`, or an async or plain function that returns a token; or a mapping of keys to such sources. A
            key is a `str`, an `int`, or a tuple of these and of None. Subclasses of these types are refused.

        source_for: A function that returns the source of a key at its first use. Give it or *source*.

        policy: When to refresh a token. By default, when 80 % of its lifetime has passed, or a little earlier.

        retry: When to try again after a failed fetch.

        store: Where tokens are kept and shared. Without a store they exist in this manager only.

        namespace: Separates the keys of this manager from others in a shared store. A source without `identity`, such
            as a function, needs it. An empty string counts as no namespace.

        strict_persist: Hold back a new token until the store has kept it. By default the manager serves the token from
            memory in the meantime, and offers it to the store again and again.

        initial: A `Token` or `Grant` to begin with, or a mapping of keys to those. If the store has a record that
            descends from it, that record is newer and is used.

        keep_alive: Refresh unused grants in the store before they expire from disuse. A number gives the seconds
            without use after which they expire. `KeepAlivePolicy()` uses the times that servers and providers state.

        critical: `health` is ready only if each of these keys has a token. By default, the keys known at construction.

        health_file: A file to which `health` is written as JSON every few seconds, for probes that run a command.

        start: "lazy" fetches in the background. "warm" waits for the first tokens, *start_timeout* seconds at most (10
            s by default), and then continues without them. "require" raises if a first token cannot be fetched.

        observers: Functions that are called with each event. They run on the manager's loop and must not block.

        clock: The source of time. Tests pass their own.

        fetch_timeout: The longest a fetch may take, 30 s by default.

        close_grace: The longest `aclose` waits for fetches under way before it cancels them, 5 s by default.

        concurrency: How many fetches may run at once for one provider, 16 by default.

        rate_limits: How often each provider may be asked, by the name that sources state as `provider`.

        budgets: How many tokens each provider may issue in a period, by the same name.

        idle_after: Drop a key of *source_for* that nobody used for this long, an hour by default; None: never.

        check_every: How often the record of each key is read from a store without `watch`; None: only when it is due.

    Raises:
        TypeError: An argument is of the wrong kind; the message names it.
        ValueError: An argument is out of range; the message names it.
    """

    @overload
    def __init__(self: TokenManager[T, None], source: CredentialSource[T], **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(
        self: TokenManager[T, K], source: Mapping[K, CredentialSource[T]], **options: Unpack[Options]
    ) -> None: ...
    @overload
    def __init__(
        self: TokenManager[T, K],
        *,
        source_for: Callable[[K], CredentialSource[T]],
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(self: TokenManager[Token, None], source: AnySource, **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(self: TokenManager[Token, K], source: Mapping[K, AnySource], **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(
        self: TokenManager[Token, K], *, source_for: Callable[[K], AnySource], **options: Unpack[Options]
    ) -> None: ...
    def __init__(
        self,
        source: Any = None,
        *,
        source_for: Any = None,
        policy: RefreshPolicy = RefreshPolicy(),
        retry: RetryPolicy = RetryPolicy(),
        store: TokenStore | None = None,
        namespace: str | None = None,
        strict_persist: bool = False,
        initial: Any = None,
        keep_alive: float | KeepAlivePolicy | None = None,
        critical: Iterable[Hashable] | None = None,
        health_file: str | PathLike[str] | None = None,
        start: StartMode = "lazy",
        observers: Sequence[Observer] = (),
        clock: Clock = SystemClock(),
        fetch_timeout: float = DEFAULT_FETCH_TIMEOUT,
        start_timeout: float = DEFAULT_START_TIMEOUT,
        close_grace: float = DEFAULT_CLOSE_GRACE,
        concurrency: int = DEFAULT_CONCURRENCY,
        rate_limits: Mapping[str, RateLimit] | None = None,
        budgets: Mapping[str, Budget] | None = None,
        idle_after: float | None = DEFAULT_IDLE_AFTER,
        check_every: float | None = DEFAULT_CHECK_EVERY,
    ) -> None:
        settings = Settings(
            policy=policy,
            retry=retry,
            store=store,
            namespace=namespace,
            strict_persist=strict_persist,
            keep_alive=keep_alive,
            critical=critical_keys(critical),
            health_file=health_file,
            start=start,
            observers=observers,
            clock=clock,
            fetch_timeout=fetch_timeout,
            start_timeout=start_timeout,
            close_grace=close_grace,
            concurrency=concurrency,
            rate_limits=rate_limits,
            budgets=budgets,
            idle_after=idle_after,
            check_every=check_every,
        )
        registry = Registry(source, source_for, settings, initial=initial)
        if start != "lazy" and source_for is not None:
            msg = f"start={start!r} needs keys that are known in advance, but source_for makes them on first use"
            raise ValueError(msg)
        self._life = Lifecycle(registry, settings, make_coordinator=maker_of(settings))
        self.clock: Clock = clock
        # The hot path reads only these: one clock, the state of the only key, and the dict of keys.
        self._now = clock.time
        self._only = registry.only
        self._keys = registry.keys

    def _identity_of(self, key: Hashable) -> str | None:
        return self._life.registry.identity_of(key)

    # Reading

    @overload
    async def get(
        self: TokenManager[TokenT, None], key: None = None, min_ttl: float | None = None, timeout: float | None = None
    ) -> TokenT: ...
    @overload
    async def get(self, key: KeyT, min_ttl: float | None = None, timeout: float | None = None) -> TokenT: ...
    async def get(self, key: Hashable = None, min_ttl: float | None = None, timeout: float | None = None) -> TokenT:
        """
        Return a valid token. While there is a valid one, this neither waits nor takes a lock.

        Callers that need a new token at the same time share one fetch, and so its token or its failure. Cancelling a
        caller, or all of them, does not stop the fetch. After a failure a caller waits at most
        `RetryPolicy(patience=)`, one second by default, for an attempt that is under way. While somebody asks, the next
        attempt starts one second after the last one ended, but never before a Retry-After has passed.

        Args:
            key: The key of the token. Leave it out if the manager has a single source.

            min_ttl:
                Seconds of life that the token must have left, for example for a long upload. If even a new token has
                less, the manager returns the longest one obtainable and emits a `ShorterThanAsked` event.

            timeout: Seconds to wait through failures and retries. By default a failure is raised at once.

        Raises:
            TokenUnavailable: There is no valid token and the fetch failed, or *timeout* has passed.
            GrantRejected: There is no valid token and the authorization server rejects the grant.
            ManagerClosed: The manager is closed, or was closed meanwhile.
            LookupError: No source has this key.
            TypeError: The key is missing, has a type that no key has, or was given where there is one source.
            RuntimeError: The manager is not started, or was started in another process or on a loop that ended.
        """
        # A local is faster: CPython 3.11 looks up a method that is an attribute of the instance in a slow way.
        now = self._now
        state = self._only
        if key is None and min_ttl is None and now() < state.valid_until:
            return state.token  # type: ignore[return-value]  # a valid key has a token
        if key is not None and min_ttl is None:
            state = self._keys.get(key, NO_KEY)
            # True is equal to 1, but it is not a key.
            if now() < state.valid_until and (key is state.key or is_key(key)):
                return state.token  # type: ignore[return-value]
        if min_ttl is None and self._life.elsewhere() and (token := self.peek(key)) is not None:
            # `peek` finds the token of an idle key too. A valid token needs no trip to the manager's own loop.
            return token
        least, limit = seconds("min_ttl", min_ttl), seconds("timeout", timeout)
        return await self._life.call(_OBTAIN, key, least, limit, timeout=limit)

    @overload
    def get_sync(
        self: TokenManager[TokenT, None], key: None = None, min_ttl: float | None = None, timeout: float | None = None
    ) -> TokenT: ...
    @overload
    def get_sync(self, key: KeyT, min_ttl: float | None = None, timeout: float | None = None) -> TokenT: ...
    def get_sync(self, key: Hashable = None, min_ttl: float | None = None, timeout: float | None = None) -> TokenT:
        """
        Do what `get` does, from a thread without a loop, other than the manager's; see `run_in_background`.

        Raises:
            RuntimeError: The call would block the manager's own loop.
        """
        token: TokenT | None = None if min_ttl is not None else self.peek(key)
        if token is not None:
            return token
        least, limit = seconds("min_ttl", min_ttl), seconds("timeout", timeout)
        return cast("TokenT", self._life.call_sync(_OBTAIN, key, least, limit, timeout=limit))

    def peek(self, key: Hashable = None) -> TokenT | None:
        """
        Return the valid token or None, without waiting or fetching, from any thread.

        Raises:
            LookupError: No source has this key.
            TypeError: The key is missing, or was given although there is only one source.
        """
        state = self._keys.get(key)
        if state is None or not is_key(key):
            self._life.registry.find(key)
            return None
        if not self._life.serving:
            return None
        now = self._now()
        state.peeked(now)
        # valid_until is in the past while a key is idle, although its token is valid.
        return cast("TokenT | None", state.in_service(now))

    def handle(self, key: Hashable = None) -> TokenHandle[TokenT]:
        """
        Return a handle for one key. Its `get()`, `peek()` and `auth()` need no key.

        Raises:
            LookupError: No source has this key.
            TypeError: The key is missing, or was given although there is only one source.
        """
        self._life.registry.find(key)
        return TokenHandle(self, key)

    def auth(
        self,
        key: Hashable = None,
        *,
        origins: Iterable[str] = (),
        allow_http: bool = False,
        min_ttl: float | None = None,
    ) -> BearerAuth:
        """
        Return an `httpx.Auth` that sends this token and heals a 401, for sync and async clients.

        Args:
            key: The key of the token.

            origins: The origins that may receive the token. By default, only the first that the auth is used with.

            allow_http: Also send the token over plain http to hosts other than loopback.

            min_ttl: The fewest seconds for which the token of each request is valid.
        """
        from evertoken.clients.httpx import BearerAuth  # noqa: PLC0415 - the only import of a higher layer

        return BearerAuth(self.handle(key), origins=origins, allow_http=allow_http, min_ttl=min_ttl)

    def __repr__(self) -> str:
        keys = len(self._keys)
        return f"TokenManager({self._life.state}, {keys} {'key' if keys == 1 else 'keys'})"

    def _state_of(self, key: Hashable) -> KeyState:
        return self._keys.get(key, NO_KEY)

"""TokenManager: get(), and all else that callers may ask for."""

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

# What runs on the session's own loop, wherever it is called.
_OBTAIN = attrgetter("read_path.obtain")


@final
class TokenManager(SessionOwner, KeyCommands[TokenT], BareTokens, Watching[TokenT], OfTokenAndKey[TokenT, KeyT]):
    """
    Keeps tokens fresh: a supervisor task refreshes them ahead of expiry, and readers only read.

    Use it as an async context manager, or call `start` and `aclose`. It may be entered again after it was closed.
    All durations are in seconds.

    Args:
        source:
            A `TokenSource`, or an async or plain function that returns a token; or a mapping of keys to those. A key is
            a `str`, an `int`, or a tuple of these and of None, and of exactly these types.

        source_for: Called with a key on its first use, to return its source. Instead of *source*.

        policy: When a token is due. By default at 80 % of its lifetime, or a little earlier.

        retry: When a failed fetch is tried again.

        store: Where tokens are kept and shared; without one they live in this manager alone.

        namespace: Sets this manager's keys apart in a shared store. It is needed where a source does not say whose
            tokens it gives, as a function cannot. An empty one is none.

        strict_persist:
            Hold back a token that the store did not keep, until it does. By default it is served from memory
            meanwhile, and offered to the store again and again.

        initial:
            A `Token` or `Grant` to begin with, or a mapping of keys to those. A record in the store that descends from
            it is newer and wins, as with a refresh token of the configuration.

        keep_alive:
            Refresh the grants in the store that nobody uses before they die of it. A number says after how many
            seconds without use they do; `KeepAlivePolicy()` goes by what servers and providers tell.

        critical: Keys without which `health` is not ready. By default those known at construction.

        health_file: Where `health` is written as JSON every few seconds, for probes that run a command.

        start:
            "lazy" fetches in the background; "warm" waits for the first tokens at most *start_timeout*, 10 s by
            default, and goes on without; "require" raises what kept a first token away.

        observers: Functions that are told of each event. They run on the manager's loop and must not block.

        clock: Where time comes from.

        fetch_timeout: The longest a fetch may take, 30 s by default.

        close_grace: The longest `aclose` waits for fetches under way before it cancels them, 5 s by default.

        concurrency: How many fetches may run at once for one provider, 16 by default.

        rate_limits: How often providers may be asked, by the name that sources state as `provider`.

        budgets: How many tokens they may issue in a period, by the same name.

        idle_after: Drop a key of *source_for* that nobody asked for during this time, an hour by default; None: never.

        check_every: Where the store has no `watch`, look at each key's record once in so many seconds; None: when due.

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
            msg = f"start={start!r} needs keys known beforehand, and source_for makes them on first use"
            raise ValueError(msg)
        self._life = Lifecycle(registry, settings, make_coordinator=maker_of(settings))
        self.clock: Clock = clock
        # What the hot path reads: one clock, one key's state, the dict of keys.
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
        Return a valid token. While there is one, this neither waits nor locks.

        Callers that need a new token at the same time share one fetch: its result, or its failure. Cancelling a
        caller, or all of them, does not stop the fetch. After a failure a caller waits at most
        `RetryPolicy(patience=)`, a second, for an attempt that is under way. While somebody asks, the next attempt
        starts a second after the last one ended, and never before a Retry-After.

        Args:
            key: Which token; left out where there is but one.

            min_ttl:
                Seconds of life it must have left, as before a long upload. If even a new token has less, the
                longest obtainable is returned, with a `ShorterThanAsked` event.

            timeout: Wait through failures and retries for up to so many seconds, instead of failing at once.

        Raises:
            TokenUnavailable: There is no valid token and the fetch failed, or *timeout* has passed.
            GrantRejected: There is no valid token and the authorization server rejects the grant.
            ManagerClosed: The manager is closed, or was closed meanwhile.
            LookupError: No source has this key.
            TypeError: A key is missing, or given where there is but one, or of a type that no key has.
            RuntimeError: The manager is not started, or was started in another process or on a loop that ended.
        """
        # In a local, for CPython 3.11 looks a method up the slow way where it is an attribute of the instance.
        now = self._now
        state = self._only
        if key is None and min_ttl is None and now() < state.valid_until:
            return state.token  # type: ignore[return-value]  # valid, so it is there
        if key is not None and min_ttl is None:
            state = self._keys.get(key, NO_KEY)
            # True is equal to 1, and no key.
            if now() < state.valid_until and (key is state.key or is_key(key)):
                return state.token  # type: ignore[return-value]
        if min_ttl is None and self._life.elsewhere() and (token := self.peek(key)) is not None:
            # Barred as idle or not, a valid token is worth no way to the manager's own loop and back.
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
        Do what `get` does for callers without a loop, in another thread than the manager's; see `run_in_background`.

        Raises:
            RuntimeError: It would have to block the manager's own loop.
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
            TypeError: A key is missing, or given where there is but one.
        """
        state = self._keys.get(key)
        if state is None or not is_key(key):
            self._life.registry.find(key)
            return None
        if not self._life.serving:
            return None
        now = self._now()
        state.peeked(now)
        # Not valid_until: that of an idle key is barred, though its token is good.
        return cast("TokenT | None", state.in_service(now))

    def handle(self, key: Hashable = None) -> TokenHandle[TokenT]:
        """
        Return one key of this manager, chosen once: `get()`, `peek()`, `auth()` without arguments.

        Raises:
            LookupError: No source has this key.
            TypeError: A key is missing, or given where there is but one.
        """
        self._life.registry.find(key)
        return TokenHandle(self, key)

    def auth(self, key: Hashable = None, *, origins: Iterable[str] = (), allow_http: bool = False) -> BearerAuth:
        """
        Return an `httpx.Auth` that sends this token and heals a 401, for sync and async clients.

        Args:
            key: Which token.

            origins:
                The origins (as in "https://api.example.com") that may see the token. Without any, the first one
                it is used with.

            allow_http: Send it over plain http, and not to loopback alone.
        """
        from evertoken.clients.httpx import BearerAuth  # noqa: PLC0415 - the one import that points up

        return BearerAuth(self.handle(key), origins=origins, allow_http=allow_http)

    def __repr__(self) -> str:
        keys = len(self._keys)
        return f"TokenManager({self._life.state}, {keys} {'key' if keys == 1 else 'keys'})"

    def _state_of(self, key: Hashable) -> KeyState:
        # What a handle reads.
        return self._keys.get(key, NO_KEY)

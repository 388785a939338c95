"""A store in the place where a program keeps its token already: two functions of the program load and save it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, final

from evertoken._engine.clock import SystemClock
from evertoken._engine.tasks import spawn
from evertoken._model.guarded import Guarded, Hidden, cut
from evertoken._model.protocols import LONGEST_LEASE, Begun, Held, Lease
from evertoken._model.token import Token
from evertoken.stores._grants import PLAIN, SECRETS, found_login, joined, plain_of, without_secrets
from evertoken.stores._home_loop import HomeLoop
from evertoken.stores._mapped import read
from evertoken.stores._names import check_owner, parts_of
from evertoken.stores._offload import offload
from evertoken.stores._reading import report
from evertoken.stores._record import TornRecord, dump_record, load_record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from evertoken._model.protocols import Clock, Record, Timer

__all__ = ["HookStore"]

T = TypeVar("T")

#: The types that a program may load.
Loaded: TypeAlias = "Mapping[str, Any] | Token | None"

#: The field with all of a record that is no field of a token.
_REST: Final = "evertoken"


@final
class _Key:
    """The knowledge about one key: its newest lease, and the record that was loaded or saved last."""

    __slots__ = ("ends_at", "fence", "last", "lock", "owner", "turn")

    def __init__(self) -> None:
        self.owner = ""
        self.fence = 0
        self.ends_at = 0.0
        self.last: Record | None = None
        # One step at a time: a slow save is over before another owner begins.
        self.turn = asyncio.Lock()
        self.lock: tuple[AbstractAsyncContextManager[object], Timer] | None = None

    def holds(self, lease: Lease) -> bool:
        return (self.owner, self.fence) == (lease.owner, lease.fence)


@final
class HookStore(Guarded):
    """
    A `TokenStore` for a program that keeps its token somewhere already, through two functions of the program.

    A new token is saved before it is used. A save that raises loses nothing: the token stays in memory and is offered
    again until it is kept. It is used meanwhile, unless the manager has `strict_persist=True`.

    It is for one process, because leases are in its memory. For several processes give a *lock*.

    Args:
        load: An async or plain function. It is called with the key (None where the manager has one source) and returns
            what *save* was given, or a mapping with at least "access_token" or "refresh_token", a `Token`, or None.
            Other tokens than those saved last are a new login, and empty ones are a sign-out. None means that there is
            no grant. A manager that has one saves it again.

        save: An async or plain function. It is called with the key and a dict, and returns when that is kept. The dict
            is a value that `json.dumps` can write: "access_token", "refresh_token", "expires_at" (epoch seconds),
            "scope" and "token_type", each of which may be None, and "evertoken", a dict with the rest. A program that
            does not keep the rest loses the marks of refreshes that were under way when it ended.

        lock: A function that is called with the key and returns an async context manager, such as a lock in Redis. It
            is entered before a token is loaded to be refreshed, and left when the token is saved, or after the ten
            seconds that a lease lasts at most. With it several processes may share the place; *save* must then keep
            all that it is given.

        clock: Where time comes from.

    Plain functions run in worker threads. All functions are called on the event loop that used the store first, and one
    at a time for a key. Their exceptions count as "store down".

    Raises:
        TypeError: A function is none.
    """

    def __init__(
        self,
        load: Callable[[Any], Awaitable[Loaded] | Loaded],
        save: Callable[[Any, dict[str, Any]], Awaitable[object] | object],
        *,
        lock: Callable[[Any], AbstractAsyncContextManager[object]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        for name, function in (("load", load), ("save", save), ("lock", lock)):
            if not callable(function) and not (name == "lock" and function is None):
                msg = f"{name} must be a function, not {type(function).__name__}"
                raise TypeError(msg)
        self._load = load
        self._save = save
        self._lock = lock
        self._clock = SystemClock() if clock is None else clock
        self._home = HomeLoop()
        self._keys: dict[str, _Key] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None."""
        return await self._step(key, lambda known: self._noticed(key, known))

    async def begin(self, key: str, owner: str, ttl: float, /) -> Begun:
        """Take the lease of *key*, if it is free or *owner* holds it; and load the record."""

        async def work(known: _Key) -> Begun:
            left = known.ends_at - self._clock.monotonic()
            if 0.0 < left <= LONGEST_LEASE and known.owner != owner:
                return Begun(Held(left), await self._noticed(key, known))
            await self._enter(key, known, ttl)
            try:
                record = await self._noticed(key, known)
            except BaseException:
                if not known.ends_at > self._clock.monotonic():
                    await self._leave(known)
                raise
            known.owner, known.fence, known.ends_at = owner, known.fence + 1, self._clock.monotonic() + ttl
            return Begun(Lease(key, owner, known.fence), record)

        return await self._step(key, work)

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """Save *record*, and keep the lease; return False where the lease or the version is outdated."""
        return await self._keep(record, lease, ending=False)

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Save *record*, and end the lease; return False where the lease or the version is outdated."""
        return await self._keep(record, lease, ending=True)

    async def abandon(self, lease: Lease, /) -> None:
        """End *lease* without a save, if its owner still holds it."""

        async def work(known: _Key) -> None:
            if known.holds(lease):
                await self._end(known)

        await self._step(lease.key, work)

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now; return False where it is no longer held."""

        async def work(known: _Key) -> bool:
            now = self._clock.monotonic()
            if not known.holds(lease) or known.ends_at <= now:
                return False
            known.ends_at = now + ttl
            return True

        return await self._step(lease.key, work)

    def __repr__(self) -> str:
        return f"HookStore({len(self._keys)} keys)"

    # How

    async def _step(self, key: str, work: Callable[[_Key], Coroutine[Any, Any, T]]) -> T:
        async def take_turn() -> T:
            known = self._keys.setdefault(key, _Key())
            async with known.turn:
                return await work(known)

        # A waiter may be cancelled, and the save goes on in its turn.
        return await self._home.call_to_its_end(take_turn)

    async def _keep(self, record: Record, lease: Lease, *, ending: bool) -> bool:
        key = lease.key

        async def work(known: _Key) -> bool:
            if record.key != key or not known.holds(lease):
                return False
            seen = known.last
            before, is_new = await self._loaded(key, known)
            if is_new:
                # The program wrote it since the lease was given. The next lease notices it.
                known.last = seen
                return False
            if record.version <= (0 if before is None else before.version):
                return False
            await self._write(key, known, record)
            if ending:
                await self._end(known)
            return True

        return await self._step(key, work)

    async def _loaded(self, key: str, known: _Key) -> tuple[Record | None, bool]:
        """Return the record, and whether the program has written other tokens since it was looked at."""
        found = await _called(self._load, _key_of(key))
        if found is None:
            known.last = None
            return None, False
        plain, before = self._parts(key, found)
        last = known.last
        if last is not None and (before is None or last.version > before.version):
            if _is_of(last, plain):
                return last, False
            # The last noticed change is not on record, or the program has dropped the rest.
            before = last
        elif before is not None:
            whole = joined(before, plain)
            if whole is not None:
                known.last = whole
                return whole, False
        known.last = found_login(key, before, plain, self._clock.time(), since=0.0)
        return known.last, known.last is not None

    async def _noticed(self, key: str, known: _Key) -> Record | None:
        """Return the record; where several processes share it, put on record what the program wrote."""
        record, is_new = await self._loaded(key, known)
        if not is_new or self._lock is None or record is None:
            return record
        mine = known.lock is None
        if mine:
            await self._enter(key, known, LONGEST_LEASE)
        try:
            # Another process may have seen it first.
            known.last = None
            record, is_new = await self._loaded(key, known)
            if is_new and record is not None:
                await self._write(key, known, record)
        finally:
            if mine:
                await self._leave(known)
        return record

    async def _write(self, key: str, known: _Key, record: Record) -> None:
        rest = dump_record(without_secrets(record, SECRETS))
        await _called(self._save, _key_of(key), {**plain_of(record, PLAIN), _REST: rest})
        known.last = record

    def _parts(self, key: str, found: Any) -> tuple[dict[str, Any], Record | None]:
        if isinstance(found, Token):
            return {name: getattr(found, name) for name in PLAIN}, None
        if not isinstance(found, Mapping):
            msg = f"load must return a mapping, a Token or None, not {type(found).__name__}"
            raise TypeError(msg)
        plain = {name: read(name, found.get(name)) for name in PLAIN}
        rest = found.get(_REST)
        if rest is None:
            return plain, None
        if isinstance(rest, Mapping):
            check_owner(key, rest.get("key"), "what was loaded")
        try:
            return plain, load_record(key, rest)
        except TornRecord as error:
            report(repr(self), key, error.with_traceback(None), "the next save replaces it")
        return plain, None

    async def _enter(self, key: str, known: _Key, ttl: float) -> None:
        if self._lock is None or known.lock is not None:
            return
        held = self._lock(_key_of(key))
        await held.__aenter__()
        # The holder of the lease may be gone.
        known.lock = held, self._clock.call_later(max(ttl, LONGEST_LEASE), self._expire, key)

    def _expire(self, key: str) -> None:
        async def work(known: _Key) -> None:
            if known.lock is None:
                return
            left = known.ends_at - self._clock.monotonic()
            if left > 0.0:
                # It was renewed, or begun again.
                known.lock = known.lock[0], self._clock.call_later(left, self._expire, key)
            else:
                await self._leave(known)

        task = spawn(asyncio.get_running_loop(), self._step(key, work), "evertoken:hooks:lock")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, known: _Key) -> None:
        known.ends_at = 0.0
        await self._leave(known)

    async def _leave(self, known: _Key) -> None:
        held, known.lock = known.lock, None
        if held is not None:
            manager, timer = held
            timer.cancel()
            await manager.__aexit__(None, None, None)


async def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        # Hidden, because a loop in debug mode logs the content of futures.
        found = (await offload(lambda: Hidden(function(*arguments)))).value
        return await found if inspect.isawaitable(found) else found
    except Exception as error:  # noqa: BLE001 - raised again below
        failure = cut(error)
    raise failure


def _key_of(name: str) -> Any:
    parts = parts_of(name)
    return name if parts is None else parts.key


def _is_of(record: Record, plain: Mapping[str, Any]) -> bool:
    held = plain_of(record, SECRETS)
    return all((plain[name] or None) == held[name] for name in SECRETS)

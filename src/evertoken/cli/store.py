"""
`evertoken store`: shows an operator the content of a store, and deletes from it. It shows fingerprints, not tokens.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from evertoken._model.redaction import scrub
from evertoken._model.token import fingerprint_of
from evertoken.cli.address import address_of, without_passwords
from evertoken.cli.named_store import store_named
from evertoken.cli.place import store_at
from evertoken.stores._record import UnreadableRecord

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable

    from evertoken._model.protocols import ListedStore, Record

__all__ = ["plain", "rows", "run_store", "span"]

#: The methods of a store that each action calls.
_NEEDS: Final = {
    "list": ("keys", "holder", "read"),
    "show": ("holder", "read"),
    "check": ("keys", "holder", "read"),
    "purge": ("keys", "holder", "read", "delete"),
}

#: The longest duration that is shown in numbers, in seconds: a thousand years.
_AGES: Final = 3.2e10


@dataclass(frozen=True, slots=True)
class Row:
    """The displayed facts about one key. Instants are epoch seconds."""

    key: str
    state: str
    version: int | None = None
    token: str | None = None
    refresh_token: str | None = None
    issued_at: float | None = None
    expires_at: float | None = None
    since: float | None = None
    sent_at: float | None = None
    marked_by: str | None = None
    origins: int | None = None
    lease_owner: str | None = None
    lease_remaining: float | None = None


def run_store(options: argparse.Namespace) -> int:
    """Run an action on a store, and return the exit status."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    if options.store is not None:
        return _run_named(options)
    try:
        address = address_of(options.url, file=options.store_file, ask=options.ask_password)
    except (OSError, ValueError) as error:
        print(f"evertoken: {without_passwords(str(error))}", file=sys.stderr)
        return 2
    try:
        store = store_at(address.url, key_file=options.key_file, prefix=options.prefix, table=options.table)
    except (OSError, ValueError) as error:
        print(f"evertoken: {address.clean(str(error))}", file=sys.stderr)
        return 2
    return _run(store, options, address.clean)


def _run_named(options: argparse.Namespace) -> int:
    beside = ("url", "store_file", "ask_password", "key_file", "prefix", "table")
    given = [name for name in beside if getattr(options, name)]
    if given:
        names = ", ".join("the URL" if name == "url" else f"--{name.replace('_', '-')}" for name in given)
        print(f"evertoken: --store names a store that is made already, so leave out {names}", file=sys.stderr)
        return 2
    try:
        store = store_named(options.store, here=True, needs=_NEEDS[options.action])
    except ValueError as error:
        print(f"evertoken: {error}", file=sys.stderr)
        return 2
    return _run(store, options, scrub)


def _run(store: ListedStore, options: argparse.Namespace, clean: Callable[[str], str]) -> int:
    try:
        return asyncio.run(_within(store, options))
    except BrokenPipeError:
        # The reader has read enough. This is not a failure of the store.
        raise
    except Exception as error:  # noqa: BLE001 - a store may raise anything, and the user must see it
        # A server's library may quote its arguments.
        print(f"evertoken: the store failed: {type(error).__name__}: {clean(str(error))}", file=sys.stderr)
        return 1


async def _within(store: ListedStore, options: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        if hasattr(store, "__aenter__"):
            await stack.enter_async_context(store)  # type: ignore[arg-type]
        if not await _exists(store):
            # Otherwise a missing table would look like an empty store.
            print(f"evertoken: there is no such table: {store!r}", file=sys.stderr)
            return 1
        if options.action == "list":
            return await _list(store, as_json=options.json)
        if options.action == "show":
            return await _show(store, options.key, as_json=options.json)
        if options.action == "check":
            return await _check(store)
        return await _purge(store, options)


async def _exists(store: ListedStore) -> bool:
    # Some kinds of store create their table at the first use, and others have none.
    exists: Callable[[], Awaitable[bool]] | None = getattr(store, "exists", None)
    return exists is None or await exists()


async def rows(store: ListedStore) -> AsyncIterator[Row]:
    """Yield the known facts about each key."""
    async for key in store.keys():
        row = await _row(store, key)
        if row is not None:
            yield row


async def _row(store: ListedStore, key: str) -> Row | None:
    holder = await store.holder(key)
    owner, remaining = holder or (None, None)
    try:
        record = await store.read(key)
    except UnreadableRecord:
        return Row(key, "sealed", lease_owner=owner, lease_remaining=remaining)
    if record is None:
        return None
    row = Row(
        key,
        _state(record),
        record.version,
        since=record.since or None,
        sent_at=record.sent_at,
        marked_by=record.sent_by,
        origins=len(record.origins),
        lease_owner=owner,
        lease_remaining=remaining,
    )
    token = record.token
    if token is None:
        return row
    return replace(
        row,
        token=token.fingerprint,
        refresh_token=None if token.refresh_token is None else fingerprint_of(token.refresh_token),
        issued_at=token.issued_at,
        expires_at=token.expires_at,
    )


def _state(record: Record) -> str:
    if record.revoked:
        return "revoked"
    if record.sent_at is not None:
        return "ambiguous"
    if record.token is None:
        return "empty"
    expires_at = record.token.expires_at
    return "valid" if expires_at is None or expires_at > time.time() else "expired"


async def _list(store: ListedStore, *, as_json: bool) -> int:
    if not as_json:
        print(f"{'KEY':<44} {'STATE':<9} {'VERSION':>7}  {'TOKEN':<8}  {'AGE':>6}  {'LEFT':>6}  LEASE")
    async for row in rows(store):
        if as_json:
            # Each row is one line, so that a long list can be read while it is written.
            print(json.dumps(asdict(row)))
            continue
        now = time.time()
        lease = "" if row.lease_owner is None else f"{plain(row.lease_owner[:16])} for {span(row.lease_remaining)}"
        age = None if row.issued_at is None else now - row.issued_at
        left = None if row.expires_at is None else row.expires_at - now
        version = "" if row.version is None else row.version
        print(
            f"{plain(row.key):<44} {row.state:<9} {version:>7}  {row.token or '':<8}  "
            f"{span(age):>6}  {span(left):>6}  {lease}".rstrip()
        )
    return 0


async def _show(store: ListedStore, key: str, *, as_json: bool) -> int:
    row = await _row(store, key)
    if row is None:
        print(f"evertoken: there is no record of {key!r}; `evertoken store list` names the keys", file=sys.stderr)
        return 1
    fields = asdict(row)
    if as_json:
        print(json.dumps(fields))
        return 0
    now = time.time()
    for name, value in fields.items():
        if value is None:
            continue
        text = plain(str(value))
        if name == "since" or name.endswith("_at"):
            text = _instant(value, now)
        elif name == "lease_remaining":
            text = span(value)
        print(f"{name + ':':<17}{text}")
    return 0


async def _check(store: ListedStore) -> int:
    begun = time.perf_counter()
    # Not of a key that no store has: a table of a program's own may have no room for it.
    await anext(aiter(store.keys()), None)
    took = time.perf_counter() - begun
    set_aside = _Counting()
    logging.getLogger("evertoken").addHandler(set_aside)
    counts: dict[str, int] = {}
    try:
        async for row in rows(store):
            counts[row.state] = counts.get(row.state, 0) + 1
    finally:
        logging.getLogger("evertoken").removeHandler(set_aside)
    damaged = await _damaged(store)
    print(f"the store answers: one read took {took * 1000:.1f} ms")
    print(f"records: {sum(counts.values())}")
    explained = {
        "ambiguous": "a request was sent and its answer is not known",
        "empty": "no token yet",
        "sealed": "not to be read with the keys at hand: --key-file",
    }
    for state in sorted(counts):
        more = f" ({explained[state]})" if state in explained else ""
        print(f"  {state}: {counts[state]}{more}")
    if set_aside.count:
        print(f"  torn: {set_aside.count} (set aside, and missing from now on)")
    if damaged:
        print(f"  torn: {len(damaged)} (of an unknown key, or open to others; left as they are)")
        for name in damaged:
            print(f"    {plain(name)}")
    return 1 if set_aside.count or damaged or "sealed" in counts else 0


async def _damaged(store: ListedStore) -> list[str]:
    # A file is named by a digest of its key. A file without a readable key cannot be assigned to one.
    damaged: Callable[[], AsyncIterator[str]] | None = getattr(store, "damaged", None)
    return [] if damaged is None else [name async for name in damaged()]


async def _purge(store: ListedStore, options: argparse.Namespace) -> int:
    doomed: list[str] = list(options.key)
    if options.expired is not None:
        before = time.time() - options.expired
        async for row in rows(store):
            dead = row.expires_at is not None and row.expires_at < before
            # An old access token is no loss, but a refresh token may be a user's login.
            if dead and (row.refresh_token is None or options.with_refresh_tokens):
                doomed.append(row.key)
    if not doomed:
        if not options.key and options.expired is None:
            print("evertoken: say which: --key KEY, or --expired SECONDS", file=sys.stderr)
            return 2
        print("nothing to take out")
        return 0
    gone = 0
    for key in doomed:
        if not options.yes:
            print(f"would take out {plain(key)}")
        elif await store.delete(key):
            gone += 1
            print(f"took out {plain(key)}")
        else:
            print(f"evertoken: there is no record of {key!r}", file=sys.stderr)
    if not options.yes:
        print("nothing was taken out: say --yes to do it")
        return 0
    return 0 if gone == len(doomed) else 1


class _Counting(logging.Handler):
    """Counts the warnings of the store: one for each record that it set aside."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            self.count += 1


def plain(text: str) -> str:
    """
    Return *text* without control characters, because somebody who can write to the store must not control the terminal.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _instant(value: float, now: float) -> str:
    try:
        text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
    except (OverflowError, ValueError, OSError):
        # A stranger may have written this value.
        text = f"{value:g}"
    return text + (f" ({span(now - value)} ago)" if value <= now else f" (in {span(value - now)})")


def span(seconds: Any) -> str:
    """Return a duration in the largest unit that fits."""
    if seconds is None:
        return "-"
    sign, left = ("-", -seconds) if seconds < 0 else ("", seconds)
    if left > _AGES:
        return f"{sign}ages"
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("m", 60.0)):
        if left >= size:
            return f"{sign}{left / size:.1f}{unit}"
    return f"{sign}{left:.0f}s"

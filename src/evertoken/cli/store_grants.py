"""`evertoken store revoke`, `import` and `keep-alive`: manage the logins of users in the store of running services."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from evertoken._engine.keep_alive import KeepAlive
from evertoken._manager import TokenManager
from evertoken._model.grant import Grant
from evertoken._model.policy import KeepAlivePolicy
from evertoken.cli.get import configured
from evertoken.cli.store import plain
from evertoken.cli.toml_table import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Hashable, Iterator

    from evertoken.cli.configuration import Configuration
    from evertoken.cli.source_entries import SourceEntry

__all__ = ["run_import", "run_keep_alive", "run_revoke"]

_FIELDS: Final = ("key", "refresh_token", "scope", "issued_at", "expires_at", "extra")

# The longest line that is read, in bytes.
_LONGEST: Final = 1_048_576


def run_revoke(options: argparse.Namespace) -> int:
    """Sign a key out in the store and at the server, and return the exit status."""
    logging.basicConfig(format="evertoken: %(message)s", stream=sys.stderr, level=logging.ERROR)
    configuration, entry = _with_store(options)
    key = entry.key if options.key is None else _key(options.key)
    if not options.yes:
        print(f"would sign out {plain(repr(key))} of {entry.name}: say --yes to do it")
        return 0
    return asyncio.run(_revoke(configuration, entry, key))


def run_import(options: argparse.Namespace) -> int:
    """Write logins from JSON lines into the store, and return the exit status."""
    logging.basicConfig(format="evertoken: %(message)s", stream=sys.stderr, level=logging.ERROR)
    configuration, entry = _with_store(options)
    with ExitStack() as stack:
        if options.file is None:
            file, name = sys.stdin.buffer, "standard input"
        else:
            file, name = stack.enter_context(options.file.open("rb")), str(options.file)
        return asyncio.run(_import(configuration, entry, _grants(file, name), replace=options.replace))


def run_keep_alive(options: argparse.Namespace) -> int:
    """Refresh unused grants before they expire: until SIGTERM or SIGINT, or once. Return the exit status."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr, level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    configuration, entry = _with_store(options)
    policy = KeepAlivePolicy(idle=options.idle)
    return asyncio.run(
        _once(configuration, entry, policy) if options.once else _keep_alive(configuration, entry, policy)
    )


def _with_store(options: argparse.Namespace) -> tuple[Configuration, SourceEntry]:
    configuration = configured(options.config)
    if configuration.make_store is None:
        msg = f"{configuration.path}: there is no [store], which this command needs"
        raise ConfigurationError(msg)
    entry = configuration.entry(options.source)
    if entry.single and getattr(options, "key", None) is not None:
        msg = f"{configuration.path}: [sources.{entry.name}] is single, and has no keys"
        raise ConfigurationError(msg)
    return configuration, entry


def _manager(configuration: Configuration, entry: SourceEntry, **options: Any) -> TokenManager[Any, Any]:
    assert configuration.make_store is not None  # noqa: S101 - it was checked before
    provider = getattr(entry.source, "provider", None)
    more: dict[str, Any] = {
        "store": configuration.make_store(),
        "namespace": configuration.namespace,
        "fetch_timeout": configuration.fetch_timeout,
        "rate_limits": {name: one for name, one in configuration.rate_limits.items() if name == provider},
        **options,
    }
    if entry.single:
        return TokenManager(entry.source, **more)
    # One source serves all keys, as in a service with many users.
    return TokenManager(source_for=lambda _: entry.source, **more)


def _key(text: str) -> Hashable:
    """Return the key that the command line names. It is a JSON array or number, or else the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, list):
        return tuple(value)
    return value if type(value) is int else text


async def _revoke(configuration: Configuration, entry: SourceEntry, key: Hashable) -> int:
    async with _manager(configuration, entry) as manager:
        await (manager.revoke() if entry.single else manager.revoke(key))
    told = (
        "the server was told"
        if callable(getattr(entry.source, "revoke", None))
        else "the source cannot tell the server"
    )
    print(f"signed out {plain(repr(key))} of {entry.name}; {told}")
    return 0


def _grants(file: Any, name: str) -> Iterator[tuple[Hashable, Grant]]:
    number = 0
    while line := file.readline(_LONGEST):
        number += 1
        if not line.strip():
            continue
        wrong = None
        try:
            fields = json.loads(line)
        except ValueError:
            wrong, fields = "is not JSON", {}
        if wrong is None and not isinstance(fields, dict):
            wrong = "is not a JSON object"
        elif wrong is None:
            unknown = [field for field in fields if field not in _FIELDS]
            key = fields.pop("key", None)
            key = tuple(key) if isinstance(key, list) else key
            if unknown:
                wrong = f"has the unknown field {unknown[0]!r}; known are {', '.join(_FIELDS)}"
            elif not isinstance(key, str | int | tuple) or isinstance(key, bool):
                wrong = "needs a key: a string, a whole number or an array"
            else:
                try:
                    yield key, Grant(fields.pop("refresh_token", ""), **fields)
                except (TypeError, ValueError) as error:
                    wrong = f"is no grant: {error}"
        if wrong is not None:
            msg = f"{name}, line {number}: {wrong}"
            # The line contains a secret, and a traceback shows the locals of its frames.
            del line, fields
            raise ConfigurationError(msg)


async def _import(
    configuration: Configuration, entry: SourceEntry, grants: Iterator[tuple[Hashable, Grant]], *, replace: bool
) -> int:
    if entry.single:
        msg = f"{configuration.path}: [sources.{entry.name}] is single, and takes no grants by key"
        raise ConfigurationError(msg)
    async with _manager(configuration, entry) as manager:
        result = await manager.import_grants(grants, existing="replace" if replace else "keep")
    for key, why in result.failed:
        print(f"evertoken: {plain(repr(key))}: {why}", file=sys.stderr)
    print(f"imported {result.imported}, kept {result.kept} that were there, failed {len(result.failed)}")
    return 1 if result.failed else 0


async def _once(configuration: Configuration, entry: SourceEntry, policy: KeepAlivePolicy) -> int:
    async with _manager(configuration, entry) as manager:
        session = manager._life.check()  # noqa: SLF001 - this is a separate pass
        assert session.coordinator.records is not None  # noqa: S101 - there is a store
        await KeepAlive(session, session.coordinator.records, policy).go_through()
        counts = manager.snapshot()
    print(f"refreshed {counts.refreshed}, failed {counts.failures + counts.rejections}")
    return 1 if counts.failures + counts.rejections else 0


async def _keep_alive(configuration: Configuration, entry: SourceEntry, policy: KeepAlivePolicy) -> int:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with _manager(configuration, entry, keep_alive=policy):
        logging.getLogger("evertoken").info("keeping the grants of %s alive", entry.name)
        await stop.wait()
    return 0

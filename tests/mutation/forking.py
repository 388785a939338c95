"""
A plugin of pytest that collects the tests once, and then runs some of them in a fork for each mutant.

`-p tests.mutation.forking`. The descriptors for requests and answers are in EVERTOKEN_MUTATION_PIPES. Each request and
each answer is a line of JSON. A mutant changes the code of functions in place, so nothing is imported again.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from types import CodeType, FunctionType
from typing import IO, Any, Final

import pytest
from _pytest.runner import runtestprotocol

# The flag of code that belongs to a function, and not to a class or a module (inspect.CO_OPTIMIZED).
_OPTIMIZED: Final = 1


@dataclass(frozen=True)
class Outcome:
    """How a run of tests ended: the test that failed or did not end in time, if there is one, and which of both."""

    failed: str = ""
    hung: bool = False


def changes(before: CodeType, after: CodeType) -> list[tuple[CodeType, CodeType]] | None:
    """
    Return the code of each function that differs between two modules, as it was and as it is.

    Return None if something differs that runs when the module is imported.
    """
    if _shallow(before) != _shallow(after):
        return None
    found: list[tuple[CodeType, CodeType]] = []
    for old, new in zip(_inner(before), _inner(after), strict=True):
        if old == new:
            continue
        if old.co_flags & _OPTIMIZED:
            found.append((old, new))
            continue
        within = changes(old, new)
        if within is None:
            return None
        found += within
    return found


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _shallow(code: CodeType) -> tuple[Any, ...]:
    constants = tuple((type(one), repr(one)) for one in code.co_consts if not isinstance(one, CodeType))
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, len(_inner(code))


def _functions(package: str) -> dict[str, list[FunctionType]]:
    found: dict[str, list[FunctionType]] = {}
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and (one.__module__ or "").startswith(f"{package}."):
            found.setdefault(one.__module__, []).append(one)
    return found


class Server:
    """The collected tests, and the functions that mutants change."""

    def __init__(self, items: Sequence[pytest.Item]) -> None:
        self._items = {item.nodeid: item for item in items}
        gc.collect()
        self._functions = _functions("evertoken")
        gc.freeze()

    def changed(self, module: str, before: str, after: str) -> list[tuple[FunctionType, CodeType]] | None:
        """Return the functions that a mutant changes with their new code, or None if it cannot be done in place."""
        file = sys.modules[module].__file__ or ""
        codes = changes(compile(before, file, "exec"), compile(after, file, "exec"))
        if codes is None:
            return None
        found = [(one, new) for old, new in codes for one in self._functions.get(module, ()) if one.__code__ == old]
        # A function that is gone has already run, so its change needs an import.
        return found if len({old for old, _ in codes}) <= len({one.__code__ for one, _ in found}) else None

    def run(self, changed: Sequence[tuple[FunctionType, CodeType]], names: Sequence[str], limit: float) -> Outcome:
        """Run tests in a fork until one fails, or takes more than *limit* seconds."""
        receiving, sending = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            os.close(receiving)
            for function, code in changed:
                function.__code__ = code
            self._play([self._items[name] for name in names if name in self._items], os.fdopen(sending, "w"))
        os.close(sending)
        try:
            return _watch(receiving, limit)
        finally:
            os.close(receiving)
            # At first it is not the leader of a group.
            for kill in (os.killpg, os.kill):
                try:
                    kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            os.waitpid(child, 0)

    def _play(self, items: Sequence[pytest.Item], told: IO[str]) -> None:
        try:
            for item, following in zip(items, [*items[1:], None], strict=True):
                print(f"run {item.nodeid}", file=told, flush=True)
                reports = runtestprotocol(item, log=False, nextitem=following)
                if any(report.failed for report in reports):
                    print(f"failed {item.nodeid}", file=told, flush=True)
                    os._exit(0)
            print("passed", file=told, flush=True)
        finally:
            os._exit(0)


def _watch(pipe: int, limit: float) -> Outcome:
    running, rest = "", b""
    while True:
        ready, _, _ = select.select([pipe], [], [], limit)
        if not ready:
            return Outcome(running, hung=True)
        read = os.read(pipe, 65536)
        if not read:
            # It ended without a word.
            return Outcome(running)
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            word, _, name = line.decode().partition(" ")
            if word == "passed":
                return Outcome()
            if word == "failed":
                return Outcome(name)
            running = name


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Answer requests until there are no more."""
    asked, answering = map(int, os.environ["EVERTOKEN_MUTATION_PIPES"].split(","))
    server = Server(session.items)
    with os.fdopen(asked) as requests, os.fdopen(answering, "w") as answers:
        for answer in _answers(server, requests):
            print(json.dumps(answer), file=answers, flush=True)
    return True


def _answers(server: Server, requests: IO[str]) -> Iterator[dict[str, Any]]:
    changed: list[tuple[FunctionType, CodeType]] | None = None
    for line in requests:
        request = json.loads(line)
        if "module" in request:
            changed = server.changed(request["module"], request["before"], request["after"])
            yield {"done": changed is not None}
            continue
        yield asdict(server.run(changed or [], request["names"], request["limit"]))

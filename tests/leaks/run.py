"""The walk itself, and its report."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import inspect
import itertools
import json
import logging
import pickle
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import httpx
from tests.leaks import scenes
from tests.leaks.cases import Case, calls, constructors, http_client, instances, public
from tests.leaks.planted import PEM, SECRETS, secrets_in
from tests.leaks.walker import shown, written

# Turns of the loop after which a call that hangs is cancelled.
_TURNS = 30
# Seconds after which a call that should have ended is a fault of the walker.
_BOUND = 60.0
# How many levels of references are followed to count the planted secrets, and the types that are no part of a value.
_HELD = 8
_NOT_ENTERED = (type, ModuleType, httpx.AsyncClient, asyncio.AbstractEventLoop)
# They log their requests, and belong to other libraries.
_OTHERS = ("httpcore", "hpack")


@dataclasses.dataclass
class Report:
    """The counts and the findings of a walk."""

    calls: int = 0
    exceptions: int = 0
    texts: int = 0
    logged: int = 0
    values: int = 0
    planted: Counter[str] = dataclasses.field(default_factory=Counter)
    raised: Counter[str] = dataclasses.field(default_factory=Counter)
    found: dict[str, str] = dataclasses.field(default_factory=dict)
    # Texts that were looked at already: most are the same again and again.
    _clean: set[str] = dataclasses.field(default_factory=set)

    def look(self, name: str, texts: Iterable[tuple[str, str]]) -> None:
        """Look for secrets in *texts*."""
        for where, text in texts:
            self.texts += 1
            if text in self._clean:
                continue
            kinds = secrets_in(text)
            if not kinds:
                self._clean.add(text)
            for kind in kinds:
                self.found.setdefault(f"{kind} in {where}", name)

    def failed(self, case: Case, error: BaseException) -> None:
        """Look at what a call raised."""
        self.exceptions += 1
        self.raised[type(error).__name__] += 1
        self.look(case.name, shown(error))

    def plant(self, given: Any) -> None:
        """Count the secrets that a call is given."""
        self.planted.update({kind for text in _texts_in(given) for kind in secrets_in(text)})

    def __str__(self) -> str:
        lines = [
            f"{self.calls} calls, {self.exceptions} exceptions of {len(self.raised)} kinds, {self.logged} log records",
            f"{self.values} values, with `vars`, fields and pickles",
            f"{self.planted.total()} secrets planted, of {len(self.planted)} kinds; {self.texts} texts looked at",
            f"{len(self.found)} found",
            *(f"    {place} ({name})" for place, name in sorted(self.found.items())),
        ]
        return "\n".join(lines)


class _Logged(logging.Handler):
    """Looks at each record: its message, its arguments and its traceback."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.DEBUG)
        self.report = report

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_OTHERS):
            return
        self.report.logged += 1
        text = logging.Formatter("%(message)s").format(record)
        self.report.look("logging", [(f"log of {record.name}: {str(record.msg)[:80]}", text)])
        self.report.look("logging", ((f"arguments of {record.name}{where}", said) for where, said in written(record)))


@contextlib.contextmanager
def prepared(report: Report) -> Iterator[Path]:
    """Prepare a folder with the files that cases name, and the look at all logs."""
    root = logging.getLogger()
    handler, level = _Logged(report), root.level
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o700)
        (folder / "pem").write_text(PEM)
        (folder / "one").write_text(SECRETS["returned"])
        (folder / "lines").write_text(f"{SECRETS['returned']}\n{SECRETS['password']}\n")
        user = {"type": "authorized_user", "client_id": "app", "client_secret": SECRETS["client-secret"]}
        (folder / "credentials.json").write_text(json.dumps({**user, "refresh_token": SECRETS["refresh-token"]}))
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            yield folder
        finally:
            root.removeHandler(handler)
            root.setLevel(level)


def walk(cases: Iterable[Case], report: Report) -> None:
    """Make all calls, in asyncio's debug mode with every callback slow, and search their exceptions and logs."""
    with asyncio.Runner(debug=True) as runner:
        runner.get_loop().slow_callback_duration = 0.0
        for case in cases:
            report.calls += 1
            report.plant(case.given)
            runner.run(_play(case, report))
    gc.collect()


async def _play(case: Case, report: Report) -> None:
    task = asyncio.ensure_future(_called(case, report))
    if case.cancelled:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait_for(task, _BOUND)


async def _called(case: Case, report: Report) -> None:
    try:
        found = case.call()
        if inspect.isawaitable(found):
            await found
        elif inspect.isasyncgen(found):
            async for _ in found:
                pass
    except BaseException as error:  # noqa: BLE001 - all of them are looked at
        report.failed(case, error)


def look_at_values(folder: Path, report: Report) -> None:
    """Search the written forms of the instances themselves: `vars`, fields, pickles."""
    for name, thing in public().items():
        if not inspect.isclass(thing) or thing.__name__ in {"TokenManager", "TokenHandle"} or name.endswith("Auth"):
            continue
        for form, value in instances(thing, http_client("down"), folder):
            report.values += 1
            label = f"{name}[{form}]"
            report.look(label, ((f"{label}{where}", text) for where, text in written(value)))
            with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
                report.look(label, [(f"pickle of {label}", pickle.dumps(value).decode("latin-1"))])
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                with contextlib.suppress(TypeError):
                    report.look(label, [(f"asdict of {label}", str(dataclasses.asdict(value)))])


def all_cases(folder: Path, *, every: int = 1) -> Iterator[Case]:
    """Return all cases, or *every* so many of each part."""
    parts = (constructors(folder), calls(folder), scenes.managers(), scenes.clients(), scenes.command_line())
    return itertools.chain.from_iterable(itertools.islice(part, 0, None, every) for part in parts)


def _texts_in(given: object) -> Iterator[str]:
    """
    Yield the objects that are really held, level by level. The garbage collector knows the content of opaque ones.
    """
    level: list[object] = [given]
    seen = set[int]()
    for _ in range(_HELD):
        inner: list[object] = []
        for value in level:
            if isinstance(value, str | bytes):
                yield value if isinstance(value, str) else value.decode("latin-1")
            elif isinstance(value, FunctionType):
                inner += [cell.cell_contents for cell in value.__closure__ or ()]
            elif id(value) not in seen and not isinstance(value, _NOT_ENTERED):
                seen.add(id(value))
                inner += gc.get_referents(value)
        level = inner

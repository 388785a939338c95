"""The cost of `import evertoken`, in interpreters of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks._measure import Options, Row, Rows, median

CODE = "import time; begun = time.process_time(); import {}; print(time.process_time() - begun)"
BARE, OURS = "asyncio", "evertoken"


def rows(options: Options) -> Rows:
    # Compiled once, as an installed package is.
    _seconds(BARE), _seconds(OURS)
    pairs = [(_seconds(BARE), _seconds(OURS)) for _ in range(options.pick(31, 7))]
    bare, ours = (median(one[place] for one in pairs) for place in range(2))
    yield Row("import asyncio", bare * 1e3, unit="ms", note="CPU of a fresh interpreter")
    yield Row("import evertoken, against it", median(b / a for a, b in pairs), 1.6, note=f"{ours * 1e3:.0f} ms")
    modules = set(_output("import evertoken, sys; print(*sys.modules)").split())
    modules -= set(_output("import asyncio, sys; print(*sys.modules)").split())
    own = sum(name.partition(".")[0] == "evertoken" for name in modules)
    yield Row("... modules beyond those of asyncio", float(len(modules)), unit="", note=f"{own} are ours")


def _seconds(module: str) -> float:
    return float(_output(CODE.format(module)))


def _output(code: str) -> str:
    # Without the variables of this process: PYTHONDONTWRITEBYTECODE would have all modules compiled each time.
    path = [place for place in sys.path if place]
    program = f"import sys; sys.dont_write_bytecode = False; sys.path[:0] = {path!r}\n{code}"
    command = [sys.executable, "-E", "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

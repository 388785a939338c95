"""A token server, a folder with a configuration, and the command line as other programs see it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from evertoken.testing import TokenServer

ROOT = Path(__file__).parents[2]

#: Secrets that appear in no output.
SECRET = "s3cret"

BILLING = """
[sources.billing]
kind = "client_credentials"
token_endpoint = "{token_endpoint}"
client_id = "svc"
client_secret = {{ file = "secret" }}
"""


class World:
    def __init__(self, server: TokenServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.config = folder / "evertoken.toml"
        self.secret = folder / "secret"
        self.rewrite(self.secret, SECRET)

    @staticmethod
    def rewrite(path: Path, text: str) -> Path:
        draft = path.with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o600)
        draft.replace(path)
        return path

    def write(self, text: str, **more: Any) -> Path:
        fields = {"token_endpoint": self.server.token_endpoint, "issuer": self.server.url, "folder": self.folder}
        return self.rewrite(self.config, text.format(**{**fields, **more}))

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EVERTOKEN_")}
        return {**kept, "EVERTOKEN_CONFIG": str(self.config), "PYTHONPATH": str(ROOT / "src"), "HOME": str(self.folder)}

    def run(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "evertoken", *arguments]
        options = {"env": self.environ, "capture_output": True, "text": True, "timeout": 60, **more}
        done = subprocess.run(command, check=False, **options)
        assert SECRET not in done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> Running:
        return Running(self, *arguments)


class Running:
    """A command that keeps running, with its log in a file."""

    def __init__(self, world: World, *arguments: str) -> None:
        self.log = world.folder / f"log-{time.monotonic_ns()}"
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "evertoken", *arguments], env=world.environ, stdout=file, stderr=file
            )

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def until(self, happened: Any, seconds: float = 30.0) -> Any:
        end = time.monotonic() + seconds
        while not (found := happened()):
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
            assert time.monotonic() < end, self.said
            time.sleep(0.02)
        return found

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = 15) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

"""
Build the sdist and the wheel twice, from two copies of the repository, and compare them byte for byte.

`python -m tests.supply.build OUTPUT` leaves them in OUTPUT, with their digests in SHA256SUMS. Every build of the same
commit gives the same files: their instants are those of the commit (SOURCE_DATE_EPOCH, reproducible-builds.org).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Build twice; return 1 if the two differ."""
    parser = argparse.ArgumentParser(description="Build twice and compare.")
    parser.add_argument("output", type=Path, help="the folder for what was built")
    output: Path = parser.parse_args().output
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct").strip()
    with tempfile.TemporaryDirectory() as folder:
        # They differ in depth, mode, age and time zone. The result must show no difference.
        first = _built(Path(folder) / "one", epoch, zone="UTC", umask=0o022, age=0.0)
        second = _built(Path(folder) / "two" / "deeper", epoch, zone="Asia/Kolkata", umask=0o077, age=1e6)
        output.mkdir(parents=True, exist_ok=True)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in first.items()}
        differing = sorted(name for name in {*first, *second} if first.get(name) != second.get(name))
        for name, data in first.items():
            (output / name).write_bytes(data)
        (output / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
    for name, digest in sorted(sums.items()):
        print(f"{digest}  {name}")
    for name in differing:
        print(f"{name} is not the same twice", file=sys.stderr)
    if not differing:
        print(f"{len(sums)} files, the same twice, as of {epoch}")
    return 1 if differing or len(sums) != 2 else 0


def _built(place: Path, epoch: str, *, zone: str, umask: int, age: float) -> dict[str, bytes]:
    source, target = place / "source", place / "dist"
    # All files that git tracks, or would track: no caches, and no earlier builds.
    for name in _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        original = ROOT / name
        if name and original.is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(original, source / name)
            os.utime(source / name, (float(epoch) + age, float(epoch) + age))
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(source)],
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch, "TZ": zone},
        umask=umask if os.name == "posix" else -1,
        stdout=subprocess.DEVNULL,
    )
    return {path.name: path.read_bytes() for path in target.iterdir()}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())

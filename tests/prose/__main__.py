"""
Count the sentences that readers stumble over, print each with its file and line, and fail where they are too many.

`python -m tests.prose` reads the whole repository, and `python -m tests.prose src/evertoken/stores docs/tutorial.md`
reads only these paths. The limit holds for each class of prose alone, so that many pages do not hide bad comments.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.prose.patterns import stumbles
from tests.prose.sentences import Sentence, of_comments, of_docstrings, of_messages, of_page

ROOT = Path(__file__).parents[2]

#: The share of such sentences that is allowed, in per cent. Well-written libraries have 0.5 to 1.6 %.
LIMIT = 1.5

CLASSES: dict[str, tuple[tuple[str, ...], Callable[[str], Iterator[Sentence]]]] = {
    "pages": (("*.md", "docs/**/*.md"), of_page),
    "docstrings of the library": (("src/**/*.py",), of_docstrings),
    "comments of the library": (("src/**/*.py",), of_comments),
    "messages": (("src/**/*.py",), of_messages),
    "docstrings of tests and tools": (("tests/**/*.py", "*.py", "docs/*.py"), of_docstrings),
    "comments of tests and tools": (("tests/**/*.py", "*.py", "docs/*.py", "pyproject.toml"), of_comments),
}


def main() -> int:
    """Check each class; return 1 if one has more than `LIMIT`."""
    parser = argparse.ArgumentParser(prog="python -m tests.prose", description="Find sentences that are hard to read.")
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders to look at (all)")
    wanted: list[Path] = [path.resolve() for path in parser.parse_args().paths] or [ROOT]
    shares = [judge(name, _files(globs, wanted), read) for name, (globs, read) in CLASSES.items()]
    return int(max(shares) > LIMIT)


def judge(name: str, files: Iterable[Path], read: Callable[[str], Iterator[Sentence]]) -> float:
    """Print the sentences of *files* that a pattern matches, and return their share in per cent."""
    total = found = 0
    for path in files:
        for sentence in read(path.read_text(encoding="utf-8")):
            total += 1
            kinds = stumbles(sentence.text)
            found += bool(kinds)
            for kind in kinds:
                print(f"{path.relative_to(ROOT)}:{sentence.line}: {kind}: {sentence.text}")
    share = 100.0 * found / max(1, total)
    print(f"{name}: {share:.1f} % of {total} sentences (at most {LIMIT} %)")
    return share


def _files(globs: Iterable[str], wanted: Iterable[Path]) -> list[Path]:
    every = {path for pattern in globs for path in ROOT.glob(pattern)}
    return sorted(path for path in every if any(path.is_relative_to(place) for place in wanted))


raise SystemExit(main())

"""The demo as a log: one line per second, and one for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO, final

if TYPE_CHECKING:
    from evertoken.cli.demo import Progress
    from evertoken.cli.load import Side

__all__ = ["PlainView"]


@final
class PlainView:
    """
    Writes lines, for output that is not a terminal.

    Args:
        out: The output.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._second = -1
        self._told = 0

    def update(self, progress: Progress) -> None:
        """Write the news."""
        for line in progress.news[self._told :]:
            print(line, file=self._out, flush=True)
        self._told = len(progress.news)
        if int(progress.at) > self._second:
            self._second = int(progress.at)
            sides = "   ".join(_side(progress, side) for side in (progress.evertoken, progress.snippet))
            print(f"{progress.at:5.1f} s  {sides}", file=self._out, flush=True)


def _side(progress: Progress, side: Side) -> str:
    failed = sum(not sample.good for sample in side.samples)
    slowest = max((sample.latency for sample in side.samples), default=0.0)
    return (
        f"{side.name}: {len(side.samples)} requests, {failed} failed, slowest {slowest * 1000:.0f} ms, "
        f"{progress.fetches(side)} token requests"
    )

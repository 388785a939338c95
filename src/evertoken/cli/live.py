"""The demo on a terminal: both sides next to each other, redrawn ten times per second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self, final

from evertoken.cli.screen import Console, Group, Live, Panel, ProgressBar, Table, Text

if TYPE_CHECKING:
    from evertoken.cli.demo import Progress
    from evertoken.cli.load import Side

__all__ = ["LiveView"]

# Two panels next to each other must fit into 80 columns.
_BAR = 17


@final
class LiveView:
    """Draws the progress in place."""

    def __init__(self) -> None:
        self._live = Live(console=Console(), auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        """Redraw the view."""
        sides = Table.grid(expand=True, padding=(0, 1))
        sides.add_column(ratio=1)
        sides.add_column(ratio=1)
        sides.add_row(
            _panel(progress, progress.evertoken, "evertoken"), _panel(progress, progress.snippet, "the snippet")
        )
        plan = progress.plan
        head = Text.assemble((f"{progress.at:5.1f} s  ", "bold"), plan.phase(progress.at))
        # It is in a table, because a progress bar alone does not end its line.
        bar = Table.grid(expand=True)
        bar.add_row(ProgressBar(total=plan.seconds, completed=min(progress.at, plan.seconds)))
        self._live.update(Group(head, bar, sides, Text("\n".join(progress.news[-3:]), style="dim")), refresh=True)


def _panel(progress: Progress, side: Side, title: str) -> Panel:
    bad = [sample for sample in side.samples if not sample.good]
    refused = sum(sample.status == 401 for sample in bad)  # noqa: PLR2004 - RFC 9110 section 15.5.2
    slowest = max((sample.latency for sample in side.samples), default=0.0)
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(justify="right")
    table.add_row("token", _life(progress, side))
    table.add_row("token requests", str(progress.fetches(side)))
    table.add_row("requests", str(len(side.samples)))
    table.add_row("slowest", _judged(f"{slowest * 1000:,.0f} ms", good=slowest < progress.plan.latency))
    table.add_row("401s to callers", _judged(str(refused), good=not refused))
    table.add_row("errors", _judged(str(len(bad) - refused), good=len(bad) == refused))
    return Panel(table, title=title, title_align="left", border_style="red" if bad else "green")


def _judged(words: str, *, good: bool) -> Text:
    return Text(words, style="green" if good else "bold red")


def _life(progress: Progress, side: Side) -> Text:
    """Draw the remaining life of the token, with a mark at the time of the refresh."""
    now, expires_at, due_at = time.time(), side.expires_at(), side.due_at()
    share = 0.0 if expires_at is None else max(0.0, min((expires_at - now) / progress.plan.lifetime, 1.0))
    cells = ["█" if cell < share * _BAR else "░" for cell in range(_BAR)]
    if expires_at is not None and due_at is not None:
        mark = int((expires_at - due_at) / progress.plan.lifetime * _BAR)
        if 0 <= mark < _BAR:
            cells[mark] = "│"
    return Text("".join(cells), style="green" if share > 0.0 else "red")

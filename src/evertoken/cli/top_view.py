"""`evertoken top` on a terminal: a table that is redrawn in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, final

from evertoken.cli.screen import Console, Group, Live, Table, Text
from evertoken.cli.store import plain, span
from evertoken.cli.top import life_bar

if TYPE_CHECKING:
    from evertoken.cli.readings import KeyLine, Reading

__all__ = ["TopView"]

_GOOD = frozenset({"fresh", "connected", "valid"})
_BAD = frozenset({"needs_reconnect", "failing", "expired", "revoked"})


@final
class TopView:
    """
    Draws readings.

    Args:
        console: The output. By default, the terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._live = Live(console=console or Console(), auto_refresh=False, screen=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, reading: Reading) -> None:
        """Draw *reading*."""
        keys = Table(box=None, pad_edge=False)
        for title in ("key", "state", "token", "life", "left", "failures"):
            keys.add_column(title, no_wrap=title != "failures")
        for key in reading.keys:
            left = None if key.expires_at is None else key.expires_at - reading.at
            failed = "" if not key.failures else f"{key.failures}: {plain(key.error or '')}"
            keys.add_row(
                Text(plain(key.name)), _state(key), key.token or "-", _life(key, reading.at), span(left), Text(failed)
            )
        providers = Table(box=None, pad_edge=False)
        for title in ("provider", "rate", "asked", "waiting", "budget", "down"):
            providers.add_column(title, no_wrap=True)
        for one in reading.providers:
            providers.add_row(
                Text(plain(one.name)),
                "-" if one.rate is None else f"{one.rate:.2g}/s",
                str(one.attempts),
                str(one.in_flight + one.queued),
                "-" if one.budget_used is None else f"{one.budget_used} ({one.budget_left} left)",
                "" if one.down_since is None else Text(f"for {span(reading.at - one.down_since)}", style="bold red"),
            )
        counts = "" if reading.fetches is None else f"token requests: {reading.fetches}, failed: {reading.failed}"
        parts: list[Table | Text] = [keys, *([providers] if reading.providers else []), Text(counts, style="dim")]
        self._live.update(Group(*parts), refresh=True)


def _state(key: KeyLine) -> Text:
    return Text(key.state, style="green" if key.state in _GOOD else "bold red" if key.state in _BAD else "yellow")


def _life(key: KeyLine, now: float) -> Text:
    alive = key.expires_at is None or key.expires_at > now
    return Text(life_bar(key, now), style="green" if alive else "red")

"""The only module that imports rich, which draws on a terminal."""

from __future__ import annotations

try:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ImportError as _error:
    msg = "the live view needs rich: pip install 'evertoken[cli]', or pipe the output for plain lines"
    raise ImportError(msg) from _error

__all__ = ["Console", "Group", "Live", "Panel", "ProgressBar", "Table", "Text"]

"""The picture: the latency of each request over time, with one plot for each side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
except ImportError as _error:
    msg = "--plot needs matplotlib: pip install 'evertoken[demo]'"
    raise ImportError(msg) from _error

if TYPE_CHECKING:
    from pathlib import Path

    from evertoken.cli.demo import Progress
    from evertoken.cli.load import Side
    from evertoken.cli.result import Column, Result

__all__ = ["DARK", "LIGHT", "Theme", "plot"]


@final
@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a picture, for a light or a dark page."""

    paper: str
    ink: str
    ours: str
    theirs: str
    outage: str = "#999999"


# Colours by Okabe and Ito, which colour-blind people can distinguish.
LIGHT: Final = Theme(paper="#ffffff", ink="#333333", ours="#0072B2", theirs="#D55E00")
DARK: Final = Theme(paper="none", ink="#cfd0d0", ours="#56B4E9", theirs="#E69F00")


def plot(result: Result, progress: Progress, path: Path, theme: Theme) -> None:
    """Write the picture to *path*, as SVG or PNG by its suffix."""
    with mpl.rc_context(_settings(theme)):
        figure = Figure(figsize=(8, 5.4), layout="constrained")
        figure.suptitle("Latency of every request, as its caller saw it", x=0.01, ha="left", weight="bold")
        upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
        theirs, ours = (result.snippet, theme.theirs), (result.evertoken, theme.ours)
        _draw(upper, progress, progress.snippet, *theirs, title="the snippet everyone writes", ink=theme.ink)
        _draw(lower, progress, progress.evertoken, *ours, title="evertoken", ink=theme.ink)
        for axes in (upper, lower):
            axes.axvspan(*result.plan.outage, color=theme.outage, alpha=0.22, lw=0)
        highest = max((sample.latency for sample in progress.snippet.samples), default=1.0) * 1000
        upper.set_ylim(-0.04 * highest, 1.4 * highest)
        lower.set_xlim(0, result.plan.seconds)
        lower.set_xlabel("seconds")
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)


def _settings(theme: Theme) -> Any:
    """Return the settings of matplotlib for a theme."""
    ink = ("axes.edgecolor", "axes.labelcolor", "grid.color", "text.color", "xtick.color", "ytick.color")
    paper = ("axes.facecolor", "figure.facecolor", "savefig.facecolor")
    return {
        "font.size": 11,
        "svg.hashsalt": "evertoken",
        "svg.fonttype": "path",
        **dict.fromkeys(ink, theme.ink),
        **dict.fromkeys(paper, theme.paper),
    }


def _draw(axes: Any, progress: Progress, side: Side, column: Column, colour: str, *, title: str, ink: str) -> None:
    plan = progress.plan
    axes.axvline(plan.revocation, color=ink, lw=1.2, ls="--")
    good = [sample for sample in side.samples if sample.good]
    bad = [sample for sample in side.samples if not sample.good]
    options = {"linestyle": "none", "markeredgewidth": 0, "rasterized": True}
    axes.plot([s.at for s in good], [s.latency * 1000 for s in good], "o", ms=3, color=colour, **options)
    axes.plot(
        [s.at for s in bad],
        [s.latency * 1000 for s in bad],
        "x",
        ms=5,
        color=ink,
        linestyle="none",
        markeredgewidth=1,
        rasterized=True,
    )
    begun = progress.started_at
    for expires_at in side.expiries:
        if 0.0 < expires_at - begun < plan.seconds:
            axes.plot(expires_at - begun, 0.0, "|", ms=11, color=ink, clip_on=False, markeredgewidth=1.2)
    axes.set_title(
        f"{title}: {column.failed} of {column.requests} failed, slowest {column.slowest * 1000:,.0f} ms",
        loc="left",
        color=colour,
        weight="bold",
    )
    axes.set_ylabel("ms")
    axes.grid(axis="y", alpha=0.15)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    top = 0.96
    transform = axes.get_xaxis_transform()
    words = {"transform": transform, "va": "top", "fontsize": 10, "color": ink}
    axes.text(sum(plan.outage) / 2, top, "token endpoint\ndown", ha="center", **words)
    axes.text(plan.revocation + 0.01 * plan.seconds, top, "all tokens\nrevoked", ha="left", **words)
    if bad:
        axes.text(
            0.005, top, "● answered   ✕ failed   | token expires", ha="left", **{**words, "transform": axes.transAxes}
        )
    else:
        axes.text(0.005, top, "| token would expire", ha="left", **{**words, "transform": axes.transAxes})

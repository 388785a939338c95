"""
A small SVG writer: shapes in a fixed palette, with light and dark colours in one file.

The pictures are 400 units wide, so that their text can be read on a phone. Numbers are rounded, so that a picture is
the same on each machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

WIDTH = 400

#: For each colour: light, dark. The pairs of colours are from Okabe and Ito, which colour-blind people can distinguish.
COLOURS = {
    "paper": ("#ffffff", "#17191c"),
    "ink": ("#1f2933", "#e8eaec"),
    "soft": ("#586472", "#a9b1b9"),
    "rule": ("#cfd6dd", "#3f464d"),
    "good": ("#0072b2", "#56b4e9"),
    "pale": ("#cce3f1", "#1f435b"),
    "bad": ("#c14c00", "#ff9d5c"),
    "rust": ("#f8dfcf", "#4d2d18"),
    "wait": ("#b07d00", "#f0d04c"),
}


def style() -> str:
    """Return the style sheet: `fNAME` fills with a colour, `sNAME` strokes with it."""

    def rules(scheme: int) -> str:
        return "".join(
            f".f{name}{{fill:{pair[scheme]}}}.s{name}{{stroke:{pair[scheme]}}}" for name, pair in COLOURS.items()
        )

    return (
        "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}path,line{fill:none}"
        f"{rules(0)}@media(prefers-color-scheme:dark){{{rules(1)}}}"
    )


def number(value: float) -> str:
    """Return *value* with one decimal at most."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def minutes(seconds: float) -> str:
    """Return *seconds* as minutes and seconds."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def milliseconds(seconds: float) -> str:
    """Return *seconds* in milliseconds."""
    return f"{seconds * 1000.0:.0f} ms"


class Picture:
    """
    A picture that grows downwards.

    Args:
        title: What the picture shows, in a few words.
        description: What somebody who cannot see the picture should know. It contains the figures.
    """

    def __init__(self, title: str, description: str) -> None:
        self.title = title
        self.description = description
        self._shapes: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        colour: str = "ink",
        size: float = 12,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Write one line. *y* is its base line."""
        weight = ' font-weight="600"' if bold else ""
        end = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._add(
            f'<text class="f{colour}" x="{number(x)}" y="{number(y)}" font-size="{number(size)}"{end}{weight}>'
            f"{escape(text)}</text>"
        )

    def paragraph(self, x: float, y: float, lines: Iterable[str], *, colour: str = "soft", size: float = 12) -> float:
        """Write lines below each other. Return the base line of the next one."""
        for line in lines:
            self.text(x, y, line, colour=colour, size=size)
            y += 1.35 * size
        return y

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        colour: str,
        *,
        line: str | None = None,
        dashed: bool = False,
        corners: float = 0,
    ) -> None:
        """Fill a rectangle, or draw its edge if *colour* is "none"."""
        fill = 'fill="none"' if colour == "none" else ""
        classes = " ".join(([] if colour == "none" else [f"f{colour}"]) + ([f"s{line}"] if line else []))
        more = f' rx="{number(corners)}"' if corners else ""
        more += ' stroke-dasharray="3 3"' if dashed else ""
        self._add(
            f'<rect class="{classes}" {fill} x="{number(left)}" y="{number(top)}" width="{number(right - left)}"'
            f' height="{number(bottom - top)}"{more}/>'.replace("  ", " ")
        )

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: str = "rule",
        *,
        width: float = 1,
        dashed: bool = False,
    ) -> None:
        """Draw a straight line."""
        more = ' stroke-dasharray="3 3"' if dashed else ""
        self._add(
            f'<line class="s{colour}" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
            f' stroke-width="{number(width)}"{more}/>'
        )

    def strokes(self, lines: Iterable[tuple[float, float, float, float]], colour: str, *, width: float = 1) -> None:
        """Draw many straight lines as one shape."""
        drawn = "".join(
            f"M{number(x1)} {number(y1)}"
            + (f"H{number(x2)}" if y1 == y2 else f"V{number(y2)}" if x1 == x2 else f"L{number(x2)} {number(y2)}")
            for x1, y1, x2, y2 in lines
        )
        if drawn:
            self._add(f'<path class="s{colour}" stroke-width="{number(width)}" d="{drawn}"/>')

    def arrow(self, x1: float, x2: float, y: float, colour: str = "ink", *, dashed: bool = False) -> None:
        """Draw an arrow from *x1* to *x2*."""
        step = 6 if x2 > x1 else -6
        self.line(x1, y, x2 - step / 2, y, colour, width=1.3, dashed=dashed)
        self._add(f'<path class="f{colour}" style="fill-rule:nonzero" d="M{number(x2)} {number(y)}l{-step} -3.5v7z"/>')

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        """Draw a filled circle."""
        self._add(f'<circle class="f{colour}" cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"/>')

    def axis(self, y: float, marks: Iterable[tuple[float, str]], left: float, right: float) -> None:
        """Draw a time axis with its *marks*: places and their words."""
        self.line(left, y, right, y, "soft")
        for x, word in marks:
            self.line(x, y, x, y + 4, "soft")
            anchor = "start" if x - left < 12 else "end" if right - x < 12 else "middle"
            self.text(x, y + 16, word, colour="soft", size=11, anchor=anchor)

    def svg(self, height: float) -> str:
        """Return the file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * 1.3:.0f}" height="{height * 1.3:.0f}"'
            f' viewBox="0 0 {WIDTH} {number(height)}" role="img" aria-labelledby="title desc">'
        )
        return "\n".join(
            [
                head,
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="desc">{escape(self.description)}</desc>',
                f"<style>{style()}</style>",
                f'<rect class="fpaper" width="{WIDTH}" height="{number(height)}" rx="8"/>',
                *self._shapes,
                "</svg>\n",
            ]
        )

    def _add(self, shape: str) -> None:
        self._shapes.append(shape)

"""Draw the pictures of the documentation again: `python -m tests.docs.pictures` writes docs/_static/how-*.svg."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pictures import outage, refusals, shared_refresh, token_life

STATIC = Path(__file__).parents[3] / "docs" / "_static"

#: For each file, the function that draws it.
PICTURES = {
    "how-token-life.svg": token_life.draw,
    "how-shared-refresh.svg": shared_refresh.draw,
    "how-outage.svg": outage.draw,
    "how-refusals.svg": refusals.draw,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (STATIC / name).write_text(draw(), encoding="utf-8")

"""The directive `guides`: a list of pages by patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils.statemachine import StringList
from sphinx.directives.other import TocTree
from sphinx.util import docname_join
from sphinx.util.matching import patfilter

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx


class Guides(TocTree):
    """
    A toctree of patterns.

    If several toctrees of a page match a document, only the first one lists it.
    """

    def parse_content(self, toctree: Element) -> None:
        """Replace the patterns by the pages. A pattern need not match any page."""
        listed = self.env.temp_data.setdefault("guides", {self.env.docname})
        for pattern in list(self.content):
            here = docname_join(self.env.docname, pattern)
            found = sorted(set(patfilter(self.env.found_docs, here)) - listed)
            listed.update(found)
            toctree["entries"] += [(None, page) for page in found]
            toctree["includefiles"] += found
        self.content = StringList()
        super().parse_content(toctree)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("guides", Guides)
    return {"parallel_read_safe": True}

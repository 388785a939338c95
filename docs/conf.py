"""
How the documentation is built: `nox -s docs`.

It needs no network, and a broken reference is an error.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

project = "evertoken"
author = "evertoken contributors"
copyright = "2026, evertoken contributors"
release = metadata.version("evertoken")
version = release

sys.path.append(str(Path(__file__).parent / "_extensions"))
extensions = [
    "guides",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
# Docstrings write `names` between single backticks.
default_role = "code"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "smartquotes"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# A longer signature has each parameter on a line of its own.
maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Every public name of ours must lead somewhere. Private ones have no page, those of
# others are theirs to document, and looking them up needs a network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!evertoken\.[^_]).*|.*\._.*")]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "evertoken"
html_copy_source = False
html_domain_indices = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

# A click on the button copies commands without the prompt of a console.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
copybutton_only_copy_prompt_lines = True

# The library makes these, and users never call them.
MADE_BY_THE_LIBRARY = {
    "evertoken.TokenHandle",
    "evertoken.Subscription",
    "evertoken.EventStream",
}


def setup(app):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - Sphinx is not needed to read this file
    """Show one signature of each function, with all parameters and defaults."""
    from sphinx.pycode import ModuleAnalyzer  # noqa: PLC0415 - as above

    # Overloads only serve type checkers: those of TokenManager name no option.
    analyze = ModuleAnalyzer.analyze

    def analyze_without_overloads(self: ModuleAnalyzer) -> None:
        analyze(self)
        self.overloads.clear()

    ModuleAnalyzer.analyze = analyze_without_overloads  # type: ignore[method-assign]
    app.connect("autodoc-process-signature", without_constructor)


def without_constructor(
    _app: object, _kind: str, name: str, *_rest: object
) -> tuple[str, str] | None:
    """Leave out the signature of a class that only the library calls."""
    return ("", "") if name in MADE_BY_THE_LIBRARY else None

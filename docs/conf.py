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

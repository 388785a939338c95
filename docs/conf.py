"""How the documentation is built: `nox -s docs`. It needs no network, and a broken reference is an error."""

from __future__ import annotations

from importlib import metadata

project = "evertoken"
author = "evertoken contributors"
copyright = "2026, evertoken contributors"
release = metadata.version("evertoken")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
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

# Every public name of ours must lead somewhere. Private ones have no page, those of others are theirs to document, and
# looking them up needs a network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!evertoken\.[^_]).*")]

html_theme = "furo"
html_title = "evertoken"
html_copy_source = False

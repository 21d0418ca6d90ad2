"""Sphinx: Markdown pages, furo's theme; `make docs` builds them with warnings as errors."""

import tomllib
from pathlib import Path

_PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"

project = "Hansa"
author = "The Hansa authors"
copyright = "The Hansa authors, Apache-2.0"
release = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist", "smartquotes"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"Hansa {release}"
html_show_sphinx = False
html_copy_source = False

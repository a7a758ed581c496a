"""How the documentation is built: ``sphinx-build -W docs build/docs``."""

from __future__ import annotations

import sys
from pathlib import Path

import django
from django.conf import settings

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

# The API is read from the docstrings, and commands from their parsers: both want Django.
settings.configure(INSTALLED_APPS=["django_dbdev"], DATABASES={}, USE_TZ=True)
django.setup()

from django_dbdev import __version__  # noqa: E402

project = "django_dbdev"
author = "The django_dbdev developers"
copyright = author
release = version = __version__

extensions = ["sphinx.ext.autodoc", "myst_parser", "dbdev_reference"]
exclude_patterns = ["_ext", "_static"]
default_role = "literal"
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"

html_theme = "furo"
html_title = "django_dbdev"
html_static_path = ["_static"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

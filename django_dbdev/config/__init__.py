"""Server configuration, rendered from the Jinja2 templates in this folder.

A project's own templates (``DBDEV_TEMPLATE_DIRS``) come first, under the same names, and can
extend ours by the prefix ``django_dbdev/``::

    {% extends "django_dbdev/postgresql/postgresql.conf.j2" %}

Rendered files begin with a header that names their inputs by a digest, so that a command need
not load Jinja2 to see that a file is what it would render.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..exceptions import ConfigurationError

_OURS = Path(__file__).parent
_HEADER = "# Rendered by django_dbdev; edits are lost at the next start. inputs={} body={}\n"


def is_current(
    rendered: bytes | None, template: str, values: Mapping[str, Any], dirs: Sequence[Path]
) -> bool:
    """Whether a rendered file is what :func:`render` would give now, untouched since."""
    if rendered is None:
        return False
    head, _, body = rendered.partition(b"\n")
    wanted = _HEADER.format(_inputs(template, values, dirs), digest(body))
    return head == wanted.rstrip("\n").encode()


def render(template: str, values: Mapping[str, Any], dirs: Sequence[Path]) -> bytes:
    """Render ``template`` ("postgresql/postgresql.conf.j2"), with its header.

    The same values and templates give the same bytes on every machine.

    :raises ConfigurationError: when a template cannot be rendered.
    """
    from jinja2 import (
        ChoiceLoader,
        Environment,
        FileSystemLoader,
        PrefixLoader,
        StrictUndefined,
        TemplateError,
    )

    ours = FileSystemLoader(_OURS)
    loader = ChoiceLoader(
        [FileSystemLoader(list(dirs)), ours, PrefixLoader({"django_dbdev": ours})]
    )
    environment = Environment(  # nosec B701 # no HTML
        loader=loader,
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["pg_value"] = postgresql_value
    environment.filters["my_value"] = mysql_value
    try:
        body = environment.get_template(template).render(values).encode()
    except TemplateError as error:
        where = getattr(error, "filename", None) or template
        number = getattr(error, "lineno", None)
        line = f", line {number}" if number else ""
        raise ConfigurationError(
            f"The template {where}{line} cannot be rendered: {error.message or error}"
        ) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # What a template computes may fail in the ways of any Python.
        raise ConfigurationError(
            f"The template {template} cannot be rendered: {type(error).__name__}: {error}"
        ) from None
    header = _HEADER.format(_inputs(template, values, dirs), digest(body))
    return header.encode() + body


def postgresql_value(value: object) -> str:
    """A value as postgresql.conf writes it: quotes doubled, backslashes too.

    Source: PostgreSQL documentation, "Setting Parameters", "Parameter Interaction via the
    Configuration File".
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return str(value)
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def mysql_value(value: object) -> str:
    """A value as MariaDB's and MySQL's option files write it: in quotes, with backslashes doubled.

    Quotes within are escaped: who reads it looks for the comment first, and takes a bare one for
    the end. Source: MySQL documentation, "Using Option Files", and ``find_end_comment`` in both
    sources.
    """
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    if isinstance(value, int | float):
        return str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _inputs(template: str, values: Mapping[str, Any], dirs: Sequence[Path]) -> str:
    """A digest of all that rendering depends on: the values, and every template."""
    state = hashlib.sha256(json.dumps([template, values], sort_keys=True).encode())
    for folder in (*dirs, _OURS / Path(template).parent):
        # Whatever else is there may be included.
        for file in sorted(folder.rglob("*.j2")):
            state.update(f"\0{file.relative_to(folder)}\0".encode())
            state.update(file.read_bytes())
        state.update(b"\0\0")
    return state.hexdigest()[:16]


def digest(content: bytes) -> str:
    """A short name of the bytes, for the headers of rendered files. Hexadecimal."""
    return hashlib.sha256(content).hexdigest()[:16]

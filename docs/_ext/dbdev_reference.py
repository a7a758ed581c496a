"""What the reference is made of: objects that pages can link to, and commands from their parsers.

``.. setting::``, ``.. pin::``, ``.. check::`` and ``.. exitstatus::`` describe one thing each, and
``.. dbdev-command:: NAME`` writes a command's usage and options. Tests compare both with the code.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

OBJECTS = ("setting", "pin", "check", "exitstatus")
#: Options that every Django command has.
DJANGO = ("help", "version", "verbosity", "settings", "pythonpath", "traceback", "no_color")
DJANGO += ("force_color", "skip_checks")


def describe(name: str) -> Iterator[str]:
    """A management command as lines of reStructuredText: what it is for, usage, options."""
    module = import_module(f"django_dbdev.management.commands.{name}")
    command = module.Command()
    parser = command.create_parser("manage.py", name)
    own = [action for action in parser._actions if action.dest not in DJANGO]
    yield from (command.help, "", ".. code-block:: text", "")
    yield f"   {_usage(name, own)}"
    yield from ("", f".. program:: {name}", "")
    for action in own:
        yield f".. option:: {_signature(action)}"
        yield ""
        text = " ".join((action.help or "").split())
        choices = ", ".join(f"``{choice}``" for choice in action.choices or ())
        yield f"   {text}{f' One of {choices}.' if choices else ''}"
        yield ""


def _usage(name: str, actions: list[argparse.Action]) -> str:
    words = [_usage_of(action) for action in actions]
    return " ".join(["manage.py", name, *words])


def _usage_of(action: argparse.Action) -> str:
    if action.option_strings:
        word = " ".join([action.option_strings[0], *_metavar(action)])
        return word if action.required else f"[{word}]"
    word = " ".join(_metavar(action))
    return f"[{word}]" if action.nargs in ("?", "*", argparse.REMAINDER) else word


def _signature(action: argparse.Action) -> str:
    value = " ".join(_metavar(action))
    if not action.option_strings:
        return value
    return ", ".join(f"{option} {value}".strip() for option in action.option_strings)


def _metavar(action: argparse.Action) -> list[str]:
    if action.nargs == 0:
        return []
    if action.metavar is not None:
        return [action.metavar] if isinstance(action.metavar, str) else list(action.metavar)
    if action.choices is not None:
        return [f"{{{','.join(map(str, action.choices))}}}"]
    return [action.dest.upper() if action.option_strings else action.dest]


class DbdevCommand(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        lines = list(describe(self.arguments[0]))
        source = f"<{self.arguments[0]}>"
        content = StringList(lines, items=[(source, number) for number in range(len(lines))])
        parent = nodes.container()
        self.state.nested_parse(content, self.content_offset, parent, match_titles=True)
        return parent.children


def setup(app: Sphinx) -> dict[str, Any]:
    for name in OBJECTS:
        app.add_object_type(name, name, indextemplate=f"pair: %s; {name}")
    app.add_directive("dbdev-command", DbdevCommand)
    return {"parallel_read_safe": True}

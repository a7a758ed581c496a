"""The commands of a guide, as a test runs them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from docutils import nodes

from django_dbdev.guide import parse

INTERACTIVE = "interactive"
ASKS = "asks first"
_MARK = re.compile(rf"\((?P<kind>{INTERACTIVE}|{ASKS}|needs [^()]*)\):$")


@dataclass(frozen=True)
class GuideCommand:
    """A line to copy. ``kind`` is what stands in brackets before the colon above it.

    "" runs and ends by itself, "asks first" goes on after ``yes``, "interactive" waits for its
    user, "needs …" runs where that is.
    """

    line: str
    kind: str = ""


def all_commands(rst: str) -> list[GuideCommand]:
    """Every line of every literal block, in order. Blocks with a language are no commands."""
    found = []
    for block in parse(rst).findall(nodes.literal_block):
        if block["classes"]:
            continue
        above = block.parent.children[block.parent.index(block) - 1]
        mark = _MARK.search(above.astext()) if isinstance(above, nodes.paragraph) else None
        kind = mark["kind"] if mark else ""
        found += [GuideCommand(line, kind) for line in block.astext().splitlines()]
    return found


def commands(rst: str) -> list[str]:
    """The lines that run and end by themselves, in order."""
    return [command.line for command in all_commands(rst) if not command.kind]

"""The picture of the rooms, from the contract that lint-imports keeps: ``python docs/rooms.py``."""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE / "_static" / "rooms.svg"
#: A room in a few words. Rooms that are not told here are drawn by their name alone.
TOLD = {
    "management": "parse, call, print",
    "apps": "",
    "checks": "Django's system checks",
    "registry": "which backend, which server",
    "backends": "what is run, and when",
    "binaries": "a pin becomes programs",
    "backups": "copies, dumps, swaps",
    "guide": "commands with your values",
    "environment": "files for Nix, CI, containers",
    "process": "how programs run",
    "config": "server configuration",
    "conf": "settings, environment, pyproject.toml",
    "pins": "what is asked for",
    "records": "atomic writes",
    "ownership": "what is planted",
    "reporting": "telling without printing",
    "invocation": "how we were called",
    "exceptions": "what went wrong",
}
WIDTH, HEIGHT, GAP, SIDE = 820, 46, 12, 90


def layers() -> list[list[str]]:
    """The rooms, topmost first, as pyproject.toml has them."""
    table = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))
    contracts = table["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each["type"] == "layers")
    return [
        [module.strip().removeprefix("django_dbdev.") for module in layer.split("|")]
        for layer in contract["layers"]
    ]


def picture() -> str:
    shapes = []
    found = layers()
    for index, rooms in enumerate(found):
        top = GAP + index * (HEIGHT + GAP)
        width = (WIDTH - SIDE - GAP * len(rooms)) / len(rooms)
        for number, room in enumerate(rooms):
            left = SIDE + number * (width + GAP)
            middle = left + width / 2
            shapes.append(
                f'<rect x="{left:g}" y="{top}" width="{width:g}" height="{HEIGHT}" rx="5"/>'
                f'<text x="{middle:g}" y="{top + 20}" class="n">{escape(room)}</text>'
                f'<text x="{middle:g}" y="{top + 37}">{escape(TOLD.get(room, ""))}</text>'
            )
    height = GAP + len(found) * (HEIGHT + GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}">'
        "<style>rect{fill:#e8eef5;stroke:#5b7796}text{font:12px sans-serif;fill:#33475b;"
        "text-anchor:middle}.n{font-weight:bold;font-size:14px}</style>"
        '<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>'
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#33475b"/></marker></defs>'
        f'<path d="M45 {GAP + 20}V{height - GAP}" stroke="#33475b" fill="none" '
        'marker-end="url(#a)"/>'
        f'<text x="45" y="{GAP + 8}">imports</text>{"".join(shapes)}</svg>\n'
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), "utf-8")

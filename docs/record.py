"""The terminal recording and the pictures of the documentation: ``python docs/record.py``.

Real commands run in a terminal of their own, on a project like the tutorial's:

- ``_static/first-steps.cast`` is the recording, an asciicast v2 (``asciinema play``);
- ``_static/first-steps.svg`` is made from it: an animation without script or foreign fonts;
- ``_static/guide.svg`` is a screenshot of ``dbdev_guide``.

Needs the extra ``record`` and, the first time, the package index.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pyte

STATIC = Path(__file__).parent / "_static"
COLUMNS, ROWS = 100, 26
#: How much of the guide is shown.
GUIDE_ROWS = 40
HOME = "/home/alice"
PYPROJECT = '[tool.django_dbdev.postgresql]\nversion = "18"\n'
SETTINGS = """
from django_dbdev.backends.postgres import DBSETTINGS
INSTALLED_APPS += ["django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""
SCENE = (
    "cat pyproject.toml",
    "python manage.py dbdev_init",
    "python manage.py migrate --verbosity 0",
    "python manage.py dbdev_backup --name before-experiment",
    "python manage.py flush --no-input",
    "python manage.py dbdev_restore --name before-experiment",
    "python manage.py dbdev_serverinfo",
)
#: Seconds: between typed letters, before and after a command, the longest wait that is shown.
TYPING, PAUSE, LONGEST = 0.04, 0.9, 1.2
#: Pixels, and a palette that is readable on its own dark ground.
CHARACTER, LINE, MARGIN = 8.4, 19, 14
GROUND, TEXT = "#1b1f24", "#d8dee4"
COLOURS = {
    "black": "#6e7681",
    "red": "#ff7b72",
    "green": "#7ee787",
    "brown": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
    "white": TEXT,
}


@dataclass(frozen=True)
class Event:
    """What the terminal got, ``at`` seconds after the beginning."""

    at: float
    data: str


class Terminal:
    """A recording. Paths below ``home`` are shown as those of ``/home/alice``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.events: list[Event] = []
        self.now = 0.0

    def show(self, data: str, wait: float = 0.0) -> None:
        self.now += min(wait, LONGEST)
        self.events.append(Event(self.now, data))

    def type(self, command: str) -> None:
        self.show("\x1b[32m$\x1b[0m ", PAUSE)
        for word in re.findall(r"\S+\s*", command):
            self.show(word, TYPING * len(word))
        self.show("\r\n", PAUSE / 2)

    def run(self, command: Sequence[str], cwd: Path, environment: dict[str, str]) -> None:
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], list(command), environment)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        last = time.monotonic()
        with open(terminal, "rb", buffering=0) as output:
            while True:
                select.select([output], [], [])
                try:
                    data = output.read(65536)
                except OSError:  # Linux: the other side is closed.
                    data = b""
                if not data:
                    break
                now = time.monotonic()
                text = data.decode("utf-8", "replace").replace(str(self.home), HOME)
                self.show(text, now - last)
                last = now
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(f"{shlex.join(command)} failed: {self.events[-1].data}")

    def cast(self) -> str:
        header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "django_dbdev"}
        lines = [json.dumps(header)]
        lines += [json.dumps([round(e.at, 3), "o", e.data]) for e in self.events]
        return "\n".join(lines) + "\n"


Row = tuple[tuple[str, str, bool], ...]
"""A line of the screen: pieces of text with colour and whether it is bold."""


def screens(events: Sequence[Event], rows: int) -> Iterator[tuple[float, tuple[Row, ...]]]:
    """The screen after each event, where it differs from the one before."""
    screen = pyte.Screen(COLUMNS, rows)
    stream = pyte.Stream(screen)
    before: tuple[Row, ...] = ()
    for event in events:
        stream.feed(event.data)
        now = tuple(_row(screen, number) for number in range(rows))
        if now != before:
            before = now
            yield event.at, now


def _row(screen: pyte.Screen, number: int) -> Row:
    pieces: list[tuple[str, str, bool]] = []
    line = screen.buffer[number]
    for column in range(screen.columns):
        character = line[column]
        colour = COLOURS.get(character.fg.removeprefix("bright"), TEXT)
        if re.fullmatch(r"[0-9a-f]{6}", character.fg):
            colour = f"#{character.fg}"
        style = (colour, character.bold)
        if pieces and pieces[-1][1:] == style:
            pieces[-1] = (pieces[-1][0] + character.data, *style)
        else:
            pieces.append((character.data, *style))
    while pieces and not pieces[-1][0].rstrip():
        pieces.pop()
    return tuple(pieces)


def svg(found: Sequence[tuple[float, tuple[Row, ...]]], rows: int) -> str:
    """One screen is a picture, several are an animation that begins again at its end."""
    width, height = round(COLUMNS * CHARACTER + 2 * MARGIN), rows * LINE + 2 * MARGIN
    lines: dict[Row, str] = {}
    frames = []
    for index, (_, screen) in enumerate(found):
        uses = []
        for number, row in enumerate(screen):
            if row:
                name = lines.setdefault(row, f"l{len(lines)}")
                uses.append(f'<use href="#{name}" y="{MARGIN + LINE * (number + 0.75):g}"/>')
        frames.append(f'<g id="f{index}" class="f">{"".join(uses)}</g>')
    style = f".t{{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:{TEXT}}}"
    style += "text{white-space:pre}.b{font-weight:bold}"
    if len(found) > 1:
        style += _animation([at for at, _ in found])
    shapes = "".join(f'<text id="{name}">{_spans(row)}</text>' for row, name in lines.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><style>{style}</style>'
        f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/><defs>{shapes}</defs>'
        f'<g class="t">{"".join(frames)}</g></svg>\n'
    )


def _spans(row: Row) -> str:
    """Every piece at its column, whatever the width of the font that is there."""
    found, column = [], 0
    for text, colour, bold in row:
        shown = text.rstrip(" ") if (text, colour, bold) == row[-1] else text
        colour = f' fill="{colour}"' if colour != TEXT else ""
        weight = ' class="b"' if bold else ""
        length = f' textLength="{len(shown) * CHARACTER:g}"' if shown.strip() else ""
        x = f' x="{MARGIN + column * CHARACTER:g}"'
        found.append(f"<tspan{x}{length}{colour}{weight}>{escape(shown)}</tspan>")
        column += len(text)
    return "".join(found)


def _animation(times: Sequence[float]) -> str:
    """Each frame is seen from its time to the next one's; the last stays for a while."""
    total = times[-1] + 4
    ends = [*times[1:], total]
    rules = []
    for index, (start, end) in enumerate(zip(times, ends, strict=True)):
        a, b = (round(100 * at / total, 3) for at in (start, end))
        begin = f"0%{{visibility:hidden}}{a:g}%{{visibility:visible}}" if a else ""
        begin = begin or "0%{visibility:visible}"
        finish = f"{b:g}%,to{{visibility:hidden}}" if b < 100 else "to{visibility:visible}"
        rules.append(f"@keyframes k{index}{{{begin}{finish}}}#f{index}{{animation-name:k{index}}}")
    return (
        f".f{{visibility:hidden;animation:{total:g}s step-end infinite}}"
        # Who wants no movement sees the end.
        f"@media(prefers-reduced-motion){{.f{{animation:none}}#f{len(times) - 1}"
        "{visibility:visible}}" + "".join(rules)
    )


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="alice-"))
    project = home / "shop"
    project.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DBDEV_", "DJANGO_", "PG"))}
    environment = {
        **kept,
        "DBDEV_STORE": str(home / "store"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
        "TERM": "xterm-256color",
    }
    admin = [sys.executable, "-m", "django", "startproject", "shop", "."]
    subprocess.run(admin, cwd=project, env=environment, check=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    with (project / "shop" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    try:
        recording = Terminal(home)
        for command in SCENE:
            recording.type(command)
            recording.run(shlex.split(command), project, environment)
        guide = Terminal(home)
        guide.run(["python", "manage.py", "dbdev_guide"], project, environment)
    finally:
        stop = [sys.executable, "manage.py", "dbdev_stopserver", "--verbosity", "0"]
        subprocess.run(stop, cwd=project, env=environment, check=False)
        shutil.rmtree(home)
    STATIC.mkdir(exist_ok=True)
    (STATIC / "first-steps.cast").write_text(recording.cast(), "utf-8")
    moving = list(screens(recording.events, ROWS))
    (STATIC / "first-steps.svg").write_text(svg(moving, ROWS), "utf-8")
    # A screen that holds more than is shown, so that nothing scrolls away.
    lines = "".join(event.data for event in guide.events).splitlines()[:GUIDE_ROWS]
    ((at, screen),) = screens([Event(0, "\r\n".join(lines))], 2 * GUIDE_ROWS)
    (STATIC / "guide.svg").write_text(svg([(at, screen[:GUIDE_ROWS])], GUIDE_ROWS), "utf-8")
    print(f"Wrote first-steps.cast, first-steps.svg and guide.svg to {STATIC}")


if __name__ == "__main__":
    main()

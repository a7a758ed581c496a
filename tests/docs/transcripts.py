"""The console transcripts of a page: found, run in one bash, compared, or written anew.

A page's project is made in a folder that stands for ``/home/alice``. On a page

- ``.. code-block:: console`` holds lines that begin with ``$``, which are run, and below each
  what it prints. ``…`` alone on a line stands for any lines, within a line for any text;
- another block with ``:caption: FILE`` is written to that file, ``:caption: end of FILE`` is put
  at its end, before what follows is run;
- ``.. run: COMMAND``, a comment for readers, is run as well, whatever it prints;
- ``:class: elsewhere`` marks what needs a machine of somebody else's, and is not run; a class
  ``exits-N`` tells the status with which the last command of the block ends.

``python -m tests.docs.update PAGE…`` writes into the pages what the commands print.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOME = "/home/alice"
STORE = f"{HOME}/.cache/django_dbdev"
_BLOCK = re.compile(r"^(?P<indent> *)\.\. code-block:: *(?P<language>\S*)$")
_HIDDEN = re.compile(r"^ *\.\. run: (?P<command>.+)$")
_OPTION = re.compile(r"^ +:(?P<name>[a-z-]+): *(?P<value>.*)$")
_PACKAGE = re.compile(r"(?<=pip install --quiet ')django_dbdev(\[[^\]]*\])>=2")
_END = "\x1e"
#: What is only printed where store or lock do not have something yet; what pip says of a machine's
#: own configuration; and what a machine was too busy to remove in the background.
_SOMETIMES = (
    *("Locking anew: ", "Resolved ", "Downloaded ", "Unpacked ", "WARNING: Location "),
    "Removed dbdev__dbdev_old_",
)
#: What differs from run to run and machine to machine, and what it becomes in comparing.
_VARYING = [
    (re.compile(pattern), becomes)
    for pattern, becomes in (
        (r" +", " "),
        (r"backup-\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", "backup-TIME"),
        (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?([+-]\d\d:\d\d)?", "TIME"),
        (r"\b\d+(\.\d+)?( ?)(ms|s|min|h|d)\b(?! \()", "DURATION"),
        (r"\b\d+(\.\d+)? (B|kB|MB|GB)\b", "SIZE"),
        (
            r"(?<=127\.0\.0\.1:)\d+|(?<=PORT=)\d+|(?<=(?:port |.SQL\.|ysql\.))\d+",
            "PORT",
        ),
        (r"\(pid \d+\)", "(pid PID)"),
        (r'(?<="age": )[\d.]+|(?<=_size": )\d+|(?<="size": )\d+|(?<=ration": )[\d.]+', "NUMBER"),
        (r"\b1[4-9]\.\d+(\.\d+)?\b|(?<![\d.])\d+\.\d+\.\d+(?![\d.])", "VERSION"),
        (r"\b(x86_64|aarch64)-(linux|darwin)\b", "SYSTEM"),
        (r"\b[0-9a-f]{64}\b", "SHA256"),
        # Of a generated file: its digest, and the Python that it is for.
        (r"body=[0-9a-f]+", "body=DIGEST"),
        (r"\bpython3\d+\b", "PYTHON"),
        (r'(?<=python-version: )"[^"]*"', "PYTHON"),
    )
]


@dataclass
class Step:
    """A command with what the page says that it prints, or a file to write.

    :param line: of the page, from 0, of the command or of the file's first line.
    :param expected: the lines below the command, without indentation.
    """

    line: int
    indent: int
    command: str = ""
    expected: list[str] = field(default_factory=list)
    status: int = 0
    file: str = ""
    content: str = ""


def steps(text: str) -> list[Step]:
    """All that a reader of the page does, in order."""
    lines = text.splitlines()
    found: list[Step] = []
    number = 0
    while number < len(lines):
        block = _BLOCK.match(lines[number])
        if hidden := _HIDDEN.match(lines[number]):
            found.append(Step(number, 0, hidden["command"], ["…"]))
        number += 1
        if block is None:
            continue
        options: dict[str, str] = {}
        while number < len(lines) and (option := _OPTION.match(lines[number])):
            options[option["name"]] = option["value"]
            number += 1
        first = number + 1
        least = len(block["indent"]) + 1
        while number < len(lines) and (
            not lines[number].strip() or lines[number].startswith(" " * least)
        ):
            number += 1
        body = lines[first:number]
        while body and not body[-1].strip():
            body.pop()
        if "elsewhere" not in options.get("class", ""):
            found += _of_block(block["language"], options, body, first)
    return found


def _of_block(
    language: str, options: Mapping[str, str], body: Sequence[str], first: int
) -> list[Step]:
    indent = min((len(line) - len(line.lstrip()) for line in body if line.strip()), default=0)
    plain = [line[indent:] for line in body]
    if language != "console":
        if "caption" not in options:
            return []
        content = "\n".join(plain) + "\n"
        return [Step(first, indent, file=options["caption"], content=content)]
    found: list[Step] = []
    for offset, line in enumerate(plain):
        if line.startswith("$ "):
            found.append(Step(first + offset, indent, line[2:]))
        elif found and found[-1].command.endswith("\\"):
            found[-1].command += "\n" + line
        else:
            found[-1].expected.append(line)
    if exits := re.search(r"exits-(\d+)", options.get("class", "")):
        found[-1].status = int(exits[1])
    return found


@dataclass(frozen=True)
class Done:
    """What a step printed and how it ended."""

    step: Step
    printed: list[str]
    status: int

    def problem(self) -> str:
        """Empty where the page is right."""
        if self.status != self.step.status:
            said = "\n".join(self.printed)
            return f"$ {self.step.command}\nended with status {self.status}:\n{said}"
        if agree(self.step.expected, self.printed):
            return ""
        pairs = zip_longest(self.step.expected, self.printed, fillvalue="")
        told = [f"  page: {e}\n  real: {p}" for e, p in pairs if plain(e) != plain(p)]
        return "\n".join([f"$ {self.step.command}", *told])


def plain(line: str) -> str:
    for pattern, becomes in _VARYING:
        line = pattern.sub(becomes, line)
    return line.rstrip()


def agree(expected: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether that was printed, but for what varies, what the store had, and ``…``."""
    expected, printed = _told_always(expected), _told_always(printed)
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, plain(line).split("…"))) + r"\n"
    return re.fullmatch(pattern, "".join(f"{plain(line)}\n" for line in printed)) is not None


def _told_always(lines: Sequence[str]) -> list[str]:
    """Without what depends on what was done before, and how fast."""
    return [line for line in lines if not line.startswith(_SOMETIMES)]


def run(
    found: Sequence[Step], home: Path, folder: Path, environment: Mapping[str, str]
) -> list[Done]:
    """Do all of it in ``folder``, in one bash; ``home`` is shown as ``/home/alice``."""
    script = [f"cd {_quoted(folder)}", "exec 2>&1"]
    commands = [step for step in found if step.command]
    for step in found:
        if step.command:
            script += [_at_home(step.command, home), f"printf '\\n{_END}%s\\n' $?"]
        else:
            name = step.file.removeprefix("end of ")
            how = ">>" if name != step.file else ">"
            script.append(f"mkdir -p $(dirname {name}); cat {how}{name} <<'END_OF_FILE'")
            script += [step.content + "END_OF_FILE"]
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", "\n".join(script)],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    shown = done.stdout.replace(environment["DBDEV_STORE"], STORE).replace(str(home), HOME)
    printed = re.split(rf"\n{_END}(\d+)\n", shown)
    assert len(printed) == 2 * len(commands) + 1, done.stdout[-3000:]
    return [
        Done(step, [line.rstrip() for line in text.rstrip().splitlines()], int(status))
        for step, text, status in zip(commands, printed[0::2], printed[1::2], strict=False)
    ]


def _at_home(command: str, home: Path) -> str:
    """The command as it runs here: with this folder, and this checkout for the released package."""
    return _PACKAGE.sub(rf"{DOCS.parent}\1", command.replace(HOME, str(home)))


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"


def environment(store: Path, kept: Mapping[str, str]) -> dict[str, str]:
    """The reader's: ``python`` is ours, and so is the store."""
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
        "DBDEV_STORE": str(store),
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }


def rewritten(text: str, done: Sequence[Done]) -> str:
    """The page with what was really printed, where it says something else."""
    lines = text.splitlines()
    for each in reversed(done):
        step = each.step
        if agree(step.expected, each.printed):
            continue
        start = step.line + 1 + step.command.count("\n")
        new = [f"{' ' * step.indent}{line}".rstrip() for line in each.printed]
        lines[start : start + len(step.expected)] = new
    return "\n".join(lines) + "\n"

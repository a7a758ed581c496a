"""Variables for a shell: what makes client programs and Django meet the project's server."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from .info import ServerInfo

#: The syntaxes that :func:`as_statements` writes, by the shell's program.
SHELLS = ("bash", "zsh", "fish")


def variables(infos: Sequence[ServerInfo], prefix: Path, path: str | None = None) -> dict[str, str]:
    """DATABASE_URL and the engines' own, and PATH with the project's programs first.

    :param infos: the first has the last word.
    :param prefix: the project's folder of links to programs. What leads there from an earlier
        call leaves PATH, so that a new version takes the old one's place.
    :param path: the PATH that is added to; the caller's by default.
    """
    found: dict[str, str] = {}
    for info in reversed(infos):
        found.update(info.environment)
    programs = [program for info in infos for program in info.programs.values()]
    if programs:
        before = os.environ.get("PATH", os.defpath) if path is None else path
        entries = before.split(os.pathsep)
        others = [entry for entry in entries if not Path(entry).is_relative_to(prefix)]
        first = dict.fromkeys(str(each.parent) for each in programs if not _is_met(each, others))
        kept = (entry for entry in others if entry not in first)
        found["PATH"] = os.pathsep.join([*first, *kept])
    return found


def _is_met(program: Path, path: Sequence[str]) -> bool:
    """Whether the program's name leads to it: its folder, the system's own perhaps, may stay.

    In front it would hide the project's Python.
    """
    if str(program.parent) not in path:
        return False
    there = shutil.which(program.name, path=os.pathsep.join(path))
    return there is not None and os.path.samefile(there, program)


def shell_of_user() -> str:
    """The name of the program that ``$SHELL`` names; "bash" where it names none."""
    return Path(os.environ.get("SHELL") or "bash").name


def as_statements(values: Mapping[str, str], shell: str) -> str:
    """Lines that set ``values``, to be evaluated by ``shell``; bash's are for every POSIX shell."""
    if shell == "fish":
        return "\n".join(_fish(name, value) for name, value in values.items())
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())


def _fish(name: str, value: str) -> str:
    # fish splits PATH itself only where it is inherited, not where it is set.
    words = value.split(os.pathsep) if name == "PATH" else [value]
    return f"set -gx {name} {' '.join(map(_fish_quote, words))}"


def _fish_quote(word: str) -> str:
    r"""Within fish's single quotes only ``\\`` and ``\'`` mean something else."""
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"

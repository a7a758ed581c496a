"""Generated files on disk: what is there is compared first, and an edit is never lost."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..exceptions import ConfigurationError
from ..records import write_atomically
from .model import Model
from .rendering import File, get_kind, is_untouched, render


@dataclass(frozen=True)
class Planned:
    """A file as it should be, and as it is; ``present`` is None where there is none."""

    path: Path
    text: str
    present: str | None
    untouched: bool

    @property
    def is_current(self) -> bool:
        return self.present == self.text

    def diff(self) -> str:
        """What would change, as a unified diff; empty when nothing would."""
        lines = difflib.unified_diff(
            (self.present or "").splitlines(keepends=True),
            self.text.splitlines(keepends=True),
            f"{self.path} (as it is)",
            f"{self.path} (as it would be generated)",
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def plan(kind: str, model: Model, root: Path, repository: Path) -> list[Planned]:
    """What generating would do. Reads files and writes none.

    :param root: the project's folder; ``repository`` is what is checked out with it.
    :raises ConfigurationError: when there is no such kind, or a file cannot be read.
    """
    return [
        _plan_file(file, render(kind, file, model), repository if file.repository else root)
        for file in get_kind(kind).files
    ]


def _plan_file(file: File, text: str, folder: Path) -> Planned:
    path = folder / file.path
    try:
        present = path.read_bytes().decode()
    except FileNotFoundError:
        return Planned(path, text, None, untouched=True)
    except UnicodeDecodeError:
        # Nothing of ours: it is kept as any edit is.
        return Planned(path, text, "", untouched=False)
    return Planned(path, text, present, is_untouched(file, present))


def write(planned: Sequence[Planned], *, force: bool = False) -> list[Path]:
    """Write the files that are not as they should be; which those were.

    :raises ConfigurationError: when one was edited, or is not ours, and not ``force``. Then none
        is written.
    """
    edited = [p for p in planned if not p.untouched and not p.is_current]
    if edited and not force:
        names = ", ".join(str(p.path) for p in edited)
        raise ConfigurationError(
            f"{names} was edited, or was not generated, and is kept as it is.",
            hints=[
                "--check shows what would change, --stdout prints what would be written",
                "--force replaces it",
            ],
        )
    changed = [p for p in planned if not p.is_current]
    for file in changed:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file.path, file.text, mode=0o644)
    return [file.path for file in changed]

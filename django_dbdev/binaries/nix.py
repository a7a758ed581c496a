"""Programs in a Nix store, which its garbage collection is not to take from a project."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..exceptions import ProgramError
from ..reporting import Reporter

_STORE = "/nix/store"


def store_path(path: Path) -> Path | None:
    """The store path that holds ``path``; None for what is in no Nix store."""
    store = Path(os.environ.get("NIX_STORE_DIR") or _STORE)
    inside = path.resolve()
    if not inside.is_relative_to(store) or inside == store:
        return None
    return store / inside.relative_to(store).parts[0]


def keep_from_collection(path: Path, link: Path, reporter: Reporter) -> None:
    """Make ``link`` a root of the garbage collection that leads to ``path``, where Nix has it.

    A shell's programs are roots only while the shell is open, and a server outlives it. Does
    nothing when the link is there already, or where Nix's own program is not on PATH.
    """
    kept = store_path(path)
    program = shutil.which("nix-store") if kept is not None else None
    if kept is None or program is None:
        return
    if link.is_symlink() and os.readlink(link) == str(kept):
        return
    from ..process.command import Command
    from ..process.run import run

    for folder in (link.parent.parent, link.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    args = ("--realise", str(kept), "--add-root", str(link), "--indirect")
    try:
        run(Command(Path(program), args))
    except ProgramError as error:
        reason = (error.output.strip().splitlines() or [error.message])[-1]
        reporter.warning(f"nix-collect-garbage may take {kept} while the project uses it: {reason}")

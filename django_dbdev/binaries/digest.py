"""A digest of a folder's files: equal for equal programs, wherever they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path


def tree_digest(folder: Path) -> str:
    """Hexadecimal. Names, contents, run bits and links count; owners, modes and times do not.

    Python's bytecode does not count either: it comes and goes.
    """
    state = hashlib.sha256()
    for path in sorted(_files(str(folder))):
        name = os.path.relpath(path, folder).encode("utf-8", "surrogateescape")
        if os.path.islink(path):
            what, digest = b"link", os.readlink(path).encode("utf-8", "surrogateescape")
        else:
            what = b"run" if os.stat(path).st_mode & 0o100 else b"file"
            with open(path, "rb") as content:
                digest = hashlib.file_digest(content, "sha256").digest()
        # Lengths, so that no two folders give the same stream.
        for part in (name, what, digest):
            state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()


def files_digest(files: Mapping[str, Path]) -> str:
    """Hexadecimal: of the contents of files, by names that say what each is."""
    state = hashlib.sha256()
    for name, path in sorted(files.items()):
        with path.open("rb") as content:
            state.update(name.encode() + b"\0")
            state.update(hashlib.file_digest(content, "sha256").digest())
    return state.hexdigest()


def _files(folder: str) -> list[str]:
    found = []
    for parent, folders, names in os.walk(folder):
        if os.path.basename(parent) == "__pycache__":
            continue
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        found += [os.path.join(parent, name) for name in (*names, *links)]
    return found

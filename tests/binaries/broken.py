"""Copies of real trees that do not load, because their bytes ask for what no machine has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def copy_tree(tree: Path, target: Path) -> Path:
    """A copy that shares the files' content, where it can, until one is replaced."""
    shutil.copytree(tree, target, symlinks=True, copy_function=_link)
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def replace_bytes(program: Path, old: bytes, new: bytes) -> None:
    """Replace a string in a program, in place; the other names of the file keep the old."""
    assert len(old) == len(new)
    content = program.read_bytes()
    assert old in content
    mode = program.stat().st_mode
    program.unlink()
    program.write_bytes(content.replace(old, new))
    program.chmod(mode)

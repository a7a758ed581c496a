"""What tests of backups look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import Project


def root(project: Project) -> Path:
    return project.datadir.with_name(f"{project.datadir.name}-backups")


def backups(project: Project) -> list[Path]:
    """The finished ones, the oldest first."""
    return sorted(p.parent for p in root(project).glob("backup-*/manifest.json"))


def manifest(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return loaded


def fill(project: Project, *numbers: int) -> None:
    project.query("CREATE TABLE IF NOT EXISTS numbers (n int)")
    for number in numbers:
        project.query(f"INSERT INTO numbers VALUES ({number})")


def numbers(project: Project) -> list[int]:
    return [n for (n,) in project.query("SELECT n FROM numbers ORDER BY n")]


def inodes(folder: Path) -> dict[int, Path]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[path.stat().st_ino] = path
    return found


def assert_nothing_is_shared(project: Project) -> None:
    """No file of the live data is also one of a backup: the server writes in place."""
    live = inodes(project.datadir)
    for backup in root(project).iterdir():
        shared = live.keys() & inodes(backup).keys() if backup.is_dir() else set()
        assert not shared, [live[inode] for inode in shared]


def leftovers(project: Project) -> list[str]:
    """What interrupted work would leave."""
    hidden = [p.name for p in project.tempdata.glob(f".{project.datadir.name}*")]
    unfinished = [
        p.name for p in root(project).iterdir() if p.is_dir() and not (p / "manifest.json").exists()
    ]
    return hidden + unfinished

"""What is in the store, who uses it, and whether it is what was unpacked.

Every project that uses programs is noted in the store (:meth:`.store.Store.note_user`) by its
prefix, whose links say which programs those are: a project that is gone uses nothing. Nor does one
use a version in whose place its lock has another of the same series, unless something still runs
from there; those of another series read its older data. A tree that takes programs from another
says so in its record, as ``uses``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..exceptions import LockError
from .digest import tree_digest
from .engines import ENGINES
from .lock import Lock, read_lock
from .store import Store

#: Seconds. Younger programs may belong to a command that has not linked them yet.
YOUNG = 600.0
#: Seconds. A pristine cluster that nobody cloned for so long is made again when it is wanted.
IDLE = 14 * 86400.0

CLUSTERS, TREES, LISTS = "clusters", "trees", "apt"


@dataclass(frozen=True)
class Item:
    """One folder of the store.

    :param kind: :data:`TREES`, :data:`CLUSTERS`, or :data:`LISTS` of what a suite has.
    :param record: what it is, as far as it was noted.
    :param used_by: the roots of the projects that use it; for trees alone.
    :param last_used: seconds since the epoch.
    """

    kind: str
    key: str
    folder: Path
    size: int
    last_used: float
    record: dict[str, Any] = field(default_factory=dict)
    used_by: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        if self.kind == CLUSTERS:
            return f"pristine cluster {self.key[:12]}"
        if self.kind == LISTS:
            return f"apt's lists of {self.key}"
        known = f"{self.record.get('package', '')} {self.record.get('package-version', '')}"
        return known.strip() or f"tree {self.key[:12]}"


def items(store: Store) -> list[Item]:
    """Everything whole in the store, programs first."""
    users, records = _users(store), store.records()
    found = []
    for kind in (TREES, CLUSTERS, LISTS):
        for folder in _folders(store.root / kind):
            found.append(
                Item(
                    kind,
                    folder.name,
                    folder,
                    disk_usage(folder),
                    folder.stat().st_mtime,
                    records.get(folder.name, {}) if kind == TREES else {},
                    tuple(sorted(users.get(folder.name, ()))) if kind == TREES else (),
                )
            )
    return found


def unused(found: list[Item], now: float) -> list[Item]:
    """What no project links to, and clusters and lists not used for :data:`IDLE` seconds."""
    return [
        item
        for item in found
        if (
            not item.used_by and now - item.last_used > YOUNG
            if item.kind == TREES
            else now - item.last_used > IDLE
        )
    ]


@dataclass(frozen=True)
class Unused:
    """What goes. ``packages`` are those of Debian of which no tree is made without ``items``."""

    items: list[Item]
    packages: list[Path]
    size: int


def prunable(store: Store) -> Unused:
    return _with_packages(store, unused(items(store), time.time()))


def prune(store: Store) -> Unused:
    """Remove what is unused, and what is noted of projects that are gone; what was removed."""
    removed = []
    for item in unused(items(store), time.time()):

        def is_used(folder: Path, item: Item = item) -> bool:
            """Looked at again: another command may have come to use it since then."""
            return item.key in _users(store) or folder.stat().st_mtime != item.last_used

        if store.remove(item.kind, item.key, unless=is_used):
            removed.append(item)
    for file, user in store.users():
        prefix = Path(user["prefix"])
        if not prefix.is_dir():
            file.unlink(missing_ok=True)
        for link, tree in _links(prefix, store):
            if tree in {item.key for item in removed}:
                link.unlink(missing_ok=True)
    gone = _with_packages(store, removed)
    for package in gone.packages:
        package.unlink(missing_ok=True)
    return gone


def _with_packages(store: Store, gone: list[Item]) -> Unused:
    packages = _unneeded_packages(store, {item.key for item in gone})
    return Unused(
        gone,
        packages,
        sum(item.size for item in gone) + sum(file.stat().st_size for file in packages),
    )


def _unneeded_packages(store: Store, gone: set[str]) -> list[Path]:
    """The others stay: a tree is built of them again where the store was moved, and their
    archive may have forgotten them.
    """
    records = [record for key, record in store.records().items() if key not in gone]
    if any(record.get("provider") == "apt" and "debs" not in record for record in records):
        # An older django_dbdev unpacked that tree, and did not note of what.
        return []
    needed = {name for record in records for name in record.get("debs", ())}
    aged = time.time() - YOUNG
    return [
        file
        for file in sorted((store.root / "debs").glob("*.deb"))
        if file.stem not in needed and file.stat().st_mtime < aged
    ]


@dataclass(frozen=True)
class Verified:
    """``problem`` is empty for a tree whose files are those that were unpacked.

    ``noted``: it was not known until now what they were, and is known from now on.
    """

    item: Item
    problem: str = ""
    noted: bool = False


def verify(store: Store) -> Iterator[Verified]:
    """Read all programs again and compare them with what was unpacked."""
    for item in items(store):
        if item.kind != TREES:
            continue
        if not item.record:
            yield Verified(item, "nothing tells what it is")
            continue
        digest = tree_digest(item.folder)
        if "tree" not in item.record:
            store.record(item.key, {**item.record, "tree": digest})
            yield Verified(item, noted=True)
        elif item.record["tree"] != digest:
            yield Verified(item, "its files are not those that were unpacked")
        else:
            yield Verified(item)


def disk_usage(folder: Path) -> int:
    """Bytes that a folder takes."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total


def _folders(parent: Path) -> list[Path]:
    try:
        entries = sorted(parent.iterdir())
    except OSError:
        return []
    return [each for each in entries if each.is_dir() and not each.name.startswith(".")]


def _users(store: Store) -> dict[str, set[str]]:
    """The roots of the projects that use each tree, by the tree's key."""
    found: dict[str, set[str]] = {}
    records = store.records()
    running: set[str] | None = None
    for _, user in store.users():
        locked = _locked(Path(user["root"]) / "dbdev.lock")
        for _, key in _links(Path(user["prefix"]), store):
            record = records.get(key, {})
            if _is_replaced(record, locked):
                running = _running(store) if running is None else running
                if key not in running:
                    continue
            for used in (key, *record.get("uses", ())):
                found.setdefault(used, set()).add(user["root"])
    return found


def _is_replaced(record: Mapping[str, Any], locked: Mapping[tuple[str, str], set[str]]) -> bool:
    """Whether the lock has another version of what a tree is, of the same series."""
    engine, version = str(record.get("engine")), str(record.get("version"))
    if engine not in ENGINES:
        return False
    there = locked.get((engine, ENGINES[engine].series_of(version)), set())
    return bool(there) and version not in there


def _locked(file: Path) -> dict[tuple[str, str], set[str]]:
    """The versions that a lock names, by engine and series; none where it cannot be read."""
    found: dict[tuple[str, str], set[str]] = {}
    with suppress(LockError):
        lock = read_lock(file) or Lock()
        for engines in (lock.engines, *lock.databases.values()):
            for engine in engines.keys() & ENGINES.keys():
                for package in engines[engine].packages:
                    series = (engine, ENGINES[engine].series_of(package.version))
                    found.setdefault(series, set()).add(package.version)
    return found


def _running(store: Store) -> set[str]:
    """The keys of the trees from which something runs."""
    import psutil

    trees = store.root.resolve() / TREES
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            program = Path(process.exe())
            if program.is_relative_to(trees):
                found.add(program.relative_to(trees).parts[0])
    return found


def _links(prefix: Path, store: Store) -> Iterator[tuple[Path, str]]:
    """The links of a project that lead to a tree, each with the tree's key."""
    trees = store.root.resolve() / TREES
    try:
        entries = list(prefix.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink() and (target := entry.resolve()).is_relative_to(trees):
            yield entry, target.relative_to(trees).parts[0]

"""Backups of a SQLite database: one file, copied by SQLite's own backup while it is in use."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backups import snapshot
from ..backups.checksums import checksum_of
from ..backups.describe import Copied, describe
from ..backups.faults import step
from ..backups.manifest import (
    SNAPSHOT,
    DamagedBackupError,
    FileEntry,
    Manifest,
    read_manifest,
    write_manifest,
)
from ..backups.names import DATA, SAFETY
from ..backups.replace import Replacement, discard, prune
from ..backups.snapshot import Tree
from ..backups.transfer import Job, copy_all, hash_all
from ..binaries.systems import current_system
from ..exceptions import BackupError, ConfigurationError
from ..reporting import seconds, size
from .base import make_tempdata, timestamp
from .sqlite_file import alone, existing, is_damaged, reading, swap

if TYPE_CHECKING:
    from .sqlite import SqliteBackend

ENGINE = "sqlite"
#: The copy's name in the backup, whatever the database is called.
_FILE = "database.sqlite3"


def back_up(backend: SqliteBackend, directory: Path) -> None:
    """Copy the database to ``directory``, what is in its write-ahead log included.

    :raises BackupError: when there is no database, or it is damaged.
    """
    options: Mapping[str, Any] = getattr(backend.command, "options", {})
    if options.get("portable"):
        raise ConfigurationError(
            "A SQLite file is portable as it is.", hints=["leave out --portable"]
        )
    with alone(backend):
        _copy(backend, directory)


def restore(backend: SqliteBackend, directory: Path) -> None:
    """Put a backup in the place of the database, by a rename while nobody writes to it.

    :raises DamagedBackupError: before anything is touched.
    """
    options: Mapping[str, Any] = getattr(backend.command, "options", {})
    begun = time.perf_counter()
    manifest = read_manifest(directory)
    if manifest.engine != ENGINE or manifest.kind != SNAPSHOT:
        raise BackupError(f"{directory} is a backup of {manifest.engine}, not of SQLite.")
    with alone(backend):
        step("restore:begun")
        snapshot.verify(directory, manifest, thoroughly=bool(options.get("verify")))
        make_tempdata(backend.tempdata)
        backend.database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        safety: Path | None = None
        keep = bool(options.get("safety", True))
        # A damaged file cannot be copied; it stays beside the new one.
        if keep and backend.database.is_file() and not is_damaged(backend.database):
            safety = Path(backend.create_timestamped_backupdir(SAFETY))
            try:
                _copy(backend, safety)
            except BaseException:
                discard(safety)
                raise
        step("restore:kept")
        new = Replacement(backend.database, timestamp()).new
        try:
            _copy_back(directory, manifest, new)
            step("restore:built")
            swap(backend, new, keep_damaged=keep)
        except BaseException:
            if safety is not None and new.exists():
                # Everything is as it was.
                discard(safety)
            new.unlink(missing_ok=True)
            raise
        step("restore:swapped")
        prune(Path(backend.root_backupdir), directory)
        backend.reporter.fact(
            f"Restored {directory.name} ({size(manifest.size)}) to {backend.database} "
            f"in {seconds(time.perf_counter() - begun)}"
        )
        if safety is not None:
            backend.reporter.fact(f"What it replaced is kept in {safety}")
        step("restore:done")


def _copy(backend: SqliteBackend, directory: Path) -> None:
    begun = time.perf_counter()
    step("backup:begun")
    database = existing(backend.database)
    target = directory / DATA / _FILE
    target.parent.mkdir(mode=0o700)
    started_ns = time.time_ns()
    entry, migrations = _take(database, target)
    step("backup:copied")
    manifest = describe(
        backend,
        directory,
        Copied(Tree(), {_FILE: entry}, started_ns),
        engine=ENGINE,
        kind=SNAPSHOT,
        aliases=[backend.alias],
        begun=begun,
        version=sqlite3.sqlite_version,
        system=current_system(),
        migrations=migrations,
    )
    step("backup:described")
    write_manifest(directory, manifest)
    step("backup:done")


def _take(database: Path, target: Path) -> tuple[FileEntry, dict[str, str]]:
    """A copy as of one moment."""
    target.touch(mode=0o600)
    with reading(database, "rw") as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        migrations = _migrations(copy)
    status = target.stat()
    (checksum,) = hash_all([str(target)])
    return FileEntry(status.st_size, checksum, 0, status.st_mtime_ns), migrations


def _migrations(connection: sqlite3.Connection) -> dict[str, str]:
    """The latest applied migration of each app; none where there is no such table."""
    with suppress(sqlite3.Error):
        return dict(connection.execute("SELECT app, name FROM django_migrations ORDER BY id"))
    return {}


def _copy_back(directory: Path, manifest: Manifest, new: Path) -> None:
    """:raises DamagedBackupError: when the copy is not what the manifest says."""
    source, wanted = directory / DATA / _FILE, manifest.files[_FILE]
    (copied,) = copy_all([Job(str(source), str(new), wanted.size)], step="restore:copying")
    if copied is None or (copied.checksum or checksum_of(new)) != wanted.checksum:
        raise DamagedBackupError(f"{source} is damaged: its content has changed.")

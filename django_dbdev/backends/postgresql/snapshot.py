"""A physical copy of a cluster, while it runs or not.

Sources: PostgreSQL documentation, "Making a Base Backup Using the Low Level API" and "Backing Up
The Data Directory"; ``src/backend/backup/basebackup.c`` for what is left out;
``src/include/catalog/pg_control.h``, whose beginning is the same from 14 to 18.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...backups import snapshot
from ...backups.checksums import checksum_of
from ...backups.describe import Copied
from ...backups.faults import step
from ...backups.manifest import FileEntry
from ...backups.snapshot import Base, Keep, Tree
from ...exceptions import BackupError, ConfigurationError
from . import sql
from .sql import Cursor

#: Folders whose contents a start makes anew.
_EMPTIED = {
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal/archive_status",
    "pg_wal/summaries",
}
_LEFT_OUT = {
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "backup_manifest",
}
_CONTROL = "global/pg_control"
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_TEMPORARY_RELATION = re.compile(r"t\d+_\d+(_[a-z]+)?(\.\d+)?")
_RELATION = re.compile(r"(\d+)(_(?:fsm|vm))?(\.\d+)?")
#: ``DBState``: DB_SHUTDOWNED.
_SHUT_DOWN = 1
#: Bytes, more than a checkpoint's record has.
_CHECKPOINT_RECORD = 512


@dataclass(frozen=True)
class ControlState:
    """What pg_control tells of a cluster that does not run.

    :param clean: it was shut down, and needs no recovery.
    :param redo: where recovery begins, as a position in the WAL (bytes).
    """

    clean: bool
    redo: int
    checkpoint: int


def control_state(datadir: Path) -> ControlState:
    """:raises BackupError: when pg_control is not what it should be."""
    try:
        content = (datadir / _CONTROL).read_bytes()
        (state,) = struct.unpack_from("=I", content, 16)
        checkpoint, redo = struct.unpack_from("=QQ", content, 32)
    except (OSError, struct.error) as error:
        raise BackupError(f"{datadir / _CONTROL} cannot be read: {error}.") from None
    return ControlState(state == _SHUT_DOWN, redo, checkpoint)


def scan_stopped(datadir: Path) -> Tree:
    """What belongs to a copy of a cluster that does not run."""
    state = control_state(datadir)
    size = _segment_size(datadir)
    first = state.redo // size
    last = (state.checkpoint + _CHECKPOINT_RECORD) // size if state.clean else None

    def keep(path: str, is_folder: bool) -> bool:
        if path.startswith("pg_wal/") and _SEGMENT.fullmatch(path[7:]):
            number = _segment_number(path[7:], size)
            # Of a clean shutdown only the checkpoint is needed; later files are recycled ones.
            return number >= first and (last is None or number <= last)
        return _is_kept(path)

    return _checked(snapshot.scan(datadir, keep), datadir)


def copy_stopped(datadir: Path, target: Path, bases: Sequence[Base]) -> Copied:
    """Copy a cluster that does not run to ``target``, which must not exist."""
    started_ns = time.time_ns()
    tree = scan_stopped(datadir)
    return Copied(tree, snapshot.take(datadir, target, tree, bases), started_ns)


def copy_running(cursor: Cursor, datadir: Path, target: Path, bases: Sequence[Base]) -> Copied:
    """Copy a cluster that runs and is written to, by PostgreSQL's low-level backup API.

    :param cursor: the superuser's; its connection must last until this ends.
    """
    version = int(sql.scalar(cursor, "SHOW server_version_num")) // 10000
    try:
        _reserve_wal(cursor)
        cursor.execute(
            "SELECT pg_backup_start('django_dbdev', true)"
            if version >= 15
            else "SELECT pg_start_backup('django_dbdev', true, false)"
        )
    except Exception as error:
        raise BackupError(
            f"The running server does not allow a copy: {str(error).strip()}",
            hints=["stop it first (dbdev_stopserver), or make a dump: dbdev_backup --portable"],
        ) from error
    step("backup:started")
    started_ns = time.time_ns()
    tree = _checked(snapshot.scan(datadir, _keep_running(datadir)), datadir)
    files = snapshot.take(datadir, target, tree, bases, may_vanish=True)
    step("backup:copied")
    files[_CONTROL] = _copy_control(datadir, target)
    cursor.execute(
        "SELECT labelfile, spcmapfile, pg_walfile_name(lsn) FROM "  # nosec B608 # constants
        + ("pg_backup_stop(false)" if version >= 15 else "pg_stop_backup(false, false)")
    )
    row = cursor.fetchone()
    assert row is not None
    label, tablespaces, last = row
    step("backup:stopped")
    match = re.search(r"^START WAL LOCATION: \S+ \(file ([0-9A-F]{24})\)", label, re.MULTILINE)
    if match is None:
        raise BackupError(f"The server's backup label is not understood: {label!r}")
    files |= _copy_wal(datadir, target, match[1], last)
    files["backup_label"] = _write(target / "backup_label", label)
    if tablespaces:
        files["tablespace_map"] = _write(target / "tablespace_map", tablespaces)
    step("backup:wal")
    return Copied(tree, files, started_ns)


def _reserve_wal(cursor: Cursor) -> None:
    """Have the server keep the WAL from here on, as long as the connection lasts.

    Checkpoints under load could otherwise recycle what the copy needs before it is copied.
    """
    name = f"dbdev_{os.getpid()}_{time.time_ns()}"
    if int(sql.scalar(cursor, "SHOW max_replication_slots")) > 0:
        cursor.execute("SELECT pg_create_physical_replication_slot(%s, true, true)", [name])


def _keep_running(datadir: Path) -> Keep:
    """As of a cluster that is stopped, without what recovery makes empty, and without the WAL."""
    unlogged: dict[str, set[str]] = {}

    def keep(path: str, is_folder: bool) -> bool:
        if path == _CONTROL or (path.startswith("pg_wal/") and not is_folder):
            return False
        folder, _, name = path.rpartition("/")
        if folder.startswith(("base/", "pg_tblspc/")) and not is_folder:
            if folder not in unlogged:
                unlogged[folder] = set(_init_forks(datadir / folder))
            relation = _RELATION.fullmatch(name)
            if relation is not None and relation[1] in unlogged[folder]:
                return False
        return _is_kept(path)

    return keep


def _init_forks(folder: Path) -> Iterator[str]:
    """The numbers of unlogged relations: those that have an init fork."""
    try:
        for name in os.listdir(folder):
            if name.endswith("_init"):
                yield name.removesuffix("_init")
    except FileNotFoundError:
        return


def _is_kept(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return not (
        folder in _EMPTIED
        or path in _LEFT_OUT
        or name.startswith(("pgsql_tmp", "pg_internal.init"))
        or (folder == "pg_wal" and name.startswith("xlogtemp."))
        or (folder.startswith("base/") and _TEMPORARY_RELATION.fullmatch(name))
        # Our own, being written while we look.
        or (not folder and name.endswith(".new"))
    )


def _checked(tree: Tree, datadir: Path) -> Tree:
    """:raises ConfigurationError: when a part of the cluster lies elsewhere."""
    for path, leads_to in tree.links.items():
        if path.startswith("pg_tblspc/") or path == "pg_wal":
            raise ConfigurationError(
                f"{datadir / path} leads out of the cluster, to {leads_to}: such a cluster is "
                "not copied file by file.",
                hints=["make a dump: dbdev_backup --portable"],
            )
    return tree


def _copy_control(datadir: Path, target: Path) -> FileEntry:
    """The server writes pg_control in one go; a reading that meets a write is repeated."""
    deadline = time.monotonic() + 10
    content = (datadir / _CONTROL).read_bytes()
    while (again := (datadir / _CONTROL).read_bytes()) != content:
        content = again
        if time.monotonic() > deadline:
            raise BackupError(f"{datadir / _CONTROL} changes all the time.")
    file = target / _CONTROL
    file.touch(0o600)
    return _write(file, content)


def _copy_wal(datadir: Path, target: Path, first: str, last: str) -> dict[str, FileEntry]:
    """Copy the segments from ``first`` to ``last``, both included, of the same timeline."""
    size = _segment_size(datadir)
    numbers = _segment_number(first, size), _segment_number(last, size)
    tree = snapshot.scan(
        datadir / "pg_wal",
        lambda path, is_folder: (
            path.endswith(".history")
            or (
                _SEGMENT.fullmatch(path) is not None
                and path[:8] == last[:8]
                and numbers[0] <= _segment_number(path, size) <= numbers[1]
            )
        ),
    )
    found = sum(not path.endswith(".history") for path in tree.files)
    if found != numbers[1] - numbers[0] + 1:
        raise BackupError(
            f"The server has recycled WAL that the copy needs ({first} to {last}).",
            hints=["set max_replication_slots above 0, or wal_keep_size, in the pin's settings"],
        )
    copied = snapshot.copy_files(datadir / "pg_wal", target / "pg_wal", tree, tree.files)
    return {f"pg_wal/{path}": entry for path, entry in copied.items()}


def _segment_size(datadir: Path) -> int:
    """Bytes: all segments of a cluster have the size that initdb gave them."""
    with suppress(FileNotFoundError):
        for entry in os.scandir(datadir / "pg_wal"):
            if _SEGMENT.fullmatch(entry.name):
                return entry.stat().st_size
    raise BackupError(f"{datadir / 'pg_wal'} has no WAL.")


def _segment_number(name: str, size: int) -> int:
    """The position of a segment in the WAL, without its timeline: PostgreSQL's ``XLogSegNo``."""
    return int(name[8:16], 16) * (0x1_0000_0000 // size) + int(name[16:24], 16)


def _write(file: Path, content: str | bytes) -> FileEntry:
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(data)
    status = file.stat()
    return FileEntry(len(data), checksum_of(file), 0, status.st_mtime_ns)

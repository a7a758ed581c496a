"""Backups of backends that have only the contract's ``backup``, ``restore`` and ``reinit``.

As 1.2.3 did, the database is made anew before a backup is restored. Unlike it, a backup of what
is there is made first, and restored when the other cannot be.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from .. import conf
from ..exceptions import BackupError
from ..process.locking import exclusive
from ..reporting import Reporter, seconds
from .describe import Copied, describe
from .faults import step
from .manifest import CUSTOM, Manifest, read_manifest, write_manifest
from .names import MANIFEST, RESERVED, SAFETY, check_new_name, refuse_dangling
from .replace import discard, flush_recent, prune
from .snapshot import describe_files, verify


class Backend(Protocol):
    """What is used of a backend."""

    def backup(self, directory: str) -> None: ...
    def restore(self, directory: str) -> None: ...
    def reinit(self) -> None: ...
    def create_timestamped_backupdir(self, name: str | None = None) -> str: ...
    @property
    def alias(self) -> str: ...
    @property
    def server_name(self) -> str: ...
    @property
    def server_aliases(self) -> Sequence[str]: ...
    @property
    def tempdata(self) -> Path: ...
    @property
    def root_backupdir(self) -> str: ...
    @property
    def reporter(self) -> Reporter: ...


@contextmanager
def working_alone(backend: Backend) -> Iterator[None]:
    """Hold the server's lock. What the backend itself does under the same lock nests."""
    lock = backend.tempdata / f"{backend.server_name}.lock"
    with exclusive(lock, reporter=backend.reporter):
        yield


def create(backend: Backend, name: str | None) -> tuple[Path, Manifest]:
    """Have the backend make a backup, and see that it has a manifest: it gets one if need be."""
    root = Path(backend.root_backupdir)
    refuse_dangling(root)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with working_alone(backend):
        return _create(backend, name)


def _create(backend: Backend, name: str | None) -> tuple[Path, Manifest]:
    if name is not None and name not in RESERVED:
        # Another command may have given it while this one waited for the lock.
        check_new_name(Path(backend.root_backupdir), name)
    started_ns, begun = time.time_ns(), time.perf_counter()
    directory = Path(backend.create_timestamped_backupdir(name))
    try:
        backend.backup(str(directory))
        if (directory / MANIFEST).exists():
            return directory, read_manifest(directory)
        tree, files = describe_files(directory)
        if not files:
            raise BackupError(f"The backend wrote nothing into {directory}.")
        manifest = describe(
            backend,
            directory,
            Copied(tree, files, started_ns),
            engine=str(conf.database(backend.alias)["ENGINE"]),
            kind=CUSTOM,
            aliases=backend.server_aliases,
            begun=begun,
            migrations=_migrations(backend.alias),
        )
        step("backup:described")
        write_manifest(directory, manifest)
    except BaseException:
        discard(directory)
        raise
    return directory, manifest


def restore(backend: Backend, directory: Path, *, keep_safety: bool) -> None:
    """Restore a backup into a new database, after a backup of the old one.

    :raises BackupError: when it cannot be restored; it says where the old data is.
    """
    manifest = read_manifest(directory)
    verify(directory, manifest)
    with working_alone(backend):
        _restore(backend, directory, keep_safety)


def _restore(backend: Backend, directory: Path, keep_safety: bool) -> None:
    begun = time.perf_counter()
    safety = _safety(backend, keep_safety)
    flush_recent(Path(backend.root_backupdir))
    step("restore:kept")
    try:
        backend.reinit()
        step("restore:emptied")
        backend.restore(str(directory))
    except BaseException as error:
        if safety is not None:
            _bring_back(backend, safety, error)
        raise
    if safety is not None and not keep_safety:
        discard(safety)
    prune(Path(backend.root_backupdir), directory)
    backend.reporter.fact(f"Restored {directory.name} in {seconds(time.perf_counter() - begun)}")
    if keep_safety:
        backend.reporter.fact(f"What it replaced is kept in {safety}")


def _safety(backend: Backend, wanted: bool) -> Path | None:
    """A backup of what is about to be replaced, also where it is wanted for that long only.

    :raises BackupError: when one is wanted and cannot be made, as where there is nothing yet.
    """
    try:
        return create(backend, SAFETY)[0]
    except Exception as error:
        # Whatever the backend raises.
        if wanted:
            raise BackupError(
                f"What is there cannot be backed up before it is replaced: {error}",
                hints=["to restore without keeping what is there: dbdev_restore --no-safety"],
            ) from error
        backend.reporter.warning(f"What is replaced cannot be copied: {error}")
        return None


def _bring_back(backend: Backend, safety: Path, error: BaseException) -> None:
    backend.reporter.warning(f"The backup could not be restored: {error}")
    try:
        backend.reinit()
        backend.restore(str(safety))
    except Exception as second:
        raise BackupError(
            f"Neither the backup nor the old data could be restored: {second}",
            hints=[f"the old data is whole in {safety}: dbdev_restore {safety}"],
        ) from error
    backend.reporter.warning(f"The old data is back; it is in {safety} as well")


def _migrations(alias: str) -> dict[str, str]:
    """The latest applied migration of each app, by Django's own connection."""
    from django.db import connections
    from django.db.migrations.recorder import MigrationRecorder

    try:
        with closing(connections[alias]) as connection:
            recorder: Any = MigrationRecorder(connection)
            if not recorder.has_table():
                return {}
            return dict(recorder.migration_qs.order_by("id").values_list("app", "name"))
    except Exception:
        # Any driver's error, or that there is none: the backup is whole without this.
        return {}

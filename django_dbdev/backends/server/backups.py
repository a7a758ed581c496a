"""Taking and restoring backups of one server.

A restore never works on the live cluster: it builds the new one beside it and swaps by rename
(see :mod:`django_dbdev.backups.replace`). The old one stays as a safety backup, also where none
was asked for, until the new one has started.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...backups import snapshot
from ...backups.describe import Copied, describe
from ...backups.faults import step
from ...backups.manifest import PORTABLE, SNAPSHOT, Manifest, read_manifest, write_manifest
from ...backups.names import DATA, SAFETY
from ...backups.replace import (
    PENDING,
    Replacement,
    discard,
    flush_recent,
    is_broken,
    prune,
)
from ...binaries.systems import current_system
from ...binaries.toolchain import Toolchain
from ...exceptions import (
    BackupError,
    ConfigurationError,
    DbdevError,
    DumpError,
    ServerError,
)
from ...reporting import seconds, size
from ..base import timestamp
from .control import Running
from .conversion import dump_snapshot
from .server import REPLACED

if TYPE_CHECKING:
    from .backend import ServerBackend

_WITHOUT_SAFETY = "to restore without keeping what is there: dbdev_restore --no-safety"


def back_up(backend: ServerBackend, directory: Path) -> None:
    """Copy the server to ``directory``, which must be empty; its manifest comes last.

    :raises ServerError: when there is no cluster.
    """
    if not backend.files.is_cluster() and not is_broken(backend.files.datadir):
        raise ServerError(
            f"There is no cluster in {backend.files.datadir}.", hints=["make one: dbdev_init"]
        )
    if _options(backend).get("portable"):
        _dump(backend, directory)
        return
    with backend.working_alone():
        _snapshot(backend, directory)


def _options(backend: ServerBackend) -> Mapping[str, Any]:
    return getattr(backend.command, "options", {})


def _dump(backend: ServerBackend, directory: Path, name: str = "") -> Path:
    """Dump the alias's database, for other versions and machines; the backup's folder.

    :param name: what the folder is called from when the dump is whole.
    """
    begun, started_ns = time.perf_counter(), time.time_ns()
    step("backup:begun")
    data = directory / DATA
    data.mkdir(mode=0o700)
    backend.dump_portable(data)
    step("backup:copied")
    tree, files = snapshot.describe_files(data)
    for path in files:
        # The programs that write dumps follow the umask.
        (data / path).chmod(0o600)
    server = backend.control.running()
    migrations = backend.applied_migrations(server) if server else {}
    if name:
        directory = directory.rename(directory.with_name(f"{directory.name}.{name}"))
    copied = Copied(tree, files, started_ns)
    version = backend.stopped_version()
    manifest = _manifest(backend, directory, version, copied, migrations, begun, PORTABLE)
    step("backup:described")
    write_manifest(directory, manifest)
    step("backup:done")
    return directory


def _snapshot(backend: ServerBackend, directory: Path) -> None:
    begun = time.perf_counter()
    step("backup:begun")
    target = directory / DATA
    asked = snapshot.bases(Path(backend.root_backupdir))
    taken = backend.copy_data(target, asked)
    copied = taken.copied
    if _options(backend).get("checksums"):
        copied = replace(copied, files=snapshot.add_checksums(target, copied.files))
    manifest = _manifest(backend, directory, taken.version, copied, taken.migrations, begun)
    step("backup:described")
    write_manifest(directory, manifest)
    step("backup:done")


def _manifest(
    backend: ServerBackend,
    directory: Path,
    version: str,
    copied: Copied,
    migrations: Mapping[str, str],
    begun: float,
    kind: str = SNAPSHOT,
) -> Manifest:
    return describe(
        backend,
        directory,
        copied,
        engine=backend.engine,
        kind=kind,
        aliases=[backend.alias] if kind == PORTABLE else backend.server_aliases,
        begun=begun,
        version=version,
        system=current_system(),
        migrations=migrations,
    )


def restore(backend: ServerBackend, directory: Path) -> None:
    """Put a backup in the place of the server's data; the server runs afterwards.

    The command's options ``verify`` (read the whole backup first) and ``safety`` are obeyed.

    :raises DamagedBackupError: before anything is touched, or while it is built beside.
    """
    options = _options(backend)
    manifest = read_manifest(directory)
    if manifest.engine != backend.engine:
        raise BackupError(
            f"{directory} is a backup of {manifest.engine}, the alias {backend.alias!r} is of "
            f"{backend.engine}."
        )
    if manifest.kind == PORTABLE:
        _load(backend, directory, manifest)
        return
    if manifest.kind != SNAPSHOT:
        raise BackupError(f"{directory} is of the kind {manifest.kind!r}, which is not known.")
    _check_system(directory, manifest)
    _ = backend.host
    accounts = backend.accounts()
    with backend.working_alone():
        step("restore:begun")
        recorded = snapshot.verify(directory, manifest, thoroughly=bool(options.get("verify")))
        if recorded:
            backend.reporter.fact(
                f"{recorded} files were cloned and never read: their checksums are recorded now"
            )
        toolchain = backend.find_toolchain()
        if backend.series_of(manifest.version) == backend.series_of(toolchain.version):
            _Restore(
                backend, directory, manifest, toolchain, bool(options.get("safety", True))
            ).run()
            backend.ensure_accounts(accounts, backend.port)
            step("restore:done")
            return
    _convert(backend, directory, manifest)


def _check_system(directory: Path, manifest: Manifest) -> None:
    """Refuse the files of a server for another kind of machine, which may seem to work.

    Sources: PostgreSQL documentation, "File System Level Backup"; MySQL's, "Physical Backup".
    """
    if manifest.system not in ("", current_system()):
        raise BackupError(
            f"{directory} is a snapshot from {manifest.system}, and this is {current_system()}: a "
            "server's files are for one kind of machine.",
            hints=["make a portable backup there, and restore that: dbdev_backup --portable"],
        )


def _convert(backend: ServerBackend, directory: Path, manifest: Manifest) -> None:
    """Restore a snapshot of another series, by way of dumps."""
    begun = time.perf_counter()
    with backend.working_alone():
        # Without a manifest it is an unfinished backup, also when we are killed.
        folder = Path(backend.create_timestamped_backupdir())
        try:
            dumps = dump_snapshot(backend, directory, manifest, folder)
            safety = _safety(backend)
            flush_recent(Path(backend.root_backupdir))
        except BaseException:
            discard(folder)
            raise
    try:
        step("restore:kept")
        if not backend.files.is_cluster():
            backend.init()
        elif not backend.made_by(backend.find_toolchain()):
            backend.reinit()
        backend.load_dumps(dumps)
    except DbdevError as error:
        if safety is not None:
            error.hints = (*error.hints, f"what was there is kept in {safety}")
        raise
    finally:
        discard(folder)
    _conclude(backend, directory, manifest, safety, begun)


def _safety(backend: ServerBackend) -> Path | None:
    """A snapshot of what dumps are about to replace; the server's lock must be held.

    It is begun under the lock, because taking the lock removes unfinished ones.
    """
    if not backend.files.is_cluster():
        return None
    directory = Path(backend.create_timestamped_backupdir(SAFETY))
    try:
        _snapshot(backend, directory)
    except BaseException as error:
        discard(directory)
        if not isinstance(error, BackupError | ConfigurationError):
            raise
        _go_on_without(backend, error)
        return None
    return directory


def _go_on_without(backend: ServerBackend, error: DbdevError) -> None:
    """No safety backup can be made.

    :raises DbdevError: this one, where a safety backup is wanted.
    """
    if _options(backend).get("safety", True):
        error.hints = (*error.hints, _WITHOUT_SAFETY)
        raise error
    backend.reporter.warning(f"What is replaced cannot be copied: {error.message}")


def _conclude(
    backend: ServerBackend, directory: Path, manifest: Manifest, safety: Path | None, begun: float
) -> None:
    if safety is not None and not _options(backend).get("safety", True):
        discard(safety)
        safety = None
    prune(Path(backend.root_backupdir), directory)
    backend.reporter.fact(
        f"Restored {directory.name} ({size(manifest.size)}) "
        f"in {seconds(time.perf_counter() - begun)}"
    )
    if safety is not None:
        backend.reporter.fact(f"What it replaced is kept in {safety}")
    step("restore:done")


def _load(backend: ServerBackend, directory: Path, manifest: Manifest) -> None:
    """Put a dump into the place of the alias's database; the other databases are not touched."""
    begun = time.perf_counter()
    # The program that loads it knows nothing of checksums.
    snapshot.verify(directory, manifest)
    safety = _safety_of_alias(backend) if _options(backend).get("safety", True) else None
    flush_recent(Path(backend.root_backupdir))
    step("restore:kept")
    if not backend.files.is_cluster():
        backend.init()
    try:
        backend.load_portable(directory / DATA)
    except DumpError:
        if safety is not None:
            # Everything is as it was.
            discard(safety)
        raise
    _conclude(backend, directory, manifest, safety, begun)


def _safety_of_alias(backend: ServerBackend) -> Path | None:
    """A snapshot, or a dump of the alias's database where the cluster cannot be copied."""
    try:
        with backend.working_alone():
            return _safety(backend)
    except (BackupError, ConfigurationError) as error:
        backend.reporter.warning(f"What is replaced is kept as a dump: {error.message}")
    # Taking the lock, as dumping does, removes unfinished ones that have their name.
    folder = Path(backend.create_timestamped_backupdir())
    try:
        return _dump(backend, folder, SAFETY)
    except BaseException as error:
        discard(folder)
        if isinstance(error, DbdevError):
            error.hints = (*error.hints, _WITHOUT_SAFETY)
        raise


class _Restore:
    """One restore of a snapshot, under the server's lock."""

    def __init__(
        self,
        backend: ServerBackend,
        directory: Path,
        manifest: Manifest,
        toolchain: Toolchain,
        keep_safety: bool,
    ) -> None:
        self.backend = backend
        self.directory = directory
        self.manifest = manifest
        self.toolchain = toolchain
        self.keep_safety = keep_safety
        self.replacement = Replacement(backend.files.datadir, timestamp())
        #: What no safety backup can hold, until the new data has started.
        self.aside: Path | None = None
        self.was_running = False
        self.built = False

    def run(self) -> None:
        backend, begun = self.backend, time.perf_counter()
        root = Path(backend.root_backupdir)
        root.mkdir(mode=0o700, exist_ok=True)
        server = backend.control.running()
        ours = server is not None and server.port == backend.port
        port = backend.port if ours else backend.choose_port()
        if server is not None:
            self.was_running = True
            self._say_who_is_disconnected(server)
            with backend.up_again_if_interrupted(server, self.toolchain):
                backend.stop(server)
        step("restore:stopped")
        started_ns = time.time_ns()
        safety: Path | None = None
        try:
            tree = self._scan()
            if tree is not None:
                safety = Path(backend.create_timestamped_backupdir(SAFETY))
            rebuilt = self._build(tree or snapshot.Tree(), safety, started_ns)
            if safety is None:
                self._make_way()
            self.replacement.swap(safety)
        except BaseException as error:
            raise self._interrupted(error, port) from error
        with suppress(OSError):
            # Without it the next snapshot copies more.
            snapshot.record_restored(root, self.directory / DATA, rebuilt, started_ns)
        step("restore:recorded")
        try:
            backend.start(self.toolchain, port, *backend.recovery_options)
        except DbdevError as error:
            if safety is not None:
                self._bring_back(safety, port)
                error.hints = (*error.hints, f"the old data is back in {backend.files.datadir}")
            elif self.aside is not None:
                backend.bring_back(self.aside)
            raise
        step("restore:started")
        if self.aside is not None:
            discard(self.aside)
        if safety is not None and not self.keep_safety:
            discard(safety)
        prune(root, self.directory)
        backend.reporter.fact(
            f"Restored {self.directory.name}: {size(rebuilt.copied)} copied of "
            f"{size(self.manifest.size)}, in {seconds(time.perf_counter() - begun)}"
        )
        if safety is not None and self.keep_safety:
            backend.reporter.fact(f"What it replaced is kept in {safety}")

    def _scan(self) -> snapshot.Tree | None:
        """What a safety backup has to hold; None where there is none to be made."""
        backend = self.backend
        if not backend.files.is_cluster():
            return None
        try:
            return backend.scan_stopped()
        except DbdevError as error:
            _go_on_without(backend, error)
            return None

    def _make_way(self) -> None:
        files = self.backend.files
        if files.is_cluster():
            self.aside = self.backend.set_aside(REPLACED)
        elif files.is_occupied():
            self.backend.clear_place()

    def _build(self, tree: snapshot.Tree, safety: Path | None, started_ns: int) -> snapshot.Rebuilt:
        backend, begun = self.backend, time.perf_counter()
        live = backend.files.datadir
        # The restored backup knows best what has not changed since.
        data = self.directory / DATA
        own = snapshot.Base(data, self.manifest.files, self.manifest.started_ns)
        rebuilt = snapshot.rebuild(
            data,
            self.manifest,
            self.replacement.new,
            live=live,
            tree=tree,
            safety=safety / DATA if safety else None,
            asked=[own, *snapshot.bases(Path(backend.root_backupdir))],
        )
        step("restore:built")
        if safety is not None:
            copied = Copied(tree, rebuilt.safety, started_ns)
            version = backend.stopped_version()
            pending = _manifest(backend, safety, version, copied, {}, begun)
            write_manifest(safety, pending, PENDING)
        step("restore:described")
        self.built = True
        return rebuilt

    def _say_who_is_disconnected(self, server: Running) -> None:
        with suppress(ServerError):
            count = self.backend.count_clients(server)
            if count:
                noun = "connection" if count == 1 else "connections"
                self.backend.reporter.fact(f"Ended {count} {noun} of clients")

    def _interrupted(self, error: BaseException, port: int) -> BaseException:
        """Have one side whole again, and the server running; what to raise then."""
        untouched = not self.built or self.replacement.new.exists()
        self.backend.mend()
        if self.aside is not None and untouched:
            self.backend.bring_back(self.aside)
        self._restart(port)
        which = "The old data" if untouched else "The backup's data"
        told = f"{which} is in {self.backend.files.datadir}{', as it was' if untouched else ''}."
        if isinstance(error, DbdevError):
            error.message = f"{error.message}\n{told}"
            return error
        if isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            return BackupError(
                f"The backup could not be restored: {error.strerror or error}{where}.\n{told}"
            )
        return error

    def _bring_back(self, safety: Path, port: int) -> None:
        """The new data does not start: build the old again, which its safety backup holds."""
        backend = self.backend
        back = Replacement(backend.files.datadir, timestamp())
        snapshot.copy_whole(safety / DATA, read_manifest(safety), back.new)
        back.swap(None)
        backend.reporter.warning(
            f"The restored data does not start; the old data is back in {backend.files.datadir}"
        )
        self._restart(port)
        discard(safety)

    def _restart(self, port: int) -> None:
        if not self.was_running or not self.backend.made_by(self.toolchain):
            return
        try:
            self.backend.start(self.toolchain, port)
        except DbdevError as error:
            self.backend.reporter.warning(f"It was not started again: {error.message}")

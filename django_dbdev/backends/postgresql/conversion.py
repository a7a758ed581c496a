"""Restoring a snapshot of another major version than the pinned one.

A server of the snapshot's own version, which the store can provide, is started on a copy of it
and dumped; the dumps go into the pinned server as every dump does: into new databases that take
the old ones' places.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ... import conf
from ...backups import snapshot
from ...backups.dumps import opened
from ...backups.faults import step
from ...backups.manifest import Manifest
from ...backups.names import DATA
from ...backups.replace import Replacement, discard
from ...binaries.find import find_toolchain
from ...binaries.toolchain import Toolchain
from ...exceptions import BackupError, ToolchainError
from ...pins import Requirement
from ...process import ports, privileges
from ...records import write_atomically
from ...reporting import seconds
from ..base import timestamp
from ..server.accounts import Account
from . import commands, dumping, loading, sql
from .configuration import password_file
from .control import PostgresControl
from .files import PostgresFiles
from .served import Served

if TYPE_CHECKING:
    from ..postgres import PostgresBackend


def dump_snapshot(
    backend: PostgresBackend, directory: Path, manifest: Manifest, target: Path
) -> dict[str, Path]:
    """Dump the databases of a snapshot to ``target``; the server's lock must be held.

    :returns: The dumps, by the databases' names.
    """
    begun = time.perf_counter()
    toolchain = toolchain_of(backend, manifest.major)
    backend.reporter.fact(
        f"The backup is of PostgreSQL {manifest.version}: a temporary server of "
        f"{toolchain.version} reads it"
    )
    dumps: dict[str, Path] = {}
    with _serving(backend, directory, manifest, toolchain) as served:
        with sql.connect(served.maintenance) as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            there = {str(name) for (name,) in cursor.fetchall()}
            for account in backend.accounts():
                sql.ensure_role(cursor, account)
        for account in _databases(backend.accounts()):
            if account.database in there:
                dumps[account.database] = target / f"{len(dumps)}.dump"
                dumping.dump_directory(replace(served, account=account), dumps[account.database])
    step("restore:converted")
    backend.reporter.fact(f"Dumped it in {seconds(time.perf_counter() - begun)}")
    return dumps


def load_dumps(backend: PostgresBackend, dumps: dict[str, Path]) -> None:
    """Put every dump into the place of the database of its name."""
    with backend.served() as served:
        for account in _databases(backend.accounts()):
            if account.database in dumps:
                with opened(str(dumps[account.database]), sys.stdin.buffer) as dump:
                    loading.replace_database(replace(served, account=account), dump)


def _databases(accounts: Sequence[Account]) -> list[Account]:
    """One account for each database."""
    return list({account.database: account for account in reversed(accounts)}.values())


def toolchain_of(backend: PostgresBackend, major: str) -> Toolchain:
    """Programs of another major version. The project's lock is not touched by that."""
    requirement = Requirement("postgresql", major, backend.pin.requirement.extensions)
    sources = replace(
        backend.sources(),
        lock=backend.tempdata / f"postgresql-{major}.lock",
        executables={},
        bindir=None,
        locked=False,
        alias=None,
    )
    try:
        # What made the data is still here, most often.
        return find_toolchain(requirement, replace(sources, offline=True)).toolchain
    except ToolchainError:
        return find_toolchain(requirement, sources, backend.reporter).toolchain


@contextmanager
def _serving(
    backend: PostgresBackend, directory: Path, manifest: Manifest, toolchain: Toolchain
) -> Iterator[Served]:
    """A server on a copy of the snapshot, gone at the end of the block."""
    fresh = Replacement(backend.files.datadir, timestamp()).new
    control = PostgresControl(PostgresFiles(fresh.parent, fresh.name))
    files = control.files
    port = ports.first_free(conf.DERIVED_PORTS)
    if port is None:
        raise BackupError("No port is free for a temporary server.")
    try:
        snapshot.copy_whole(directory / DATA, manifest, fresh)
        identity = privileges.choose_identity(
            commands.probe(toolchain), backend.tempdata, conf.store(), data=fresh
        )
        # The pin's settings are for another version.
        configuration = replace(backend.configuration(toolchain, port, identity), settings={})
        configuration.write(fresh)
        identity.adopt(fresh)
        users = [(account.user, account.password) for account in backend.accounts()]
        write_atomically(files.passfile, password_file(ports.LOOPBACK, port, users))
        control.start(toolchain, port, identity)
        try:
            yield Served(
                toolchain=toolchain,
                port=port,
                socket_directory=files.socket_directory(port),
                passfile=files.passfile,
                account=backend.accounts()[0],
                extensions=(),
                scratch=fresh,
                log=files.log,
                reporter=backend.reporter,
                revive=lambda: None,
            )
        finally:
            if (server := control.running()) is not None:
                control.stop(server, discard=True)
    finally:
        for left in (fresh, files.passfile, files.log):
            discard(left)

"""The databases of a cluster of another major version as dumps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ... import conf
from ...backups.replace import discard
from ...binaries.toolchain import Toolchain
from ...exceptions import BackupError
from ...process import ports, privileges
from ...records import write_atomically
from ..server.accounts import one_for_each_database
from . import commands, dumping, sql
from .configuration import password_file
from .control import PostgresControl
from .files import PostgresFiles
from .served import Served

if TYPE_CHECKING:
    from ..postgres import PostgresBackend


def dump_cluster(
    backend: PostgresBackend, toolchain: Toolchain, datadir: Path, target: Path
) -> dict[str, Path]:
    """Dump the databases of a cluster of another major version to ``target``.

    :returns: The dumps, by the databases' names.
    """
    dumps: dict[str, Path] = {}
    with _serving(backend, toolchain, datadir) as served:
        with sql.connect(served.maintenance) as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            there = {str(name) for (name,) in cursor.fetchall()}
            for account in backend.accounts():
                sql.ensure_role(cursor, account)
        for account in one_for_each_database(backend.accounts()):
            if account.database in there:
                dumps[account.database] = target / f"{len(dumps)}.dump"
                dumping.dump_directory(replace(served, account=account), dumps[account.database])
    return dumps


@contextmanager
def _serving(backend: PostgresBackend, toolchain: Toolchain, datadir: Path) -> Iterator[Served]:
    """A server on data that nobody wants afterwards, gone at the end of the block."""
    control = PostgresControl(PostgresFiles(datadir.parent, datadir.name))
    files = control.files
    port = ports.first_free(conf.DERIVED_PORTS)
    if port is None:
        raise BackupError("No port is free for a temporary server.")
    try:
        identity = privileges.choose_identity(
            commands.probe(toolchain), backend.tempdata, conf.store(), data=datadir
        )
        # The pin's settings are for another version.
        configuration = replace(backend.configuration(toolchain, port, identity), settings={})
        configuration.write(datadir)
        identity.adopt(datadir)
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
                scratch=datadir,
                log=files.log,
                reporter=backend.reporter,
                revive=lambda: None,
            )
        finally:
            if (server := control.running()) is not None:
                control.stop(server, discard=True)
    finally:
        for left in (files.passfile, files.log):
            discard(left)

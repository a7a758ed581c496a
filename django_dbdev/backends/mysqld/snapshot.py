"""A physical copy of a cluster, which does not run meanwhile.

A server that runs is shut down for it, cleanly, and started again: InnoDB writes its files in
pages, and a copy of files that are being written to is none. It is down for as long as it takes
to copy what has changed since the last snapshot.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...backups import snapshot
from ...backups.describe import Copied
from ...backups.faults import step
from ...backups.snapshot import Base, Tree
from ...exceptions import ConfigurationError
from ...reporting import seconds
from ..server.backend import Snapshot

if TYPE_CHECKING:
    from ..mysql import MySqlBackend

#: What a start makes anew.
_LEFT_OUT = {"auto.cnf", "mysqld.pid", "ib_buffer_pool", "tc.log", "mysqlx.sock.lock"}
#: InnoDB's redo log, which MariaDB maps into memory in /dev/shm and on persistent memory. Source:
#: its log0log.cc.
_REDO_LOG = re.compile(r"ib_logfile\d+|#innodb_redo/.+")
_TEMPORARY = re.compile(r"(ibtmp\d+|#sql.*|#innodb_temp|.*\.new)")


def scan_stopped(datadir: Path) -> Tree:
    """What belongs to a copy of a cluster that does not run."""
    tree = snapshot.scan(datadir, _is_kept)
    # By such a file InnoDB finds a table with a DATA DIRECTORY of its own.
    elsewhere = {path: (datadir / path).read_text() for path in tree.files if path.endswith(".isl")}
    for path, leads_to in {**tree.links, **elsewhere}.items():
        raise ConfigurationError(
            f"{datadir / path} leads out of the cluster, to {leads_to}: such a cluster is "
            "not copied file by file.",
            hints=["make a dump: dbdev_backup --portable"],
        )
    return replace(tree, timeless=frozenset(filter(_REDO_LOG.fullmatch, tree.files)))


def _is_kept(path: str, is_folder: bool) -> bool:
    return "/" in path or not (path in _LEFT_OUT or _TEMPORARY.fullmatch(path))


def copy_data(backend: MySqlBackend, target: Path, asked: Sequence[Base]) -> Snapshot:
    """Copy the cluster, whose server is shut down for that if it runs."""
    server = backend.control.running()
    if server is None:
        return Snapshot(_copy(backend, target, asked), backend.stopped_version(), {})
    version, _ = backend.ask(server, None)
    migrations = backend.applied_migrations(server)
    # Looked for before: what cannot start again is not stopped.
    toolchain = backend.toolchain_of_cluster()
    clients = backend.count_clients(server)
    stopped = time.perf_counter()
    with backend.up_again_if_interrupted(server, toolchain):
        backend.control.stop(server)
    step("backup:stopped")
    try:
        copied = _copy(backend, target, asked)
    except BaseException:
        # First: where it has filled the disk, there is no room for the server either.
        shutil.rmtree(target, ignore_errors=True)
        raise
    finally:
        backend.start_silently(toolchain, server.port)
    down = seconds(time.perf_counter() - stopped)
    noun = "connection" if clients == 1 else "connections"
    ended = f", which ended {clients} {noun} of clients" if clients else ""
    backend.reporter.fact(f"{backend.title} was down for {down}{ended}")
    step("backup:started")
    return Snapshot(copied, version, migrations)


def _copy(backend: MySqlBackend, target: Path, asked: Sequence[Base]) -> Copied:
    started_ns = time.time_ns()
    datadir = backend.files.datadir
    tree = scan_stopped(datadir)
    copied = Copied(tree, snapshot.take(datadir, target, tree, asked), started_ns)
    step("backup:copied")
    return copied

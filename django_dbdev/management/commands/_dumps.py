"""What the commands for dumps share: who serves them, and with what."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ...backends.base import BaseDbdevBackend, make_tempdata
from ...backups import contract
from ...backups.names import LOADED
from ...backups.replace import flush_recent
from ...exceptions import ConfigurationError
from ..console import Console
from ._base import BaseDbdevCommand


def load(command: BaseDbdevCommand) -> None:
    backend = command.dbdev_backend
    dumpfile = _dumpfile(command, backend)
    # As in 1.2.3, a backend of the project's own loads into what is there.
    backend.load_dbdump(dumpfile)


def load_sql(command: BaseDbdevCommand) -> None:
    backend = command.dbdev_backend
    dumpfile = _dumpfile(command, backend)
    load = getattr(backend, "load_sql_dbdump", backend.load_dbdump)
    if backend.has_dump_options or not command.options["reinit"]:
        load(dumpfile)
        return
    # It cannot make a database beside the old one: as 1.2.3 did, an empty one takes its place.
    kept = _back_up(command, backend)
    try:
        backend.reinit()
        load(dumpfile)
    except BaseException:
        command.reporter.warning(f"What was there is kept: dbdev_restore {shlex.quote(str(kept))}")
        raise


def create(command: BaseDbdevCommand) -> None:
    if command.options["dumpfile"] == "-":
        # Nothing but the dump goes to standard output.
        command.reporter = Console(
            command.stderr, command.stderr, command.style, command.options["verbosity"]
        )
    backend = command.dbdev_backend
    dumpfile = _dumpfile(command, backend)
    asked = [
        name for name in ("exclude_table", "schema_only", "data_only") if command.options[name]
    ]
    if asked and not backend.has_dump_options:
        option = f"--{asked[0].replace('_', '-')}"
        raise ConfigurationError(f"{type(backend).__name__} does not know {option}.")
    backend.create_dbdump(dumpfile)


def _dumpfile(command: BaseDbdevCommand, backend: BaseDbdevBackend) -> str:
    dumpfile: str = command.options["dumpfile"]
    if dumpfile == "-" and not backend.has_dump_options:
        raise ConfigurationError(
            f"{type(backend).__name__} has dumps in files only.", hints=["name a file instead of -"]
        )
    return dumpfile


def _back_up(command: BaseDbdevCommand, backend: BaseDbdevBackend) -> Path:
    """Keep what a load is about to replace, after a question; the backup's folder."""
    if not os.path.isfile(command.options["dumpfile"]):
        raise ConfigurationError(f"There is no file {command.options['dumpfile']}.")
    command.confirm(
        f"This removes {backend.lost_by_destroy} before the dump is loaded; it is backed up "
        "before that."
    )
    make_tempdata(backend.tempdata)
    directory, _ = contract.create(backend, LOADED)
    flush_recent(Path(backend.root_backupdir))
    command.reporter.fact(f"Backed up to {directory}")
    return directory

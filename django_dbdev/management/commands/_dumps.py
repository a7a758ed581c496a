"""What the commands for dumps share: who serves them, and with what."""

from __future__ import annotations

import os

from ...backends.base import BaseDbdevBackend
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
    if not backend.has_dump_options and command.options["reinit"]:
        _reinit(command, backend)
    load(dumpfile)


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


def _reinit(command: BaseDbdevCommand, backend: BaseDbdevBackend) -> None:
    """An empty database for a backend that cannot make one beside the old, as 1.2.3 did."""
    if not os.path.isfile(command.options["dumpfile"]):
        raise ConfigurationError(f"There is no file {command.options['dumpfile']}.")
    command.confirm(
        f"This removes {backend.lost_by_destroy} before the dump is loaded; it is backed up "
        "before that."
    )
    directory = backend.create_timestamped_backupdir("before-load")
    backend.backup(directory)
    command.reporter.fact(f"Backed up to {directory}")
    backend.reinit()

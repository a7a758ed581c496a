"""The database of one alias as a logical dump, which newer major versions take as well."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...backups.dumps import opened
from . import loading
from .dumping import dump_directory

if TYPE_CHECKING:
    from ..postgres import PostgresBackend

#: Within a backup's directory; pg_dump makes it, and it must not be there before.
FOLDER = "dump"


def dump(backend: PostgresBackend, directory: Path) -> None:
    """Dump the alias's database into the folder ``dump`` in ``directory``, on disk at the end."""
    with backend.served() as served:
        dump_directory(served, directory / FOLDER)


def restore(backend: PostgresBackend, directory: Path) -> None:
    """Put what :func:`dump` wrote into the place of the alias's database.

    Other databases are not touched; clients are disconnected, and it is said which.

    :raises DumpError: when it cannot be loaded; the old database is as it was then.
    """
    with opened(str(directory / FOLDER), sys.stdin.buffer) as dump, backend.served() as served:
        loading.replace_database(served, dump)

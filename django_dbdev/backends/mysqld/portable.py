"""The database of one alias as a logical dump, which other versions take as well."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...backups.dumps import COMPRESSIONS, Format, Output, opened
from . import dumping, loading

if TYPE_CHECKING:
    from ..mysql import MySqlBackend

#: Within a backup's directory.
FILE = "dump.sql.zst"


def dump(backend: MySqlBackend, directory: Path) -> None:
    """Dump the alias's database into ``directory``, on disk at the end."""
    zstd = next(each for each in COMPRESSIONS if each.name == "zstd")
    with backend.served() as served:
        dumping.write(served, directory / FILE, Output(Format.PLAIN, zstd))


def restore(backend: MySqlBackend, directory: Path) -> None:
    """Put what :func:`dump` wrote into the place of the alias's database.

    Other databases are not touched; clients of this one are disconnected.

    :raises DumpError: when it cannot be loaded; the old database is as it was then.
    """
    with opened(str(directory / FILE), sys.stdin.buffer) as dump, backend.served() as served:
        loading.replace_database(served, dump)

"""The databases of a cluster of another series as dumps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...backups.dumps import COMPRESSIONS, Format, Output
from ...backups.replace import discard
from ...binaries.toolchain import Toolchain
from ...records import write_atomically
from ..server.accounts import one_for_each_database
from . import dumping, sql
from .files import MySqlFiles
from .private import option_file, serving
from .served import Served

if TYPE_CHECKING:
    from ..mysql import MySqlBackend


def dump_cluster(
    backend: MySqlBackend, toolchain: Toolchain, datadir: Path, target: Path
) -> dict[str, Path]:
    """Dump the databases of a cluster of another series to ``target``.

    :returns: The dumps, by the databases' names.
    """
    files = MySqlFiles(datadir.parent, datadir.name)
    zstd = next(each for each in COMPRESSIONS if each.name == "zstd")
    dumps: dict[str, Path] = {}
    try:
        with serving(backend, files, toolchain, discard=True) as admin:
            write_atomically(files.passfile, option_file(admin))
            with sql.connect(admin) as cursor:
                cursor.execute("SHOW DATABASES")
                there = {str(name) for (name,) in cursor.fetchall()}
            for account in one_for_each_database(backend.accounts()):
                if account.database in there:
                    path = target / f"{len(dumps)}.sql.zst"
                    assert admin.socket is not None
                    served = Served(
                        toolchain=toolchain,
                        port=0,
                        socket_directory=admin.socket.parent,
                        passfile=files.passfile,
                        account=account,
                        scratch=datadir,
                        log=files.log,
                        reporter=backend.reporter,
                        revive=lambda: None,
                        datadir=datadir,
                        suffix="",
                        admin=admin,
                    )
                    dumping.write(served, path, Output(Format.PLAIN, zstd))
                    dumps[account.database] = path
    finally:
        for left in (files.passfile, files.log):
            discard(left)
    return dumps

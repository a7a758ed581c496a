from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path

from ...backups.contract import create
from ...backups.names import check_new_name
from ...backups.snapshot import own_size
from ...reporting import seconds, size
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = "Copy the database server's data; it goes on running, and costs what has changed."

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "-n",
            "--name",
            dest="backupname",
            metavar="NAME",
            help='Name the backup. It can be restored with "dbdev_restore -n NAME".',
        )
        parser.add_argument(
            "--portable",
            action="store_true",
            help="Dump the alias's database alone, for newer major versions and other machines.",
        )

    def dbdev_handle(self) -> None:
        started = time.perf_counter()
        backend = self.dbdev_backend
        name = self.options["backupname"]
        if name is not None:
            check_new_name(Path(backend.root_backupdir), name)
        directory, manifest = create(backend, name)
        named = f" ({name})" if name else ""
        self.reporter.fact(
            f"Created {directory}{named}: {size(manifest.size)}, of which it alone takes "
            f"{size(own_size(directory))}, in {seconds(time.perf_counter() - started)}"
        )

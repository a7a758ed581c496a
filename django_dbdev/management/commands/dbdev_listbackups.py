from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path

from ...backups.listing import as_json, as_table, listed
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = (
        "List the backups of the database, the oldest first. ON DISK is what a backup alone "
        "takes: what removing it gives back."
    )
    prints_result = True

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--format", choices=("text", "json"), default="text", help="json for scripts."
        )

    def dbdev_handle(self) -> None:
        root = Path(self.dbdev_backend.root_backupdir)
        backups, now = listed(root), datetime.now().astimezone()
        if self.options["format"] == "json":
            self.stdout.write(as_json(backups, now))
        elif backups:
            self.stdout.write(as_table(backups, now))
        else:
            self.stdout.write(f"There are no backups in {root}")
            self.reporter.next_command("dbdev_backup")

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path

from ...backups.listing import Listed, as_json, as_table, created, listed
from ...backups.sharing import Storage
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

        parser.add_argument(
            "--from", dest="storage", metavar="STORAGE", help="Those in this one of STORAGES."
        )

    def dbdev_handle(self) -> None:
        if self.options["storage"] is not None:
            self._list_shared(self.options["storage"])
            return
        root = Path(self.dbdev_backend.root_backupdir)
        backups, now = listed(root), datetime.now().astimezone()
        if self.options["format"] == "json":
            self.stdout.write(as_json(backups, now))
        elif backups:
            self.stdout.write(as_table(backups, now))
        else:
            self.stdout.write(f"There are no backups in {root}")
            self.reporter.next_command("dbdev_backup")

    def _list_shared(self, alias: str) -> None:
        backups = Storage(alias, self.dbdev_backend.server_name).backups()
        listed_ = [Listed(s.place, s.manifest, created(s.place, s.manifest)) for s in backups]
        now = datetime.now().astimezone()
        if self.options["format"] == "json":
            self.stdout.write(as_json(listed_, now))
        elif backups:
            self.stdout.write(as_table(listed_, now))
        else:
            self.stdout.write(f"There are no backups in the storage {alias!r}")

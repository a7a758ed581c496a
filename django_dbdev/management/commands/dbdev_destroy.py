from __future__ import annotations

from argparse import ArgumentParser

from ._base import BaseDbdevCommand, add_noinput


class Command(BaseDbdevCommand):
    help = "Stop the server and remove the database with all its files. Backups are kept."

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        add_noinput(parser)

    def dbdev_handle(self) -> None:
        self.confirm(
            f"This removes all data of {', '.join(self.server_aliases)} ({self.server_name})."
        )
        self.dbdev_backend.destroy()

from __future__ import annotations

from argparse import ArgumentParser

from ._base import BaseDbdevCommand, add_noinput


class Command(BaseDbdevCommand):
    help = "Stop the server and remove the database with all its files. Backups are kept."

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        add_noinput(parser)

    def dbdev_handle(self) -> None:
        backend = self.dbdev_backend
        self.confirm(f"This removes {backend.lost_by_destroy}.")
        backend.destroy()

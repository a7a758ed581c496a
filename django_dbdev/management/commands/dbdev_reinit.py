from __future__ import annotations

from argparse import ArgumentParser

from ._base import BaseDbdevCommand, add_noinput


class Command(BaseDbdevCommand):
    help = "Replace the database with a new, empty one."

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        add_noinput(parser)

    def dbdev_handle(self) -> None:
        backend = self.dbdev_backend
        self.confirm(f"This removes {backend.lost_by_destroy}, and makes an empty database.")
        backend.reinit()
        other = "" if self.alias == "default" else f" --database {self.alias}"
        self.reporter.next_command(f"migrate{other}")

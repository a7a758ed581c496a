from __future__ import annotations

from argparse import ArgumentParser

from ._base import BaseDbdevCommand, add_noinput


class Command(BaseDbdevCommand):
    help = "Replace the database with a new, empty one."

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        add_noinput(parser)

    def dbdev_handle(self) -> None:
        self.confirm(
            f"This removes all data of {', '.join(self.server_aliases)} ({self.server_name}), "
            "and makes an empty database."
        )
        self.dbdev_backend.reinit()
        other = "" if self.alias == "default" else f" --database {self.alias}"
        self.reporter.next_command(f"migrate{other}")

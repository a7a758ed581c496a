from __future__ import annotations

from argparse import ArgumentParser

from ._base import BaseDbdevCommand, add_provisioning


class Command(BaseDbdevCommand):
    help = (
        "Make the database server of the project, with role and database, and start it. "
        "On an initialised project it makes sure that all that is there and running."
    )

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        add_provisioning(parser)

    def dbdev_handle(self) -> None:
        self.dbdev_backend.init()
        other = "" if self.alias == "default" else f" --database {self.alias}"
        self.reporter.next_command(f"migrate{other}")

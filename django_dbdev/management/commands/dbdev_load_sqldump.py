from __future__ import annotations

from argparse import ArgumentParser

from ._base import BaseDbdevCommand, add_noinput
from ._dumps import load_sql


class Command(BaseDbdevCommand):
    help = (
        "Load a database dump in plain SQL, also a compressed one, in the place of what is "
        "there. dbdev_loaddump loads other formats as well."
    )

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("dumpfile", help="The dump; - is standard input.")
        parser.add_argument(
            "--no-reinit",
            action="store_false",
            dest="reinit",
            help="Load into the database that is there, in one transaction, instead of a new one.",
        )
        add_noinput(parser)
        parser.set_defaults(sql_only=True)

    def dbdev_handle(self) -> None:
        load_sql(self)

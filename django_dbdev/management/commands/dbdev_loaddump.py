from __future__ import annotations

from argparse import ArgumentParser

from ._base import BaseDbdevCommand
from ._dumps import load


class Command(BaseDbdevCommand):
    help = (
        "Load a database dump in the place of what is there, which stays until the dump is "
        "loaded whole."
    )

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "dumpfile",
            help="Plain SQL, also compressed (gzip, bzip2, xz, zstd), or what pg_dump writes in "
            "any other format. The contents tell which; - is standard input.",
        )
        parser.add_argument(
            "--no-reinit",
            action="store_false",
            dest="reinit",
            help="Load into the database that is there, in one transaction, instead of a new one.",
        )

    def dbdev_handle(self) -> None:
        load(self)

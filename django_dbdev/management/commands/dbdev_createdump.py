from __future__ import annotations

from argparse import ArgumentParser

from ._base import BaseDbdevCommand
from ._dumps import create


class Command(BaseDbdevCommand):
    help = (
        "Write a dump of the database. A file that is there is replaced when the dump is whole, a "
        "folder only when it is empty or an earlier dump."
    )

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "dumpfile",
            help="Its ending says the format: .sql (plain, also with .gz, .bz2, .xz or .zst "
            "behind it), .dump, .tar, or .dir or / for a directory. - is standard output, plain.",
        )
        parser.add_argument(
            "--exclude-table",
            action="append",
            metavar="PATTERN",
            help="Leave out tables; may be given several times.",
        )
        part = parser.add_mutually_exclusive_group()
        part.add_argument("--schema-only", action="store_true", help="No data.")
        part.add_argument("--data-only", action="store_true", help="Nothing but data.")

    def dbdev_handle(self) -> None:
        create(self)

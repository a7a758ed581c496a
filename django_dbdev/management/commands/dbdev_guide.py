from __future__ import annotations

import os
import shutil
from argparse import ArgumentParser

from ...guide import render_for_terminal
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = "Print useful commands for the database, with this project's values filled in."
    prints_result = True

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--format",
            choices=("terminal", "rst"),
            help="Default: terminal on a terminal, rst (reStructuredText) when piped.",
        )

    def dbdev_handle(self) -> None:
        self.dbdev_backend.guide()

    def show_guide(self, rst: str) -> None:
        """Print a guide for whoever reads it; backends call this."""
        chosen = self.options["format"]
        if chosen == "rst" or (chosen is None and not self.stdout.isatty()):
            self.stdout.write(rst)
            return
        color = self.stdout.isatty() and not self.options["no_color"]
        self.stdout.write(
            render_for_terminal(
                rst,
                color=(color and not os.environ.get("NO_COLOR")) or self.options["force_color"],
                width=min(shutil.get_terminal_size().columns, 100),
            )
        )

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from ... import conf
from ...exceptions import ConfigurationError, ProgramError
from ...process.command import Command as Program
from ...process.run import run_attached
from ...servers import Caller
from ...session import servers_up
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = (
        "Run a command with the servers up, DATABASE_URL and its like set, and the pinned "
        "programs first on PATH; then leave things as they were. Example: dbdev_run --ephemeral "
        "-- pytest"
    )
    default_alias = None

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--ephemeral",
            action="store_true",
            help="On new, empty servers with a folder and ports of their own, which go afterwards.",
        )
        parser.add_argument(
            "program", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="What to run."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # Standard output is the command's.
        self.stdout = self.stderr
        self.stdout.style_func = None
        super().handle(*args, **options)

    def dbdev_handle(self) -> None:
        words = self.options["program"]
        if words[:1] == ["--"]:
            words = words[1:]
        if not words:
            raise ConfigurationError(
                "There is no command to run.", hints=["dbdev_run --ephemeral -- pytest"]
            )
        chosen = self.options["database"]
        aliases = [chosen] if chosen else list(conf.databases())
        caller = Caller(self.stdout, self.stderr, self.reporter, self.options)
        with servers_up(aliases, caller, ephemeral=self.options["ephemeral"]) as up:
            name, *arguments = words
            program = Path(os.path.abspath(name)) if os.sep in name else Path(name)
            try:
                status = run_attached(Program(program, tuple(arguments), up.environment))
            except ProgramError as error:
                error.exit_status = error.status
                raise
        if status:
            sys.exit(status)

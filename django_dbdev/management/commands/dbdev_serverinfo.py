from __future__ import annotations

from argparse import ArgumentParser

from ...backends.info import as_environment, as_json
from ...exceptions import ConfigurationError
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = "Tell whether the database server runs, which one it is, and how to reach it."
    prints_result = True

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--format",
            choices=("text", "json", "env"),
            default="text",
            help="text; json for scripts; env for a shell's eval, passwords included.",
        )

    def dbdev_handle(self) -> None:
        backend = self.dbdev_backend
        if self.options["format"] == "text":
            backend.serverinfo()
            return
        if not backend.has_info:
            raise ConfigurationError(
                f"{type(backend).__name__} has no {self.options['format']} format.",
                hints=["leave out --format"],
            )
        formatted = as_json if self.options["format"] == "json" else as_environment
        self.stdout.write(formatted(backend.info()))

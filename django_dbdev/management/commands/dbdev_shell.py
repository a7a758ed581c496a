from __future__ import annotations

import os
from argparse import ArgumentParser

from ... import conf
from ...backends.variables import variables
from ...exceptions import ConfigurationError
from ...process.handover import become
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = (
        "Open a shell in which psql and its like, and Django's URL settings, meet the project's "
        "server, with the pinned programs first on PATH. `exit` leaves it."
    )

    values: dict[str, str]

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--shell", metavar="PROGRAM", help="Default: $SHELL, else sh.")

    def last_step(self) -> None:
        become(self.options["shell"] or os.environ.get("SHELL") or "sh", (), self.values)

    def dbdev_handle(self) -> None:
        backend = self.dbdev_backend
        if not backend.has_info:
            raise ConfigurationError(f"{type(backend).__name__} does not tell how it is reached.")
        info = backend.info()
        self.values = {**variables([info], conf.tempdata() / "prefix"), "DBDEV_SHELL": self.alias}
        if info.has_server and not info.running:
            self.reporter.warning("The server does not run: dbdev_startserver starts it")

from __future__ import annotations

from argparse import ArgumentParser

from ...exceptions import ConfigurationError
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = "Write dbdev.lock: the very programs, by hash and for every system, that the pin gives."

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        how = parser.add_mutually_exclusive_group()
        how.add_argument(
            "--upgrade",
            action="store_true",
            help="Move to the newest version that the pin allows.",
        )
        how.add_argument(
            "--check",
            action="store_true",
            help="Write nothing; fail when the lock does not satisfy the pin.",
        )

    def dbdev_handle(self) -> None:
        backend = self.dbdev_backend
        if not backend.has_lock:
            raise ConfigurationError(f"{type(backend).__name__} has nothing to lock.")
        if self.options["check"]:
            backend.check_lock()
        else:
            backend.lock(upgrade=self.options["upgrade"])

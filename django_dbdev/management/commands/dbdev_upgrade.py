from __future__ import annotations

from argparse import ArgumentParser

from ...exceptions import ConfigurationError
from ._base import BaseDbdevCommand, add_provisioning


class Command(BaseDbdevCommand):
    help = (
        "Move the database server's data to the pinned version. The data of the old version is "
        "kept as a backup called before-upgrade."
    )

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        add_provisioning(parser)

    def dbdev_handle(self) -> None:
        backend = self.dbdev_backend
        if not backend.has_upgrade:
            raise ConfigurationError(f"{type(backend).__name__} has nothing to upgrade.")
        backend.upgrade()

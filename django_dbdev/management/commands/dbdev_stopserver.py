from __future__ import annotations

from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = "Stop the database server."

    def dbdev_handle(self) -> None:
        self.dbdev_backend.stop_database_server()

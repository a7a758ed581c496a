from __future__ import annotations

from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = "Start the database server in the background."

    def dbdev_handle(self) -> None:
        self.dbdev_backend.start_database_server()

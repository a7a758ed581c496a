from __future__ import annotations

from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = "Run the database server in the foreground, until Ctrl-C, and show its log."

    def dbdev_handle(self) -> None:
        self.dbdev_backend.run_database_server_in_foreground()

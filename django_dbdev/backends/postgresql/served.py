"""A PostgreSQL server that runs, as the work on its databases needs it."""

from __future__ import annotations

from dataclasses import dataclass

from ...process.ports import LOOPBACK
from ..server import served
from .commands import SUPERUSER
from .sql import Login


@dataclass(frozen=True)
class Served(served.Served):
    """:param extensions: those of the pin."""

    extensions: tuple[str, ...]

    @property
    def maintenance(self) -> Login:
        """The superuser, in a database that is never replaced."""
        database = "template1" if self.account.database == "postgres" else "postgres"
        return Login(str(self.socket_directory), self.port, database, SUPERUSER)

    def login(self, database: str) -> Login:
        """The alias's role."""
        return Login(LOOPBACK, self.port, database, self.account.user, self.account.password)

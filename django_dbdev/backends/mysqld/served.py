"""A MariaDB or MySQL server that runs, as the work on its databases needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...process.ports import LOOPBACK
from ..server import served
from .sql import Login


@dataclass(frozen=True)
class Served(served.Served):
    """
    :param datadir: of the server.
    :param suffix: of the group of the alias's account in the option file.
    :param admin: our own account.
    """

    datadir: Path
    suffix: str
    admin: Login

    def login(self, database: str) -> Login:
        """The alias's user."""
        account = self.account
        return Login(
            account.user, account.password, host=LOOPBACK, port=self.port, database=database
        )

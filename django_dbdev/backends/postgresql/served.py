"""A server that runs, as the work on its databases needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...binaries.toolchain import Toolchain
from ...process.ports import LOOPBACK
from ...reporting import Reporter
from .commands import SUPERUSER
from .sql import Account, Login


@dataclass(frozen=True)
class Served:
    """One alias's account on its running server, proved to be ours.

    :param extensions: those of the pin.
    :param scratch: the beginning of paths for files that are swept when a command was killed.
    :param log: the server's.
    :param revive: starts the server again if it has gone down meanwhile.
    """

    toolchain: Toolchain
    port: int
    socket_directory: Path
    passfile: Path
    account: Account
    extensions: tuple[str, ...]
    scratch: Path
    log: Path
    reporter: Reporter
    revive: Callable[[], None] = lambda: None

    @property
    def maintenance(self) -> Login:
        """The superuser, in a database that is never replaced."""
        database = "template1" if self.account.database == "postgres" else "postgres"
        return Login(str(self.socket_directory), self.port, database, SUPERUSER)

    def login(self, database: str) -> Login:
        """The alias's role."""
        return Login(LOOPBACK, self.port, database, self.account.user, self.account.password)

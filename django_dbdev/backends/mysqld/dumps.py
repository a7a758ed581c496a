"""The command line of mariadb-dump and mysqldump: a pure function, nothing is run here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...process.command import Command
from . import commands
from .served import Served


@dataclass(frozen=True)
class Content:
    """Which part of a database is dumped.

    :param without: names of tables.
    :param history: that of system-versioned tables too, see :mod:`.history`.
    """

    without: Sequence[str] = ()
    schema_only: bool = False
    data_only: bool = False
    history: bool = False


def dump(served: Served, content: Content = Content()) -> Command:
    """Dump the account's database as of one moment, to standard output."""
    database = served.account.database
    arguments = [
        "--single-transaction",
        "--quick",
        "--hex-blob",
        # The most that there is. By default a value of 24 MB ends it.
        "--max-allowed-packet=1G",
        "--default-character-set=utf8mb4",
        "--no-tablespaces",
        *(f"--ignore-table={database}.{table}" for table in content.without),
    ]
    if served.toolchain.engine == commands.MYSQL:
        arguments += ["--set-gtid-purged=OFF", "--column-statistics=0"]
    if content.data_only:
        arguments += ["--no-create-info", "--skip-triggers"]
    else:
        arguments += ["--routines", "--triggers", "--events"]
    if content.schema_only:
        arguments.append("--no-data")
    if content.history:
        arguments.append("--dump-history")
    return commands.client(
        served.toolchain, "dump", served.passfile, served.suffix, (*arguments, "--", database)
    )

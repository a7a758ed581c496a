"""The command lines of pg_dump, pg_restore and psql: pure functions, nothing is run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...backups.dumps import Format
from ...process.command import Command
from ...process.ports import LOOPBACK
from .commands import session_options
from .served import Served

#: Variables of the caller's that would change what the programs do or how they say it.
_HIDDEN = ("PG", "LC_", "LANG")
#: What to compress directories with, the best first; a build may lack one.
COMPRESSIONS: Mapping[bool, tuple[str, ...]] = {
    True: ("zstd", "lz4", "gzip:1"),
    False: ("1",),
}
_FLAGS = {Format.PLAIN: "p", Format.CUSTOM: "c", Format.TAR: "t", Format.DIRECTORY: "d"}


@dataclass(frozen=True)
class Content:
    """Which part of a database is dumped."""

    exclude_tables: tuple[str, ...] = ()
    schema_only: bool = False
    data_only: bool = False

    def arguments(self) -> tuple[str, ...]:
        return (
            *(f"--exclude-table={pattern}" for pattern in self.exclude_tables),
            *(("--schema-only",) if self.schema_only else ()),
            *(("--data-only",) if self.data_only else ()),
        )


def compressions(major: int) -> tuple[str, ...]:
    """The compressions to try for a directory. Source: the release notes of PostgreSQL 16."""
    return COMPRESSIONS[major >= 16]


def pg_dump(
    served: Served,
    format: Format,
    content: Content = Content(),
    *,
    file: Path | None = None,
    jobs: int = 1,
    compression: str | None = None,
) -> Command:
    """Dump the account's database, to standard output without ``file``."""
    arguments = [f"--format={_FLAGS[format]}", *content.arguments()]
    if file is not None:
        arguments.append(f"--file={file}")
    if jobs > 1:
        arguments.append(f"--jobs={jobs}")
    if compression is not None:
        arguments.append(f"--compress={compression}")
    return _client(served, "pg_dump", arguments, served.account.database)


def psql(served: Served, database: str, options: Mapping[str, str]) -> Command:
    """Carry out what comes by standard input, in a transaction that it has to end itself.

    Not ``--single-transaction``: that would commit what a dump has that ends too early.
    """
    arguments = [
        "--no-psqlrc",
        "--quiet",
        "--echo-errors",
        "--set=ON_ERROR_STOP=1",
        "--output=/dev/null",
        "--command=BEGIN",
        "--file=-",
    ]
    return _client(served, "psql", arguments, database, options)


def drop_database(served: Served, database: str) -> Command:
    """Remove a database and disconnect its clients."""
    name = '"' + database.replace('"', '""') + '"'
    arguments = [
        "--no-psqlrc",
        "--quiet",
        f"--command=DROP DATABASE IF EXISTS {name} WITH (FORCE)",
    ]
    options = session_options(served.toolchain.major)
    return _client(served, "psql", arguments, served.maintenance.database, options)


def pg_restore(
    served: Served,
    path: Path,
    database: str,
    options: Mapping[str, str],
    *,
    jobs: int = 1,
    use_list: Path | None = None,
) -> Command:
    """Restore an archive, up to the first error; with one job in one transaction."""
    arguments = [
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        "--no-tablespaces",
        "--no-security-labels",
        "--no-subscriptions",
        f"--dbname={_conninfo(database)}",
        f"--jobs={jobs}" if jobs > 1 else "--single-transaction",
    ]
    if use_list is not None:
        arguments.append(f"--use-list={use_list}")
    return _client(served, "pg_restore", [*arguments, "--", str(path)], database, options)


def pg_restore_list(served: Served, path: Path) -> Command:
    """The archive's table of contents, to standard output."""
    return _client(served, "pg_restore", ["--list", "--", str(path)], served.account.database)


def pg_restore_script(served: Served, path: Path, section: str) -> Command:
    """The statements of one section as SQL, to standard output."""
    arguments = ["--schema-only", "--no-owner", "--no-privileges", f"--section={section}"]
    return _client(
        served, "pg_restore", [*arguments, "--file=-", "--", str(path)], served.account.database
    )


def _client(
    served: Served,
    name: str,
    arguments: Sequence[str],
    database: str,
    options: Mapping[str, str] = {},
) -> Command:
    environment = {
        **served.toolchain.environment,
        "PGHOST": LOOPBACK,
        "PGPORT": str(served.port),
        "PGUSER": served.account.user,
        "PGDATABASE": database,
        "PGPASSFILE": str(served.passfile),
        "PGAPPNAME": "django_dbdev",
        "PGSSLMODE": "disable",
        "PGGSSENCMODE": "disable",
        "LC_ALL": "C",
    }
    if options:
        environment["PGOPTIONS"] = " ".join(f"-c {key}={value}" for key, value in options.items())
    return Command(served.toolchain.program(name), tuple(arguments), environment, hidden=_HIDDEN)


def _conninfo(database: str) -> str:
    """A name for ``--dbname``, which takes what looks like a connection string for one."""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"

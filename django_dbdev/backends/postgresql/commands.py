"""The command lines of PostgreSQL's programs: pure functions, nothing is run here."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from ...binaries.toolchain import Toolchain
from ...process.command import Command

#: The superuser of every cluster, reached over the socket by the account that runs the server.
SUPERUSER = "postgres"
#: MB. Clones copy one segment at least, and archives of a development server stay small.
WAL_SEGMENT = 1
#: Of our own sessions, whatever the pin, ALTER ROLE or ALTER DATABASE says to a project's.
SESSION: Mapping[str, str] = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "off",
}
#: For a server whose data goes with it: nothing waits for a disk, and no more than must be is
#: written. Source: PostgreSQL documentation, "Non-Durable Settings".
_EPHEMERAL_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "checkpoint_timeout": "1h",
}
#: A server with one of these wants the WAL that replication needs, or does not start without it.
_OF_REPLICATION = {
    "wal_level",
    "archive_mode",
    "summarize_wal",
    "max_wal_senders",
    "max_replication_slots",
}


def ephemeral_options(pinned: Collection[str]) -> tuple[str, ...]:
    """Options for a server whose data goes with it, but for what the pin decides.

    :param pinned: the names of the pin's settings.
    """
    theirs = {name.lower() for name in pinned}
    if theirs & _OF_REPLICATION:
        theirs |= {"wal_level", "max_wal_senders"}
    return tuple(
        word
        for name, value in _EPHEMERAL_SETTINGS.items()
        if name not in theirs
        for word in ("-c", f"{name}={value}")
    )


def session_options(major: int) -> dict[str, str]:
    """:data:`SESSION`, and what newer servers have. Source: the release notes of 17."""
    return {**SESSION, **({"transaction_timeout": "0"} if major >= 17 else {})}


def locale_arguments(major: int, override: str | None) -> tuple[str, ...]:
    """A locale that is the same everywhere.

    From 17 on the server brings C.UTF-8 itself (the builtin provider); before that the C
    library's, which Debian, Fedora, Alpine and recent macOS have. ``override`` is a locale of
    the C library.
    """
    if override:
        return (f"--locale={override}",)
    if major >= 17:
        return ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
    return ("--locale=C.UTF-8",)


def initdb(toolchain: Toolchain, datadir: Path, locale: tuple[str, ...]) -> Command:
    """Make an empty cluster, on disk when the program ends."""
    return server_program(
        toolchain,
        "initdb",
        f"--pgdata={datadir}",
        f"--username={SUPERUSER}",
        "--encoding=UTF8",
        *locale,
        "--auth-local=peer",
        "--auth-host=scram-sha-256",
        f"--wal-segsize={WAL_SEGMENT}",
    )


def postgres(toolchain: Toolchain, datadir: Path, *options: str) -> Command:
    """The server itself; everything else stands in the datadir's configuration."""
    return server_program(toolchain, "postgres", "-D", str(datadir), *options)


def probe(toolchain: Toolchain) -> Command:
    """The server's program, asked for its version, to see whether it starts."""
    return server_program(toolchain, "postgres", "--version")


def server_program(toolchain: Toolchain, name: str, *args: str) -> Command:
    """A program that works on a datadir, free of the user's PG* variables, locale and passwords."""
    needed = {**toolchain.environment, **toolchain.server_environment}
    environment = {**needed, "LC_ALL": "C", "TZ": "UTC"}
    if sys.platform == "darwin":
        # The system's locale functions start threads otherwise, which the server refuses.
        environment["LC_ALL"] = "en_US.UTF-8"
    return Command(
        toolchain.program(name),
        args,
        environment,
        hidden=("PG", "LC_", "LANG", "DATABASE_URL"),
        # Ours may be closed to the account that runs the server, and some want to go back there.
        cwd=Path("/"),
    )

"""What the PostgreSQL guide fills in: pure functions from plain values to shell text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent_quote

from ...binaries.toolchain import Toolchain
from ...process.ports import LOOPBACK
from ..shell import join, program, quote
from .commands import SUPERUSER


@dataclass(frozen=True)
class GuideValues:
    """Ready for a shell: every attribute is quoted, to be printed as it is.

    :param psql: connected to the alias's database. So are ``pg_dump`` and ``pg_restore``.
    :param psql_server: without ``-d``, for the template to add. So is ``pg_restore_server``.
    :param psql_url: the same connection as ``psql``, written as an URL.
    :param psql_socket: as superuser, over the Unix socket; empty where that is not offered.
    :param dbshell: ``manage.py dbshell`` with this version's psql on PATH.
    :param database_option: ``--database ALIAS`` with a space before it; empty for "default".
    """

    alias: str
    version: str
    provider: str
    host: str
    port: str
    user: str
    name: str
    url: str
    datadir: str
    log: str
    passfile: str
    config_file: str
    wal: str
    psql: str
    psql_server: str
    psql_url: str
    psql_socket: str
    pg_dump: str
    pg_restore: str
    pg_restore_server: str
    pg_restore_program: str
    manage: str
    dbshell: str
    database_option: str


def guide_values(
    toolchain: Toolchain,
    settings: Mapping[str, Any],
    *,
    datadir: Path,
    log: Path,
    passfile: Path,
    socket_directory: Path | None,
    manage: Sequence[str],
    alias: str = "default",
) -> GuideValues:
    """The values for one alias.

    :param settings: of the alias: HOST, PORT, USER and NAME.
    :param socket_directory: where the account that runs the server may connect as superuser
        without a password; None where it may not.
    :param manage: what runs this project's manage.py, such as ``("python", "manage.py")``.
    :raises ToolchainError: when psql, pg_dump or pg_restore is missing.
    """
    host, port = str(settings.get("HOST") or ""), str(settings.get("PORT") or 5432)
    if host in ("", "localhost"):
        # libpq finds the password by the host as it is written.
        host = LOOPBACK
    user, name = str(settings["USER"]), str(settings["NAME"])
    url = _url(host, port, user, name)
    psql, pg_dump, pg_restore = (
        program(toolchain.program(tool), toolchain.environment)
        for tool in ("psql", "pg_dump", "pg_restore")
    )
    server = join(["-h", host, "-p", port, "-U", user])
    database = join(["-d", _database(name)])
    over_socket = (
        join(["-h", socket_directory, "-p", port, "-U", SUPERUSER]) if socket_directory else ""
    )
    database_option = "" if alias == "default" else " " + join(["--database", alias])
    return GuideValues(
        alias=quote(alias),
        version=toolchain.version,
        provider=toolchain.provider,
        host=quote(host),
        port=quote(port),
        user=quote(user),
        name=quote(name),
        url=quote(url),
        datadir=quote(datadir),
        log=quote(log),
        passfile=quote(passfile),
        config_file=quote(datadir / "postgresql.conf"),
        wal=quote(datadir / "pg_wal"),
        psql=f"{psql} {server} {database}",
        psql_server=f"{psql} {server}",
        psql_url=f"{psql} {quote(url)}",
        psql_socket=f"{psql} {over_socket} {database}" if over_socket else "",
        pg_dump=f"{pg_dump} {server} {database}",
        pg_restore=f"{pg_restore} {server} {database}",
        pg_restore_server=f"{pg_restore} {server}",
        pg_restore_program=pg_restore,
        manage=join(manage),
        dbshell=_dbshell(toolchain, join(manage)) + database_option,
        database_option=database_option,
    )


def _url(host: str, port: str, user: str, name: str) -> str:
    # A socket's folder has its slashes escaped; an IPv6 address stands in brackets.
    place = f"[{host}]" if ":" in host else percent_quote(host, safe="")
    account, database = percent_quote(user, safe=""), percent_quote(name, safe="")
    return f"postgresql://{account}@{place}:{port}/{database}"


def _database(name: str) -> str:
    """``name`` for ``-d``, which takes what looks like a connection string for one."""
    if "=" in name or name.startswith(("postgresql://", "postgres://")):
        escaped = name.replace("\\", "\\\\").replace("'", "\\'")
        return f"dbname='{escaped}'"
    return name


def _dbshell(toolchain: Toolchain, manage: str) -> str:
    """Django looks for psql on PATH, where another version may come first, or none be."""
    path = f'PATH={quote(toolchain.program("psql").parent)}:"$PATH"'
    variables = [f"{name}={quote(value)}" for name, value in toolchain.environment.items()]
    return " ".join(["env", path, *variables, manage, "dbshell"])

"""What the guide of MariaDB and MySQL fills in: pure functions from plain values to shell text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent_quote

from ...binaries.toolchain import Toolchain
from ...process.ports import LOOPBACK
from ..shell import join, program, quote
from .commands import client_name
from .files import MySqlFiles


@dataclass(frozen=True)
class GuideValues:
    """Ready for a shell: every attribute is quoted, to be printed as it is.

    :param title: "MariaDB" or "MySQL"; ``engine`` is its table's name in the pins.
    :param client: connected to the alias's database. So is ``dump``.
    :param client_server: without a database, for the template to add. So is ``dump_server``.
    :param client_socket: over the Unix socket, whose path is ``socket``.
    :param dbshell: ``manage.py dbshell`` with this version's client on PATH.
    :param database_option: ``--database ALIAS`` with a space before it; empty for "default".
    """

    title: str
    engine: str
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
    client: str
    client_server: str
    client_socket: str
    socket: str
    dump: str
    dump_server: str
    manage: str
    dbshell: str
    database_option: str


def guide_values(
    toolchain: Toolchain,
    settings: Mapping[str, Any],
    *,
    title: str,
    files: MySqlFiles,
    socket: Path,
    suffix: str,
    manage: Sequence[str],
    alias: str = "default",
) -> GuideValues:
    """The values for one alias.

    :param settings: of the alias: PORT, USER and NAME.
    :param suffix: of the alias's group in the option file.
    :param manage: what runs this project's manage.py, such as ``("python", "manage.py")``.
    :raises ToolchainError: when a client program is missing.
    """
    port = str(settings.get("PORT") or 3306)
    user, name = str(settings["USER"]), str(settings["NAME"])
    account, database = percent_quote(user, safe=""), percent_quote(name, safe="")
    url = f"mysql://{account}@{LOOPBACK}:{port}/{database}"
    options = [f"--defaults-file={files.passfile}"]
    if suffix:
        options.append(f"--defaults-group-suffix={suffix}")
    client, dump = (
        f"{program(toolchain.program(client_name(toolchain, role)), toolchain.environment)} "
        f"{join(options)}"
        for role in ("client", "dump")
    )
    database_option = "" if alias == "default" else " " + join(["--database", alias])
    return GuideValues(
        title=title,
        engine=toolchain.engine,
        alias=quote(alias),
        version=toolchain.version,
        provider=toolchain.provider,
        host=LOOPBACK,
        port=quote(port),
        user=quote(user),
        name=quote(name),
        url=quote(url),
        datadir=quote(files.datadir),
        log=quote(files.log),
        passfile=quote(files.passfile),
        config_file=quote(files.config),
        client=f"{client} {quote(name)}",
        client_server=client,
        client_socket=f"{client} --protocol=socket {join([f'--socket={socket}'])} {quote(name)}",
        socket=str(socket),
        dump=f"{dump} {quote(name)}",
        dump_server=dump,
        manage=join(manage),
        dbshell=_dbshell(toolchain, join(manage)) + database_option,
        database_option=database_option,
    )


def _dbshell(toolchain: Toolchain, manage: str) -> str:
    """Django looks for ``mysql`` on PATH, where another version may come first, or none be."""
    folder = toolchain.program(client_name(toolchain, "client")).parent
    path = f'PATH={quote(folder)}:"$PATH"'
    variables = [f"{name}={quote(value)}" for name, value in toolchain.environment.items()]
    return " ".join(["env", path, *variables, manage, "dbshell"])

"""The command lines of MariaDB's and MySQL's programs: pure functions, nothing is run here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ...binaries.toolchain import Toolchain
from ...process.command import Command

MARIADB, MYSQL = "mariadb", "mysql"
#: Variables of the caller's that would change what the programs do or how they say it, or that
#: hold a password.
HIDDEN = ("MYSQL", "MARIADB", "LC_", "LANG", "LIBMYSQL", "UMASK", "DATABASE_URL")
#: The names of the client programs in the toolchains of both engines.
_CLIENTS = {
    MARIADB: {
        "client": "mariadb",
        "dump": "mariadb-dump",
        "tzinfo": "mariadb-tzinfo-to-sql",
        "upgrade": "mariadb-upgrade",
    },
    MYSQL: {"client": "mysql", "dump": "mysqldump", "tzinfo": "mysql_tzinfo_to_sql"},
}
#: Where the system's time zones are.
ZONES = Path("/usr/share/zoneinfo")


def client_name(toolchain: Toolchain, role: str) -> str:
    """The name of a program: ``role`` is "client", "dump", "tzinfo", or MariaDB's "upgrade"."""
    return _CLIENTS[toolchain.engine][role]


def server_name(toolchain: Toolchain) -> str:
    return "mariadbd" if toolchain.engine == MARIADB else "mysqld"


def basedir(toolchain: Toolchain) -> Path:
    """The folder with bin and share, by which a server finds its messages and plugins."""
    if toolchain.prefix is not None:
        return toolchain.prefix
    return toolchain.program(server_name(toolchain)).resolve().parent.parent


def _places(toolchain: Toolchain) -> list[str]:
    """Where the installation lies, for programs that were moved since they were built."""
    base = basedir(toolchain)
    options = [f"--basedir={base}"]
    for option, candidates in (
        ("lc-messages-dir", ("share/mysql", "share/mariadb", "share")),
        (
            "character-sets-dir",
            ("share/mysql/charsets", "share/mariadb/charsets", "share/charsets"),
        ),
        (
            "plugin-dir",
            ("lib/mysql/plugin", "lib64/mysql/plugin", "lib/mariadb/plugin", "lib/plugin"),
        ),
    ):
        found = next((base / each for each in candidates if (base / each).is_dir()), None)
        if found is not None:
            options.append(f"--{option}={found}")
    return options


def _as_root() -> list[str]:
    """The servers refuse root unless they are told; files stay root's by that."""
    return ["--user=root"] if os.geteuid() == 0 else []


def initialise(toolchain: Toolchain, datadir: Path, options: Mapping[str, object]) -> Command:
    """Make a cluster whose root has no password.

    :param options: what is fixed when a cluster is made, such as innodb_page_size.
    """
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    if toolchain.engine == MYSQL:
        return _server(
            toolchain,
            "--no-defaults",
            "--initialize-insecure",
            f"--datadir={datadir}",
            "--secure-file-priv=",
            *_places(toolchain),
            *_as_root(),
            *given,
            cwd=datadir.parent,
        )
    return Command(
        toolchain.program("mariadb-install-db"),
        (
            "--no-defaults",
            f"--basedir={basedir(toolchain)}",
            f"--datadir={datadir}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            *_as_root(),
            *given,
        ),
        {**_environment(toolchain), **_temporary_files(datadir.parent)},
        hidden=HIDDEN,
        cwd=datadir.parent,
    )


def server(toolchain: Toolchain, datadir: Path, config: Path, *options: str) -> Command:
    """The server itself. It works in the datadir, from where its files include each other."""
    return _server(
        toolchain,
        f"--defaults-file={config}",
        f"--datadir={datadir}",
        *_places(toolchain),
        *_as_root(),
        *options,
        cwd=datadir,
    )


def zones(toolchain: Toolchain) -> Command:
    """The system's time zones as SQL, to standard output."""
    name = client_name(toolchain, "tzinfo")
    return Command(toolchain.program(name), (str(ZONES),), _environment(toolchain), hidden=HIDDEN)


def client(
    toolchain: Toolchain, role: str, passfile: Path, suffix: str, arguments: tuple[str, ...]
) -> Command:
    """A client program that reads ``passfile`` and no other option file.

    :param suffix: of the groups in it that are read besides those without any.
    """
    environment = _environment(toolchain)
    # MySQL's clients read it whatever else they are told.
    environment["MYSQL_TEST_LOGIN_FILE"] = os.devnull
    return Command(
        toolchain.program(client_name(toolchain, role)),
        (
            f"--defaults-file={passfile}",
            *((f"--defaults-group-suffix={suffix}",) if suffix else ()),
            *arguments,
        ),
        environment,
        hidden=HIDDEN,
    )


def _server(toolchain: Toolchain, *args: str, cwd: Path) -> Command:
    environment = {**_environment(toolchain), **toolchain.server_environment}
    # The servers make files as these say, not as the caller's umask.
    environment |= {"UMASK": "0600", "UMASK_DIR": "0700", **_temporary_files(cwd)}
    return Command(
        toolchain.program(server_name(toolchain)), args, environment, hidden=HIDDEN, cwd=cwd
    )


def _temporary_files(folder: Path) -> dict[str, str]:
    """Where a server has its temporary files: in a folder of its own.

    A server that starts removes temporary tables from its place for them, other servers' too.
    Source: MariaDB's mysql_rm_tmp_tables.
    """
    # A colon would stand between two places.
    return {} if ":" in str(folder) else {"TMPDIR": str(folder)}


def _environment(toolchain: Toolchain) -> dict[str, str]:
    # Whatever ours is: theirs are read by the servers alone, and let the group in by default.
    modes = {"UMASK": "0600", "UMASK_DIR": "0700"}
    return {**toolchain.environment, **modes, "LC_ALL": "C", "TZ": "UTC"}

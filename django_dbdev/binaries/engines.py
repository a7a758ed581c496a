"""What there is to know of an engine's programs, whoever provides them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..exceptions import ToolchainError


@dataclass(frozen=True)
class Engine:
    """The programs of one engine.

    :param title: the name as people write it.
    :param server: the program that is asked for the version.
    :param required: without these, an installation is none.
    :param proven: run with ``version_args`` to see that they load on this machine.
    :param version_pattern: finds the version in what ``server`` says, as its first group.
    :param other_names: what a program is called elsewhere, by the name that it has here. An
        engine that has any owns no folder of its own: what is not named here is not its.
    :param beside: folders next to that of the server that may hold the other programs.
    :param places: where installations are on machines: globs of folders of programs.
    :param settings: the setting by which a user names each program.
    :param config_program: tells how it was built and where its files are; may be missing.
    :param extension_file: an extension's file below the folder that ``config_program`` calls
        sharedir; ``{}`` is its name.
    :param series_parts: how many numbers of a version say whose data it reads: one of "18.6", two
        of "10.11.19".
    :param features: what a build has or has not, asked for among the extensions and never
        created: by name, the first major version that has it unless told otherwise.
    """

    name: str
    title: str
    server: str
    required: tuple[str, ...]
    proven: tuple[str, ...]
    version_pattern: str
    version_args: tuple[str, ...] = ("--version",)
    other_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    config_program: str = ""
    extension_file: str = ""
    features: Mapping[str, int] = field(default_factory=dict)
    series_parts: int = 2

    @property
    def bindir_variable(self) -> str:
        """The environment variable by which a Nix shell tells where its programs are."""
        return f"DBDEV_{self.name.upper()}_BINDIR"

    @property
    def provider_variable(self) -> str:
        """The one by which it tells who provides them."""
        return f"DBDEV_{self.name.upper()}_PROVIDER"

    def suffix_of(self, alias: str) -> str:
        """How such variables end for an alias with a pin of its own: "_REPORTING"."""
        return "_" + re.sub(rb"[^A-Za-z0-9]", b"_", alias.encode()).decode().upper()

    def series_of(self, version: str) -> str:
        """The versions that read each other's data: "18" of "18.6", "10.11" of "10.11.19"."""
        return ".".join(version.split(".")[: self.series_parts])

    def parse_version(self, text: str) -> str | None:
        """The version in what the server says, in the form of PEP 440; None without one.

        "18beta1" becomes "18.0b1" and "19devel" "19.0.dev0".
        """
        found = re.search(self.version_pattern, text)
        if found is None:
            return None
        version = found.group(1)
        if unfinished := re.fullmatch(r"(\d+)(beta|rc|devel)(\d*)", version):
            major, stage, number = unfinished.groups()
            return f"{major}.0{'.dev0' if stage == 'devel' else stage.replace('beta', 'b')}{number}"
        return version


POSTGRESQL = Engine(
    name="postgresql",
    title="PostgreSQL",
    server="postgres",
    required=(
        "postgres",
        "initdb",
        "pg_ctl",
        "psql",
        "createdb",
        "pg_dump",
        "pg_restore",
    ),
    proven=("postgres", "initdb", "psql", "pg_dump"),
    version_pattern=r"\(PostgreSQL\) (\d+(?:\.\d+|(?:beta|rc)\d+|devel)?)",
    places=(
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/usr/local/pgsql/bin",
        "/opt/homebrew/opt/postgresql@*/bin",
        "/usr/local/opt/postgresql@*/bin",
        "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
        "/Applications/Postgres.app/Contents/Versions/*/bin",
    ),
    settings={
        "postgres": "DBDEV_POSTGRES_EXECUTABLE",
        "pg_ctl": "DBDEV_POSTGRES_PG_CTL_EXECUTABLE",
        "psql": "DBDEV_POSTGRES_PSQL_EXECUTABLE",
        "createdb": "DBDEV_POSTGRES_CREATEDB_EXECUTABLE",
        "pg_dump": "DBDEV_POSTGRES_PG_DUMP_EXECUTABLE",
        "pg_restore": "DBDEV_POSTGRES_PG_RESTORE_EXECUTABLE",
    },
    config_program="pg_config",
    extension_file="extension/{}.control",
    # Source: PostgreSQL 16's release notes, E.16.2, "Build with ICU support by default".
    features={"icu": 16},
    series_parts=1,
)

#: The settings of 1.2.3 name the programs of both engines.
_MYSQL_SETTINGS = {
    "mysqld": "DBDEV_MYSQLD_EXECUTABLE",
    "mysql": "DBDEV_MYSQL_EXECUTABLE",
    "mysqladmin": "DBDEV_MYSQLADMIN_EXECUTABLE",
    "mysqldump": "DBDEV_MYSQLDUMP_EXECUTABLE",
}
#: The server is in one of these, the clients in another.
_MYSQL_FOLDERS = ("bin", "sbin", "libexec", "scripts")
#: Without the option files of the machine, one of which may name options that are not known.
_MYSQL_VERSION = ("--no-defaults", "--version")

MARIADB = Engine(
    name="mariadb",
    title="MariaDB",
    server="mariadbd",
    required=(
        "mariadbd",
        "mariadb-install-db",
        "mariadb",
        "mariadb-dump",
        "mariadb-tzinfo-to-sql",
    ),
    proven=("mariadbd", "mariadb", "mariadb-dump"),
    version_pattern=r"\b(?:Ver|from) (\d+\.\d+\.\d+)-MariaDB",
    version_args=_MYSQL_VERSION,
    other_names={
        "mariadbd": ("mysqld",),
        "mariadb-install-db": ("mysql_install_db",),
        "mariadb": ("mysql",),
        "mariadb-admin": ("mysqladmin",),
        "mariadb-backup": ("mariabackup",),
        "mariadb-dump": ("mysqldump",),
        "mariadb-tzinfo-to-sql": ("mysql_tzinfo_to_sql",),
        "mariadb-upgrade": ("mysql_upgrade",),
    },
    beside=_MYSQL_FOLDERS,
    places=(
        "/usr/sbin",
        "/usr/libexec",
        "/usr/local/mariadb*/bin",
        "/opt/homebrew/opt/mariadb*/bin",
        "/usr/local/opt/mariadb*/bin",
        "/home/linuxbrew/.linuxbrew/opt/mariadb*/bin",
    ),
    settings={
        "mariadbd": _MYSQL_SETTINGS["mysqld"],
        "mariadb-install-db": "DBDEV_MYSQL_INSTALL_DB_EXECUTABLE",
        "mariadb": _MYSQL_SETTINGS["mysql"],
        "mariadb-admin": _MYSQL_SETTINGS["mysqladmin"],
        "mariadb-dump": _MYSQL_SETTINGS["mysqldump"],
    },
)

MYSQL = Engine(
    name="mysql",
    title="MySQL",
    server="mysqld",
    required=("mysqld", "mysql", "mysqldump", "mysql_tzinfo_to_sql"),
    proven=("mysqld", "mysql", "mysqldump"),
    version_pattern=r"\bVer (\d+\.\d+\.\d+)\b(?!.*MariaDB)",
    version_args=_MYSQL_VERSION,
    other_names={
        "mysqld": (),
        "mysql": (),
        "mysqladmin": (),
        "mysqldump": (),
        "mysql_tzinfo_to_sql": (),
    },
    beside=_MYSQL_FOLDERS,
    places=(
        "/usr/sbin",
        "/usr/libexec",
        "/usr/local/mysql*/bin",
        "/opt/homebrew/opt/mysql*/bin",
        "/usr/local/opt/mysql*/bin",
        "/home/linuxbrew/.linuxbrew/opt/mysql*/bin",
    ),
    settings=_MYSQL_SETTINGS,
)

ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in (POSTGRESQL, MARIADB, MYSQL)}


def get_engine(name: str) -> Engine:
    """
    :raises ToolchainError: when nobody here knows where this engine's programs come from.
    """
    try:
        return ENGINES[name]
    except KeyError:
        raise ToolchainError(
            f"django_dbdev does not know where the programs of {name} come from.",
            hints=[f"it knows {', '.join(sorted(ENGINES))}"],
        ) from None

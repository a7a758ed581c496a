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
    :param places: where installations are on machines: globs of folders of programs.
    :param settings: the setting by which a user names each program.
    :param config_program: tells how it was built and where its files are; may be missing.
    :param extension_file: an extension's file below the folder that ``config_program`` calls
        sharedir; ``{}`` is its name.
    """

    name: str
    title: str
    server: str
    required: tuple[str, ...]
    proven: tuple[str, ...]
    version_pattern: str
    version_args: tuple[str, ...] = ("--version",)
    places: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    config_program: str = ""
    extension_file: str = ""

    @property
    def bindir_variable(self) -> str:
        """The environment variable by which a Nix shell tells where its programs are."""
        return f"DBDEV_{self.name.upper()}_BINDIR"

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
)

ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in (POSTGRESQL,)}


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

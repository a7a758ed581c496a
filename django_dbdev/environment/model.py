"""From the project's settings and pins to what its generated files say. All of it is pure."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..pins import Pins, Requirement
from .layout import PYTEST, Layout

#: Modules that Django drives databases by: the package on the index, and the one in nixpkgs.
_DRIVERS = {
    "psycopg": ("psycopg[binary]", "psycopg"),
    "psycopg2": ("psycopg2-binary", "psycopg2"),
    "MySQLdb": ("mysqlclient", "mysqlclient"),
    "pymysql": ("PyMySQL", "pymysql"),
}


@dataclass(frozen=True)
class Database:
    """An alias whose database is on a server of this project's.

    :param driver: the module that Django drives it by, such as "psycopg".
    """

    alias: str
    driver: str


@dataclass(frozen=True)
class Model:
    """What the templates are rendered from.

    :param requirements: the pins, in words such as "postgresql 18 with pg_trgm"; one line each.
    :param init: the arguments of manage.py that make every server, one command for each.
    :param start: those that start them again.
    :param nix_packages: what the project imports, by the names of nixpkgs' Python packages.
    :param install: the command that installs what the project needs.
    :param logs: a glob of the servers' logs, seen from the repository's folder; empty where they
        are not in it.
    """

    layout: Layout
    requirements: tuple[str, ...]
    init: tuple[str, ...]
    start: tuple[str, ...]
    test: str
    install: str
    nix_packages: tuple[str, ...]
    logs: str

    @property
    def python_attribute(self) -> str:
        """nixpkgs' attribute for the project's Python, such as "python312"."""
        return f"python{self.layout.python.replace('.', '')}"

    @property
    def prefix(self) -> str:
        """The project's folder, seen from the repository, for paths: empty or "folder/"."""
        return "" if self.layout.folder == "." else f"{self.layout.folder}/"

    @property
    def hides_logs(self) -> bool:
        """Whether the logs are in a folder whose name begins with a dot."""
        return any(part.startswith(".") for part in self.logs.split("/"))

    @property
    def enter(self) -> str:
        """The shell's command that goes from the repository's folder to the project's."""
        return f"cd {shlex.quote(self.layout.folder)}"


def build_model(layout: Layout, pins: Pins, databases: Sequence[Database], tempdata: str) -> Model:
    """
    :param databases: one for each server.
    :param tempdata: the folder of all state, seen from the repository's folder; empty where it
        is not in it.
    """
    manage = f"python {shlex.quote(layout.manage)}"
    modules = dict.fromkeys(database.driver for database in databases)
    drivers = [_DRIVERS[module] for module in modules if module in _DRIVERS]
    pytest = PYTEST if layout.pytest else ()
    fallback = ("django_dbdev", *(driver for driver, _ in drivers), *pytest)
    return Model(
        layout=layout,
        requirements=tuple(" ".join(str(r).split()) for r in _requirements(pins)),
        init=tuple(f"{manage} dbdev_init --locked{_option(d)}" for d in databases),
        start=tuple(f"{manage} dbdev_startserver{_option(d)}" for d in databases),
        test="python -m pytest" if layout.pytest else f"{manage} test",
        install=_install(layout.install or fallback),
        nix_packages=(*(attribute for _, attribute in drivers), *pytest),
        logs=posixpath.normpath(f"{tempdata}/*.log") if tempdata else "",
    )


def _install(arguments: Sequence[str]) -> str:
    command = f"python -m pip install {shlex.join(arguments)}"
    if any(argument.startswith("--group") for argument in arguments):
        # Older ones, which many images have, do not know that option.
        return f"python -m pip install 'pip>=25.1' && {command}"
    return command


def _requirements(pins: Pins) -> list[Requirement]:
    found = [pin.requirement for pin in pins if pin.requirement.engine != "sqlite"]
    return list(dict.fromkeys(found))


def _option(database: Database) -> str:
    return "" if database.alias == "default" else f" --database {shlex.quote(database.alias)}"

"""PostGIS: PostgreSQL with the extension in every database, for GeoDjango.

settings.py imports :data:`DBSETTINGS` from here, and :func:`geo_libraries` where this machine
has no GDAL of its own.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from .. import conf, invocation
from ..binaries.engines import get_engine
from ..binaries.find import Sources, exported, find_toolchain, installed_toolchain
from ..binaries.toolchain import Toolchain
from ..exceptions import DbdevError
from ..pins import Pin, Requirement
from ..process import ports
from .info import ServerInfo
from .postgres import ENGINE, PostgresBackend
from .postgresql import sql
from .server.accounts import Account
from .shell import join

EXTENSION = "postgis"

DBSETTINGS: dict[str, Any] = {
    "ENGINE": "django.contrib.gis.db.backends.postgis",
    "NAME": "dbdev",
    "USER": "dbdev",
    "PASSWORD": "dbdev",
    "HOST": ports.LOOPBACK,
    "PORT": conf.default_port(ENGINE, "PostGisBackend"),
}

#: Commands that fetch programs, and so may have them fetched while settings are read.
_FETCHING = ("dbdev_init", "dbdev_reinit", "dbdev_lock", "dbdev_run", "dbdev_upgrade")


class PostGisBackend(PostgresBackend):
    """PostgreSQL with PostGIS in the databases, and in the template of new ones."""

    @cached_property
    def pin(self) -> Pin:
        pin = super().pin
        return replace(pin, requirement=with_postgis(pin.requirement))

    def ensure_accounts(self, accounts: Sequence[Account], port: int) -> None:
        super().ensure_accounts(accounts, port)
        # Test databases are copies of template1, made by whichever role.
        admin = sql.superuser(self.socket(port).parent, port)
        with sql.connect(replace(admin, database="template1")) as cursor:
            sql.prove_identity(cursor, self.files.datadir)
            sql.ensure_extensions(cursor, (EXTENSION,))

    def info(self) -> ServerInfo:
        info = super().info()
        toolchain, _ = self.installed_toolchain()
        geo = toolchain.geo_environment if toolchain else {}
        return replace(info, environment={**info.environment, **geo})

    @property
    def geo_values(self) -> Mapping[str, str]:
        """For the guide: the variables of GeoDjango's libraries, quoted for a shell."""
        toolchain, _ = self.installed_toolchain()
        environment = toolchain.geo_environment if toolchain else {}
        return {name: join([value]) for name, value in environment.items()}


def with_postgis(requirement: Requirement) -> Requirement:
    extensions = dict.fromkeys((EXTENSION, *requirement.extensions))
    return replace(requirement, extensions=tuple(extensions))


def geo_libraries(alias: str | None = None) -> tuple[str | None, str | None]:
    """GDAL's and GEOS's library of this project's PostGIS, for settings.py::

        GDAL_LIBRARY_PATH, GEOS_LIBRARY_PATH = geo_libraries()

    None where it has none that fit this machine's Python: Django looks for them itself then. The
    folders of their data (``GDAL_DATA``, ``PROJ_DATA``) are set in the environment, where they
    are not set already. GeoDjango's models cannot be imported without these libraries, and
    commands import them; so the command that is to fetch the programs, ``dbdev_init``, has them
    fetched here.

    A Nix shell exports both by the same names, since its programs come without them.

    :param alias: one that has a pin of its own.
    """
    names = ("GDAL_LIBRARY_PATH", "GEOS_LIBRARY_PATH")
    exported = {name: value for name in names if (value := conf.text_variable(name))}
    environment = exported if len(exported) == len(names) else _toolchain_environment(alias)
    for name, value in environment.items():
        if not name.endswith("_LIBRARY_PATH"):
            os.environ.setdefault(name, value)
    return environment.get("GDAL_LIBRARY_PATH"), environment.get("GEOS_LIBRARY_PATH")


def _toolchain_environment(alias: str | None) -> Mapping[str, str]:
    project = conf.project()
    requirement = with_postgis(project.pins.get(ENGINE, alias).requirement)
    own = alias is not None and ENGINE in project.pins.databases.get(alias, {})
    bindir, suffix = exported(get_engine(ENGINE), alias if own else None)
    sources = Sources(
        lock=project.lock,
        prefix=conf.tempdata() / "prefix",
        store=conf.store(),
        bindir=bindir,
        suffix=suffix,
        # The command itself comes later, and what it is told holds here already.
        locked=conf.flag("DBDEV_LOCKED") or bool({"--locked", "--check"} & _given()),
        offline=conf.flag("DBDEV_OFFLINE") or "--offline" in _given(),
        alias=alias if own else None,
        suites=project.pins.suites,
        channel=project.pins.channel,
    )
    toolchain: Toolchain | None = None
    try:
        if _may_fetch():
            toolchain = find_toolchain(requirement, sources).toolchain
        else:
            toolchain = installed_toolchain(requirement, sources)
    except DbdevError as error:
        # Here it would be a traceback; the command itself says it better, if it gets that far.
        warnings.warn(f"PostGIS's libraries are not to be had: {error}", stacklevel=3)
    return toolchain.geo_environment if toolchain else {}


def _may_fetch() -> bool:
    """Whether the running command fetches programs: it, or pytest, would not get that far."""
    return invocation.servers_asked_for or any(word in _FETCHING for word in sys.argv[1:2])


def _given() -> set[str]:
    """The arguments of the running command, less those of what ``dbdev_run`` is to run."""
    own = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    return set(own[1:])

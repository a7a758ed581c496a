"""What the settings and the pin ask for, for the server of one alias."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from ... import conf
from ...binaries.find import (
    Found,
    Sources,
    find_toolchain,
    installed_toolchain,
)
from ...binaries.toolchain import Toolchain
from ...exceptions import (
    ConfigurationError,
    DbdevError,
    ForeignServerError,
    SharedServerError,
)
from ...pins import Pin
from ...process import ports, privileges
from ...process.privileges import Identity
from ...records import record_port, recorded_ports
from ..base import BaseDbdevBackend
from . import sql
from .configuration import Configuration, check_settings
from .files import ServerFiles
from .sql import Account

ENGINE = "postgresql"
#: Where DBSETTINGS looks for the recorded port; the setting may not have been read by then.
_TEMPDATA = conf.tempdata()

#: Which setting of 1.2.3 names which program.
EXECUTABLE_SETTINGS = {
    "postgres": "DBDEV_POSTGRES_EXECUTABLE",
    "pg_ctl": "DBDEV_POSTGRES_PG_CTL_EXECUTABLE",
    "psql": "DBDEV_POSTGRES_PSQL_EXECUTABLE",
    "createdb": "DBDEV_POSTGRES_CREATEDB_EXECUTABLE",
    "pg_dump": "DBDEV_POSTGRES_PG_DUMP_EXECUTABLE",
    "pg_restore": "DBDEV_POSTGRES_PG_RESTORE_EXECUTABLE",
}


class PostgresAlias(BaseDbdevBackend):
    """An alias whose engine is PostgreSQL: its pin, accounts, programs, port, configuration."""

    hosts: ClassVar[frozenset[str]] = frozenset({"127.0.0.1", "localhost"})

    @cached_property
    def files(self) -> ServerFiles:
        return ServerFiles(self.tempdata, self.server_name)

    @cached_property
    def pin(self) -> Pin:
        """The pin of the server: that of the alias that has one of its own, else the engine's."""
        pin = conf.project().pins.get(ENGINE, self._pinned_alias)
        check_settings(pin)
        if self._pinned_alias is not None and pin.port not in (None, self.port):
            raise ConfigurationError(
                f"{pin.key}.port is {pin.port}, but DATABASES[{self.alias!r}]['PORT'] is "
                f"{self.port}.",
                hints=["DBSETTINGS has one port only: set that of a further server in DATABASES"],
            )
        return pin

    @cached_property
    def _pinned_alias(self) -> str | None:
        pins = conf.project().pins.databases
        own = [alias for alias in self.server_aliases if ENGINE in pins.get(alias, {})]
        if not own:
            return None
        first, *others = (replace(pins[alias][ENGINE], key="") for alias in own)
        if len(own) < len(self.server_aliases) or any(other != first for other in others):
            raise SharedServerError(
                f"The aliases {', '.join(self.server_aliases)} share port {self.port}, "
                "and so one server, but their pins differ.",
                hints=["give an alias with a pin of its own another PORT in DATABASES"],
            )
        return own[0]

    @property
    def port(self) -> int:
        """The port in DATABASES; Django's and PostgreSQL's default where it is empty."""
        conf.explicit_port(ENGINE)  # DBSETTINGS passes over what is malformed.
        value = self.dbsettings.get("PORT") or 5432
        try:
            port = int(value)
        except (TypeError, ValueError):
            port = 0
        if not 1 <= port <= 65535:
            raise ConfigurationError(
                f"DATABASES[{self.alias!r}]['PORT'] is {value!r}, not a port number (1 to 65535)."
            )
        return port

    @property
    def host(self) -> str:
        host = self.dbsettings.get("HOST") or ""
        if host not in self.hosts:
            raise ConfigurationError(
                f"DATABASES[{self.alias!r}]['HOST'] is {host!r}: servers for development run on "
                "this machine and listen on 127.0.0.1 only.",
                hints=[f"use DBSETTINGS, or set HOST to {ports.LOOPBACK!r}"],
            )
        return str(host)

    def _accounts(self) -> list[Account]:
        """What the aliases on this server ask for, without repetition.

        :raises SharedServerError: when two of them give one role different passwords.
        """
        accounts: dict[Account, str] = {}
        passwords: dict[str, str] = {}
        for alias in self.server_aliases:
            account = sql.account_of(conf.database(alias), alias)
            if passwords.setdefault(account.user, account.password) != account.password:
                other = next(name for a, name in accounts.items() if a.user == account.user)
                raise SharedServerError(
                    f"The alias {alias!r} gives the role {account.user!r} another password "
                    f"than the alias {other!r} on the same server.",
                    hints=["give it the same password, or another USER or PORT in DATABASES"],
                )
            accounts.setdefault(account, alias)
        return list(accounts)

    def _sources(self) -> Sources:
        executables = {
            program: path
            for program, name in EXECUTABLE_SETTINGS.items()
            if (path := conf.path_setting(name)) is not None
        }
        return Sources(
            lock=conf.project().lock,
            prefix=self.tempdata / "prefix",
            store=conf.store(),
            executables=executables,
            bindir=conf.path_variable("DBDEV_POSTGRESQL_BINDIR"),
            locked=self.locked,
            offline=self.offline,
            alias=self._pinned_alias,
        )

    def _find_toolchain(self) -> Found:
        return find_toolchain(self.pin.requirement, self._sources(), self.reporter)

    def _configuration(self, major: int, port: int, identity: Identity) -> Configuration:
        return Configuration(
            major=major,
            settings=self.pin.settings,
            template_dirs=conf.template_dirs(),
            port=port,
            socket_directory=self.files.socket_directory(port),
            accounts=tuple(
                dict.fromkeys(filter(None, (identity.account, privileges.DIRECT.account, "root")))
            ),
        )

    def _installed_toolchain(self) -> tuple[Toolchain | None, str]:
        try:
            return installed_toolchain(self.pin.requirement, self._sources()), ""
        except DbdevError as error:
            return None, error.message

    # Ports.

    def _choose_port(self) -> int:
        """The port in DATABASES; another one when it is taken and was not chosen by the user."""
        port = self.port
        if ports.is_free(port):
            return port
        if not self._port_is_ours_to_choose():
            raise self._port_taken(port)
        taken_by = ports.owner(port)
        span = conf.DERIVED_PORTS
        start = port - span.start if port in span else 0
        moved = ports.first_free(span[(start + step) % len(span)] for step in range(1, len(span)))
        if moved is None:
            raise self._port_taken(port)
        record_port(self.tempdata, self.server_name, moved)
        for alias in self.server_aliases:
            # For what runs in this process after us; the next one reads the record.
            settings = conf.databases()[alias]
            if isinstance(settings, dict):
                settings["PORT"] = moved
        self.reporter.warning(f"Port {port} is taken by {taken_by}: took {moved} and recorded it")
        if self.tempdata != _TEMPDATA:
            self.reporter.warning(
                "settings.py will not see that record: set DBDEV_DATADIR above the import of "
                "DBSETTINGS there"
            )
        return moved

    def _port_is_ours_to_choose(self) -> bool:
        if conf.explicit_port(ENGINE) is not None:
            return False
        recorded = recorded_ports(self.tempdata).get(self.server_name)
        return self.port in (recorded, conf.derived_port(ENGINE))

    def _port_taken(self, port: int) -> ForeignServerError:
        return ForeignServerError(
            f"Port {port} is taken by {ports.owner(port)}; it is not touched.",
            hints=[
                "dbdev_init takes another port"
                if self._port_is_ours_to_choose()
                else f"set another PORT in DATABASES[{self.alias!r}], or free that one"
            ],
        )

    def _check_port(self, port: int) -> None:
        if port != self.port:
            raise ConfigurationError(
                f"The server of {self._datadir} runs on port {port}, but "
                f"DATABASES[{self.alias!r}]['PORT'] is {self.port}.",
                hints=["restart it: dbdev_stopserver, then dbdev_startserver"],
            )

"""What the settings and the pin ask for, for the server of one alias."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from ... import conf
from ...binaries.engines import get_engine
from ...binaries.find import Sources, exported, find_toolchain, installed_toolchain
from ...binaries.toolchain import Toolchain
from ...exceptions import (
    ConfigurationError,
    DbdevError,
    ForeignServerError,
    SharedServerError,
)
from ...pins import Pin
from ...process import ports
from ...records import record_port
from ..base import BaseDbdevBackend
from .accounts import Account, NameLimits, account_of
from .files import ServerFiles


class ServerAlias(BaseDbdevBackend, ABC):
    """An alias with a server: its pin, accounts, programs and port."""

    hosts: ClassVar[frozenset[str]] = frozenset({"127.0.0.1", "localhost"})
    #: By which DBSETTINGS asks for its port.
    family: ClassVar[str]
    #: What Django's driver uses where PORT is empty.
    default_port: ClassVar[int]
    name_limits: ClassVar[NameLimits]

    # The engine's part.

    @property
    @abstractmethod
    def engine(self) -> str:
        """Its name in pins and lock: "postgresql"."""

    @property
    @abstractmethod
    def files(self) -> ServerFiles: ...

    @abstractmethod
    def check_pin(self, pin: Pin) -> None:
        """
        :raises ConfigurationError: when the pin sets what is not the pin's to set.
        """

    # What is the same for all.

    @property
    def title(self) -> str:
        """The engine, as people write it."""
        return get_engine(self.engine).title

    @cached_property
    def pin(self) -> Pin:
        """The pin of the server: that of the alias that has one of its own, else the engine's."""
        pin = conf.project().pins.get(self.engine, self.pinned_alias)
        self.check_pin(pin)
        own_port = conf.is_ephemeral() or pin.port in (None, self.port)
        if self.pinned_alias is not None and not own_port:
            raise ConfigurationError(
                f"{pin.key}.port is {pin.port}, but DATABASES[{self.alias!r}]['PORT'] is "
                f"{self.port}.",
                hints=["DBSETTINGS has one port only: set that of a further server in DATABASES"],
            )
        return pin

    @cached_property
    def pinned_alias(self) -> str | None:
        """The alias that has a pin of its own, among those that share the server."""
        pins = conf.project().pins.databases
        own = [alias for alias in self.server_aliases if self.engine in pins.get(alias, {})]
        if not own:
            return None
        first, *others = (replace(pins[alias][self.engine], key="") for alias in own)
        if len(own) < len(self.server_aliases) or any(other != first for other in others):
            raise self.pins_differ()
        return own[0]

    def pins_differ(self) -> SharedServerError:
        return SharedServerError(
            f"The aliases {', '.join(self.server_aliases)} share port {self.port}, "
            "and so one server, but their pins differ.",
            hints=["give an alias with a pin of its own another PORT in DATABASES"],
        )

    @classmethod
    def place(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        host, port = super().place(settings)
        return host, port or str(cls.default_port)

    @property
    def port(self) -> int:
        """The port in DATABASES; the driver's default where it is empty."""
        conf.explicit_port(self.family)  # DBSETTINGS passes over what is malformed.
        value = self.dbsettings.get("PORT") or self.default_port
        try:
            port = int(value)
        except (TypeError, ValueError, OverflowError):
            port = 0
        if not 1 <= port <= 65535:
            raise ConfigurationError(
                f"DATABASES[{self.alias!r}]['PORT'] is {value!r}, not a port number (1 to 65535)."
            )
        return port

    @property
    def host(self) -> str:
        host = str(self.dbsettings.get("HOST") or "")
        if not self.is_here(host):
            raise ConfigurationError(
                f"DATABASES[{self.alias!r}]['HOST'] is {host!r}: servers for development run on "
                "this machine and listen on 127.0.0.1 only.",
                hints=[f"use DBSETTINGS, or set HOST to {ports.LOOPBACK!r}"],
            )
        return host

    @property
    def account(self) -> Account:
        """What the alias's settings ask for."""
        return account_of(self.dbsettings, self.alias, self.name_limits)

    def alias_accounts(self) -> list[tuple[str, Account]]:
        """What each alias on this server asks for."""
        return [
            (alias, account_of(conf.database(alias), alias, self.name_limits))
            for alias in self.server_aliases
        ]

    def accounts(self) -> list[Account]:
        """What the aliases on this server ask for, without repetition.

        :raises SharedServerError: when two of them give one role different passwords.
        """
        accounts: dict[Account, str] = {}
        passwords: dict[str, str] = {}
        for alias, account in self.alias_accounts():
            if passwords.setdefault(account.user, account.password) != account.password:
                other = next(name for a, name in accounts.items() if a.user == account.user)
                raise SharedServerError(
                    f"The alias {alias!r} gives the role {account.user!r} another password "
                    f"than the alias {other!r} on the same server.",
                    hints=["give it the same password, or another USER or PORT in DATABASES"],
                )
            accounts.setdefault(account, alias)
        return list(accounts)

    # Programs.

    def sources(self) -> Sources:
        engine = get_engine(self.engine)
        executables = {
            program: path
            for program, name in engine.settings.items()
            if (path := conf.path_setting(name)) is not None
        }
        bindir, suffix = exported(engine, self.pinned_alias)
        return Sources(
            lock=conf.project().lock,
            prefix=self.tempdata / "prefix",
            store=conf.store(),
            executables=executables,
            bindir=bindir,
            suffix=suffix,
            locked=self.locked,
            offline=self.offline,
            alias=self.pinned_alias,
            suites=conf.project().pins.suites,
            channel=conf.project().pins.channel,
        )

    def find_toolchain(self) -> Toolchain:
        return find_toolchain(self.pin.requirement, self.sources(), self.reporter).toolchain

    def installed_toolchain(self) -> tuple[Toolchain | None, str]:
        """What there is without fetching anything, or why that is not known."""
        try:
            return installed_toolchain(self.pin.requirement, self.sources()), ""
        except DbdevError as error:
            return None, error.message

    # Ports.

    def choose_port(self) -> int:
        """The port in DATABASES; another one when it is taken and was not chosen by the user."""
        port = self.port
        if ports.is_free(port):
            if isinstance(self.dbsettings.get("PORT"), conf.RecordedPort):
                # dbdev_destroy, in this process, has forgotten it.
                record_port(self.tempdata, self.server_name, port)
            return port
        if not self.is_movable(self.dbsettings):
            raise self.port_taken(port)
        taken_by = ports.owner(port)
        span = conf.DERIVED_PORTS
        start = port - span.start if port in span else 0
        # The server of another alias may just not run.
        others = {str(settings.get("PORT")) for settings in conf.databases().values()}
        candidates = (span[(start + step) % len(span)] for step in range(1, len(span)))
        moved = ports.first_free(each for each in candidates if str(each) not in others)
        if moved is None:
            raise self.port_taken(port)
        record_port(self.tempdata, self.server_name, moved)
        for alias in self.server_aliases:
            # For what runs in this process after us; in the next one, ready() reads the record.
            settings = conf.databases()[alias]
            if isinstance(settings, dict):
                settings["PORT"] = conf.RecordedPort(moved)
        self.reporter.warning(f"Port {port} is taken by {taken_by}: took {moved} and recorded it")
        return moved

    @classmethod
    def is_movable(cls, settings: Mapping[str, Any]) -> bool:
        """Whether an alias's PORT is that of DBSETTINGS, and no choice of the user's."""
        if conf.explicit_port(cls.family) is not None or settings.get("HOST") not in cls.hosts:
            return False
        port, derived = settings.get("PORT"), conf.derived_port(cls.family)
        return isinstance(port, conf.RecordedPort) or str(port) == str(derived)

    def port_taken(self, port: int) -> ForeignServerError:
        return ForeignServerError(
            f"Port {port} is taken by {ports.owner(port)}; it is not touched.",
            hints=[
                "dbdev_init takes another port"
                if self.is_movable(self.dbsettings)
                else f"set another PORT in DATABASES[{self.alias!r}], or free that one"
            ],
        )

    def check_port(self, port: int) -> None:
        """:raises ConfigurationError: when the server runs on another than that of DATABASES."""
        if port != self.port:
            raise ConfigurationError(
                f"The server of {self.files.datadir} runs on port {port}, but "
                f"DATABASES[{self.alias!r}]['PORT'] is {self.port}.",
                hints=["restart it: dbdev_stopserver, then dbdev_startserver"],
            )

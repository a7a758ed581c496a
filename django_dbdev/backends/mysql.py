"""MariaDB and MySQL.

settings.py imports :data:`DBSETTINGS` from here, so nothing slow is imported at the top:
what drives the server loads sh, psutil, Jinja2 and filelock when it uses them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from .. import conf
from ..backups.snapshot import Base, Tree
from ..binaries.engines import get_engine
from ..binaries.find import Sources, installed_toolchain
from ..binaries.store import Store
from ..binaries.toolchain import Toolchain
from ..exceptions import (
    ConfigurationError,
    ForeignServerError,
    ServerError,
)
from ..invocation import manage_arguments
from ..pins import TABLE, Pin
from ..process import ports
from ..process.privileges import DIRECT, Identity
from .base import timestamp
from .mysqld import beside, sql
from .mysqld.configuration import Configuration, check_settings, client_file, initial_options
from .mysqld.control import MySqlControl
from .mysqld.files import MySqlFiles, socket_name
from .mysqld.guide_values import GuideValues, guide_values
from .mysqld.served import Served
from .server.accounts import Account, NameLimits
from .server.backend import ServerBackend, Snapshot
from .server.control import Running

FAMILY = "mysql"

DBSETTINGS: dict[str, Any] = {
    "ENGINE": "django.db.backends.mysql",
    "NAME": "dbdev",
    "USER": "root",
    "PASSWORD": "dbdev",
    "HOST": ports.LOOPBACK,
    "PORT": conf.default_port(FAMILY, "MySqlBackend"),
}


class MySqlBackend(ServerBackend):
    """MariaDB or MySQL, as the pin says: one server for all aliases with the same port."""

    #: Not "localhost": some drivers take that for a socket at a place of their own.
    hosts: ClassVar[frozenset[str]] = frozenset({ports.LOOPBACK})
    family: ClassVar[str] = FAMILY
    default_port: ClassVar[int] = 3306
    name_limits: ClassVar[NameLimits] = NameLimits(
        "MySQL", user=32, database=64, unit="characters", plain_passwords=True
    )
    account_noun: ClassVar[str] = "User"
    #: Nothing waits for a disk, and pages are written once.
    ephemeral_options: ClassVar[tuple[str, ...]] = (
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
        "--sync-binlog=0",
    )

    @cached_property
    def engine(self) -> str:
        """ "mariadb" or "mysql": which of them the pin names, MariaDB where it names none.

        :raises ConfigurationError: when both are pinned for one alias.
        """
        engines = {alias: self._engine_of(alias) for alias in self.server_aliases}
        if len(set(engines.values())) > 1:
            raise self.pins_differ()
        return engines[self.alias]

    def _engine_of(self, alias: str) -> str:
        pins = conf.project().pins
        for place, tables in (
            (f"{TABLE}.databases.{alias}", pins.databases.get(alias, {})),
            (TABLE, pins.engines),
        ):
            pinned = [name for name in conf.PINNED_AS[FAMILY] if name in tables]
            if len(pinned) > 1:
                raise ConfigurationError(
                    f"{conf.project().pyproject} pins both MariaDB and MySQL for the alias "
                    f"{alias!r}: [{place}.mariadb] and [{place}.mysql].",
                    hints=[
                        "remove one of the tables, or pin it for another alias: "
                        f"[{TABLE}.databases.ALIAS.mysql]"
                    ],
                )
            if pinned:
                return pinned[0]
        return "mariadb"

    @classmethod
    def place(cls, settings: Mapping[str, Any]) -> tuple[str, str]:
        """HOST may be our socket's path, by which Django connects to the same server."""
        host, port = super().place(settings)
        return (ports.LOOPBACK if Path(host).name == socket_name(port) else host, port)

    def is_here(self, host: str) -> bool:
        return super().is_here(host) or host == str(self.socket(self.port))

    @cached_property
    def files(self) -> MySqlFiles:
        return MySqlFiles(self.tempdata, self.server_name)

    @cached_property
    def control(self) -> MySqlControl:
        return MySqlControl(self.files, self.title)

    def check_pin(self, pin: Pin) -> None:
        check_settings(pin)
        if pin.requirement.extensions:
            raise ConfigurationError(
                f"{pin.key}.extensions: {self.title} has no extensions.",
                hints=["remove that key; plugins are loaded by settings"],
            )

    def check_driver(self) -> None:
        sql.driver()

    def sources(self) -> Sources:
        """As of every engine; ``DBDEV_MYSQL_BASEDIR`` of 1.2.3 names an installation as well."""
        sources = super().sources()
        base = conf.path_variable("DBDEV_MYSQL_BASEDIR") or conf.path_setting("DBDEV_MYSQL_BASEDIR")
        if base is None or sources.bindir is not None:
            return sources
        return replace(sources, bindir=conf.project_root()[0] / base / "bin")

    # Clusters.

    def made_by(self, toolchain: Toolchain) -> bool:
        made = self.files.made()
        return made.engine == toolchain.engine and made.series in (
            "",
            self.series_of(toolchain.version),
        )

    def made_title(self) -> str:
        made = self.files.made()
        return f"{get_engine(made.engine).title} {made.series}".strip()

    def pin_of_cluster(self) -> str:
        made = self.files.made()
        if made.engine == self.engine:
            return super().pin_of_cluster()
        return f'version = "{made.series}" in [{TABLE}.{made.engine}], in the place of this'

    def choose_identity(
        self, toolchain: Toolchain, *ours: Path, data: Path | None = None
    ) -> Identity:
        """The servers run as whoever we are, root as well; but data stay their account's."""
        if data is not None and os.geteuid() == 0 and (owner := data.stat()).st_uid != 0:
            return Identity("setuid", owner.st_uid, owner.st_gid)
        return DIRECT

    def configuration(self, toolchain: Toolchain, port: int, identity: Identity) -> Configuration:
        return Configuration(
            engine=toolchain.engine,
            version=tuple(int(part) for part in toolchain.version.split(".")),
            settings=self.pin.settings,
            template_dirs=conf.template_dirs(),
            port=port,
            socket=self.files.socket(port),
        )

    def make_cluster(
        self,
        toolchain: Toolchain,
        accounts: Sequence[Account],
        port: int,
        identity: Identity,
        store: Store,
        target: Path,
    ) -> None:
        from .mysqld import pristine

        configuration = self.configuration(toolchain, port, identity)
        options = initial_options(self.pin.settings)
        pristine.clone(pristine.Recipe(toolchain, accounts, configuration, options), store, target)

    def password_file(self, accounts: Sequence[Account], port: int) -> bytes:
        users = [
            (f"_{alias}", account.user, account.password)
            for alias, account in self.alias_accounts()
        ]
        return client_file({"host": ports.LOOPBACK, "port": port, "protocol": "tcp"}, users)

    def start_silently(self, toolchain: Toolchain, port: int, *options: str) -> int:
        pid = super().start_silently(toolchain, port, *options)
        self._mend_swap(port)
        return pid

    def _mend_swap(self, port: int) -> None:
        """Bring a load that was killed while it replaced a database to its end, or back."""
        if not beside.journal(self.files.datadir).exists():
            return
        with self._administered(port, self.accounts()) as cursor:
            sql.prove_identity(cursor, self.files.datadir)
            self.reporter.warning(beside.mend(cursor, self.files.datadir))

    # Accounts and databases.

    def ensure_accounts(self, accounts: Sequence[Account], port: int) -> None:
        self._mend_swap(port)
        missing = [account for account in accounts if self._problem(account, port)]
        if not missing and self.files.admin.exists() and self._knows_zones(accounts[0], port):
            return
        with self._administered(port, accounts) as cursor:
            sql.prove_identity(cursor, self.files.datadir)
            self._ensure_zones(cursor)
            for account in missing:
                if sql.ensure_user(cursor, account.user, account.password):
                    self.reporter.fact(f"Created user {account.user}")
                if sql.ensure_database(cursor, account.database):
                    self.reporter.fact(f"Created database {account.database}")
        for account in missing:
            if problem := self._problem(account, port):
                raise ServerError(
                    f"The user {account.user!r} still cannot work on {account.database!r}: "
                    f"{problem}",
                    log=self.files.log,
                )

    def _knows_zones(self, account: Account, port: int) -> bool:
        with sql.connect(_login(account, port)) as cursor:
            return sql.knows_zones(cursor)

    def _ensure_zones(self, cursor: sql.Cursor) -> None:
        """Django's queries on dates need them. A cluster from elsewhere may have none."""
        if sql.knows_zones(cursor):
            return
        from .mysqld.pristine import load_zones

        toolchain, _ = self.installed_toolchain()
        if toolchain is not None and load_zones(toolchain, cursor) and sql.knows_zones(cursor):
            self.reporter.fact("Loaded the system's time zones")
        else:
            self.reporter.warning(
                "The server knows no time zones, which Django's queries on dates need: this "
                "system has none in /usr/share/zoneinfo. Install tzdata, then run dbdev_init."
            )

    def _problem(self, account: Account, port: int) -> str:
        """Why the account cannot do its work as Django does it; empty when it can."""
        try:
            with sql.connect(_login(account, port)) as cursor:
                sql.prove_identity(cursor, self.files.datadir)
                lacking = sql.lacks(cursor, account)
        except ForeignServerError:
            raise
        except ServerError as error:
            return error.message
        return f"it lacks {', '.join(lacking)}" if lacking else ""

    @contextmanager
    def _administered(self, port: int, accounts: Sequence[Account]) -> Iterator[sql.Cursor]:
        """As our own account; where a cluster from elsewhere has none, it is made.

        That takes an account of the project's that may do so: 1.2.3 worked as root.
        """
        recorded = self.control.recorded()
        if recorded is None:
            raise ServerError(f"The server of {self.files.datadir} has gone.", log=self.files.log)
        admin = self.control.admin(recorded)
        if not admin.password:
            from .mysqld.pristine import adopt

            assert admin.socket is not None
            logins = [replace(_login(a, port), database="") for a in accounts]
            adopt(self.files, logins, admin.socket)
            admin = self.control.admin(recorded)
        with sql.connect(admin) as cursor:
            yield cursor

    def is_answering(self, port: int) -> bool:
        recorded = self.control.recorded()
        return recorded is not None and self.control.is_ready(recorded.pid)

    @contextmanager
    def served(self, *, leave_running: bool = True) -> Iterator[Served]:
        """Work alone on the running server, which is started when it is not.

        :param leave_running: whether a server that was started for this goes on afterwards.
        """
        _ = self.host
        account = self.account
        with self.serving(account, leave_running=leave_running) as toolchain:
            datadir = self.files.datadir
            recorded = self.control.recorded()
            assert recorded is not None
            yield Served(
                toolchain=toolchain,
                port=self.port,
                socket_directory=recorded.socket_directory,
                passfile=self.files.passfile,
                account=account,
                scratch=datadir.with_name(f".{datadir.name}.{timestamp()}"),
                log=self.files.log,
                reporter=self.reporter,
                revive=partial(self.revive, toolchain),
                datadir=datadir,
                suffix=self._suffix(),
                admin=self.control.admin(recorded),
            )

    def _suffix(self) -> str:
        """That of the alias's group in the option file; the first alias's has none."""
        return "" if self.alias == self.server_aliases[0] else f"_{self.alias}"

    # Versions.

    def way_along(self) -> str:
        if self.files.made().engine == self.engine:
            return super().way_along()
        return (
            ", dump it with the old engine and load the dump after dbdev_reinit (see dbdev_guide)"
        )

    def upgrade(self) -> None:
        if self.files.is_cluster() and self.files.made().engine != self.engine:
            raise ServerError(
                f"The cluster in {self.files.datadir} was made by {self.made_title()}, and "
                f"{self.title} is pinned: the one cannot read the other's files.",
                hints=[
                    f"to move the data along{self.way_along()}",
                    f"to go on with the data as it is, pin {self.pin_of_cluster()}",
                ],
            )
        super().upgrade()

    def build_upgraded(
        self, old: Toolchain, new: Toolchain, target: Path, work: Path
    ) -> Sequence[str]:
        from .mysqld.upgrade import build

        return build(self, old, new, target, work)

    # Dumps and backups.

    def create_dbdump(self, dumpfile: str) -> None:
        from .mysqld import dumping

        dumping.create(self, dumpfile)

    def load_dbdump(self, dumpfile: str) -> None:
        from .mysqld import loading

        loading.load(self, dumpfile)

    def dump_portable(self, folder: Path) -> None:
        from .mysqld import portable

        portable.dump(self, folder)

    def load_portable(self, folder: Path) -> None:
        from .mysqld import portable

        portable.restore(self, folder)

    def dump_cluster(self, toolchain: Toolchain, datadir: Path, target: Path) -> dict[str, Path]:
        from .mysqld.conversion import dump_cluster

        return dump_cluster(self, toolchain, datadir, target)

    def load_dumps(self, dumps: dict[str, Path]) -> None:
        from .mysqld.loading import replace_database
        from .server.conversion import load_dumps

        with self.served() as served:
            load_dumps(served, self.accounts(), dumps, replace_database)

    def scan_stopped(self) -> Tree:
        from .mysqld.snapshot import scan_stopped

        return scan_stopped(self.files.datadir)

    def copy_data(self, target: Path, asked: Sequence[Base]) -> Snapshot:
        from .mysqld.snapshot import copy_data

        return copy_data(self, target, asked)

    def applied_migrations(self, server: Running) -> dict[str, str]:
        database = self.account.database
        try:
            with sql.connect(self._admin_of(server)) as cursor:
                known = sql.scalar(
                    cursor,
                    "SELECT 1 FROM information_schema.TABLES"
                    " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = 'django_migrations'",
                    (database,),
                )
                if not known:
                    return {}
                table = sql.identifier(database, "django_migrations")
                with sql.explained("The migrations could not be read"):
                    cursor.execute(f"SELECT app, name FROM {table} ORDER BY id")  # nosec B608 # quoted
                return {str(app): str(name) for app, name in cursor.fetchall()}
        except ServerError:
            # The backup is whole without this.
            return {}

    def count_clients(self, server: Running) -> int:
        with sql.connect(self._admin_of(server)) as cursor:
            return sql.clients(cursor)

    def _admin_of(self, server: Running) -> sql.Login:
        recorded = self.control.recorded()
        if recorded is None:
            raise ServerError(f"The server (pid {server.process.pid}) has gone.")
        return self.control.admin(recorded)

    # What there is to know.

    def running_version(self, server: Running) -> str:
        with sql.connect(self._admin_of(server)) as cursor:
            sql.prove_identity(cursor, self.files.datadir)
            return sql.server_version(cursor)

    def rendered_configuration(self, toolchain: Toolchain) -> Mapping[str, bytes]:
        return self.configuration(toolchain, self.port, DIRECT).rendered()

    def ask(self, server: Running, toolchain: Toolchain | None) -> tuple[str, list[str]]:
        with sql.connect(self._admin_of(server)) as cursor:
            sql.prove_identity(cursor, self.files.datadir)
            version = sql.server_version(cursor)
        if toolchain is None:
            return version, []
        wanted = self.configuration(toolchain, self.port, DIRECT)
        wanted = replace(wanted, socket=server.socket_directory / wanted.socket.name)
        return version, list(self.outdated(version, toolchain, wanted))

    def client_environment(self, account: Account, port: int) -> Mapping[str, str]:
        # No client reads a variable for the user and the database; scripts know these two names.
        return {
            "MYSQL_USER": account.user,
            "MYSQL_DATABASE": account.database,
            "MYSQL_HOST": ports.LOOPBACK,
            "MYSQL_TCP_PORT": str(port),
            "MYSQL_PWD": account.password,
        }

    @property
    def guide_values(self) -> GuideValues:
        """What the guide's template fills in."""
        toolchain = installed_toolchain(self.pin.requirement, self.sources())
        return guide_values(
            toolchain or self.find_toolchain(),
            self.dbsettings,
            title=self.title,
            files=self.files,
            socket=self.socket(self.port),
            suffix=self._suffix(),
            manage=manage_arguments(),
            alias=self.alias,
        )


def _login(account: Account, port: int) -> sql.Login:
    return sql.Login(
        account.user,
        account.password,
        host=ports.LOOPBACK,
        port=port,
        database=account.database,
    )

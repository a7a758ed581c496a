"""PostgreSQL.

settings.py imports :data:`DBSETTINGS` from here, so nothing slow is imported at the top:
what drives the server loads sh, psutil, Jinja2 and filelock when it uses them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from .. import conf
from ..backups.describe import Copied
from ..backups.snapshot import Base, Tree
from ..binaries.engines import POSTGRESQL
from ..binaries.find import installed_toolchain
from ..binaries.store import Store
from ..binaries.toolchain import Toolchain
from ..exceptions import ConfigurationError, ForeignServerError, ServerError
from ..invocation import manage_arguments
from ..pins import Pin
from ..process import ports, privileges
from ..process.privileges import Identity
from .base import timestamp
from .info import ServerInfo
from .postgresql import commands, sql
from .postgresql.configuration import Configuration, check_settings, password_file
from .postgresql.control import PostgresControl
from .postgresql.files import PostgresFiles
from .postgresql.guide_values import GuideValues, guide_values
from .postgresql.served import Served
from .server.accounts import Account, NameLimits
from .server.backend import ServerBackend, Snapshot
from .server.control import Running

ENGINE = "postgresql"

DBSETTINGS: dict[str, Any] = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "dbdev",
    "USER": "dbdev",
    "PASSWORD": "dbdev",
    "HOST": ports.LOOPBACK,
    "PORT": conf.default_port(ENGINE, "PostgresBackend"),
}


class PostgresBackend(ServerBackend):
    """PostgreSQL: one server for all aliases with the same port."""

    family: ClassVar[str] = ENGINE
    default_port: ClassVar[int] = 5432
    name_limits: ClassVar[NameLimits] = NameLimits("PostgreSQL", user=63, database=63)
    account_noun: ClassVar[str] = "Role"
    #: Recovery asks the file system once to have everything on disk, not file by file.
    recovery_options: ClassVar[tuple[str, ...]] = (
        ("-c", "recovery_init_sync_method=syncfs") if sys.platform == "linux" else ()
    )

    @property
    def ephemeral_options(self) -> tuple[str, ...]:
        return commands.ephemeral_options(self.pin.settings)

    @property
    def engine(self) -> str:
        return ENGINE

    @cached_property
    def files(self) -> PostgresFiles:
        return PostgresFiles(self.tempdata, self.server_name)

    @cached_property
    def control(self) -> PostgresControl:
        return PostgresControl(self.files)

    @property
    def extensions(self) -> tuple[str, ...]:
        """Those to create in every database."""
        pinned = self.pin.requirement.extensions
        return tuple(name for name in pinned if name not in POSTGRESQL.features)

    def check_pin(self, pin: Pin) -> None:
        check_settings(pin)

    def check_driver(self) -> None:
        sql.driver()

    # Clusters.

    def choose_identity(
        self, toolchain: Toolchain, *ours: Path, data: Path | None = None
    ) -> Identity:
        return privileges.choose_identity(commands.probe(toolchain), *ours, data=data)

    def configuration(self, toolchain: Toolchain, port: int, identity: Identity) -> Configuration:
        return Configuration(
            major=toolchain.major,
            settings=self.pin.settings,
            template_dirs=conf.template_dirs(),
            port=port,
            socket_directory=self.files.socket_directory(port),
            accounts=tuple(
                dict.fromkeys(filter(None, (identity.account, privileges.DIRECT.account, "root")))
            ),
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
        from .postgresql import pristine

        locale = commands.locale_arguments(
            toolchain.major, conf.setting("DBDEV_POSTGRES_CREATEDB_LOCALE")
        )
        configuration = self.configuration(toolchain, port, identity)
        recipe = pristine.Recipe(toolchain, locale, accounts, configuration, identity)
        pristine.clone(recipe, store, target)

    def rendered_configuration(self, toolchain: Toolchain) -> Mapping[str, bytes]:
        return self.configuration(toolchain, self.port, privileges.DIRECT).rendered()

    def password_file(self, accounts: Sequence[Account], port: int) -> bytes:
        return password_file(ports.LOOPBACK, port, [(a.user, a.password) for a in accounts])

    # Accounts and databases.

    def ensure_accounts(self, accounts: Sequence[Account], port: int) -> None:
        missing = [account for account in accounts if not self._can_log_in(account, port)]
        if missing:
            with sql.connect(self._admin(port)) as cursor:
                sql.prove_identity(cursor, self.files.datadir)
                for account in missing:
                    if sql.ensure_role(cursor, account):
                        self.reporter.fact(f"Created role {account.user}")
                    if sql.ensure_database(cursor, account):
                        self.reporter.fact(f"Created database {account.database}")
            for account in missing:
                with sql.connect(_login(account, port)) as cursor:
                    sql.prove_identity(cursor, self.files.datadir)
        if self.extensions:
            for account in accounts:
                with sql.connect(_login(account, port)) as cursor:
                    created = sql.ensure_extensions(cursor, self.extensions)
                if created:
                    self.reporter.fact(
                        f"Created extensions in {account.database}: {', '.join(created)}"
                    )

    def _can_log_in(self, account: Account, port: int) -> bool:
        try:
            with sql.connect(_login(account, port)) as cursor:
                if not sql.may_ask_identity(cursor):
                    # Somebody took its rights away on purpose; a superuser proves the server.
                    with sql.connect(self._admin(port)) as admin:
                        sql.prove_identity(admin, self.files.datadir)
                        sql.prove_same_server(cursor, admin)
                    return True
                sql.prove_identity(cursor, self.files.datadir)
        except (ForeignServerError, ConfigurationError):
            raise
        except ServerError:
            return False
        return True

    def _admin(self, port: int) -> sql.Login:
        return sql.superuser(self.socket(port).parent, port)

    def running_version(self, server: Running) -> str:
        with sql.connect(sql.superuser(server.socket_directory, server.port)) as cursor:
            sql.prove_identity(cursor, self.files.datadir)
            return str(sql.scalar(cursor, "SHOW server_version")).split()[0]

    def is_answering(self, port: int) -> bool:
        try:
            with sql.connect(self._admin(port)):
                return True
        except ServerError:
            return False

    @contextmanager
    def served(self, *, leave_running: bool = True) -> Iterator[Served]:
        """Work alone on the running server, which is started when it is not.

        :param leave_running: whether a server that was started for this goes on afterwards.
        """
        _ = self.host
        account = self.account
        with self.serving(account, leave_running=leave_running) as toolchain:
            datadir = self.files.datadir
            yield Served(
                toolchain=toolchain,
                port=self.port,
                socket_directory=self.socket(self.port).parent,
                passfile=self.files.passfile,
                account=account,
                extensions=self.extensions,
                scratch=datadir.with_name(f".{datadir.name}.{timestamp()}"),
                log=self.files.log,
                reporter=self.reporter,
                revive=partial(self.revive, toolchain),
            )

    # Versions.

    def build_upgraded(
        self, old: Toolchain, new: Toolchain, target: Path, work: Path
    ) -> Sequence[str]:
        from .postgresql.upgrade import Upgrade

        return Upgrade(self, old, new, target, work).run()

    def update_extensions(self) -> Sequence[str]:
        from .postgresql.upgrade import update_extensions

        return update_extensions(self._admin(self.port))

    # Dumps and backups.

    def create_dbdump(self, dumpfile: str) -> None:
        from .postgresql import dumping

        dumping.create(self, dumpfile)

    def load_dbdump(self, dumpfile: str) -> None:
        from .postgresql import loading

        loading.load(self, dumpfile)

    def dump_portable(self, folder: Path) -> None:
        from .postgresql import portable

        portable.dump(self, folder)

    def load_portable(self, folder: Path) -> None:
        from .postgresql import portable

        portable.restore(self, folder)

    def dump_cluster(self, toolchain: Toolchain, datadir: Path, target: Path) -> dict[str, Path]:
        from .postgresql.conversion import dump_cluster

        return dump_cluster(self, toolchain, datadir, target)

    def load_dumps(self, dumps: dict[str, Path]) -> None:
        from .postgresql.loading import replace_database
        from .server.conversion import load_dumps

        with self.served() as served:
            load_dumps(served, self.accounts(), dumps, replace_database)

    def scan_stopped(self) -> Tree:
        from .postgresql.snapshot import scan_stopped

        return scan_stopped(self.files.datadir)

    def copy_data(self, target: Path, asked: Sequence[Base]) -> Snapshot:
        from .postgresql.snapshot import copy_running, copy_stopped

        datadir = self.files.datadir
        server = self.control.running()
        if server is None:
            version = self.stopped_version()
            return Snapshot(copy_stopped(datadir, target, asked), version, {})
        with sql.connect(sql.superuser(server.socket_directory, server.port)) as cursor:
            sql.prove_identity(cursor, datadir)
            version = str(sql.scalar(cursor, "SHOW server_version")).split()[0]
            copied: Copied = copy_running(cursor, datadir, target, asked)
        return Snapshot(copied, version, self.applied_migrations(server))

    def applied_migrations(self, server: Running) -> dict[str, str]:
        admin = sql.superuser(server.socket_directory, server.port)
        try:
            with sql.connect(replace(admin, database=self.account.database)) as cursor:
                if sql.scalar(cursor, "SELECT to_regclass('public.django_migrations')") is None:
                    return {}
                # A backup waits for no client.
                cursor.execute("SET lock_timeout = '1s'")
                cursor.execute(
                    "SELECT DISTINCT ON (app) app, name FROM public.django_migrations "
                    "ORDER BY app, id DESC"
                )
                return {str(app): str(name) for app, name in cursor.fetchall()}
        except ServerError:
            # The database is not there, or the table locked: the backup is whole without this.
            return {}

    def count_clients(self, server: Running) -> int:
        with sql.connect(sql.superuser(server.socket_directory, server.port)) as cursor:
            return int(
                sql.scalar(
                    cursor,
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
                )
            )

    # What there is to know.

    def info(self) -> ServerInfo:
        """With the pinned extensions that the alias's database has."""
        info = super().info()
        wanted = self.extensions
        if not wanted or not info.running or info.port is None or info.problem:
            return info
        account = self.account
        try:
            with sql.connect(_login(account, info.port)) as cursor:
                there = sql.extension_versions(cursor, wanted)
        except ServerError as error:
            return replace(info, problem=error.message)
        missing = [name for name in wanted if name not in there]
        lacking = f"{account.database} lacks {', '.join(missing)}: dbdev_init adds what is pinned"
        return replace(info, extensions=there, problem=lacking if missing else "")

    def ask(self, server: Running, toolchain: Toolchain | None) -> tuple[str, list[str]]:
        reasons: list[str] = []
        with sql.connect(sql.superuser(server.socket_directory, server.port)) as cursor:
            sql.prove_identity(cursor, self.files.datadir)
            version = str(sql.scalar(cursor, "SHOW server_version")).split()[0]
            pending = sql.pending_restart(cursor)
        if toolchain is not None:
            identity = privileges.identity_of(self.files.datadir)
            wanted = replace(
                self.configuration(toolchain, self.port, identity),
                socket_directory=server.socket_directory,
            )
            reasons += self.outdated(version, toolchain, wanted)
        if pending:
            reasons.append(f"settings wait for it: {', '.join(pending)}")
        return version, reasons

    def client_environment(self, account: Account, port: int) -> Mapping[str, str]:
        return {
            "PGHOST": ports.LOOPBACK,
            "PGPORT": str(port),
            "PGUSER": account.user,
            "PGDATABASE": account.database,
            "PGPASSFILE": str(self.files.passfile),
        }

    @property
    def guide_values(self) -> GuideValues:
        """What the guide's template fills in."""
        toolchain = installed_toolchain(self.pin.requirement, self.sources())
        return guide_values(
            toolchain or self.find_toolchain(),
            self.dbsettings,
            datadir=self.files.datadir,
            log=self.files.log,
            passfile=self.files.passfile,
            socket_directory=self.socket(self.port).parent,
            manage=manage_arguments(),
            alias=self.alias,
        )


def _login(account: Account, port: int) -> sql.Login:
    return sql.Login(ports.LOOPBACK, port, account.database, account.user, account.password)

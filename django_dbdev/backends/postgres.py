"""PostgreSQL.

settings.py imports :data:`DBSETTINGS` from here, so nothing slow is imported at the top:
what drives the server loads sh, psutil, Jinja2 and filelock when it uses them.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from .. import conf
from ..backups.replace import is_broken, mend
from ..binaries.find import (
    Found,
    Sources,
    check_lock,
    check_obtainable,
    find_toolchain,
    installed_toolchain,
    lock_toolchain,
)
from ..binaries.store import Store
from ..binaries.toolchain import Toolchain
from ..exceptions import (
    ConfigurationError,
    DbdevError,
    ForeignServerError,
    ServerError,
    SharedServerError,
)
from ..invocation import manage_arguments
from ..pins import Pin
from ..process import ports, privileges
from ..process.locking import exclusive
from ..process.privileges import Identity
from ..records import record_port, recorded_ports, write_atomically
from ..reporting import seconds
from .base import BaseDbdevBackend, make_tempdata, remove_tree, sweep, timestamp
from .info import ServerInfo, tree_size
from .postgresql import commands, control, pristine, sql
from .postgresql.configuration import Configuration, check_settings, password_file
from .postgresql.files import ServerFiles
from .postgresql.guide_values import GuideValues, guide_values
from .postgresql.served import Served
from .postgresql.sql import Account

ENGINE = "postgresql"

#: Where DBSETTINGS looks for the recorded port; the setting may not have been read by then.
_TEMPDATA = conf.tempdata()

DBSETTINGS: dict[str, Any] = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "dbdev",
    "USER": "dbdev",
    "PASSWORD": "dbdev",
    "HOST": ports.LOOPBACK,
    "PORT": conf.default_port(ENGINE, "PostgresBackend"),
}

#: Which setting of 1.2.3 names which program.
EXECUTABLE_SETTINGS = {
    "postgres": "DBDEV_POSTGRES_EXECUTABLE",
    "pg_ctl": "DBDEV_POSTGRES_PG_CTL_EXECUTABLE",
    "psql": "DBDEV_POSTGRES_PSQL_EXECUTABLE",
    "createdb": "DBDEV_POSTGRES_CREATEDB_EXECUTABLE",
    "pg_dump": "DBDEV_POSTGRES_PG_DUMP_EXECUTABLE",
    "pg_restore": "DBDEV_POSTGRES_PG_RESTORE_EXECUTABLE",
}
#: How the name of data ends that reinit has set aside until the new cluster is up.
_REPLACED = "replaced"


class PostgresBackend(BaseDbdevBackend):
    """PostgreSQL: one server for all aliases with the same port."""

    hosts: ClassVar[frozenset[str]] = frozenset({"127.0.0.1", "localhost"})
    has_info: ClassVar[bool] = True
    has_lock: ClassVar[bool] = True
    restores_beside: ClassVar[bool] = True
    has_dump_options: ClassVar[bool] = True

    # What the settings and the pin ask for.

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

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Work alone on this server, and first mend what a killed command left. Does not nest."""
        make_tempdata(self.tempdata)
        with exclusive(self.files.lock, reporter=self.reporter):
            self._mend()
            sweep(self._datadir)
            replaced = self._replaced()
            if replaced and not self._datadir.exists():
                self._bring_back(replaced[-1])
            yield

    # The contract.

    def lock(self, *, upgrade: bool = False) -> None:
        entry = lock_toolchain(
            self.pin.requirement, self._sources(), self.reporter, upgrade=upgrade
        )
        self.reporter.fact(f"Locked {ENGINE} {entry.version} in {conf.project().lock}")

    def check_lock(self) -> None:
        entry = check_lock(self.pin.requirement, self._sources())
        self.reporter.fact(f"{conf.project().lock} has {ENGINE} {entry.version} for the pin")

    def check(self, *, ask: bool = False) -> None:
        _ = self.port, self.pin
        self._accounts()
        sources = self._sources()
        if ask or sources.executables or sources.bindir:
            # Only then: it runs a program, and a set-up that fetches needs no proof here.
            check_obtainable(self.pin.requirement, sources)

    def init(self) -> None:
        _ = self.host, sql.driver()
        accounts = self._accounts()
        with self._locked():
            toolchain = self._find_toolchain().toolchain
            self._check_major(toolchain)
            server = control.settled(self.files)
            if server is not None:
                port = server.port
                self._check_port(port)
                self.reporter.fact(
                    f"PostgreSQL is running already on {ports.LOOPBACK}:{port} "
                    f"(pid {server.process.pid})"
                )
            else:
                port = self._choose_port()
                if not self.files.is_cluster():
                    self._move_in(self._new_cluster(toolchain, accounts, port))
                self._start(toolchain, port)
            self._ensure_accounts(accounts, port)
            self._forget_replaced()
            for account in accounts:
                self.reporter.fact(
                    f"Role {account.user} and its database {account.database} are ready"
                )

    def destroy(self) -> None:
        if not self.tempdata.exists():
            self.reporter.fact(f"There is nothing to destroy at {self._datadir}")
            return
        with self._locked():
            started = time.perf_counter()
            existed = self._datadir.exists()
            if (server := control.running(self.files)) is not None:
                control.stop(server, self.files, discard=True)
            self.remove_datadir()
            self._forget_replaced()
            self.files.passfile.unlink(missing_ok=True)
            record_port(self.tempdata, self.server_name, None)
            self.reporter.fact(
                f"Removed {self._datadir} in {seconds(time.perf_counter() - started)}"
                if existed
                else f"There is nothing to destroy at {self._datadir}"
            )

    def reinit(self) -> None:
        """A new, empty cluster in the place of the old one, which goes when the new one is up."""
        _ = self.host, sql.driver()
        accounts = self._accounts()
        with self._locked():
            toolchain = self._find_toolchain().toolchain
            server = control.running(self.files)
            ours = server is not None and server.port == self.port
            port = self.port if ours else self._choose_port()
            fresh = self._new_cluster(toolchain, accounts, port)
            if server is not None:
                self._stop(server)
            old = self._set_aside(_REPLACED) if self._datadir.exists() else None
            try:
                self._move_in(fresh)
                self._start(toolchain, port)
                self._ensure_accounts(accounts, port)
            except BaseException:
                if old is not None:
                    self._bring_back(old)
                raise
            self._forget_replaced()

    def start_database_server(self) -> None:
        _ = self.host
        with self._locked():
            server = control.settled(self.files)
            if server is not None:
                self._check_port(server.port)
                self.reporter.fact(
                    f"PostgreSQL is running already on {ports.LOOPBACK}:{server.port} "
                    f"(pid {server.process.pid})"
                )
                return
            toolchain = self._toolchain_of_cluster()
            if not ports.is_free(self.port):
                raise self._port_taken(self.port)
            self._start(toolchain, self.port)

    def stop_database_server(self) -> None:
        if not self._datadir.exists():
            self.reporter.fact(f"PostgreSQL does not run: there is no {self._datadir}")
            return
        with self._locked():
            server = control.running(self.files)
            if server is None:
                self.reporter.fact("PostgreSQL does not run")
                return
            self._stop(server)

    def create_dbdump(self, dumpfile: str) -> None:
        from .postgresql import dumping

        dumping.create(self, dumpfile)

    def load_dbdump(self, dumpfile: str) -> None:
        from .postgresql import loading

        loading.load(self, dumpfile)

    def run_database_server_in_foreground(self) -> None:
        from .postgresql.foreground import until_ended

        _ = self.host
        with until_ended(self.files, self.stdout) as foreground:
            with self._locked():
                if (server := control.settled(self.files)) is not None:
                    raise ServerError(
                        f"PostgreSQL is running already (pid {server.process.pid}).",
                        hints=["stop it first: dbdev_stopserver"],
                    )
                toolchain = self._toolchain_of_cluster()
                if not ports.is_free(self.port):
                    raise self._port_taken(self.port)
                offset = self.files.log.stat().st_size if self.files.log.exists() else 0
                foreground.starting = True
                foreground.pid = self._start(toolchain, self.port)
            self.reporter.fact("Press Ctrl-C to stop it")
            foreground.follow(offset)

    def backup(self, directory: str) -> None:
        from .postgresql.backups import back_up

        back_up(self, Path(directory))

    def restore(self, directory: str) -> None:
        from .postgresql.backups import restore

        restore(self, Path(directory))

    @contextmanager
    def served(self, *, leave_running: bool = True) -> Iterator[Served]:
        """Work alone on the running server, which is started when it is not.

        :param leave_running: whether a server that was started for this goes on afterwards.
        """
        _ = self.host
        account = sql.account_of(self.dbsettings, self.alias)
        with self._locked():
            toolchain = self._toolchain_of_cluster()
            server = control.running(self.files)
            if server is None:
                if not ports.is_free(self.port):
                    raise self._port_taken(self.port)
                self._start(toolchain, self.port)
            else:
                self._check_port(server.port)
                self._write_passfile(self.port)
            try:
                self._ensure_accounts([account], self.port)
                yield Served(
                    toolchain=toolchain,
                    port=self.port,
                    socket_directory=self.files.socket_directory(self.port),
                    passfile=self.files.passfile,
                    account=account,
                    extensions=self.pin.requirement.extensions,
                    scratch=self._datadir.with_name(f".{self._datadir.name}.{timestamp()}"),
                    log=self.files.log,
                    reporter=self.reporter,
                    revive=partial(self._revive, toolchain),
                )
            finally:
                if server is None and not leave_running:
                    started = control.running(self.files)
                    if started is not None:
                        self._stop(started)

    def _revive(self, toolchain: Toolchain) -> None:
        """Start the server again if it went down; one that recovers by itself is waited for."""
        deadline = time.monotonic() + control.START_TIMEOUT
        while control.running(self.files) is not None and time.monotonic() < deadline:
            with (
                suppress(ServerError),
                sql.connect(sql.superuser(self.files.socket_directory(self.port), self.port)),
            ):
                return
            time.sleep(0.05)
        if control.running(self.files) is None:
            self.reporter.warning("The server has gone down; it is started again")
            self._start(toolchain, self.port)

    # The way of one init.

    def _check_major(self, toolchain: Toolchain) -> None:
        """Refuse to start a cluster with programs of another major version: they cannot read it."""
        if not self.files.is_cluster():
            return
        major = self.files.cluster_major()
        if major != toolchain.major:
            raise ServerError(
                f"The cluster in {self._datadir} was made by PostgreSQL {major}; the pin "
                f"({self.pin.requirement}) gives {toolchain.version}, which cannot read it.",
                hints=[
                    f'to go on with the data, pin version = "{major}" in [{self.pin.key}]',
                    "to move the data along, dump it with the old version and load the dump "
                    "after dbdev_reinit (see dbdev_guide)",
                    "to start empty: dbdev_reinit",
                ],
            )

    def _toolchain_of_cluster(self) -> Toolchain:
        if not self.files.is_cluster():
            raise ServerError(
                f"There is no cluster in {self._datadir}.", hints=["make one: dbdev_init"]
            )
        toolchain = self._find_toolchain().toolchain
        self._check_major(toolchain)
        return toolchain

    def _new_cluster(self, toolchain: Toolchain, accounts: Sequence[Account], port: int) -> Path:
        """A new cluster beside the datadir, whole and configured."""
        started = time.perf_counter()
        store = Store(conf.store())
        identity = privileges.choose_identity(
            commands.probe(toolchain), self.tempdata, store.root, store.root / "clusters"
        )
        recipe = pristine.Recipe(
            toolchain,
            commands.locale_arguments(
                toolchain.major, conf.setting("DBDEV_POSTGRES_CREATEDB_LOCALE")
            ),
            accounts,
            self._configuration(toolchain.major, port, identity),
            identity,
        )
        fresh = self._datadir.with_name(f".{self._datadir.name}.{timestamp()}.new")
        try:
            pristine.clone(recipe, store, fresh)
            recipe.configuration.write(fresh)
            identity.adopt(fresh)
        except BaseException:
            remove_tree(fresh)
            raise
        self.reporter.fact(
            f"Initialised {self._datadir} with PostgreSQL {toolchain.version} "
            f"in {seconds(time.perf_counter() - started)}"
        )
        return fresh

    def _move_in(self, fresh: Path) -> None:
        """Give a whole cluster its name. What is in its place and is none is moved aside."""
        if self.files.is_occupied():
            aside = self._set_aside("unfinished")
            self.reporter.warning(f"{self._datadir} held no whole cluster; it was moved to {aside}")
        with suppress(FileNotFoundError):
            self._datadir.rmdir()
        fresh.rename(self._datadir)

    def _start(self, toolchain: Toolchain, port: int, *options: str) -> int:
        started = time.perf_counter()
        identity = privileges.choose_identity(
            commands.probe(toolchain), self.tempdata, conf.store(), data=self._datadir
        )
        self._configuration(toolchain.major, port, identity).write(self._datadir)
        identity.adopt(self._datadir)
        self._write_passfile(port)
        pid = control.start(self.files, toolchain, port, identity, *options)
        self.reporter.fact(
            f"Started PostgreSQL {toolchain.version} on {ports.LOOPBACK}:{port} "
            f"in {seconds(time.perf_counter() - started)}"
        )
        return pid

    def _stop(self, server: control.Running) -> None:
        started = time.perf_counter()
        control.stop(server, self.files)
        self.reporter.fact(
            f"Stopped PostgreSQL (pid {server.process.pid}) "
            f"in {seconds(time.perf_counter() - started)}"
        )

    def _write_passfile(self, port: int) -> None:
        users = [(account.user, account.password) for account in self._accounts()]
        content = password_file(ports.LOOPBACK, port, users)
        with suppress(FileNotFoundError):
            if self.files.passfile.read_bytes() == content:
                return
        write_atomically(self.files.passfile, content)

    def _ensure_accounts(self, accounts: Sequence[Account], port: int) -> None:
        """Make sure that every account can log in as Django will, and that it meets our server."""
        missing = [account for account in accounts if not self._can_log_in(account, port)]
        if missing:
            admin = sql.superuser(self._socket_directory(port), port)
            with sql.connect(admin) as cursor:
                sql.prove_identity(cursor, self._datadir)
                for account in missing:
                    if sql.ensure_role(cursor, account):
                        self.reporter.fact(f"Created role {account.user}")
                    if sql.ensure_database(cursor, account):
                        self.reporter.fact(f"Created database {account.database}")
            for account in missing:
                with sql.connect(self._login(account, port)) as cursor:
                    sql.prove_identity(cursor, self._datadir)
        if self.pin.requirement.extensions:
            for account in accounts:
                with sql.connect(self._login(account, port)) as cursor:
                    created = sql.ensure_extensions(cursor, self.pin.requirement.extensions)
                if created:
                    self.reporter.fact(
                        f"Created extensions in {account.database}: {', '.join(created)}"
                    )

    def _can_log_in(self, account: Account, port: int) -> bool:
        try:
            with sql.connect(self._login(account, port)) as cursor:
                sql.prove_identity(cursor, self._datadir)
        except (ForeignServerError, ConfigurationError):
            raise
        except ServerError:
            return False
        return True

    def _socket_directory(self, port: int) -> Path:
        """A running server has it where XDG_RUNTIME_DIR was when it was started."""
        pid_file = control.read_pid_file(self.files.postmaster_pid)
        if pid_file is not None and pid_file.port == port:
            return pid_file.socket_directory
        return self.files.socket_directory(port)

    def _login(self, account: Account, port: int) -> sql.Login:
        return sql.Login(ports.LOOPBACK, port, account.database, account.user, account.password)

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

    # Old data beside new.

    def _set_aside(self, why: str) -> Path:
        aside = self._datadir.with_name(f"{self._datadir.name}.{timestamp()}.{why}")
        self._datadir.rename(aside)
        return aside

    def _replaced(self) -> list[Path]:
        """What :meth:`reinit` set aside, oldest first; something is there when it was killed."""
        pattern = f"{glob.escape(self._datadir.name)}.*.{_REPLACED}"
        return sorted(self._datadir.parent.glob(pattern))

    def _forget_replaced(self) -> None:
        for old in self._replaced():
            remove_tree(old)

    def _mend(self) -> None:
        """Bring a restore that was killed to its end, or back."""
        done = mend(self._datadir, Path(self.root_backupdir), self.files.is_cluster)
        if done:
            self.reporter.warning(done)

    def _bring_back(self, old: Path) -> None:
        with suppress(DbdevError):
            if (server := control.running(self.files)) is not None:
                self._stop(server)
        self.remove_datadir()
        old.rename(self._datadir)
        self.reporter.warning(f"The old data is back in {self._datadir}, as it was")

    # What there is to know.

    def serverinfo(self) -> None:
        from .info import describe

        self.stdout.write(describe(self.info()))

    def info(self) -> ServerInfo:
        if is_broken(self._datadir):
            with self._locked():
                """Mended by that."""
        server = control.running(self.files)
        toolchain, problem = self._installed_toolchain()
        cluster = self.files.is_cluster()
        port = server.port if server else self.port
        account = sql.account_of(self.dbsettings, self.alias)
        version = toolchain.version if toolchain else None
        reasons: list[str] = []
        if server is not None:
            try:
                version, reasons = self._ask(server, toolchain)
            except ServerError as error:
                problem = error.message
        return ServerInfo(
            alias=self.alias,
            engine=ENGINE,
            running=server is not None,
            initialised=cluster,
            datadir=self._datadir,
            databases={a: str(conf.database(a)["NAME"]) for a in self.server_aliases},
            pid=server.process.pid if server else None,
            version=version,
            provider=toolchain.provider if toolchain else None,
            programs=toolchain.programs if toolchain else {},
            environment=self._client_environment(account, port),
            url=_url(account, port, password=False),
            host=ports.LOOPBACK,
            port=port,
            socket=self._socket_directory(port) / f".s.PGSQL.{port}",
            log=self.files.log,
            size=tree_size(self._datadir) if cluster else None,
            uptime=server.uptime if server else None,
            restart_reasons=reasons,
            problem=problem,
        )

    @property
    def guide_values(self) -> GuideValues:
        """What the guide's template fills in."""
        toolchain = installed_toolchain(self.pin.requirement, self._sources())
        return guide_values(
            toolchain or self._find_toolchain().toolchain,
            self.dbsettings,
            datadir=self._datadir,
            log=self.files.log,
            passfile=self.files.passfile,
            socket_directory=self._socket_directory(self.port),
            manage=manage_arguments(),
            alias=self.alias,
        )

    def _installed_toolchain(self) -> tuple[Toolchain | None, str]:
        try:
            return installed_toolchain(self.pin.requirement, self._sources()), ""
        except DbdevError as error:
            return None, error.message

    def _ask(self, server: control.Running, toolchain: Toolchain | None) -> tuple[str, list[str]]:
        """The running server's version, and why it should be restarted."""
        reasons = []
        admin = sql.superuser(server.pid_file.socket_directory, server.port)
        with sql.connect(admin) as cursor:
            sql.prove_identity(cursor, self._datadir)
            version = str(sql.scalar(cursor, "SHOW server_version")).split()[0]
            pending = sql.pending_restart(cursor)
        if toolchain is not None:
            identity = privileges.identity_of(self._datadir)
            wanted = replace(
                self._configuration(toolchain.major, self.port, identity),
                socket_directory=server.pid_file.socket_directory,
            )
            if outdated := wanted.outdated(self._datadir):
                reasons.append(f"the configuration has changed ({', '.join(outdated)})")
            if version != toolchain.version:
                reasons.append(f"it runs {version}, installed is {toolchain.version}")
        if pending:
            reasons.append(f"settings wait for it: {', '.join(pending)}")
        return version, reasons

    def _client_environment(self, account: Account, port: int) -> Mapping[str, str]:
        return {
            "DATABASE_URL": _url(account, port, password=True),
            "PGHOST": ports.LOOPBACK,
            "PGPORT": str(port),
            "PGUSER": account.user,
            "PGDATABASE": account.database,
            "PGPASSFILE": str(self.files.passfile),
        }


def _url(account: Account, port: int, *, password: bool) -> str:
    """A URL as Django's URL settings libraries and libpq read it."""
    from urllib.parse import quote

    secret = f":{quote(account.password, safe='')}" if password else ""
    user = quote(account.user, safe="")
    return f"postgresql://{user}{secret}@{ports.LOOPBACK}:{port}/{quote(account.database, safe='')}"

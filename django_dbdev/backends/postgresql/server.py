"""The project's own server: found, made, started and stopped, one command at a time."""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ... import conf
from ...backups.replace import mend
from ...binaries.store import Store
from ...binaries.toolchain import Toolchain
from ...exceptions import (
    ConfigurationError,
    DbdevError,
    ForeignServerError,
    ServerError,
)
from ...process import ports, privileges
from ...process.locking import exclusive
from ...records import write_atomically
from ...reporting import seconds
from ..base import make_tempdata, remove_tree, sweep, timestamp
from . import commands, control, pristine, sql
from .alias import PostgresAlias
from .configuration import password_file
from .served import Served
from .sql import Account

#: How the name of data ends that reinit has set aside until the new cluster is up.
REPLACED = "replaced"


class PostgresServer(PostgresAlias):
    """The server of one alias, and of those that share it."""

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

    # Old data beside new.

    def _set_aside(self, why: str) -> Path:
        aside = self._datadir.with_name(f"{self._datadir.name}.{timestamp()}.{why}")
        self._datadir.rename(aside)
        return aside

    def _replaced(self) -> list[Path]:
        """What :meth:`reinit` set aside, oldest first; something is there when it was killed."""
        pattern = f"{glob.escape(self._datadir.name)}.*.{REPLACED}"
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

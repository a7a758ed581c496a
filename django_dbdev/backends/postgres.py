"""PostgreSQL.

settings.py imports :data:`DBSETTINGS` from here, so nothing slow is imported at the top:
what drives the server loads sh, psutil, Jinja2 and filelock when it uses them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from .. import conf
from ..backups.replace import is_broken
from ..binaries.find import (
    check_lock,
    check_obtainable,
    installed_toolchain,
    lock_toolchain,
)
from ..binaries.toolchain import Toolchain
from ..exceptions import (
    ServerError,
)
from ..invocation import manage_arguments
from ..process import ports, privileges
from ..records import record_port
from ..reporting import seconds
from .info import ServerInfo, tree_size
from .postgresql import control, sql
from .postgresql.alias import ENGINE
from .postgresql.guide_values import GuideValues, guide_values
from .postgresql.server import REPLACED, PostgresServer
from .postgresql.sql import Account

DBSETTINGS: dict[str, Any] = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "dbdev",
    "USER": "dbdev",
    "PASSWORD": "dbdev",
    "HOST": ports.LOOPBACK,
    "PORT": conf.default_port(ENGINE, "PostgresBackend"),
}


class PostgresBackend(PostgresServer):
    """PostgreSQL: one server for all aliases with the same port."""

    has_info: ClassVar[bool] = True
    has_lock: ClassVar[bool] = True
    restores_beside: ClassVar[bool] = True
    has_dump_options: ClassVar[bool] = True

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
            old = self._set_aside(REPLACED) if self._datadir.exists() else None
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

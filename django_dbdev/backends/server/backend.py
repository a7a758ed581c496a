"""The contract, for every backend with a server of its own."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from ... import conf
from ...backups.describe import Copied
from ...backups.replace import flush_recent, is_broken
from ...backups.snapshot import Base, Tree
from ...binaries.find import (
    check_lock,
    check_obtainable,
    declined_providers,
    lock_toolchain,
)
from ...binaries.store import Store
from ...binaries.toolchain import Toolchain
from ...exceptions import ServerError
from ...findings import Finding
from ...process import ports
from ...records import record_port
from ...reporting import seconds
from ..info import ServerInfo, tree_size
from .accounts import Account
from .control import Running
from .server import REPLACED, Configuration, DatabaseServer


@dataclass(frozen=True)
class Snapshot:
    """A physical copy: what it consists of, of which version, with which migrations applied."""

    copied: Copied
    version: str
    migrations: Mapping[str, str]


class ServerBackend(DatabaseServer):
    """One server for all aliases with the same port."""

    has_info: ClassVar[bool] = True
    has_lock: ClassVar[bool] = True
    has_server: ClassVar[bool] = True
    has_examination: ClassVar[bool] = True
    has_upgrade: ClassVar[bool] = True
    restores_beside: ClassVar[bool] = True
    has_dump_options: ClassVar[bool] = True
    #: Options for the first start on restored data.
    recovery_options: ClassVar[tuple[str, ...]] = ()
    #: What the engine calls an account.
    account_noun: ClassVar[str]

    # The engine's part.

    @abstractmethod
    def check_driver(self) -> None:
        """
        :raises ConfigurationError: when Python has no driver for the engine.
        """

    @abstractmethod
    def ask(self, server: Running, toolchain: Toolchain | None) -> tuple[str, list[str]]:
        """The running server's version, and why it should be restarted."""

    @abstractmethod
    def client_environment(self, account: Account, port: int) -> Mapping[str, str]:
        """What makes client programs meet the server."""

    def rendered_configuration(self, toolchain: Toolchain) -> Mapping[str, bytes]:
        """The files of the configuration that are the same on every machine, by name."""
        return {}

    @abstractmethod
    def count_clients(self, server: Running) -> int:
        """How many are connected, ourselves aside."""

    @abstractmethod
    def applied_migrations(self, server: Running) -> dict[str, str]:
        """The latest applied migration of each app; none where the database has no such table."""

    @abstractmethod
    def copy_data(self, target: Path, asked: Sequence[Base]) -> Snapshot:
        """Copy the cluster to ``target``, which must not exist, whether it runs or not."""

    @abstractmethod
    def scan_stopped(self) -> Tree:
        """What belongs to a copy of the cluster, which does not run."""

    @abstractmethod
    def dump_portable(self, folder: Path) -> None:
        """Dump the alias's database into ``folder``, on disk at the end."""

    @abstractmethod
    def load_portable(self, folder: Path) -> None:
        """Put what :meth:`dump_portable` wrote into the place of the alias's database.

        :raises DumpError: when it cannot be loaded; the old database is as it was then.
        """

    @abstractmethod
    def dump_cluster(self, toolchain: Toolchain, datadir: Path, target: Path) -> dict[str, Path]:
        """Dump the aliases' databases of a cluster of another series.

        Nobody wants the cluster afterwards.

        :param toolchain: programs that can read it.
        :param target: the folder for the dumps.
        :returns: The dumps, by the databases' names.
        """

    @abstractmethod
    def load_dumps(self, dumps: dict[str, Path]) -> None:
        """Put every dump into the place of the database of its name."""

    # The contract.

    def lock(self, *, upgrade: bool = False) -> None:
        entry = lock_toolchain(self.pin.requirement, self.sources(), self.reporter, upgrade=upgrade)
        self.reporter.fact(f"Locked {self.engine} {entry.version} in {conf.project().lock}")

    @property
    def lock_key(self) -> tuple[str, str | None]:
        return self.engine, self.pinned_alias

    def check_lock(self) -> None:
        entry = check_lock(self.pin.requirement, self.sources())
        self.reporter.fact(f"{conf.project().lock} has {self.engine} {entry.version} for the pin")

    def check(self, *, ask: bool = False) -> None:
        _ = self.port, self.pin
        self.accounts()
        sources = self.sources()
        if ask or sources.executables or sources.bindir:
            # Only then: it runs a program, and a set-up that fetches needs no proof here.
            check_obtainable(self.pin.requirement, sources)

    def init(self) -> None:
        _ = self.host
        self.check_driver()
        accounts = self.accounts()
        with self.working_alone():
            toolchain = self.find_toolchain()
            self.check_cluster(toolchain)
            server = self.restarted_for(toolchain, self.control.settled())
            if server is not None:
                port = server.port
                self._tell_it_runs(server)
            else:
                port = self.choose_port()
                if not self.files.is_cluster():
                    self.move_in(self.new_cluster(toolchain, accounts, port))
                self.start(toolchain, port)
            self.ensure_accounts(accounts, port)
            self.forget_replaced()
            for account in accounts:
                self.reporter.fact(
                    f"{self.account_noun} {account.user} and its database {account.database} "
                    "are ready"
                )

    def bring_up(self) -> int | None:
        before = self.control.settled()
        self.init()
        after = self.control.running()
        if after is None or (before and before.process.pid == after.process.pid):
            return None
        return after.process.pid

    def _tell_it_runs(self, server: Running) -> None:
        self.check_port(server.port)
        self.reporter.fact(
            f"{self.title} is running already on {ports.LOOPBACK}:{server.port} "
            f"(pid {server.process.pid})"
        )

    def destroy(self) -> None:
        datadir = self.files.datadir
        if not self.tempdata.exists():
            self.end_strays()
            self.reporter.fact(f"There is nothing to destroy at {datadir}")
            return
        with self.working_alone():
            started = time.perf_counter()
            existed = datadir.exists()
            if (server := self.control.running()) is not None:
                self.control.stop(server, discard=True)
            flush_recent(Path(self.root_backupdir))
            self.remove_datadir()
            self.forget_replaced()
            self.files.passfile.unlink(missing_ok=True)
            record_port(self.tempdata, self.server_name, None)
            self.reporter.fact(
                f"Removed {datadir} in {seconds(time.perf_counter() - started)}"
                if existed
                else f"There is nothing to destroy at {datadir}"
            )

    def reinit(self) -> None:
        """A new, empty cluster in the place of the old one, which goes when the new one is up."""
        _ = self.host
        self.check_driver()
        accounts = self.accounts()
        with self.working_alone():
            toolchain = self.find_toolchain()
            server = self.control.running()
            ours = server is not None and server.port == self.port
            port = self.port if ours else self.choose_port()
            fresh = self.new_cluster(toolchain, accounts, port)
            flush_recent(Path(self.root_backupdir))
            if server is not None:
                self.stop(server)
            old = self.set_aside(REPLACED) if self.files.datadir.exists() else None
            try:
                self.move_in(fresh)
                self.start(toolchain, port)
                self.ensure_accounts(accounts, port)
            except BaseException:
                if old is not None:
                    self.bring_back(old)
                raise
            self.forget_replaced()

    def start_database_server(self) -> None:
        _ = self.host
        with self.working_alone():
            server = self.control.settled()
            if server is not None and self.files.is_cluster():
                server = self.restarted_for(self.toolchain_of_cluster(), server)
            if server is not None and not self.is_answering(server.port):
                # One that could not recover has gone down.
                server = self.control.running()
            if server is not None:
                self._tell_it_runs(server)
                return
            toolchain = self.toolchain_of_cluster()
            if not ports.is_free(self.port):
                raise self.port_taken(self.port)
            self.start(toolchain, self.port)

    def stop_database_server(self) -> None:
        if not self.files.datadir.exists():
            self.end_strays()
            self.reporter.fact(f"{self.title} does not run: there is no {self.files.datadir}")
            return
        with self.working_alone():
            server = self.control.running()
            if server is None:
                self.reporter.fact(f"{self.title} does not run")
                return
            self.stop(server)

    def run_database_server_in_foreground(self) -> None:
        from .foreground import until_ended

        _ = self.host
        with until_ended(self.control, self.stdout) as foreground:
            with self.working_alone():
                if (server := self.control.settled()) is not None:
                    raise ServerError(
                        f"{self.title} is running already (pid {server.process.pid}).",
                        hints=["stop it first: dbdev_stopserver"],
                    )
                toolchain = self.toolchain_of_cluster()
                if not ports.is_free(self.port):
                    raise self.port_taken(self.port)
                log = self.files.log
                offset = log.stat().st_size if log.exists() else 0
                foreground.starting = True
                foreground.pid = self.start(toolchain, self.port)
            self.reporter.fact("Press Ctrl-C to stop it")
            foreground.follow(offset)

    def backup(self, directory: str) -> None:
        from .backups import back_up

        back_up(self, Path(directory))

    def restore(self, directory: str) -> None:
        from .backups import restore

        restore(self, Path(directory))

    # Versions.

    def upgrade(self) -> None:
        from .upgrade import upgrade

        upgrade(self)

    def toolchain_of_series(self, series: str) -> Toolchain:
        """Programs that can read the cluster of another series."""
        from .conversion import toolchain_of

        return toolchain_of(self, series)

    @abstractmethod
    def build_upgraded(
        self, old: Toolchain, new: Toolchain, target: Path, work: Path
    ) -> Sequence[str]:
        """Bring the cluster, which does not run, to the series of ``new`` at ``target``.

        The cluster itself is not changed, but for what a start and a stop of its server change.
        Nothing runs at the end, and what is at ``target`` was compared with it.

        :param work: a folder for files that nobody needs afterwards.
        :returns: What was done, as sentences without their ends.
        """

    def update_extensions(self) -> Sequence[str]:
        """Bring what the running server loads besides to the programs' version; what was done."""
        return ()

    # What there is to know.

    def examine(self) -> Iterator[Finding]:
        from .examination import examine

        return examine(self)

    def declined(self) -> Sequence[tuple[str, str]]:
        return declined_providers(self.pin.requirement, self.sources())

    def digests(self) -> Mapping[str, str]:
        from ...binaries.digest import files_digest, tree_digest

        toolchain, _ = self.installed_toolchain()
        if toolchain is None:
            return {}
        if Store(conf.store()).records().get(toolchain.digest, {}).get("relinked"):
            programs = toolchain.digest
        elif toolchain.prefix is not None:
            programs = tree_digest(toolchain.prefix.resolve())
        else:
            programs = files_digest(toolchain.programs)
        rendered = self.rendered_configuration(toolchain)
        return {
            f"{toolchain.engine} {toolchain.version}": programs,
            **{name: sha256(content).hexdigest() for name, content in rendered.items()},
        }

    def serverinfo(self) -> None:
        from ..info import describe

        self.stdout.write(describe(self.info()))

    def info(self) -> ServerInfo:
        datadir = self.files.datadir
        if is_broken(datadir):
            with self.working_alone():
                """Mended by that."""
        server = self.control.running()
        toolchain, problem = self.installed_toolchain()
        cluster = self.files.is_cluster()
        port = server.port if server else self.port
        account = self.account
        version = toolchain.version if toolchain else None
        reasons: list[str] = []
        if server is not None:
            try:
                version, reasons = self.ask(server, toolchain)
            except ServerError as error:
                problem = error.message
        elif self.control.is_held():
            problem = self.control.held_elsewhere().message
        return ServerInfo(
            alias=self.alias,
            engine=self.engine,
            running=server is not None,
            initialised=cluster,
            datadir=datadir,
            databases={a: str(conf.database(a)["NAME"]) for a in self.server_aliases},
            pid=server.process.pid if server else None,
            version=version,
            provider=toolchain.provider if toolchain else None,
            programs=toolchain.programs if toolchain else {},
            environment={
                "DATABASE_URL": self._url(account, port, password=True),
                **self.client_environment(account, port),
            },
            url=self._url(account, port, password=False),
            host=ports.LOOPBACK,
            port=port,
            socket=self.socket(port),
            log=self.files.log,
            size=tree_size(datadir) if cluster else None,
            uptime=server.uptime if server else None,
            restart_reasons=reasons,
            problem=problem,
        )

    def outdated(self, version: str, toolchain: Toolchain, wanted: Configuration) -> Iterator[str]:
        """Why a server of ``version`` should be restarted with these programs and files."""
        if changed := wanted.outdated(self.files.datadir):
            yield f"the configuration has changed ({', '.join(changed)})"
        if version != toolchain.version:
            yield f"it runs {version}, installed is {toolchain.version}"

    def _url(self, account: Account, port: int, *, password: bool) -> str:
        """A URL as Django's URL settings libraries and client libraries read it."""
        from urllib.parse import quote

        secret = f":{quote(account.password, safe='')}" if password else ""
        user, database = quote(account.user, safe=""), quote(account.database, safe="")
        return f"{self.family}://{user}{secret}@{ports.LOOPBACK}:{port}/{database}"

"""The project's own server: found, made, started and stopped, one command at a time."""

from __future__ import annotations

import glob
import shutil
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ... import conf
from ...backups.replace import mend
from ...binaries.engines import get_engine
from ...binaries.store import Store
from ...binaries.toolchain import Toolchain
from ...exceptions import DbdevError, ServerError
from ...process import ports, sharing
from ...process.locking import exclusive
from ...process.privileges import Identity
from ...records import write_atomically
from ...reporting import seconds
from ..base import A_TIME, make_tempdata, remove_tree, sweep, timestamp
from .accounts import Account
from .alias import ServerAlias
from .control import START_TIMEOUT, STOP_TIMEOUT, Running, ServerControl

#: How the name of data ends that reinit has set aside until the new cluster is up.
REPLACED = "replaced"
#: Seconds.
_LAST_ANSWERS = 0.2


class Configuration(Protocol):
    """The files in a datadir that configure its server."""

    def write(self, datadir: Path) -> list[str]:
        """Bring them up to date; the names of those that changed."""

    def outdated(self, datadir: Path) -> list[str]:
        """The names of files that :meth:`write` would change."""


class DatabaseServer(ServerAlias):
    """The server of one alias, and of those that share it."""

    # The engine's part.

    @property
    def ephemeral_options(self) -> tuple[str, ...]:
        """For a server whose data nobody wants after it has ended: no durability."""
        return ()

    @property
    @abstractmethod
    def control(self) -> ServerControl: ...

    def series_of(self, version: str) -> str:
        """Versions of one series read each other's data: "16" of "16.15"."""
        return get_engine(self.engine).series_of(version)

    @abstractmethod
    def choose_identity(
        self, toolchain: Toolchain, *ours: Path, data: Path | None = None
    ) -> Identity:
        """As whom the server runs; see :func:`..process.privileges.choose_identity`."""

    @abstractmethod
    def configuration(
        self, toolchain: Toolchain, port: int, identity: Identity
    ) -> Configuration: ...

    @abstractmethod
    def make_cluster(
        self,
        toolchain: Toolchain,
        accounts: Sequence[Account],
        port: int,
        identity: Identity,
        store: Store,
        target: Path,
    ) -> None:
        """Put a new cluster at ``target``, which must not exist."""

    @abstractmethod
    def password_file(self, accounts: Sequence[Account], port: int) -> bytes:
        """What client programs read passwords from."""

    @abstractmethod
    def ensure_accounts(self, accounts: Sequence[Account], port: int) -> None:
        """Make sure that every account can log in as Django will, and that it meets our server."""

    @abstractmethod
    def running_version(self, server: Running) -> str:
        """The version of a server that is proved to be ours."""

    @abstractmethod
    def is_answering(self, port: int) -> bool:
        """Whether the server lets its administrator in."""

    # One command at a time.

    #: The pid of the server that ``dbdev_run`` has started, and that ran when our work began.
    _lent: int | None = None

    @contextmanager
    def working_alone(self) -> Iterator[None]:
        """Work alone on this server, and first mend what a killed command left. Does not nest."""
        make_tempdata(self.tempdata)
        with exclusive(self.files.lock, reporter=self.reporter):
            self._lent = self._find_lent()
            self.mend()
            sweep(self.files.datadir)
            replaced = self._replaced()
            if replaced and not self.files.datadir.exists():
                self.bring_back(replaced[-1])
            if self.control.running() is None:
                self.end_strays()
            yield

    def end_strays(self) -> None:
        """End what still runs although its data was removed."""
        for stray in self.control.end_strays():
            self.reporter.warning(f"Ended {stray}, whose data had been removed")

    def _find_lent(self) -> int | None:
        pid = sharing.started(self.files.use)
        server = self.control.running() if pid is not None else None
        return pid if server is not None and server.process.pid == pid else None

    @contextmanager
    def serving(self, account: Account, *, leave_running: bool) -> Iterator[Toolchain]:
        """Work alone on the running server, which is started when it is not.

        :param leave_running: whether a server that was started for this goes on afterwards.
        """
        with self.working_alone():
            toolchain = self.toolchain_of_cluster()
            server = self.control.running()
            if server is None:
                if not ports.is_free(self.port):
                    raise self.port_taken(self.port)
                self.start(toolchain, self.port)
            else:
                self.check_port(server.port)
                self._write_passfile(self.port)
            try:
                self.ensure_accounts([account], self.port)
                yield toolchain
            finally:
                if server is None and not leave_running:
                    started = self.control.running()
                    if started is not None:
                        self.stop(started)

    def revive(self, toolchain: Toolchain) -> None:
        """Start the server again if it went down; one that recovers by itself is waited for."""
        deadline = time.monotonic() + START_TIMEOUT
        while self.control.running() is not None and time.monotonic() < deadline:
            if self.is_answering(self.port):
                # When a part of it has failed it answers for a moment more, and goes down then.
                time.sleep(_LAST_ANSWERS)
                if self.is_answering(self.port):
                    return
            time.sleep(0.05)
        if self.control.running() is None:
            self.reporter.warning("The server has gone down; it is started again")
            self.start(toolchain, self.port)

    # The way of one init.

    def check_cluster(self, toolchain: Toolchain) -> None:
        """Refuse to start what is not whole, or of another series: the programs cannot read it."""
        if empty := self.files.empty_file():
            raise ServerError(
                f"The cluster in {self.files.datadir} is not whole: {empty} is empty, as when the "
                "power fails right after it was made.",
                hints=[
                    "to put a backup in its place: dbdev_restore",
                    "to start empty: dbdev_reinit",
                ],
            )
        if self.files.is_cluster() and not self.made_by(toolchain):
            raise ServerError(
                f"The cluster in {self.files.datadir} was made by {self.made_title()}; the pin "
                f"({self.pin.requirement}) gives {toolchain.version}, which cannot read it.",
                hints=[
                    f"to move the data along{self.way_along()}",
                    f"to go on with the data as it is, pin {self.pin_of_cluster()}",
                    "to start empty: dbdev_reinit",
                ],
            )

    def made_by(self, toolchain: Toolchain) -> bool:
        """Whether the programs can read the cluster: they are of the series that made it."""
        return self.files.cluster_series() == self.series_of(toolchain.version)

    def made_title(self) -> str:
        """What made the cluster, as people write it."""
        return f"{self.title} {self.files.cluster_series()}"

    def way_along(self) -> str:
        """How the data of another series comes into the pinned one."""
        return ": dbdev_upgrade"

    def pin_of_cluster(self) -> str:
        """What to write into pyproject.toml for programs that can read the cluster."""
        return f'version = "{self.files.cluster_series()}" in [{self.pin.key}]'

    def stopped_version(self) -> str:
        """The exact version where the programs of the pin made the cluster, else its series."""
        toolchain, _ = self.installed_toolchain()
        if toolchain is not None and self.made_by(toolchain):
            return toolchain.version
        return self.files.cluster_series()

    def toolchain_of_cluster(self) -> Toolchain:
        """
        :raises ServerError: when there is no cluster, or the pinned programs cannot read it.
        """
        if not self.files.is_cluster():
            raise ServerError(
                f"There is no cluster in {self.files.datadir}.", hints=["make one: dbdev_init"]
            )
        toolchain = self.find_toolchain()
        self.check_cluster(toolchain)
        return toolchain

    def new_cluster(self, toolchain: Toolchain, accounts: Sequence[Account], port: int) -> Path:
        """A new cluster beside the datadir, whole and configured."""
        started = time.perf_counter()
        store = Store(conf.store(), self.reporter)
        identity = self.choose_identity(
            toolchain, self.tempdata, store.root, store.root / "clusters"
        )
        datadir = self.files.datadir
        fresh = datadir.with_name(f".{datadir.name}.{timestamp()}.new")
        try:
            self.make_cluster(toolchain, accounts, port, identity, store, fresh)
            self.configuration(toolchain, port, identity).write(fresh)
            identity.adopt(fresh)
        except BaseException:
            # Not by another rename, for which a quota leaves no room. What stays is swept later.
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        self.reporter.fact(
            f"Initialised {datadir} with {self.title} {toolchain.version} "
            f"in {seconds(time.perf_counter() - started)}"
        )
        return fresh

    def move_in(self, fresh: Path) -> None:
        """Give a whole cluster its name. What is in its place and is none is moved aside."""
        if self.files.is_occupied():
            self.clear_place()
        with suppress(FileNotFoundError):
            self.files.datadir.rmdir()
        fresh.rename(self.files.datadir)

    def clear_place(self) -> None:
        """Move aside what is in the datadir's place and is no cluster."""
        aside = self.set_aside("unfinished")
        self.reporter.warning(
            f"{self.files.datadir} held no whole cluster; it was moved to {aside}"
        )

    def start(self, toolchain: Toolchain, port: int, *options: str) -> int:
        """Start the server with its configuration brought up to date; its pid."""
        started = time.perf_counter()
        pid = self.start_silently(toolchain, port, *options)
        self.reporter.fact(
            f"Started {self.title} {toolchain.version} on {ports.LOOPBACK}:{port} "
            f"in {seconds(time.perf_counter() - started)}"
        )
        return pid

    def start_silently(self, toolchain: Toolchain, port: int, *options: str) -> int:
        identity = self.choose_identity(
            toolchain, self.tempdata, conf.store(), data=self.files.datadir
        )
        self.configuration(toolchain, port, identity).write(self.files.datadir)
        identity.adopt(self.files.datadir)
        self._write_passfile(port)
        if conf.is_ephemeral():
            options = (*options, *self.ephemeral_options)
        pid = self.control.start(toolchain, port, identity, *options)
        if self._lent is not None:
            # One that was stopped for our work: who leaves last stops what runs in its place.
            sharing.note_restarted(self.files.use, self._lent, pid)
            self._lent = pid
        return pid

    def restarted_for(self, toolchain: Toolchain, server: Running | None) -> Running | None:
        """The running server, restarted where it is of another minor version than the pin's."""
        if server is None or not self.files.is_cluster():
            return server
        self.check_port(server.port)
        try:
            version = self.running_version(server)
        except ServerError:
            # Who asks it next says what is wrong.
            return server
        if version == toolchain.version:
            return server
        self.reporter.fact(
            f"{self.title} {version} runs, {toolchain.version} is pinned: restarting"
        )
        port = server.port
        self.stop(server)
        self.start(toolchain, port)
        return self.control.running()

    @contextmanager
    def up_again_if_interrupted(self, server: Running, toolchain: Toolchain) -> Iterator[None]:
        """Stop the server in the block: it goes down all the same when that is interrupted."""
        try:
            yield
        except KeyboardInterrupt:
            if server.process.wait_gone(STOP_TIMEOUT):
                self.start_silently(toolchain, server.port)
            raise

    def stop(self, server: Running) -> None:
        started = time.perf_counter()
        self.control.stop(server)
        self.reporter.fact(
            f"Stopped {self.title} (pid {server.process.pid}) "
            f"in {seconds(time.perf_counter() - started)}"
        )

    def _write_passfile(self, port: int) -> None:
        content = self.password_file(self.accounts(), port)
        with suppress(FileNotFoundError):
            if self.files.passfile.read_bytes() == content:
                return
        write_atomically(self.files.passfile, content)

    def socket(self, port: int) -> Path:
        """A running server has it where XDG_RUNTIME_DIR was when it was started."""
        socket = self.files.socket(port)
        recorded = self.control.recorded()
        if recorded is not None and recorded.port == port:
            return recorded.socket_directory / socket.name
        return socket

    # Old data beside new.

    def set_aside(self, why: str) -> Path:
        datadir = self.files.datadir
        aside = datadir.with_name(f"{datadir.name}.{timestamp()}.{why}")
        datadir.rename(aside)
        return aside

    def _replaced(self) -> list[Path]:
        """What reinit set aside, oldest first; something is there when it was killed."""
        datadir = self.files.datadir
        pattern = f"{glob.escape(datadir.name)}.{A_TIME}.{REPLACED}"
        return sorted(datadir.parent.glob(pattern))

    def forget_replaced(self) -> None:
        for old in self._replaced():
            remove_tree(old)

    def mend(self) -> None:
        """Bring a restore that was killed to its end, or back."""
        done = mend(self.files.datadir, Path(self.root_backupdir), self.files.is_cluster)
        if done:
            self.reporter.warning(done)

    def bring_back(self, old: Path) -> None:
        with suppress(DbdevError):
            if (server := self.control.running()) is not None:
                self.stop(server)
        self.remove_datadir()
        old.rename(self.files.datadir)
        self.reporter.warning(f"The old data is back in {self.files.datadir}, as it was")

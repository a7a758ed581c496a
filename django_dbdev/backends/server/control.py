"""Starting and stopping one server, and knowing whether it runs.

The truth is the server's pid file in the datadir together with the process that it names: a
server works in its datadir, and nothing else does.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from ... import conf
from ...binaries.toolchain import Toolchain
from ...exceptions import ForeignServerError, ServerError
from ...process import processes
from ...process.command import Command
from ...process.holding import Held, holding, is_held
from ...process.privileges import Identity
from ...process.processes import RunningProcess
from ...process.readiness import Outcome, wait_ready
from ...process.run import Spawned, spawn
from ...process.sockets import make_private
from .files import ServerFiles
from .signals import uninterrupted

#: Seconds for a start, recovery included, and for a clean stop, its last checkpoint included.
START_TIMEOUT = 300.0
STOP_TIMEOUT = 300.0
#: Seconds that what is left of a killed server may take to go.
_REMAINS_TIMEOUT = 20.0
#: Seconds for a server that was just started to be told by its working directory.
_HELD_TIMEOUT = 5.0
#: What servers say where they cannot write: InnoDB by the number, and goes on to say more.
_FULL = re.compile(
    rf"No space left on device|Disk quota exceeded|Disk is full"
    rf"|with error ({errno.ENOSPC}|{errno.EDQUOT})\b"
)
_MORE_SPACE = (
    "the disk is full: free some space (dbdev_clearbackups and dbdev_store prune do), then run "
    "this again"
)
_LOG_LIMIT = 10_000_000
_LOG_TAIL = 12


@dataclass(frozen=True)
class Recorded:
    """What a running server has written down of itself."""

    pid: int
    port: int
    socket_directory: Path


@dataclass(frozen=True)
class Running:
    """Our server, proved to be it."""

    process: RunningProcess
    port: int
    socket_directory: Path

    @property
    def uptime(self) -> float:
        """Seconds."""
        return max(0.0, time.time() - self.process.started)


class ServerControl(ABC):
    """Drives the server of one datadir."""

    #: The beginnings of its process's name.
    names: ClassVar[tuple[str, ...]]
    #: Ends it cleanly; ends it where its data is about to be removed.
    stop_signal: ClassVar[signal.Signals]
    discard_signal: ClassVar[signal.Signals]
    #: End, in turn, what was started and cannot be used.
    abandon_signals: ClassVar[tuple[signal.Signals, ...]]
    #: What a start says while what is left of a killed server is still in its way.
    remains_left: ClassVar[tuple[str, ...]]

    def __init__(self, files: ServerFiles, title: str) -> None:
        self.files = files
        #: The engine, as people write it.
        self.title = title

    # The engine's part.

    @property
    @abstractmethod
    def pid_file(self) -> Path: ...

    @abstractmethod
    def recorded(self) -> Recorded | None:
        """None where there is nothing, or it is only just being written, or damaged."""

    @abstractmethod
    def is_ready(self, pid: int) -> bool:
        """Whether the server with this pid accepts connections."""

    @abstractmethod
    def command(self, toolchain: Toolchain, *options: str) -> Command:
        """The server itself; everything else stands in the datadir's configuration."""

    @abstractmethod
    def clear_stale(self, port: int) -> None:
        """Remove what a server that is gone has left, and a start would stumble over."""

    def is_stray(self, process: RunningProcess) -> bool:
        """Whether it was started on the datadir's path, and works on another folder by now.

        The datadir was moved or removed under it.
        """
        return self.is_started_here(process) and processes.is_bereft(process)

    def is_started_here(self, process: RunningProcess) -> bool:
        """Whether the datadir's path is among its arguments, and means this folder."""
        if os.geteuid() not in (0, process.uid) or processes.is_contained(process):
            return False
        paths = (word.removeprefix("--datadir=") for word in processes.arguments(process)[1:])
        return str(self.files.datadir) in paths

    # What is the same for all.

    def end_strays(self) -> list[RunningProcess]:
        """See that no server from before writes into the datadir, or what is made in its place.

        What is left of a killed one, whose processes go on until they notice, is waited for.

        :returns: Those whose data was removed: they are ended, and write nothing.
        :raises ForeignServerError: when one works on data that was moved; or on the datadir,
            and is no killed one's, or has much to do still, or is in another container.
        """
        ended = []
        deadline = time.monotonic() + _REMAINS_TIMEOUT
        here = self.files.datadir.resolve()
        for process in processes.named(self.names):
            if process.cwd == here and self.is_ours(process):
                if processes.is_contained(process):
                    raise self.held_elsewhere()
                self._wait_for_remains(process, deadline)
                continue
            if not self.is_stray(process):
                continue
            if not processes.is_bereft(process):
                raise ForeignServerError(
                    f"{process} was started on {self.files.datadir}, and works on {process.cwd}: "
                    "it would write into what is made there.",
                    hints=[
                        "move the folder back to where it was, and stop the server there",
                        "or end it, which may lose the last moments' commits: "
                        f"kill -INT {process.pid}",
                    ],
                )
            process.signal(self.discard_signal)
            process.wait_gone(_REMAINS_TIMEOUT)
            ended.append(process)
        self._wait_until_let_go()
        return ended

    def _wait_until_let_go(self) -> None:
        """A command that was killed may have started a server that is not yet to be told."""
        deadline = time.monotonic() + _HELD_TIMEOUT
        while self.is_held() and self.running() is None:
            if time.monotonic() > deadline:
                raise self.held_elsewhere()
            time.sleep(0.05)

    def is_held(self) -> bool:
        """Whether a server works on the data, be it one that is not seen from here."""
        return is_held(self.files.datadir)

    def held_elsewhere(self) -> ForeignServerError:
        """The error where a server that is not seen from here works on the data."""
        return ForeignServerError(
            f"A server that is not seen from here works on {self.files.datadir}: one in another "
            "container, or outside of this one.",
            hints=["stop it where it was started: dbdev_stopserver"],
        )

    def _wait_for_remains(self, process: RunningProcess, deadline: float) -> None:
        while not process.wait_gone(0.05):
            if self.running() is not None:
                # A command that was killed had only just started it.
                return
            if time.monotonic() > deadline:
                ending = self.stop_signal.name.removeprefix("SIG")
                raise ForeignServerError(
                    f"{process} works on {self.files.datadir}, and {self.pid_file} names no "
                    "server there: it is left of one that was killed, or the file was removed.",
                    hints=[f"wait until it is done, or end it: kill -{ending} {process.pid}"],
                )

    def running(self) -> Running | None:
        """The server that works on this datadir, whoever started it; None when there is none.

        A pid file whose pid now belongs to something else, as after a crash or a reboot, is no
        server.

        :raises ForeignServerError: when it cannot be told whose the process is.
        """
        recorded = self.recorded()
        if recorded is None:
            return None
        process = processes.find(recorded.pid)
        if process is None or not self.is_ours(process):
            return None
        return Running(process, recorded.port, recorded.socket_directory)

    def settled(self) -> Running | None:
        """The running server, once it accepts connections; None when it has ended instead.

        Of a command that was killed, the server may still be starting, or stopping.

        :raises ServerError: when it is neither up nor down after the time limit.
        """
        server = self.running()
        if server is None or self.is_ready(server.process.pid):
            return server
        process = server.process
        outcome = wait_ready(
            partial(self.is_ready, process.pid), lambda: not process.wait_gone(0), START_TIMEOUT
        )
        if outcome is Outcome.TIMEOUT:
            raise ServerError(
                f"The server (pid {process.pid}) is neither up nor down after "
                f"{START_TIMEOUT:.0f} s.",
                hints=["it goes on by itself: wait, and look at its log"],
                log=self.files.log,
            )
        return self.running()

    def is_ours(self, process: RunningProcess) -> bool:
        """Whether the process is the server of this datadir: it works in it."""
        # Wrapped programs, as Nix makes them, run as ".postgres-wrapped".
        if not process.name.lstrip(".").startswith(self.names) or processes.is_bereft(process):
            return False
        datadir = self.files.datadir
        if process.cwd is None:
            if process.uid != datadir.stat().st_uid:
                # A server works on data of its own account only.
                return False
            raise ForeignServerError(
                f"{self.pid_file} names {process}, and the system does not tell whether "
                "that is this project's server.",
                hints=["run this as the user who started it, or as root"],
            )
        return process.cwd.resolve() == datadir.resolve()

    def start(
        self,
        toolchain: Toolchain,
        port: int,
        identity: Identity,
        *options: str,
        ends_with_us: bool = False,
    ) -> int:
        """Start the server, which must not be running, and wait until it accepts connections.

        :param ends_with_us: stop it when this process is killed.
        :returns: Its pid.
        :raises ServerError: with the end of the log; nothing is left running then.
        :raises ForeignServerError: when a server that is not seen from here has the data.
        """
        log = self.files.log
        make_private(self.files.socket_directory(port), identity)
        _rotate(log)
        deadline = time.monotonic() + _REMAINS_TIMEOUT
        # It outlives us by far, and may run as another account.
        command = replace(self.command(toolchain, *options), secrets=conf.passwords())
        while True:
            offset = log.stat().st_size if log.exists() else 0
            spawned: Spawned | None = None
            try:
                with uninterrupted(), holding(self.files.datadir) as held:
                    self.clear_stale(port)
                    spawned = spawn(
                        command, log, identity=identity, ends_with_us=ends_with_us, keeps=held
                    )
                outcome = wait_ready(
                    partial(self.is_ready, spawned.pid), spawned.is_alive, START_TIMEOUT
                )
            except Held:
                # What is left of a killed server lets go when it ends.
                if (other := self.settled()) is not None:
                    return other.process.pid
                if time.monotonic() > deadline:
                    raise self.held_elsewhere() from None
                time.sleep(0.05)
                continue
            except BaseException:
                if spawned is not None:
                    self._abandon(spawned)
                raise
            if outcome is Outcome.READY:
                return spawned.pid
            said = log_since(log, offset)
            remains = any(mark in said for mark in self.remains_left)
            if outcome is Outcome.DIED and remains and time.monotonic() < deadline:
                if (other := self.settled()) is not None:
                    # A command that was killed had only just started it.
                    return other.process.pid
                time.sleep(0.05)
                continue
            self._abandon(spawned)
            what = "did not start" if outcome is Outcome.DIED else "did not become ready in time"
            raise ServerError(
                f"{self.title} {toolchain.version} {what} on {self.files.datadir}.",
                hints=[_MORE_SPACE] if _FULL.search(said) else [],
                log=log,
                log_tail="\n".join(said.splitlines()[-_LOG_TAIL:]),
            )

    def stop(self, server: Running, *, discard: bool = False) -> None:
        """Stop the server: clients are disconnected, everything is written, nothing is lost.

        :param discard: the data is about to be removed, and so not written once more.
        :raises ServerError: when it is still busy after the time limit; it is not killed.
        """
        server.process.signal(self.discard_signal if discard else self.stop_signal)
        if not server.process.wait_gone(STOP_TIMEOUT):
            raise ServerError(
                f"The server (pid {server.process.pid}) is still shutting down after "
                f"{STOP_TIMEOUT:.0f} s.",
                hints=["it goes on by itself: wait, and look at its log"],
                log=self.files.log,
            )
        with suppress(OSError):
            server.socket_directory.rmdir()

    def _abandon(self, spawned: Spawned) -> None:
        """End what we started ourselves and could not use."""
        process = processes.find(spawned.pid)
        if process is None:
            return
        for number in self.abandon_signals:
            process.signal(number)
            if process.wait_gone(10):
                return


def read_pid(text: str) -> int:
    """:raises ValueError: when it is not the id of a process."""
    pid = int(text)
    if not 0 < pid < 2**31:  # More than any system's own type for it holds.
        raise ValueError(f"{pid} is not a process id")
    return pid


def _rotate(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_name(f"{log.name}.1"))


def log_since(log: Path, offset: int) -> str:
    """What was written to the log after its first ``offset`` bytes."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(offset)
        return file.read().decode("utf-8", "replace")
    return ""

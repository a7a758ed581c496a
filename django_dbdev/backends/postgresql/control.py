"""Starting and stopping PostgreSQL, and knowing whether it runs.

``postmaster.pid`` has, by PostgreSQL's source (``src/include/utils/pidfile.h``), the lines pid,
datadir, start time, port, socket folder, listen address, shared memory key, status ("ready",
"starting", "stopping").
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...binaries.toolchain import Toolchain
from ...process import processes
from ...process.command import Command
from ...process.processes import RunningProcess
from ..server.control import Recorded, ServerControl, read_pid
from . import commands
from .files import PostgresFiles

#: The status in postmaster.pid of a server that accepts connections.
_READY = "ready"


@dataclass(frozen=True)
class PidFile(Recorded):
    """The contents of postmaster.pid."""

    status: str


class PostgresControl(ServerControl):
    names: ClassVar[tuple[str, ...]] = ("postgres", "postmaster")
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    discard_signal: ClassVar[signal.Signals] = signal.SIGQUIT
    abandon_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGINT, signal.SIGQUIT)
    #: The children of a killed server still hold its memory.
    remains_left: ClassVar[tuple[str, ...]] = (
        "pre-existing shared memory block",
        'lock file "postmaster.pid" already exists',
        # The socket's.
        '.lock" already exists',
    )

    def __init__(self, files: PostgresFiles) -> None:
        super().__init__(files, "PostgreSQL")

    @property
    def pid_file(self) -> Path:
        return self.files.datadir / "postmaster.pid"

    def recorded(self) -> PidFile | None:
        try:
            lines = self.pid_file.read_text("utf-8", "surrogateescape").split("\n")
            return PidFile(
                read_pid(lines[0]),
                int(lines[3]),
                Path(lines[4]),
                lines[7].strip() if len(lines) > 7 else "starting",
            )
        except (OSError, ValueError, IndexError):
            return None

    def is_ready(self, pid: int) -> bool:
        recorded = self.recorded()
        return recorded is not None and recorded.pid == pid and recorded.status == _READY

    def command(self, toolchain: Toolchain, *options: str) -> Command:
        return commands.postgres(toolchain, self.files.datadir, *options)

    def clear_stale(self, port: int) -> None:
        """Remove lock files, of datadir and socket, whose process is proved to be another one.

        PostgreSQL itself clears one whose process is gone, but takes any live process for a
        server, and ``pg_ctl stop`` would kill it. One that is empty, as a power cut leaves it,
        it does not clear at all. Nor does it clear one of a zombie, which stays for ever in a
        container whose first process reaps nobody: that goes when nothing works on the data.
        """
        socket_lock = self.files.socket_directory(port) / f".s.PGSQL.{port}.lock"
        for lock in (self.pid_file, socket_lock):
            try:
                pid = read_pid(lock.read_text("utf-8", "surrogateescape").partition("\n")[0])
            except OSError:
                continue
            except ValueError:
                stale = not self._is_worked_on()
            else:
                process = processes.find(pid)
                if process is None:
                    stale = processes.is_alive(pid) and not self._is_worked_on()
                else:
                    stale = not self.is_ours(process)
            if stale:
                lock.unlink(missing_ok=True)

    def is_stray(self, process: RunningProcess) -> bool:
        """PostgreSQL writes pg_control by its whole path, wherever it works meanwhile."""
        datadir = self.files.datadir
        folder = processes.folder_of(process)
        if folder is None or (datadir.exists() and os.path.samestat(folder, datadir.stat())):
            return False
        return self.is_started_here(process)

    def _is_worked_on(self) -> bool:
        """Whether any process of a server, one that lost its postmaster too, uses the data."""
        return any(self.is_ours(each) for each in processes.named(self.names))

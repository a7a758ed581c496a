"""Starting and stopping one server, and knowing whether it runs.

The truth is ``postmaster.pid`` in the datadir together with the process that it names. Its
lines, by PostgreSQL's source (``src/include/utils/pidfile.h``): pid, datadir, start time, port,
socket folder, listen address, shared memory key, status ("ready", "starting", "stopping").
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...binaries.toolchain import Toolchain
from ...exceptions import ForeignServerError, ServerError
from ...process import processes
from ...process.privileges import Identity
from ...process.processes import RunningProcess
from ...process.readiness import Outcome, wait_ready
from ...process.run import Spawned, spawn
from ...process.sockets import make_private
from . import commands
from .files import ServerFiles
from .signals import uninterrupted

#: Seconds for a start, recovery included, and for a clean stop, its last checkpoint included.
START_TIMEOUT = 300.0
STOP_TIMEOUT = 300.0
#: Seconds that the children of a killed server may take to go.
_CHILDREN_TIMEOUT = 20.0
#: The status in postmaster.pid of a server that accepts connections.
_READY = "ready"
_LOG_LIMIT = 10_000_000
_LOG_TAIL = 12
#: What a start says while the children of a killed server still hold its memory.
_CHILDREN_LEFT = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')


@dataclass(frozen=True)
class PidFile:
    """The contents of postmaster.pid."""

    pid: int
    datadir: Path
    started: int
    port: int
    socket_directory: Path
    status: str


def read_pid_file(file: Path) -> PidFile | None:
    """None when there is none, when it is only just being written, and when it is damaged."""
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
        return PidFile(
            _pid(lines[0]),
            Path(lines[1]),
            int(lines[2]),
            int(lines[3]),
            Path(lines[4]),
            lines[7].strip() if len(lines) > 7 else "starting",
        )
    except (OSError, ValueError, IndexError):
        return None


def _pid(line: str) -> int:
    pid = int(line)
    if pid <= 0:
        raise ValueError(f"{pid} is not a process id")
    return pid


@dataclass(frozen=True)
class Running:
    """Our server, proved to be it."""

    process: RunningProcess
    pid_file: PidFile

    @property
    def port(self) -> int:
        return self.pid_file.port

    @property
    def uptime(self) -> float:
        """Seconds."""
        return max(0.0, time.time() - self.process.started)


def running(files: ServerFiles) -> Running | None:
    """The server that works on this datadir, whoever started it; None when there is none.

    A pid file whose pid now belongs to something else, as after a crash or a reboot, is no
    server.

    :raises ForeignServerError: when it cannot be told whose the process is.
    """
    pid_file = read_pid_file(files.postmaster_pid)
    if pid_file is None:
        return None
    process = processes.find(pid_file.pid)
    if process is None or not _is_postmaster(process, files):
        return None
    return Running(process, pid_file)


def settled(files: ServerFiles) -> Running | None:
    """The running server, once it accepts connections; None when it has ended instead.

    Of a command that was killed, the server may still be starting, or stopping.

    :raises ServerError: when it is neither up nor down after the time limit.
    """
    server = running(files)
    if server is None or server.pid_file.status == _READY:
        return server
    process = server.process
    outcome = wait_ready(
        partial(_is_ready, files, process.pid), lambda: not process.wait_gone(0), START_TIMEOUT
    )
    if outcome is Outcome.TIMEOUT:
        raise ServerError(
            f"The server (pid {process.pid}) is neither up nor down after {START_TIMEOUT:.0f} s.",
            hints=["it goes on by itself: wait, and look at its log"],
            log=files.log,
        )
    return running(files)


def _is_postmaster(process: RunningProcess, files: ServerFiles) -> bool:
    """Whether the process is the server of this datadir: a postmaster works in its datadir."""
    # Wrapped programs, as Nix makes them, run as ".postgres-wrapped".
    if not process.name.lstrip(".").startswith(("postgres", "postmaster")):
        return False
    if process.cwd is None:
        if process.uid != files.datadir.stat().st_uid:
            # A server works on data of its own account only.
            return False
        raise ForeignServerError(
            f"{files.postmaster_pid} names {process}, and the system does not tell whether "
            "that is this project's server.",
            hints=["run this as the user who started it, or as root"],
        )
    return process.cwd.resolve() == files.datadir.resolve()


def start(
    files: ServerFiles,
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
    """
    make_private(files.socket_directory(port), identity)
    _rotate(files.log)
    deadline = time.monotonic() + _CHILDREN_TIMEOUT
    command = commands.postgres(toolchain, files.datadir, *options)
    while True:
        _clear_stale_lock_files(files, port)
        offset = files.log.stat().st_size if files.log.exists() else 0
        spawned: Spawned | None = None
        try:
            with uninterrupted():
                spawned = spawn(command, files.log, identity=identity, ends_with_us=ends_with_us)
            outcome = wait_ready(
                partial(_is_ready, files, spawned.pid), spawned.is_alive, START_TIMEOUT
            )
        except BaseException:
            if spawned is not None:
                _abandon(spawned)
            raise
        if outcome is Outcome.READY:
            return spawned.pid
        said = _log_since(files.log, offset)
        children_left = any(mark in said for mark in _CHILDREN_LEFT)
        if outcome is Outcome.DIED and children_left and time.monotonic() < deadline:
            if (other := settled(files)) is not None:
                # A command that was killed had only just started it.
                return other.process.pid
            time.sleep(0.05)
            continue
        _abandon(spawned)
        what = "did not start" if outcome is Outcome.DIED else "did not become ready in time"
        raise ServerError(
            f"PostgreSQL {toolchain.version} {what} on {files.datadir}.",
            log=files.log,
            log_tail="\n".join(said.splitlines()[-_LOG_TAIL:]),
        )


def stop(server: Running, files: ServerFiles, *, discard: bool = False) -> None:
    """Stop the server: clients are disconnected, everything is written, nothing is lost.

    :param discard: the data is about to be removed, and so not written once more.
    :raises ServerError: when it is still busy after the time limit; it is not killed.
    """
    server.process.signal(signal.SIGQUIT if discard else signal.SIGINT)
    if not server.process.wait_gone(STOP_TIMEOUT):
        raise ServerError(
            f"The server (pid {server.process.pid}) is still shutting down after "
            f"{STOP_TIMEOUT:.0f} s.",
            hints=["it goes on by itself: wait, and look at its log"],
            log=files.log,
        )
    with suppress(OSError):
        server.pid_file.socket_directory.rmdir()


def _is_ready(files: ServerFiles, pid: int) -> bool:
    pid_file = read_pid_file(files.postmaster_pid)
    return pid_file is not None and pid_file.pid == pid and pid_file.status == _READY


def _clear_stale_lock_files(files: ServerFiles, port: int) -> None:
    """Remove lock files, of datadir and socket, whose process is proved to be another one.

    PostgreSQL itself clears one whose process is gone, but takes any live process for a
    server, and ``pg_ctl stop`` would kill it. One that is empty, as a power cut leaves it, it
    does not clear at all.
    """
    socket_lock = files.socket_directory(port) / f".s.PGSQL.{port}.lock"
    for lock in (files.postmaster_pid, socket_lock):
        try:
            pid = _pid(lock.read_text("utf-8", "surrogateescape").partition("\n")[0])
        except OSError:
            continue
        except ValueError:
            stale = not any(_is_postmaster(each, files) for each in processes.named("post"))
        else:
            process = processes.find(pid)
            stale = process is not None and not _is_postmaster(process, files)
        if stale:
            lock.unlink(missing_ok=True)


def _abandon(spawned: Spawned) -> None:
    """End what we started ourselves and could not use."""
    process = processes.find(spawned.pid)
    if process is None:
        return
    for number in (signal.SIGINT, signal.SIGQUIT):
        process.signal(number)
        if process.wait_gone(10):
            return


def _rotate(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_name(f"{log.name}.1"))


def _log_since(log: Path, offset: int) -> str:
    with suppress(OSError), log.open("rb") as file:
        file.seek(offset)
        return file.read().decode("utf-8", "replace")
    return ""

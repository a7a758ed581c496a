"""Other processes: proving which one it is before it is signalled."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .privileges import acting_as

if TYPE_CHECKING:
    import psutil


@dataclass(frozen=True)
class RunningProcess:
    """A live process, remembered with its start time: a reused pid is not mistaken for it.

    :param cwd: None where the system does not tell (another user's process).
    :param started: seconds since the epoch.
    """

    pid: int
    name: str
    user: str
    cwd: Path | None
    started: float
    _process: psutil.Process

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}, user {self.user})"

    @property
    def uid(self) -> int | None:
        """As whom it runs; None when it is gone."""
        import psutil

        try:
            return int(self._process.uids().effective)
        except psutil.Error:
            return None

    def signal(self, number: int) -> None:
        """Send a signal; nothing is sent when the process is gone and its pid reused."""
        import psutil

        with suppress(psutil.NoSuchProcess):
            self._process.send_signal(number)

    def wait_gone(self, timeout: float) -> bool:
        """Wait until the process is gone; False when ``timeout`` seconds were not enough."""
        deadline = time.monotonic() + timeout
        while not self._is_gone():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def _is_gone(self) -> bool:
        """A zombie is gone: the init of a container may take seconds to reap it."""
        import psutil

        try:
            return (
                not is_alive(self.pid)
                or not self._process.is_running()
                or self._process.status() == psutil.STATUS_ZOMBIE
            )
        except psutil.NoSuchProcess:
            return True


def find(pid: int) -> RunningProcess | None:
    """The live process with this pid; a zombie is not alive."""
    import psutil

    if not is_alive(pid):
        return None
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return RunningProcess(
                pid,
                process.name(),
                process.username(),
                working_directory(process),
                process.create_time(),
                process,
            )
    except psutil.NoSuchProcess:
        return None


def named(beginnings: tuple[str, ...]) -> Iterator[RunningProcess]:
    """All live processes whose name begins with one of these, leaving out a dot before it."""
    import psutil

    for process in psutil.process_iter(["name"]):
        if (process.info["name"] or "").lstrip(".").startswith(beginnings):
            found = find(process.pid)
            if found is not None:
                yield found


def arguments(process: RunningProcess) -> list[str]:
    """Its command line; empty where the system does not tell."""
    import psutil

    with suppress(psutil.Error, OSError):
        return list(process._process.cmdline())
    return []


def folder_of(process: RunningProcess) -> os.stat_result | None:
    """The folder that it works in, whatever its name is now; None where nobody tells.

    A folder that was removed has no links left, and keeps its name in ``cwd``: psutil takes away
    the kernel's mark behind it.
    """
    with suppress(OSError):
        return os.stat(f"/proc/{process.pid}/cwd")
    return None


def is_bereft(process: RunningProcess) -> bool:
    """Whether the folder that it works in was removed, which its path does not tell."""
    folder = folder_of(process)
    return folder is not None and folder.st_nlink == 0


def is_contained(process: RunningProcess) -> bool:
    """Whether it is in another container than we are: it may mean another folder by a path."""
    with suppress(OSError):
        return os.readlink(f"/proc/{process.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    return False


def working_directory(process: psutil.Process) -> Path | None:
    """Where a process works; None where the system does not tell."""
    import psutil

    with suppress(psutil.AccessDenied, OSError):
        return Path(process.cwd())
    if os.geteuid() == 0:
        # Root in a container is told as little of another account's process as anybody else.
        uid, gid = process.uids().effective, process.gids().effective
        with suppress(psutil.AccessDenied, OSError), acting_as(uid, gid, [gid]):
            return Path(process.cwd())
    return None


def is_alive(pid: int) -> bool:
    """Whether a process has this pid. A child of ours that ended is reaped, and not alive."""
    with suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

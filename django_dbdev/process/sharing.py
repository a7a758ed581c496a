"""One server for several commands that run at once: who started it, and who leaves last.

Each holds a shared lock on a file beside the datadir for as long as it needs the server. The
first one writes there which process it started; whoever is the last to leave stops that, and
nothing else: a server that ran before stays.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import processes
from .locking import exclusive


@dataclass
class Use:
    """One command's use of a server."""

    path: Path
    _descriptor: int

    def note_started(self, pid: int) -> None:
        """Say that a command of this kind has started the server."""
        # In this order: who looks meanwhile finds some pid, and looks again under the lock.
        length = os.pwrite(self._descriptor, str(pid).encode(), 0)
        os.ftruncate(self._descriptor, length)

    def started(self) -> int | None:
        """The pid of the server that one of us has started; None where it ran before."""
        return _pid(os.pread(self._descriptor, 20, 0))

    def is_last(self) -> bool:
        """Whether nobody else uses the server. Where somebody does, that was our leave."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        # Whoever comes while we wait for the server's lock is not kept waiting, and goes on.
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        return True

    def left_last(self) -> int | None:
        """Leave. The pid of the server to stop, where we are the last and one of us started it.

        To stop it the server's lock must be held by now: somebody may work on it.

        Nobody else comes in before the block of :func:`using` ends.
        """
        try:
            # Gives the shared lock up also where the other is not to be had. Source: flock(2).
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        started = self.started()
        os.ftruncate(self._descriptor, 0)
        return started


@contextmanager
def using(path: Path) -> Iterator[Use]:
    """Use the server that the file ``path`` stands for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        use = Use(path, descriptor)
        # Alone: what a killed command has started counts as the user's own.
        use.left_last()
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield use
    finally:
        os.close(descriptor)


def started(path: Path) -> int | None:
    """The pid of the server that a command of this kind has started; None where none did."""
    try:
        return _pid(path.read_bytes())
    except OSError:
        return None


def _pid(text: bytes) -> int | None:
    return int(text) if text.isdigit() else None


def note_restarted(path: Path, before: int, after: int) -> None:
    """Say that the server with the pid ``before`` goes on as ``after``. Its lock must be held."""
    if started(path) == before:
        descriptor = os.open(path, os.O_RDWR)
        try:
            Use(path, descriptor).note_started(after)
        finally:
            os.close(descriptor)


def stop_if_last(path: Path, lock: Path, datadir: Path, number: int) -> None:
    """What a killed command can no longer do itself.

    :param lock: the server's: another command's work on it is waited for, however long it takes.
    :param number: the signal that ends the server cleanly.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        use = Use(path, descriptor)
        if not use.is_last():
            return
        with exclusive(lock, timeout=math.inf):
            pid = use.left_last()
            process = None if pid is None else processes.find(pid)
            if process is not None and process.cwd == datadir.resolve():
                process.signal(number)
                process.wait_gone(60)
    finally:
        os.close(descriptor)

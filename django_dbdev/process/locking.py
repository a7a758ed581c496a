"""One command at a time, and the others are told whom they wait for.

filelock rather than a pid file: the kernel lets go of the lock when its holder dies.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..exceptions import BusyError
from ..reporting import SILENT, Reporter

#: Seconds before a waiting command gives up.
TIMEOUT = 300.0
_SAID_AFTER = 1.0


@contextmanager
def exclusive(
    path: Path, *, reporter: Reporter = SILENT, timeout: float = TIMEOUT
) -> Iterator[None]:
    """Hold the lock file ``path``. Within one process a second hold of the same path nests.

    :raises BusyError: when another process still holds it after ``timeout`` seconds.
    """
    from filelock import FileLock, Timeout

    holder = path.with_name(f"{path.name}.holder")
    # A singleton per path, so that reinit may hold the lock around destroy and init.
    lock = FileLock(path, mode=0o600, is_singleton=True, poll_interval=0.02)
    try:
        try:
            lock.acquire(timeout=min(_SAID_AFTER, timeout))
        except Timeout:
            reporter.fact(f"Waiting for {_describe(holder)}")
            lock.acquire(timeout=max(0.0, timeout - _SAID_AFTER))
    except Timeout:
        raise BusyError(
            f"{_describe(holder)} still holds the lock {path} after {timeout:.0f} s.",
            hints=["wait until it is done, or end that process, and run this again"],
        ) from None
    try:
        with suppress(OSError), open(holder, "wb", opener=_private) as file:
            file.write(f"{os.getpid()} {' '.join(sys.argv[:2])}\n".encode("utf-8", "replace"))
        yield
    finally:
        lock.release()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _describe(holder: Path) -> str:
    try:
        pid, _, command = holder.read_text("utf-8", "replace").strip().partition(" ")
    except OSError:
        return "another command"
    return f"pid {pid} ({command})"

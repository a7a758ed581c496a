"""A server that lives as long as the command that runs it.

The server has a session of its own, so the terminal's Ctrl-C reaches this command alone, and
this command stops the server: on Ctrl-C (also pressed twice), SIGTERM, and hang-up.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

from ...process import processes
from . import control
from .files import ServerFiles

#: Seconds between two looks at the log.
_INTERVAL = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Output(Protocol):
    def write(self, text: str) -> object: ...


@contextmanager
def until_ended(files: ServerFiles, output: Output) -> Iterator[Callable[[int, int], None]]:
    """Stop the server at the end of the block, whatever ends it.

    What it gives copies the log to ``output``, from an offset in bytes, until the server with
    the given pid ends.
    """
    before = {number: signal.signal(number, _raise) for number in _SIGNALS}
    started: list[int] = []

    def follow(pid: int, offset: int) -> None:
        started.append(pid)
        _follow(files, output, pid, offset)

    try:
        yield follow
    finally:
        for number in _SIGNALS:
            # From here on nothing interrupts: the server is being stopped already.
            signal.signal(number, signal.SIG_IGN)
        try:
            server = control.running(files)
            if server is not None and (not started or server.process.pid in started):
                control.stop(server, files)
                # The terminal may be gone.
                with suppress(OSError):
                    output.write("Stopped PostgreSQL")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    # As a shell reports a program that a signal ended; Ctrl-C on a server is its normal end.
    raise SystemExit(0 if number == signal.SIGINT else 128 + number)


def _follow(files: ServerFiles, output: Output, pid: int, offset: int) -> None:
    with files.log.open("r", encoding="utf-8", errors="replace") as log:
        log.seek(offset)
        while True:
            alive = processes.is_alive(pid)
            for line in log:
                output.write(line.rstrip("\n"))
            if not alive:
                return
            time.sleep(_INTERVAL)

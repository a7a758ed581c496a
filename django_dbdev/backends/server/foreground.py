"""A server that lives as long as the command that runs it.

The server has a session of its own, so the terminal's Ctrl-C reaches this command alone, and
this command stops the server: on Ctrl-C (also pressed twice), SIGTERM, and hang-up, unless nohup
has switched that off.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from ...exceptions import ServerError
from ...process import processes
from ...process.run import heeded
from .control import ServerControl
from .signals import ENDING

#: Seconds between two looks at the log.
_INTERVAL = 0.05


class Output(Protocol):
    def write(self, text: str) -> object: ...
    def flush(self) -> object: ...


@dataclass
class Foreground:
    """What runs in the block of :func:`until_ended`.

    :param starting: set before the server is started: from then on one that runs is ours.
    :param pid: the server's, as soon as it is known.
    """

    control: ServerControl
    output: Output
    starting: bool = False
    pid: int | None = None

    def follow(self, offset: int) -> None:
        """Copy the log to the output, from an offset in bytes, until the server ends.

        :raises ServerError: when it ended without shutting down.
        """
        assert self.pid is not None
        with self.control.files.log.open("r", encoding="utf-8", errors="replace") as log:
            log.seek(offset)
            while True:
                alive = processes.is_alive(self.pid)
                for line in log:
                    self.output.write(line.rstrip("\n"))
                # A pipe is not to wait until a block is full.
                self.output.flush()
                if not alive:
                    break
                time.sleep(_INTERVAL)
        left = self.control.recorded()
        if left is not None and left.pid == self.pid:
            raise ServerError(
                f"{self.control.title} (pid {self.pid}) has ended without shutting down.",
                hints=["the next start recovers what it had not written"],
                log=self.control.files.log,
            )

    def stop(self) -> None:
        server = self.control.running() if self.starting else None
        if server is not None and self.pid in (None, server.process.pid):
            self.control.stop(server)
            # The terminal may be gone.
            with suppress(OSError):
                self.output.write(f"Stopped {self.control.title}")


@contextmanager
def until_ended(control: ServerControl, output: Output) -> Iterator[Foreground]:
    """Stop the server at the end of the block, whatever ends it."""
    ends: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        # The first one ends the block; when others come, the server is being stopped already.
        if not ends:
            ends.append(number)
            # As a shell reports a program that a signal ended; for a server, Ctrl-C is its
            # normal end.
            raise SystemExit(0 if number == signal.SIGINT else 128 + number)

    before = {number: signal.signal(number, end) for number in heeded(ENDING)}
    foreground = Foreground(control, output)
    try:
        try:
            yield foreground
        finally:
            by_signal = bool(ends)
            ends.append(0)
    finally:
        try:
            foreground.stop()
        finally:
            for number, handler in before.items():
                # After a signal the process is about to end; another is to change nothing.
                signal.signal(number, signal.SIG_IGN if by_signal else handler)

"""Programs at one end of a pipe, and us at the other."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from .command import Command
from .run import Completed, run

#: Bytes that a pipe holds, where the system lets us choose, and that are read at a time.
_CAPACITY = 1024 * 1024
#: Seconds between two looks at how far a program has read.
_INTERVAL = 0.5
#: How many such looks until children are looked for again.
_LOOKS_FOR_CHILDREN = 6

T = TypeVar("T")


def feed(command: Command, chunks: Iterable[bytes]) -> Completed:
    """Run a program with ``chunks`` as its standard input; its status is not checked.

    :raises Exception: what ``chunks`` raises, when the program has ended; its input ended there.
    """
    reader, writer = _pipe()
    raised: list[BaseException] = []

    def write() -> None:
        try:
            with open(writer, "wb", buffering=0) as pipe:
                for chunk in chunks:
                    left = memoryview(chunk)
                    while left:
                        left = left[pipe.write(left) :]
        except BrokenPipeError:
            pass  # It has ended before: its status says why.
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=write, daemon=True)
    with open(reader, "rb", buffering=0) as pipe:
        thread.start()
        completed = run(command, stdin=pipe, check=False)
    thread.join()
    if raised:
        raise raised[0]
    return completed


def consume(command: Command, take: Callable[[Iterator[bytes]], T]) -> tuple[Completed, T]:
    """Run a program and hand its standard output to ``take``; its status is not checked.

    :raises Exception: what ``take`` raises, when the program has ended.
    """
    reader, writer = _pipe()
    returned: list[T] = []
    raised: list[BaseException] = []

    def read() -> None:
        try:
            with open(reader, "rb", buffering=0) as pipe:
                returned.append(take(iter(lambda: pipe.read(_CAPACITY), b"")))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=read, daemon=True)
    with open(writer, "wb", buffering=0) as pipe:
        thread.start()
        completed = run(command, stdout=pipe, check=False)
    thread.join()
    if raised:
        raise raised[0]
    return completed, returned[0]


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        # A container's limit may forbid it; then it is only slower.
        with suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _CAPACITY)
    return reader, writer


@contextmanager
def reading_watched(program: str, tell: Callable[[int], None]) -> Iterator[None]:
    """Tell how many bytes our child processes called ``program`` have read from files so far.

    Only Linux counts them for each process; elsewhere nothing is told.
    """
    import psutil

    if not hasattr(psutil.Process, "io_counters"):
        yield
        return
    ended = threading.Event()
    counts: dict[int, int] = {}

    def look() -> None:
        us = psutil.Process()
        readers: list[psutil.Process] = []
        looks = 0
        while not ended.wait(_INTERVAL):
            with suppress(psutil.Error, OSError):
                if looks % _LOOKS_FOR_CHILDREN == 0:
                    # It looks at every process of the machine.
                    readers = [p for p in us.children(recursive=True) if p.name() == program]
                looks += 1
                for reader in readers:
                    # Not what comes over sockets: that is not read but received.
                    counts[reader.pid] = reader.io_counters().read_chars
            tell(sum(counts.values()))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

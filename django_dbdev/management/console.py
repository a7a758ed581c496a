"""What the commands print: facts as they come, progress on a terminal, and what was run."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from django.core.management.base import OutputWrapper
from django.core.management.color import Style

from ..invocation import manage_command
from ..reporting import size

#: Seconds between two lines of progress where no bar can be drawn.
_LINE_INTERVAL = 10.0


class Console:
    """A :class:`django_dbdev.reporting.Reporter` for a command.

    :param verbosity: 0 is silent, 1 tells facts, 2 the programs that are run, 3 what they say.
    """

    def __init__(self, stdout: OutputWrapper, stderr: OutputWrapper, style: Style, verbosity: int):
        self._stdout = stdout
        self._stderr = stderr
        self._style = style
        self._verbosity = verbosity

    def fact(self, text: str) -> None:
        if self._verbosity > 0:
            self._stdout.write(text)
            # A pipe is not to wait until a block is full.
            self._stdout.flush()

    def warning(self, text: str) -> None:
        if self._verbosity > 0:
            self._stderr.write(self._style.WARNING(f"warning: {text}"))

    def next_command(self, arguments: str) -> None:
        """The command that is useful next."""
        self.fact(f"Next: {manage_command()} {arguments}")

    @contextmanager
    def download(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        if self._verbosity > 0 and _is_terminal():
            with _bar(label, total) as progress:
                yield progress
        else:
            yield lambda done: None

    @contextmanager
    def progress(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        if self._verbosity == 0:
            yield lambda done: None
        elif _is_terminal():
            with _bar(label, total) as progress:
                yield progress
        else:
            yield self._lines(label, total)

    def _lines(self, label: str, total: int | None) -> Callable[[int], None]:
        """Progress where no bar can be drawn: a line now and then."""
        started = time.monotonic()
        due = started + _LINE_INTERVAL

        def tell(done: int) -> None:
            nonlocal due
            now = time.monotonic()
            if now >= due:
                due = now + _LINE_INTERVAL
                of = f" of {size(total)}" if total else ""
                rate = size(round(done / (now - started)))
                self._stderr.write(f"{label}: {size(done)}{of}, {rate}/s")

        return tell

    @contextmanager
    def programs_shown(self) -> Iterator[None]:
        """Show programs (verbosity 2) and their output (3) on standard error."""
        if self._verbosity < 2:
            yield
            return
        logger = logging.getLogger("django_dbdev.programs")
        handler = logging.StreamHandler(_stream(self._stderr))
        handler.setFormatter(_ProgramFormatter())
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if self._verbosity == 2 else logging.DEBUG)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def _bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar with bytes and rate on standard error, gone when it is done."""
    from rich.console import Console as Terminal
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), console=Terminal(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)


class _ProgramFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        mark = "$ " if record.levelno == logging.INFO else "  "
        return mark + record.getMessage()


def _stream(wrapper: OutputWrapper) -> IO[str]:
    """Django's wrapper ends each write with a line break of its own, as logging does."""
    wrapped: Any = wrapper._out
    stream: IO[str] = wrapped
    return stream

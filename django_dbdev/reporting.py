"""How work below the commands tells what it does, without printing.

Commands pass a :class:`Reporter` down; what has none to pass takes :data:`SILENT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Reporter(Protocol):
    def fact(self, text: str) -> None:
        """Something is done: one line, past tense, with the time that it took."""

    def warning(self, text: str) -> None:
        """Something that the user should know and that did not stop the work."""

    @contextmanager
    def download(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A progress bar; what it gives is called with the bytes so far.

        ``total`` is in bytes, None where it is not known.
        """
        yield lambda done: None

    @contextmanager
    def progress(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """The same for bytes that are worked on here; where there is no terminal, lines tell."""
        yield lambda done: None


class _Silent:
    def fact(self, text: str) -> None:
        pass

    def warning(self, text: str) -> None:
        pass

    @contextmanager
    def download(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        yield lambda done: None

    @contextmanager
    def progress(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        yield lambda done: None


SILENT: Reporter = _Silent()


def seconds(duration: float) -> str:
    """A duration in seconds, as people read it: ``45ms``, ``1.23s``."""
    return f"{duration * 1000:.0f}ms" if duration < 1 else f"{duration:.2f}s"


def size(count: int) -> str:
    """A number of bytes, as people read it: ``11.4 MB``. Units are powers of ten."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"

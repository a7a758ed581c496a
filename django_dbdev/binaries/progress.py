"""How far a program has come that fetches files and does not tell."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: How often the bytes are counted, in seconds.
_TICK = 0.1


@contextmanager
def counting(
    folder: Path,
    progress: Callable[[int], None],
    combine: Callable[[Iterable[int]], int] = max,
) -> Iterator[None]:
    """Tell ``progress`` the size of what is below ``folder`` while it grows.

    :param combine: of the sizes of all files: ``max`` where one file is written twice, ``sum``
        where there are many.
    """
    ended = threading.Event()

    def count() -> None:
        most = 0
        while not ended.wait(_TICK):
            now = combine([0, *_sizes(folder)])
            if now > most:
                most = now
                progress(most)

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.stat(os.path.join(parent, name)).st_size
            except OSError:
                continue

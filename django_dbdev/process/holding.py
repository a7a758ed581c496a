"""Data that a server works on is held by the kernel's lock on its folder.

The server and its children inherit the lock, and it goes with the last of them. Unlike pids and
ports it means the same in every container of a machine.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Held(Exception):
    """Somebody else holds the folder."""


@contextmanager
def holding(folder: Path) -> Iterator[int | None]:
    """Hold ``folder`` until the block, and all that has inherited the descriptor, has ended.

    Gives the descriptor; None where the file system has no such locks.

    :raises Held: when somebody else holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held from None
        except OSError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether somebody holds ``folder``; False too where it cannot be opened."""
    try:
        with holding(folder):
            return False
    except Held:
        return True
    except OSError:
        return False

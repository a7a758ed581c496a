"""Space kept free while a lot is written.

A server that finds no room for its log goes down, and cannot come up again before there is some:
a load that fills the disk would take the databases with it that it must not touch. So a file
holds some space for as long as the load takes, and goes first when it fails.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ...exceptions import DbdevError, DumpError
from ...reporting import size
from .control import log_since
from .served import Served

#: Bytes that recovery and the removal of the new database have needed at most, several times over.
SIZE = 48 * 10**6


@contextmanager
def held(served: Served) -> Iterator[None]:
    """Hold some space; when the block fails, give it back and see that the server is up.

    :raises DumpError: when not even that is free.
    """
    file = served.scratch.with_name(f"{served.scratch.name}.ballast.new")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, SIZE)
    except OSError as error:
        file.unlink()
        raise DumpError(
            f"There is too little space in {file.parent} to load anything: {error.strerror} "
            f"({size(SIZE)} must be free).",
            hints=["nothing was changed; free some space and run this again"],
        ) from None
    finally:
        os.close(descriptor)
    begun = served.log.stat().st_size if served.log.exists() else 0
    try:
        yield
    except BaseException as error:
        file.unlink(missing_ok=True)
        served.revive()
        # When a process of its own met the full disk, clients are told no more than that it fell.
        full = os.strerror(errno.ENOSPC)
        if isinstance(error, DbdevError) and full in log_since(served.log, begun):
            error.hints = (*error.hints, f"{full}, as the server's log tells: {served.log}")
        raise
    file.unlink(missing_ok=True)

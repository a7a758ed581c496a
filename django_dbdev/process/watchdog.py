"""A process that outlives a command which is killed, and clears up for it.

It reads from a pipe whose other end the command alone has. While the command lives, nothing
comes; the line "done" means that there is nothing left to do; the pipe's end without it means
that the command was killed.

This file is run by its path, and imports nothing but Python's own until it is needed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_DONE = b"done\n"


@contextmanager
def watched(task: dict[str, Any]) -> Iterator[None]:
    """Have ``task`` done when this process is killed before the block ends.

    :param task: what :func:`clear_up` does, for JSON.
    """
    reading, writing = os.pipe()
    settled = json.dumps({"path": sys.path, **task})
    program = (sys.executable, "-I", "-S", __file__, settled)
    with open(os.devnull, "r+b") as nothing:
        pid = os.posix_spawn(
            program[0],
            program,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reading, 0),
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 2),
            ],
            # What ends the command must not end it as well.
            setpgroup=0,
            setsigmask=(),
        )
    os.close(reading)
    try:
        yield
        with suppress(BrokenPipeError):
            os.write(writing, _DONE)
    finally:
        os.close(writing)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.setsid()
    os.chdir("/")
    said = b""
    while part := os.read(0, 64):
        said += part
    if said != _DONE:
        task = json.loads(sys.argv[1])
        sys.path[:] = task["path"]
        # By which those who wait for a lock of ours are told of us.
        sys.argv[:] = ["watchdog", "of a killed dbdev_run"]
        clear_up(task)


def clear_up(task: dict[str, Any]) -> None:
    """Do the tasks ``remove`` (folders, with the servers in them) and ``stop`` (servers).

    ``stop`` is a list of objects for :func:`django_dbdev.process.sharing.stop_if_last`.
    """
    from django_dbdev.process.leftovers import remove_with_servers
    from django_dbdev.process.sharing import stop_if_last

    for folder in task.get("remove", ()):
        remove_with_servers(Path(folder))
        Path(f"{folder}.lock").unlink(missing_ok=True)
    for server in task.get("stop", ()):
        use, lock, datadir = (Path(server[name]) for name in ("use", "lock", "datadir"))
        stop_if_last(use, lock, datadir, server["signal"])


if __name__ == "__main__":
    main()

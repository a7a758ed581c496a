"""Runs a program of Python's and kills at one of its steps: itself, or the servers that it meets.

``python instrument.py manage.py dbdev_init``. A step is whatever changes something outside the
process: a file that is opened for writing, renamed, linked or removed, a folder, a program that is
started, a signal that is sent, a statement that a database is given. It is named by the lines of
django_dbdev that led to it, so that it is the same in every run; Python's audit hooks tell of it
just before it happens.

By the environment: ``RELIABILITY_STEPS`` is a file that is given all steps in order, with how often
each came and whether a server ran at the first; ``RELIABILITY_AT`` is "step#3" for its third time;
``RELIABILITY_VICTIM`` is "command", "server" or "power"; ``RELIABILITY_ROOTS`` is where servers may
work, ``RELIABILITY_DISK`` the folder of the disk that loses its power. ``RELIABILITY_HIT`` is a
file that is made when somebody was killed.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import runpy
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_PACKAGE = "django_dbdev."
_CHANGES = {
    "os.rename",
    "os.link",
    "os.symlink",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.fork",
    "os.kill",
    "sqlite3.connect",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SERVERS = ("postgres", "mariadbd", "mysqld")
#: ``EXT4_IOC_SHUTDOWN``, and its flag that leaves the journal as it is; source: linux/ext4.h.
_SHUTDOWN, _AS_IT_IS = 0x8004587D, 2


def server_processes(roots: list[Path]) -> list[Any]:
    """The servers that work below one of the folders, without their children."""
    import psutil

    found = {}
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error, OSError):
            if not (process.info["name"] or "").lstrip(".").startswith(SERVERS):
                continue
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            cwd = Path(os.readlink(f"/proc/{process.pid}/cwd"))
            if any(cwd.is_relative_to(root) for root in roots):
                found[process.pid] = process
    mothers = []
    for process in found.values():
        with suppress(psutil.Error):
            if process.ppid() not in found:
                mothers.append(process)
    return mothers


def cut_power(folder: str | Path) -> None:
    """Write nothing more to the disk of ``folder``, not even what the kernel has in memory."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _AS_IT_IS))
    finally:
        os.close(descriptor)


class Instrument:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.counts: dict[str, int] = {}
        self.served: dict[str, bool] = {}
        self.at, _, number = os.environ.get("RELIABILITY_AT", "").rpartition("#")
        self.number = int(number or 0)
        self.victim = os.environ.get("RELIABILITY_VICTIM", "command")
        self.roots = [Path(p) for p in os.environ.get("RELIABILITY_ROOTS", "").split(os.pathsep)]
        self.steps = os.environ.get("RELIABILITY_STEPS", "")
        self.busy = False
        sys.addaudithook(self.audit)
        os.register_at_fork(after_in_parent=lambda: self.come_to("forked"))
        if self.steps:
            atexit.register(self.write)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if not isinstance(flags, int) or not flags & _WRITING or path == os.devnull:
                return
        elif event not in _CHANGES or (event == "os.kill" and args[1] == 0):
            return
        self.come_to(event)

    def come_to(self, event: str) -> None:
        if self.busy or os.getpid() != self.pid:
            return
        places = list(dict.fromkeys(self.places()))
        if not places:
            return
        step = " < ".join([event, *places])
        count = self.counts[step] = self.counts.get(step, 0) + 1
        if self.steps and count == 1:
            self.busy = True
            self.served[step] = bool(server_processes(self.roots))
            self.busy = False
        if step == self.at and count == self.number:
            self.kill()

    @staticmethod
    def places() -> Any:
        frame = sys._getframe(2)
        while frame is not None:
            name = frame.f_globals.get("__name__", "")
            if name.startswith(_PACKAGE):
                where = f"{name.removeprefix(_PACKAGE)}.{frame.f_code.co_qualname}"
                yield f"{where}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]

    def kill(self) -> None:
        self.busy = True
        hit = Path(os.environ["RELIABILITY_HIT"])
        if self.victim == "power":
            cut_power(os.environ["RELIABILITY_DISK"])
        if self.victim != "server":
            hit.write_text(self.victim)
            os.kill(self.pid, signal.SIGKILL)
        import psutil

        victims = server_processes(self.roots)
        for process in victims:
            process.kill()
            with suppress(psutil.NoSuchProcess):
                # Its mother may be we, who have not looked yet.
                while process.status() != psutil.STATUS_ZOMBIE:
                    pass
        if victims:
            hit.write_text("server")
        self.busy = False

    def write(self) -> None:
        if os.getpid() == self.pid:
            steps = [[step, count, self.served[step]] for step, count in self.counts.items()]
            Path(self.steps).write_text(json.dumps(steps))


def _watch_statements(instrument: Instrument) -> None:
    """Drivers in C tell nobody of what they send."""
    with suppress(ImportError):
        import psycopg

        execute = psycopg.Cursor.execute

        def told(self: Any, *args: Any, **kwargs: Any) -> Any:
            instrument.come_to("statement")
            return execute(self, *args, **kwargs)

        psycopg.Cursor.execute = told  # type: ignore[method-assign]
    with suppress(ImportError):
        from pymysql.connections import Connection

        query = Connection.query

        def told_too(self: Any, *args: Any, **kwargs: Any) -> Any:
            instrument.come_to("statement")
            return query(self, *args, **kwargs)

        Connection.query = told_too


if __name__ == "__main__":
    import psutil  # noqa: F401 -- not while a step is looked at

    _watch_statements(Instrument())
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")

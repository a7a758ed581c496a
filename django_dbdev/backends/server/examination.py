"""What dbdev_doctor looks at in one server: its programs, files, port and socket."""

from __future__ import annotations

import glob
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...backups.names import SAFETY, places
from ...backups.replace import discard, is_broken
from ...binaries.lock import read_lock
from ...exceptions import DbdevError, LockError
from ...findings import ERROR, NOTE, WARNING, Finding
from ...process import ports
from ...process.leftovers import working_in
from ...process.locking import exclusive
from ..base import A_TIME

if TYPE_CHECKING:
    from .backend import ServerBackend

#: What nobody but the owner may do with data and passwords.
_CLOSED = 0o077


def examine(backend: ServerBackend) -> Iterator[Finding]:
    yield from _settings(backend)
    yield from _server(backend)
    yield from _permissions(backend)
    yield from _leftovers(backend)


def _settings(backend: ServerBackend) -> Iterator[Finding]:
    try:
        backend.check()
    except DbdevError as error:
        yield Finding(ERROR, backend.server_name, error.message, error.hints)
        return
    yield from _lock(backend)
    toolchain, problem = backend.installed_toolchain()
    if problem:
        yield Finding(ERROR, backend.server_name, problem)
    elif toolchain is None:
        text = f"{backend.pin.requirement} is not here yet"
        yield Finding(NOTE, backend.server_name, text, ("dbdev_init fetches it",))
    elif backend.files.is_cluster():
        try:
            backend.check_cluster(toolchain)
        except DbdevError as error:
            yield Finding(ERROR, backend.server_name, error.message, error.hints)


def _lock(backend: ServerBackend) -> Iterator[Finding]:
    """Under --locked a lock that does not fit is an error; without it is written anew."""
    file, requirement = backend.sources().lock, backend.pin.requirement
    lock = None
    with suppress(LockError):  # Of a damaged one the doctor tells by itself.
        lock = read_lock(file)
    entry = None if lock is None else lock.get(*backend.lock_key)
    if entry is not None and not entry.satisfies(requirement):
        text = f"{file} has {entry}, and {requirement} is pinned"
        yield Finding(WARNING, backend.server_name, text, ("dbdev_lock writes it anew",))


def _server(backend: ServerBackend) -> Iterator[Finding]:
    name = backend.server_name
    try:
        server = backend.control.running()
    except DbdevError as error:
        yield Finding(ERROR, name, error.message, error.hints)
        return
    if server is None and backend.control.is_held():
        elsewhere = backend.control.held_elsewhere()
        yield Finding(ERROR, name, elsewhere.message, elsewhere.hints)
        return
    if server is None:
        pid_file = backend.control.pid_file
        if pid_file.exists():
            yield Finding(
                WARNING,
                name,
                f"{pid_file} is left of a server that is gone",
                ("the next start recovers what it had not written",),
                partial(_remove_pid_file, backend),
            )
        if not ports.is_free(backend.port):
            yield Finding(
                WARNING,
                name,
                f"port {backend.port} is taken by {ports.owner(backend.port)}",
                ("dbdev_init takes another where the port was not chosen by you",),
            )
        return
    if server.port != backend.port:
        yield Finding(
            WARNING,
            name,
            f"it runs on port {server.port}, and DATABASES has {backend.port}",
            ("restart it: dbdev_stopserver, then dbdev_startserver",),
        )
    for reason in backend.info().restart_reasons:
        hint = "restart it: dbdev_stopserver, then dbdev_startserver"
        yield Finding(WARNING, name, f"a restart is due: {reason}", (hint,))


def _remove_pid_file(backend: ServerBackend) -> None:
    """Under the lock, and only where nothing works on the data: its children may outlive it."""
    with exclusive(backend.files.lock, reporter=backend.reporter):
        control = backend.control
        if control.running() is None and not (
            control.is_held() or working_in(backend.files.datadir)
        ):
            control.pid_file.unlink(missing_ok=True)


def _permissions(backend: ServerBackend) -> Iterator[Finding]:
    files = backend.files
    for path in (files.datadir, files.passfile, files.log, Path(backend.root_backupdir)):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & _CLOSED:
            yield Finding(
                WARNING,
                backend.server_name,
                f"others may look into {path} ({mode:04o})",
                fix=partial(path.chmod, mode & ~_CLOSED),
            )


def _leftovers(backend: ServerBackend) -> Iterator[Finding]:
    name, datadir = backend.server_name, backend.files.datadir
    if is_broken(datadir):
        yield Finding(
            WARNING,
            name,
            "a restore or upgrade was killed between two renames",
            fix=partial(_mend, backend),
        )
    hidden = sorted(p.name for p in datadir.parent.glob(f".{glob.escape(name)}.{A_TIME}*.new"))
    if hidden:
        yield Finding(
            NOTE,
            name,
            f"left of commands that were killed: {', '.join(hidden)}",
            fix=partial(_mend, backend),
        )
    for aside in sorted(datadir.parent.glob(f"{name}.*.unfinished")):
        text = f"{aside} was moved aside, since it held no whole cluster"
        yield Finding(NOTE, name, text, ("look whether you need it, and remove it",))
    unfinished = [
        place.directory
        for place in places(Path(backend.root_backupdir))
        if not place.is_finished and place.name != SAFETY
    ]
    for directory in unfinished:
        yield Finding(
            WARNING,
            name,
            f"{directory} is a backup that was never finished",
            fix=partial(_discard, backend, directory),
        )


def _mend(backend: ServerBackend) -> None:
    with backend.working_alone():
        """Mended by that."""


def _discard(backend: ServerBackend, directory: Path) -> None:
    # A backup that is being made holds the lock.
    with exclusive(backend.files.lock, reporter=backend.reporter):
        if not (directory / "manifest.json").exists():
            discard(directory)

"""The servers of a project, up for as long as something needs them.

Either the project's own, started where they do not run and stopped again by whoever needs them
last; or ephemeral ones: copies of pristine clusters in a folder of their own, on ports of their
own, without durability. Those are gone afterwards whatever happens: at the end of the block; by
a watchdog when the process is killed; by the next session when the watchdog was killed as well.

What runs on ephemeral servers has ``DBDEV_DATADIR`` and ``DBDEV_EPHEMERAL`` in its environment:
from these DBSETTINGS takes ports and file, and the app's ``ready`` sets those of other aliases.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import conf
from .backends.base import make_tempdata
from .backends.variables import variables
from .exceptions import ConfigurationError, ServerError
from .process import ports
from .process.sharing import Use, using
from .process.watchdog import watched
from .records import record_port
from .reporting import Reporter, seconds
from .servers import (
    Caller,
    memory_aliases,
    server_ports,
    servers_of,
    sqlite_files,
    use_file,
)

if TYPE_CHECKING:
    from .backends.base import BaseDbdevBackend

#: Below the folder for state: one folder for each session, and its lock beside it.
FOLDER = "ephemeral"
#: How often a port that somebody else took first is replaced by another.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Up:
    """Servers that are up.

    :param environment: what makes programs meet them; ``PATH`` has the pinned ones first.
    :param servers: what runs, in words: "PostgreSQL 18.6 on 127.0.0.1:30123".
    """

    environment: Mapping[str, str]
    servers: tuple[str, ...]


class _Quiet:
    """Tells warnings and progress, and of facts nothing: the session has its own."""

    def __init__(self, reporter: Reporter) -> None:
        self.warning = reporter.warning
        self.download = reporter.download
        self.progress = reporter.progress

    def fact(self, text: str) -> None:
        pass


@contextmanager
def servers_up(aliases: Iterable[str], caller: Caller, *, ephemeral: bool) -> Iterator[Up]:
    """Have the servers of ``aliases`` up until the block ends.

    :raises ConfigurationError: when none of the aliases has a server or file of ours.
    """
    started = time.perf_counter()
    # What is in memory is there without us.
    chosen = [alias for alias in aliases if alias not in memory_aliases()]
    with ExitStack() as stack:
        if ephemeral:
            stack.enter_context(_own_state())
        calling = replace(caller, reporter=_Quiet(caller.reporter))
        backends = [b for b in servers_of(chosen, calling) if b.has_info]
        if not backends:
            raise ConfigurationError("No alias in DATABASES has a server of this project.")
        if ephemeral:
            backends = stack.enter_context(_bring_up_own(chosen, backends, calling))
        else:
            stack.enter_context(_bring_up_shared(backends))
        up = _describe(backends)
        took = seconds(time.perf_counter() - started)
        for server in up.servers:
            caller.reporter.fact(f"{server}{', ephemeral,' if ephemeral else ''} is up in {took}")
        yield up


def _describe(backends: list[BaseDbdevBackend]) -> Up:
    infos = [backend.info() for backend in backends]
    environment = variables(infos, conf.tempdata() / "prefix")
    for name in ("DBDEV_DATADIR", conf.EPHEMERAL):
        if name in os.environ:
            environment[name] = os.environ[name]
    servers = []
    for info in infos:
        where = f" on {info.host}:{info.port}" if info.has_server else ""
        servers.append(f"{info.engine} {info.version or ''}{where}".strip())
    return Up(environment, tuple(servers))


# The project's own servers.


@contextmanager
def _bring_up_shared(backends: list[BaseDbdevBackend]) -> Iterator[None]:
    served: list[Any] = [backend for backend in backends if backend.has_server]
    make_tempdata(conf.tempdata())
    with ExitStack() as stack:
        tasks = [
            {
                "use": str(backend.files.use),
                "lock": str(backend.files.lock),
                "datadir": str(backend.files.datadir),
                "signal": int(backend.control.stop_signal),
            }
            for backend in served
        ]
        stack.enter_context(watched({"stop": tasks}))
        for backend in served:
            use = stack.enter_context(using(backend.files.use))
            stack.callback(_leave, backend, use)
            if (pid := backend.bring_up()) is not None:
                use.note_started(pid)
        yield


def _leave(backend: Any, use: Use) -> None:
    if not use.is_last() or use.started() is None or not backend.tempdata.exists():
        return
    with backend.working_alone():
        pid = use.left_last()
        server = backend.control.running()
        if server is not None and server.process.pid == pid:
            backend.stop(server)


# Ephemeral servers.


@contextmanager
def _own_state() -> Iterator[None]:
    """A folder for state that is this process's alone, and gone at the end of the block."""
    from filelock import FileLock

    from .process.leftovers import remove, remove_with_servers

    state = conf.tempdata()
    parent = state / FOLDER
    make_tempdata(state)
    parent.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        # A server's own account passes through; what is in there keeps its own modes.
        for folder in (state, parent):
            folder.chmod(folder.stat().st_mode | 0o011)
    sweep(parent)
    own = parent / f"{os.getpid()}-{random.randrange(16**6):06x}"  # nosec B311 # a name
    with FileLock(_lock_of(own), mode=0o600):
        with watched({"remove": [str(own)]}), _moved_to(own, state) as files:
            own.mkdir(mode=0o700)
            for file in files:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            prefix = state / "prefix"
            prefix.mkdir(mode=0o700, exist_ok=True)
            (own / "prefix").symlink_to(prefix)
            try:
                yield
            except BaseException:
                remove_with_servers(own)
                raise
            remove(own)
        _lock_of(own).unlink(missing_ok=True)


def sweep(parent: Path) -> list[Path]:
    """Remove what sessions have left that were killed together with their watchdog."""
    from filelock import FileLock, Timeout

    from .process.leftovers import remove_with_servers

    removed = []
    for lock in parent.glob("*.lock"):
        folder = lock.with_suffix("")
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):
            if folder.exists():
                remove_with_servers(folder)
                removed.append(folder)
            lock.unlink(missing_ok=True)
    return removed


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextmanager
def _moved_to(own: Path, state: Path) -> Iterator[Iterable[Path]]:
    """Have this process work on ``own`` in the place of ``state``, and forget it afterwards.

    Gives the databases that are files, in folders that are not made yet.

    :raises ConfigurationError: when one of them cannot be moved.
    """
    from django.db import connections

    names = ("DBDEV_DATADIR", conf.EPHEMERAL)
    before = {name: os.environ.get(name) for name in names}
    kept = {alias: dict(settings) for alias, settings in conf.databases().items()}
    files = _own_files(own, state)
    # Who is not chosen keeps the project's own server.
    places = {**server_ports(), **{alias: str(file) for alias, file in files.items()}}
    os.environ.update({"DBDEV_DATADIR": str(own), conf.EPHEMERAL: json.dumps(places)})
    try:
        for connection in connections.all(initialized_only=True):
            if connection.alias in files:
                # What apps asked while Django was set up is done.
                connection.close()
        for alias, file in files.items():
            use_file(alias, file)
        yield files.values()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for alias, settings in conf.databases().items():
            if isinstance(settings, dict):
                settings.update(kept[alias])


def _own_files(own: Path, state: Path) -> dict[str, Path]:
    """A file below ``own`` for each alias that is SQLite's; aliases of one file share it."""
    found: dict[Path, Path] = {}
    files = {}
    for alias, file in sqlite_files().items():
        file = file.resolve()
        if file.is_relative_to(state.resolve()):
            # Where DBSETTINGS looks for it.
            place = own / file.relative_to(state.resolve())
        else:
            place = own / "files" / str(len(found)) / file.name
        files[alias] = found.setdefault(file, place)
    return files


@contextmanager
def _bring_up_own(
    chosen: list[str], backends: list[BaseDbdevBackend], caller: Caller
) -> Iterator[list[BaseDbdevBackend]]:
    """Ports first, for all: which aliases share a server must not depend on the new ports."""
    numbers = iter(random.sample(conf.EPHEMERAL_PORTS, len(conf.EPHEMERAL_PORTS)))  # nosec B311
    found: dict[str, int] = {}
    for backend in backends:
        if backend.has_server:
            _give_port(backend, _next_free(numbers), found)
    # Their names follow from the ports, and so may have changed.
    fresh = [backend for backend in servers_of(chosen, caller) if backend.has_info]
    with ExitStack() as stack:
        for backend in fresh:
            if backend.has_server:
                stack.callback(_discard, backend)
                _start_own(backend, numbers, found)
            else:
                backend.init()
        yield fresh


def _discard(backend: Any) -> None:
    if (server := backend.control.running()) is not None:
        backend.control.stop(server, discard=True)


def _start_own(backend: BaseDbdevBackend, numbers: Iterator[int], found: dict[str, int]) -> None:
    for _ in range(_ATTEMPTS):
        port = found[backend.alias]
        record_port(conf.tempdata(), backend.server_name, port)
        try:
            backend.bring_up()
            return
        except ServerError:
            if ports.is_free(port):
                raise
            # Somebody else was faster.
            _give_port(backend, _next_free(numbers), found)
    raise ServerError(f"No port was to be had for {backend.server_name} in {_ATTEMPTS} attempts.")


def _give_port(backend: BaseDbdevBackend, port: int, found: dict[str, int]) -> None:
    for alias in backend.server_aliases:
        found[alias] = port
        settings = conf.databases()[alias]
        if isinstance(settings, dict):
            settings["PORT"] = port
    os.environ[conf.EPHEMERAL] = json.dumps({**conf.ephemeral_places(), **found})


def _next_free(numbers: Iterator[int]) -> int:
    for port in numbers:
        if ports.is_free(port):
            return port
    raise ServerError("No port is free for an ephemeral server.")

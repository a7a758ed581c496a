"""Everything about a project that decides whether its servers work, looked at once.

Nothing is fetched, started or changed, except by the fixes that a finding carries.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from . import conf
from .backends.base import BaseDbdevBackend
from .backends.info import ServerInfo, tree_size
from .binaries.lock import Lock, read_lock
from .binaries.store import Store
from .binaries.upkeep import TREES, items, unused
from .checks import keeps_out_of_git
from .exceptions import DbdevError
from .findings import ERROR, NOTE, WARNING, Finding
from .process.leftovers import servers_by_folder
from .records import write_atomically
from .registry import backendregistry
from .reporting import size
from .session import FOLDER, sweep

#: How many facts are about the project as a whole, each with a topic of its own.
_GENERAL = 5
#: Bytes. A new cluster takes about 40 MB, and loading a dump asks for 48 MB besides it.
_LITTLE = 100 * 10**6


@dataclass
class Examination:
    """What there is, and what is wrong.

    :param facts: a topic and what there is to say of it, in the order of importance.
    :param digest: equal where the same programs and configuration are used; empty where there
        are none yet. Hexadecimal.
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    servers: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    digest: str = ""

    @property
    def is_healthy(self) -> bool:
        return all(finding.level == NOTE for finding in self.findings)

    def as_json(self) -> str:
        return json.dumps(
            {
                "healthy": self.is_healthy,
                "digest": self.digest,
                "facts": dict(self.facts[:_GENERAL]),
                "servers": self.servers,
                "findings": [
                    {
                        "level": finding.level,
                        "subject": finding.subject,
                        "text": finding.text,
                        "hints": list(finding.hints),
                        "fixable": finding.fix is not None,
                    }
                    for finding in self.findings
                ],
            },
            indent=2,
            default=str,
        )


def examine(backends: Callable[[], Iterable[BaseDbdevBackend]]) -> Examination:
    """:param backends: gives those of the project; called after what it rests on was looked at."""
    found = Examination()
    try:
        project = conf.project()
    except DbdevError as error:
        found.findings.append(_problem("pyproject.toml", error))
        return found
    where = project.pyproject if project.pyproject.exists() else project.root
    found.facts.append(("project", str(where) if project.found else f"none at {project.root}"))
    pins = ", ".join(str(pin.requirement) for pin in project.pins)
    found.facts.append(("pins", pins or "none: any version will do"))
    _examine_lock(project.lock, found)
    _examine_state(conf.tempdata(), found)
    _examine_store(Store(conf.store()), found)
    digests: dict[str, dict[str, str]] = {}
    for backend in _known(backends, found):
        _examine_server(backend, found, digests)
    _examine_others(conf.tempdata(), found)
    if digests:
        text = json.dumps(digests, sort_keys=True)
        found.digest = hashlib.sha256(text.encode()).hexdigest()
    return found


def _problem(subject: str, error: DbdevError, level: str = ERROR) -> Finding:
    return Finding(level, subject, error.message, error.hints)


def _known(
    backends: Callable[[], Iterable[BaseDbdevBackend]], found: Examination
) -> Iterable[BaseDbdevBackend]:
    try:
        return list(backends())
    except DbdevError as error:
        found.findings.append(_problem("DATABASES", error))
        return []


def _examine_lock(file: Path, found: Examination) -> None:
    try:
        lock = read_lock(file)
    except DbdevError as error:
        found.findings.append(_problem("lock", error))
        return
    entries = ", ".join(f"{name} {entry}" for name, entry in (lock or Lock()).entries().items())
    found.facts.append(("lock", f"{file}: {entries}" if lock else "none"))


def _examine_state(folder: Path, found: Examination) -> None:
    if not folder.exists():
        found.facts.append(("data", f"nothing yet at {folder}"))
        return
    found.facts.append(("data", f"{folder}, {size(tree_size(folder))}"))
    if not keeps_out_of_git(folder):
        text = "# Made by django_dbdev: local to this machine.\n*\n"
        found.findings.append(
            Finding(
                WARNING,
                "data",
                f"{folder} is not ignored by git",
                fix=partial(write_atomically, folder / ".gitignore", text),
            )
        )
    _examine_space("data", folder, found)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o066:
        found.findings.append(
            Finding(
                WARNING,
                "data",
                f"others may look into {folder} ({mode:04o})",
                fix=partial(folder.chmod, mode & ~0o066),
            )
        )
    sessions = folder / FOLDER
    left = [lock for lock in sessions.glob("*.lock") if _is_free(lock)]
    if left:
        found.findings.append(
            Finding(
                WARNING,
                "data",
                f"{len(left)} ephemeral servers are left of runs that were killed",
                fix=partial(sweep, sessions),
            )
        )


def _examine_space(subject: str, folder: Path, found: Examination) -> None:
    free = shutil.disk_usage(folder).free
    if free < _LITTLE:
        text = f"the disk is full: {size(free)} are free at {folder}"
        hints = ("dbdev_clearbackups and dbdev_store prune free some",)
        found.findings.append(Finding(WARNING, subject, text, hints))


def _is_free(lock: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            return True
    except (Timeout, OSError):
        return False


def _examine_store(store: Store, found: Examination) -> None:
    if store.root.is_dir():
        _examine_space("store", store.root, found)
    kept = items(store)
    total = size(sum(item.size for item in kept))
    programs = sum(item.kind == TREES for item in kept)
    found.facts.append(
        (
            "store",
            f"{store.root}, {total}: {programs} sets of programs, "
            f"{len(kept) - programs} pristine clusters",
        )
    )
    if idle := unused(kept, time.time()):
        freed = size(sum(item.size for item in idle))
        text = f"{freed} of the store are used by no project"
        found.findings.append(Finding(NOTE, "store", text, ("dbdev_store prune removes them",)))


def _examine_server(
    backend: BaseDbdevBackend, found: Examination, digests: dict[str, dict[str, str]]
) -> None:
    name = backend.server_name if backend.shares_server else backend.alias
    if not backend.has_info:
        found.facts.append((name, "a backend of the project's own"))
        return
    try:
        info = backend.info()
    except DbdevError as error:
        found.findings.append(_problem(name, error))
        return
    declined = list(backend.declined()) if backend.has_examination else []
    found.facts += [(name, text) for text in _lines(info)]
    found.facts += [(name, f"not from {provider}: {reason}") for provider, reason in declined]
    found.servers.append(
        {
            "server": name,
            "aliases": list(info.databases),
            "engine": info.engine,
            "version": info.version,
            "provider": info.provider,
            "running": info.running,
            "port": info.port,
            "socket": info.socket,
            "datadir": info.datadir,
            "declined": [{"provider": who, "reason": why} for who, why in declined],
        }
    )
    if backend.has_examination:
        found.findings += backend.examine()
        try:
            if own := dict(backend.digests()):
                digests[name] = own
        except (DbdevError, OSError) as error:
            found.findings.append(Finding(ERROR, name, str(error)))


def _examine_others(folder: Path, found: Examination) -> None:
    """Servers of aliases that these settings do not have, as after a switch of branches."""
    databases, known = conf.databases(), set()
    for alias in databases:
        with suppress(DbdevError):
            known.add(backendregistry.server_of(alias, databases).name)
    for datadir, process in servers_by_folder(folder).items():
        if datadir.name in known or datadir.name.startswith("."):
            continue
        with suppress(psutil.Error):
            name = process.name()
            ending = "INT" if "post" in name else "TERM"
            found.findings.append(
                Finding(
                    NOTE,
                    datadir.name,
                    f"{name} (pid {process.pid}) runs, for no alias of these settings",
                    (
                        "where its alias is, as on another branch, dbdev_stopserver stops it",
                        f"or end it: kill -{ending} {process.pid}",
                    ),
                )
            )


def _lines(info: ServerInfo) -> Iterator[str]:
    programs = f"{info.engine} {info.version or ''}".strip()
    source = f" from {info.provider}" if info.provider else ", no programs yet"
    state = f"running (pid {info.pid})" if info.running else "not running"
    if not info.initialised:
        state = "not initialised"
    elif not info.has_server:
        state = "a file"
    yield f"{programs}{source}, {state}; for {', '.join(info.databases)}"
    if info.has_server:
        yield f"port {info.port}, socket {info.socket}"

"""What there is to know of a server, for ``dbdev_serverinfo`` in every format."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..reporting import size


@dataclass(frozen=True)
class ServerInfo:
    """One alias's server.

    :param databases: the aliases that share it, with the name of each one's database.
    :param programs: absolute paths by name.
    :param environment: what makes client programs meet the server (DATABASE_URL, PGHOST, …).
    :param url: without the password.
    :param size: bytes of the data directory; None where there is none.
    :param uptime: seconds; None where the server does not run.
    :param problem: why something is not known; empty when all is.
    :param restart_reasons: why a restart is due, in words; empty when none is.
    :param extensions: those of the pin that the running server's database has, with versions.
    """

    alias: str
    engine: str
    running: bool
    initialised: bool
    datadir: Path
    databases: Mapping[str, str]
    pid: int | None = None
    version: str | None = None
    provider: str | None = None
    programs: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    host: str = ""
    port: int | None = None
    socket: Path | None = None
    log: Path | None = None
    size: int | None = None
    uptime: float | None = None
    restart_reasons: Sequence[str] = ()
    problem: str = ""
    has_server: bool = True
    extensions: Mapping[str, str] = field(default_factory=dict)


def tree_size(folder: Path) -> int:
    """The bytes of all files below ``folder``; files that vanish meanwhile do not count."""
    total = 0
    stack = [folder]
    while stack:
        try:
            entries = list(stack.pop().iterdir())
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.lstat()
            except OSError:
                continue
            if entry.is_dir() and not entry.is_symlink():
                stack.append(entry)
            else:
                total += status.st_size
    return total


def describe(info: ServerInfo) -> str:
    """The information as lines of a name and a value."""
    lines: list[tuple[str, object]] = [("alias", info.alias)]
    shared = [alias for alias in info.databases if alias != info.alias]
    if shared:
        lines.append(("shared with", ", ".join(shared)))
    if not info.has_server:
        missing = "" if info.initialised else " that does not exist yet"
        lines.append(("server", f"none: the database is a file{missing}"))
    elif info.running:
        lines.append(("server", f"running (pid {info.pid})"))
    else:
        lines.append(("server", "not running" if info.initialised else "not initialised"))
    version = f"{info.engine} {info.version or ''}".strip()
    lines.append(("version", f"{version} from {info.provider}" if info.provider else version))
    if info.extensions:
        had = (f"{name} {version}" for name, version in info.extensions.items())
        lines.append(("extensions", ", ".join(had)))
    if info.problem:
        lines.append(("problem", info.problem))
    lines += [(label, value) for label, value in _places(info) if value not in (None, "")]
    lines += [("restart due", reason) for reason in info.restart_reasons]
    return "\n".join(f"{label + ':':<14}{value}" for label, value in lines)


def _places(info: ServerInfo) -> list[tuple[str, object]]:
    program = next(iter(info.programs.values()), None)
    return [
        ("programs", program.parent if program else None),
        ("data", info.datadir),
        ("size", size(info.size) if info.size is not None else None),
        ("log", info.log),
        ("url", info.url),
        ("socket", info.socket),
        ("uptime", _duration(info.uptime) if info.uptime is not None else None),
    ]


def as_json(info: ServerInfo) -> str:
    """All fields but ``environment``, which holds the password; paths as text."""
    fields = {name: value for name, value in vars(info).items() if name != "environment"}
    return json.dumps(fields, indent=2, default=_plain)


def as_environment(info: ServerInfo) -> str:
    """Lines for a POSIX shell's ``eval``."""
    return "\n".join(
        f"export {name}={shlex.quote(value)}" for name, value in info.environment.items()
    )


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _duration(amount: float) -> str:
    minutes, whole = divmod(int(amount), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"

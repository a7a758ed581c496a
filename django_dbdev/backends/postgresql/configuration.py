"""The files that configure a cluster, and whether they are as they should be.

postgresql.conf and pg_hba.conf are rendered from templates and are the same on every machine.
What belongs to this machine stands apart: dbdev_local.conf (port, socket) and pg_ident.conf
(the account that runs the server).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import config
from ...exceptions import ConfigurationError
from ...pins import Pin
from ...records import write_atomically
from .commands import SUPERUSER

LOCAL = "dbdev_local.conf"
_TEMPLATES = {
    "postgresql.conf": "postgresql/postgresql.conf.j2",
    "pg_hba.conf": "postgresql/pg_hba.conf.j2",
}
#: Settings that the server's identity and safety rest on, with what to use instead.
_RESERVED = {
    "port": "`port` beside `settings`, or PORT in DATABASES",
    "listen_addresses": "nothing: servers for development listen on loopback only",
    "unix_socket_directories": "nothing: the folder is chosen so that its path is short enough",
    "data_directory": "DBDEV_DATADIR",
    "config_file": "a template in DBDEV_TEMPLATE_DIRS",
    "hba_file": "a template in DBDEV_TEMPLATE_DIRS",
    "ident_file": "nothing",
    "external_pid_file": "nothing",
    "include": "a template in DBDEV_TEMPLATE_DIRS",
    "include_dir": "a template in DBDEV_TEMPLATE_DIRS",
    "include_if_exists": "a template in DBDEV_TEMPLATE_DIRS",
    "fsync": "synchronous_commit, which cannot corrupt data",
    "full_page_writes": "synchronous_commit, which cannot corrupt data",
}


@dataclass(frozen=True)
class Configuration:
    """What a server's configuration is rendered from.

    :param account: the system account that the server sees connecting as its superuser.
    """

    major: int
    settings: Mapping[str, Any]
    template_dirs: Sequence[Path]
    port: int
    socket_directory: Path
    accounts: tuple[str, ...]

    def _values(self) -> dict[str, Any]:
        return {"major": self.major, "settings": dict(self.settings)}

    def _local_files(self) -> dict[str, bytes]:
        socket = str(self.socket_directory).replace('"', '""')
        value = config.postgresql_value
        return {
            LOCAL: (
                "# This machine's own. Written by django_dbdev at every start.\n"
                f"port = {self.port}\n"
                f"unix_socket_directories = {value(socket)}\n"
            ).encode(),
            "pg_ident.conf": (
                "# MAPNAME  SYSTEM-USERNAME  DATABASE-USERNAME\n"
                + "".join(f"dbdev  {_ident(name)}  {SUPERUSER}\n" for name in self.accounts)
            ).encode(),
        }

    def write(self, datadir: Path) -> list[str]:
        """Bring the files in ``datadir`` up to date; the names of those that changed."""
        changed = []
        for name, template in _TEMPLATES.items():
            file = datadir / name
            values = self._values()
            if config.is_current(_read(file), template, values, self.template_dirs):
                continue
            content = config.render(template, values, self.template_dirs)
            if name == "postgresql.conf" and LOCAL.encode() not in content:
                raise ConfigurationError(
                    f"The project's template {template} leaves out the port and the socket.",
                    hints=[f"end it with: include_if_exists = '{LOCAL}'"],
                )
            write_atomically(file, content)
            changed.append(name)
        return changed + self.write_local(datadir)

    def write_local(self, datadir: Path) -> list[str]:
        """As :meth:`write`, for what belongs to this machine alone."""
        changed = []
        for name, content in self._local_files().items():
            if _read(datadir / name) != content:
                write_atomically(datadir / name, content)
                changed.append(name)
        return changed

    def rendered(self) -> dict[str, bytes]:
        """The files that are the same on every machine, by name."""
        return {
            name: config.render(template, self._values(), self.template_dirs)
            for name, template in _TEMPLATES.items()
        }

    def outdated(self, datadir: Path) -> list[str]:
        """The names of files that :meth:`write` would change."""
        rendered = [
            name
            for name, template in _TEMPLATES.items()
            if not config.is_current(
                _read(datadir / name), template, self._values(), self.template_dirs
            )
        ]
        local = [
            name
            for name, content in self._local_files().items()
            if _read(datadir / name) != content
        ]
        return rendered + local


def check_settings(pin: Pin) -> None:
    """Refuse settings of the pin that are not the pin's to make.

    :raises ConfigurationError: naming the first.
    """
    for name in pin.settings:
        if name.lower() in _RESERVED:
            raise ConfigurationError(
                f"{pin.key}.settings.{name} cannot be set there.",
                hints=[f"use {_RESERVED[name.lower()]}"],
            )


def password_file(host: str, port: int, users: Iterable[tuple[str, str]]) -> bytes:
    """The lines of a pgpass file for (user, password) pairs."""
    lines = {
        ":".join(
            field.replace("\\", "\\\\").replace(":", "\\:")
            for field in (host, str(port), "*", user, password)
        )
        for user, password in users
    }
    return "".join(f"{line}\n" for line in sorted(lines)).encode()


def _ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None

"""The option files of a server, and whether they are as they should be.

my.cnf is rendered from a template, is the same on every machine, and is the only one that the
server reads. What belongs to this machine stands apart, in dbdev_local.cnf, which it includes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import config
from ...exceptions import ConfigurationError
from ...pins import Pin
from ...records import write_atomically

CONFIG = "my.cnf"
LOCAL = "dbdev_local.cnf"
_TEMPLATE = "mysql/my.cnf.j2"
#: What a cluster is made with, and never changes after.
INITIAL = ("innodb_page_size", "lower_case_table_names")
_ELSEWHERE = "a template in DBDEV_TEMPLATE_DIRS"
#: Settings that the server's identity and safety rest on, with what to use instead.
_RESERVED = {
    "port": "`port` beside `settings`, or PORT in DATABASES",
    "bind_address": "nothing: servers for development listen on loopback only",
    "mysqlx": "nothing: it listens on every address",
    "admin_address": "nothing: servers for development listen on loopback only",
    "socket": "nothing: the folder is chosen so that its path is short enough",
    "datadir": "DBDEV_DATADIR",
    "basedir": "DBDEV_MYSQL_BASEDIR",
    "user": "nothing: it runs as whoever runs django_dbdev",
    "pid_file": "nothing",
    "log_error": "nothing: dbdev_serverinfo tells where the log is",
    "skip_networking": "nothing: Django connects over TCP",
    "skip_grant_tables": "nothing: it would let everybody in",
    "skip_name_resolve": "nothing: accounts are those of localhost",
    "init_file": "a migration",
    "innodb_data_home_dir": "nothing: a cluster is in one folder",
    "innodb_log_group_home_dir": "nothing: a cluster is in one folder",
    "innodb_undo_directory": "nothing: a cluster is in one folder",
    "aria_log_dir_path": "nothing: a cluster is in one folder",
    "innodb_doublewrite": "innodb_flush_log_at_trx_commit, which cannot corrupt data",
    "include": _ELSEWHERE,
    "includedir": _ELSEWHERE,
}
#: What may stand before a name, also several.
_PREFIX = re.compile(r"(loose|enable|disable|skip|maximum|autoset)_")


@dataclass(frozen=True)
class Configuration:
    """What a server's configuration is rendered from.

    :param version: of the server, as numbers: (10, 11, 19).
    """

    engine: str
    version: tuple[int, ...]
    settings: Mapping[str, Any]
    template_dirs: Sequence[Path]
    port: int
    socket: Path

    def _values(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "version": list(self.version[:2]),
            "settings": dict(self.settings),
        }

    def _local(self) -> bytes:
        value = config.mysql_value
        return (
            "# This machine's own. Written by django_dbdev at every start.\n"
            "[mysqld]\n"
            f"port = {self.port}\n"
            f"socket = {value(str(self.socket))}\n"
        ).encode()

    def write(self, datadir: Path) -> list[str]:
        """Bring the files in ``datadir`` up to date; the names of those that changed."""
        changed = []
        values = self._values()
        if not config.is_current(_read(datadir / CONFIG), _TEMPLATE, values, self.template_dirs):
            content = config.render(_TEMPLATE, values, self.template_dirs)
            if f"!include {LOCAL}".encode() not in content:
                raise ConfigurationError(
                    f"The project's template {_TEMPLATE} leaves out the port and the socket.",
                    hints=[f"end it with: !include {LOCAL}"],
                )
            write_atomically(datadir / CONFIG, content)
            changed.append(CONFIG)
        return [*changed, *self.write_local(datadir)]

    def write_local(self, datadir: Path) -> list[str]:
        """As :meth:`write`, of the machine's own file alone."""
        if _read(datadir / LOCAL) == self._local():
            return []
        write_atomically(datadir / LOCAL, self._local())
        return [LOCAL]

    def rendered(self) -> dict[str, bytes]:
        """The file that is the same on every machine, by its name."""
        return {CONFIG: config.render(_TEMPLATE, self._values(), self.template_dirs)}

    def outdated(self, datadir: Path) -> list[str]:
        """The names of files that :meth:`write` would change."""
        current = config.is_current(
            _read(datadir / CONFIG), _TEMPLATE, self._values(), self.template_dirs
        )
        names = [] if current else [CONFIG]
        return names if _read(datadir / LOCAL) == self._local() else [*names, LOCAL]


def check_settings(pin: Pin) -> None:
    """Refuse settings of the pin that are not the pin's to make.

    :raises ConfigurationError: naming the first.
    """
    for name in pin.settings:
        if (reserved := _reserved(name)) is not None:
            raise ConfigurationError(
                f"{pin.key}.settings.{name} cannot be set there.",
                hints=[f"use {_RESERVED[reserved]}"],
            )


def _reserved(name: str) -> str | None:
    """The reserved setting that the servers read ``name`` as.

    They take dashes for underscores, and the beginning of a name for the whole. Source: MariaDB
    documentation, "Configuring MariaDB with Option Files", "Option Prefixes".
    """
    meant = name.lower().replace("-", "_")
    while True:
        # InnoDB itself is an option, whose name many others begin with.
        if meant != "innodb" and (found := [each for each in _RESERVED if each.startswith(meant)]):
            return found[0]
        prefix = _PREFIX.match(meant)
        if prefix is None:
            return None
        meant = meant[prefix.end() :]


def initial_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of the pin's settings a cluster has to be made with."""
    plain = {name.lower().replace("-", "_"): value for name, value in settings.items()}
    return {name: plain[name] for name in INITIAL if name in plain}


def client_file(
    socket_or_host: Mapping[str, object], users: Iterable[tuple[str, str, str]]
) -> bytes:
    """An option file for client programs.

    :param socket_or_host: options of the connection that all groups share.
    :param users: the suffix of a group, the user and the password; that of the first group
        is left out.
    """
    value = config.mysql_value
    lines: list[str] = []
    for index, (suffix, user, password) in enumerate(users):
        lines.append(f"[client{suffix if index else ''}]")
        if not index:
            lines += [f"{name} = {value(option)}" for name, option in socket_or_host.items()]
        lines += [f"user = {value(user)}", f"password = {value(password)}"]
    return "".join(f"{line}\n" for line in lines).encode()


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None

"""Where one MariaDB or MySQL server keeps what belongs to it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...binaries.engines import MARIADB
from ...process.sockets import socket_directory
from ...records import parse_json, write_atomically
from ..server.files import ServerFiles

#: Where a server that was not made here notes the version that made its cluster.
_UPGRADE_NOTES = {
    "mariadb_upgrade_info": "mariadb",
    "mysql_upgrade_info": "mariadb",
    "mysql_upgrade_history": "mysql",
}


@dataclass(frozen=True)
class Made:
    """Which engine made a cluster, in which version; an empty version is not known."""

    engine: str
    version: str

    @property
    def series(self) -> str:
        """Reckoned alike for both."""
        return MARIADB.series_of(self.version)


def socket_name(port: object) -> str:
    return f"mysql.{port}.sock"


@dataclass(frozen=True)
class MySqlFiles(ServerFiles):
    never_empty: ClassVar[tuple[str, ...]] = ("ibdata1", "mysql/plugin.frm", "mysql.ibd")

    @property
    def passfile(self) -> Path:
        """An option file, as the client programs of both engines read it."""
        return self.tempdata / f"{self.name}.cnf"

    @property
    def config(self) -> Path:
        return self.datadir / "my.cnf"

    @property
    def local(self) -> Path:
        """The options of this machine, which the other file includes."""
        return self.datadir / "dbdev_local.cnf"

    @property
    def admin(self) -> Path:
        """The password of our own account. It stays with the data whose accounts it opens."""
        return self.datadir / "dbdev_admin"

    @property
    def pid_file(self) -> Path:
        return self.datadir / "mysqld.pid"

    def socket(self, port: int) -> Path:
        name = socket_name(port)
        return socket_directory(self.tempdata, name) / name

    def is_cluster(self) -> bool:
        return (self.datadir / "ibdata1").is_file() and (self.datadir / "mysql").is_dir()

    def cluster_series(self) -> str:
        return self.made().series

    def note_made(self, made: Made) -> None:
        content = json.dumps({"engine": made.engine, "version": made.version})
        write_atomically(self.datadir / "dbdev_cluster.json", content + "\n")

    def made(self) -> Made:
        """What made the cluster, by our own note, else by the server's."""
        try:
            content = parse_json((self.datadir / "dbdev_cluster.json").read_text("utf-8"))
            return Made(str(content["engine"]), str(content["version"]))
        except (OSError, ValueError, LookupError, TypeError):
            pass
        for name, engine in _UPGRADE_NOTES.items():
            try:
                said = (self.datadir / name).read_text("utf-8", "replace")
            except OSError:
                continue
            versions = re.findall(r"\d+\.\d+\.\d+", said)
            if versions:
                return Made(engine, versions[-1])
        return Made("mysql" if (self.datadir / "mysql.ibd").exists() else "mariadb", "")

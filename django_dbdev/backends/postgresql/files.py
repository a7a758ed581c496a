"""Where one PostgreSQL server keeps what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...process.sockets import socket_directory


@dataclass(frozen=True)
class ServerFiles:
    """All paths of the server ``name`` ("PostgresBackend"), below the state folder.

    The log, the lock and the password file stand beside the datadir, not in it: they stay when
    the datadir is replaced or removed.
    """

    tempdata: Path
    name: str

    @property
    def datadir(self) -> Path:
        return self.tempdata / self.name

    @property
    def log(self) -> Path:
        return self.tempdata / f"{self.name}.log"

    @property
    def lock(self) -> Path:
        return self.tempdata / f"{self.name}.lock"

    @property
    def passfile(self) -> Path:
        """In libpq's format; source: PostgreSQL documentation, "The Password File"."""
        return self.tempdata / f"{self.name}.pgpass"

    @property
    def postmaster_pid(self) -> Path:
        return self.datadir / "postmaster.pid"

    def socket_directory(self, port: int) -> Path:
        return socket_directory(self.tempdata, f".s.PGSQL.{port}")

    def is_cluster(self) -> bool:
        """Whether the datadir holds a whole cluster: it is renamed into place when it is one."""
        return (self.datadir / "PG_VERSION").is_file() and (
            self.datadir / "global" / "pg_control"
        ).is_file()

    def is_occupied(self) -> bool:
        """Whether the datadir holds anything at all, or is no folder."""
        if self.datadir.is_dir():
            return any(self.datadir.iterdir())
        return self.datadir.exists()

    def cluster_major(self) -> int:
        """The major version that made the cluster: the number in PG_VERSION."""
        return int((self.datadir / "PG_VERSION").read_text("ascii").strip().split(".")[0])

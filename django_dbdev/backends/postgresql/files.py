"""Where one PostgreSQL server keeps what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...process.sockets import socket_directory
from ..server.files import ServerFiles


@dataclass(frozen=True)
class PostgresFiles(ServerFiles):
    never_empty: ClassVar[tuple[str, ...]] = ("PG_VERSION", "global/pg_control")

    @property
    def passfile(self) -> Path:
        """In libpq's format; source: PostgreSQL documentation, "The Password File"."""
        return self.tempdata / f"{self.name}.pgpass"

    def socket(self, port: int) -> Path:
        name = f".s.PGSQL.{port}"
        return socket_directory(self.tempdata, name) / name

    def is_cluster(self) -> bool:
        return (self.datadir / "PG_VERSION").is_file() and (
            self.datadir / "global" / "pg_control"
        ).is_file()

    def cluster_series(self) -> str:
        """The major version that made the cluster: the number in PG_VERSION."""
        return (self.datadir / "PG_VERSION").read_text("ascii").strip().split(".")[0]

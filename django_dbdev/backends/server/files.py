"""Where one server keeps what belongs to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class ServerFiles(ABC):
    """All paths of the server ``name`` ("PostgresBackend"), below the state folder.

    The log, the lock and the password file stand beside the datadir, not in it: they stay when
    the datadir is replaced or removed.
    """

    tempdata: Path
    name: str

    #: Files below the datadir that are never empty in a whole cluster, where there are such.
    never_empty: ClassVar[tuple[str, ...]]

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
    def use(self) -> Path:
        """Who uses the server for a while; see :mod:`...process.sharing`."""
        return self.tempdata / f"{self.name}.use"

    @property
    @abstractmethod
    def passfile(self) -> Path:
        """For client programs, in their own format."""

    @abstractmethod
    def socket(self, port: int) -> Path:
        """The Unix socket, in a folder of its own or the project's."""

    def socket_directory(self, port: int) -> Path:
        return self.socket(port).parent

    @abstractmethod
    def is_cluster(self) -> bool:
        """Whether the datadir holds a whole cluster: it is renamed into place when it is one."""

    @abstractmethod
    def cluster_series(self) -> str:
        """The series that made the cluster, as ``series_of`` of the backend names it: "16"."""

    def empty_file(self) -> str:
        """Which file shows that the cluster is not whole; "" where none does."""
        for name in self.never_empty:
            with suppress(OSError):
                if (self.datadir / name).stat().st_size == 0:
                    return name
        return ""

    def is_occupied(self) -> bool:
        """Whether the datadir holds anything at all, or is no folder."""
        if self.datadir.is_dir():
            return any(self.datadir.iterdir())
        return self.datadir.exists()

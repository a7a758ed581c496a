"""A disk of its own, whose power can be cut: what was not written to it by then is gone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class NoDiskError(Exception):
    """This machine does not let us have one."""


class BusyError(Exception):
    """Somebody has files there."""


@dataclass(frozen=True)
class Disk:
    """An ext4 file system in a file, mounted at a folder."""

    image: Path
    folder: Path

    def plug_in(self) -> None:
        _run("mount", "-o", "loop", self.image, self.folder)

    def unplug(self) -> None:
        """:raises BusyError: it would be plugged in twice else."""
        try:
            _run("umount", self.folder)
        except subprocess.CalledProcessError as error:
            raise BusyError(error.stderr.decode()) from error

    def flush(self) -> None:
        """Have all that was written on the disk."""
        _run("sync", "--file-system", self.folder)


@contextmanager
def disk(parent: Path, size: str = "8G") -> Iterator[Disk]:
    """:raises NoDiskError: where mounting is not allowed."""
    if os.geteuid() != 0:
        raise NoDiskError("mounting needs root")
    made = Disk(parent / "disk.img", parent / "disk")
    made.folder.mkdir()
    try:
        _run("truncate", "--size", size, made.image)
        _run("mkfs.ext4", "-q", made.image)
        made.plug_in()
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoDiskError(str(error)) from error
    try:
        yield made
    finally:
        _run("umount", "--lazy", made.folder)
        made.image.unlink()
        made.folder.rmdir()


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)

"""What must be on disk before anything is removed, as the file system itself tells it."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from django_dbdev.backups import copying, replace
from tests.conftest import Project

from .helpers import backups, fill

if sys.platform != "linux":
    pytest.skip("the kernel is asked by a call of Linux", allow_module_level=True)

#: Source: linux/fiemap.h.
FS_IOC_FIEMAP = 0xC020660B
FIEMAP_EXTENT_DELALLOC = 0x4
_HEADER, _EXTENT, _MOST = struct.Struct("=QQLLLL"), struct.Struct("=QQQQQLLLL"), 64


def waits(file: Path) -> bool:
    """Whether a part of the file has no place on the disk yet."""
    import fcntl

    request = bytearray(_HEADER.pack(0, 2**64 - 1, 0, 0, _MOST, 0) + bytes(_EXTENT.size * _MOST))
    with file.open("rb") as opened:
        fcntl.ioctl(opened, FS_IOC_FIEMAP, request)
    count = _HEADER.unpack_from(request)[3]
    extents = [_EXTENT.unpack_from(request, _HEADER.size + n * _EXTENT.size) for n in range(count)]
    return any(extent[5] & FIEMAP_EXTENT_DELALLOC for extent in extents)


def unwritten(directory: Path) -> list[str]:
    return [p.name for p in (directory / "data").rglob("*") if p.is_file() and waits(p)]


@pytest.mark.parametrize(
    "command",
    [("dbdev_destroy", "--noinput"), ("dbdev_reinit", "--noinput")],
    ids=["destroy", "reinit"],
)
def test_a_backup_is_on_disk_before_the_data_goes(
    project: Project, command: tuple[str, ...]
) -> None:
    project.manage("dbdev_init").ok()
    fill(project, 1)
    project.manage("dbdev_backup").ok()
    (backup,) = backups(project)
    try:
        if not unwritten(backup):
            pytest.skip("this file system, or its load, had everything written at once")
    except OSError as error:
        pytest.skip(f"this file system does not tell: {error}")
    project.manage(*command).ok()
    assert unwritten(backup) == []


def test_a_backup_is_on_disk_before_an_older_one_goes(project: Project) -> None:
    project.manage("dbdev_init").ok()
    fill(project, 1)
    project.manage("dbdev_backup").ok()
    fill(project, 2)
    project.manage("dbdev_backup").ok()
    latest = backups(project)[-1]
    try:
        if not unwritten(latest):
            pytest.skip("this file system, or its load, had everything written at once")
    except OSError as error:
        pytest.skip(f"this file system does not tell: {error}")
    project.manage("dbdev_clearbackups", "--keep", "1", "--noinput").ok()
    assert backups(project) == [latest]
    assert unwritten(latest) == []


@pytest.mark.parametrize(
    "command",
    [("dbdev_restore", "-n", "dump"), ("dbdev_loaddump", "dump.sql")],
    ids=["portable", "loaddump"],
)
def test_a_backup_is_on_disk_before_a_database_is_replaced(
    project: Project, command: tuple[str, ...]
) -> None:
    project.manage("dbdev_init").ok()
    fill(project, 1)
    project.manage("dbdev_backup", "--portable", "-n", "dump").ok()
    project.manage("dbdev_createdump", "dump.sql").ok()
    fill(project, 2)
    project.manage("dbdev_backup").ok()
    try:
        if not unwritten(backups(project)[-1]):
            pytest.skip("this file system, or its load, had everything written at once")
    except OSError as error:
        pytest.skip(f"this file system does not tell: {error}")
    project.manage(*command).ok()
    assert unwritten(backups(project)[-1]) == []


def test_backups_on_another_disk_are_waited_for_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no other file system that everybody may write to")
    with TemporaryDirectory(dir=shm) as elsewhere:
        safety = Path(elsewhere)
        (safety / replace.PENDING).touch()
        replacement = replace.Replacement(tmp_path / "live", "now")
        replacement.live.mkdir()
        replacement.new.mkdir()
        flushed: set[int] = set()
        monkeypatch.setattr(copying, "flush", lambda folder: flushed.add(folder.stat().st_dev))
        replacement.swap(safety)
        assert flushed == {tmp_path.stat().st_dev, safety.stat().st_dev}

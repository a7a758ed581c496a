"""Disks that fill up, and file systems that share blocks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Project, ProjectFactory

from .helpers import assert_nothing_is_shared, backups, fill, leftovers, manifest, numbers

MB = 1_000_000


def run(*command: str | Path) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextmanager
def mounted(project: Project, *options: str | Path) -> Iterator[None]:
    """A file system at the project's state folder; skips where mounting is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    project.tempdata.mkdir()
    try:
        run("mount", *options, project.tempdata)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not mount {options}: {error}")
    try:
        project.tempdata.chmod(0o700)
        yield
    finally:
        project.manage("dbdev_stopserver")
        run("umount", "--lazy", project.tempdata)


@pytest.fixture
def small(project: Project) -> Iterator[Project]:
    with mounted(project, "-t", "tmpfs", "-o", "size=400m", "tmpfs"):
        project.manage("dbdev_init").ok()
        fill(project, 1, 2)
        yield project


def leave(project: Project, free: int) -> Path:
    """Fill the disk but for ``free`` bytes."""
    ballast = project.tempdata / "ballast"
    ballast.unlink(missing_ok=True)
    status = os.statvfs(project.tempdata)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - free)
    return ballast


def test_a_backup_that_does_not_fit(small: Project) -> None:
    ballast = leave(small, 12 * MB)
    failed = small.manage("dbdev_backup").failed()
    assert "No space left on device" in failed.err
    assert leftovers(small) == []
    assert numbers(small) == [1, 2]
    ballast.unlink()
    small.manage("dbdev_backup").ok()
    assert len(backups(small)) == 1


def test_a_restore_that_does_not_fit(small: Project) -> None:
    small.query(
        "CREATE TABLE wide AS SELECT n, repeat('x', 1000) t FROM generate_series(1,20000) n"
    )
    small.manage("dbdev_backup").ok()
    small.query("UPDATE wide SET n = n + 1")
    fill(small, 3)
    small.query("CHECKPOINT")
    ballast = leave(small, 10 * MB)
    failed = small.manage("dbdev_restore").failed(5)
    assert "No space left on device" in failed.err
    assert "as it was" in failed.err
    assert leftovers(small) == []
    assert numbers(small) == [1, 2, 3]
    assert_nothing_is_shared(small)
    ballast.unlink()
    small.manage("dbdev_restore").ok()
    assert numbers(small) == [1, 2]


def test_a_portable_backup_that_does_not_fit(small: Project) -> None:
    small.query("CREATE TABLE wide AS SELECT n, md5(n::text) t FROM generate_series(1, 400000) n")
    small.query("CHECKPOINT")
    leave(small, 2 * MB)
    failed = small.manage("dbdev_backup", "--portable").failed()
    assert "No space left on device" in failed.err
    assert leftovers(small) == []
    assert numbers(small) == [1, 2]


Maker = Callable[[Path], None]
REFLINKS = {
    "btrfs": ("mkfs.btrfs", "-q"),
    "xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"),
    "ext4": ("mkfs.ext4", "-q"),
}


def has_checksums(project: Project, name: str) -> bool:
    """Whether the manifest has those of all files, and not of some."""
    (directory,) = (backup for backup in backups(project) if backup.name.endswith(f".{name}"))
    files = manifest(directory)["files"].items()
    known = {checksum != "" for path, (_, checksum, *_) in files if path.startswith("base/")}
    assert len(known) == 1
    return True in known


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(REFLINKS))
def test_a_file_system_of_its_own(new_project: ProjectFactory, tmp_path: Path, kind: str) -> None:
    program, *options = REFLINKS[kind]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    image = tmp_path / f"{kind}.img"
    with image.open("wb") as file:
        file.truncate(2000 * MB)
    run(program, *options, image)
    project = new_project()
    with mounted(project, "-o", "loop", image):
        project.manage("dbdev_init").ok()
        fill(project, 1, 2)
        project.query(
            "CREATE TABLE wide AS SELECT n, md5(n::text) t FROM generate_series(1, 1000000) n"
        )
        project.query("CHECKPOINT")
        project.manage("dbdev_backup", "-n", "one").ok()
        project.query("UPDATE wide SET t = t || 'x'")
        fill(project, 3)
        project.manage("dbdev_backup", "-n", "two").ok()
        assert has_checksums(project, "one") == (kind == "ext4")
        project.manage("dbdev_backup", "-n", "three", "--checksums").ok()
        assert has_checksums(project, "three")
        for name, expected in (("one", [1, 2]), ("two", [1, 2, 3]), ("one", [1, 2])):
            project.manage("dbdev_restore", "-n", name, "--verify").ok()
            assert has_checksums(project, name)
            assert numbers(project) == expected
            assert_nothing_is_shared(project)
            assert project.query("SELECT count(*) FROM wide") == [(1_000_000,)]
        assert leftovers(project) == []

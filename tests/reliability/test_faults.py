"""Machines that are full, closed, bare, or whose clock goes wrong: one clear error, and no loss."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.backups.helpers import backups, fill, leftovers, numbers
from tests.backups.test_disks import leave, mounted
from tests.conftest import SETTINGS, Project, ProjectFactory, working_in

from .conditions import (
    do_without_home_and_xdg,
    do_without_tmp,
    free_space_without_any,
    lose_what_was_not_written,
    meet_a_quota,
    meet_closed_folders,
    read_only,
    under,
    with_mounts,
    without_privileges,
    work_as_ever,
)
from .scenarios import share_trees

MB = 1_000_000
PR_SET_CHILD_SUBREAPER = 36


# Full disks.


def test_a_full_disk_from_init_to_destroy(project: Project) -> None:
    with mounted(project, "-t", "tmpfs", "-o", "size=250m", "tmpfs"):
        for free in (0, 8 * MB):
            ballast = leave(project, free)
            failed = project.manage("dbdev_init").failed(1)
            # The file that does not fit, and not the one that it was to be copied from.
            assert f"{project.tempdata}/" in failed.err
            assert "No space left on device" in failed.err
            assert "hint: free some space" in failed.err
            assert not project.datadir.exists()
            assert not list(project.tempdata.glob(".Postgres*"))
        ballast.unlink()
        project.manage("dbdev_init").ok()
        fill(project, 1, 2)

        leave(project, 8 * MB)
        assert "No space left" in project.manage("dbdev_reinit", "--noinput").failed(1).err
        assert numbers(project) == [1, 2]
        assert f"the disk is full: {8:.1f}" in project.manage("dbdev_doctor").failed(1).out

        leave(project, 0)
        project.manage("dbdev_stopserver").ok()
        leave(project, 0)
        assert "No space left" in project.manage("dbdev_startserver").failed(4).err
        ballast.unlink()
        project.manage("dbdev_startserver").ok()
        assert numbers(project) == [1, 2]

        free_space_without_any(project)
        ballast.unlink()
        project.manage("dbdev_init").ok()


def test_a_full_store(new_project: ProjectFactory, tmp_path: Path, store: Path) -> None:
    project = new_project()
    with_mounts()
    small = tmp_path / "small"
    share_trees(store, small)
    clusters = small / "clusters"
    clusters.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", clusters], check=True)
    try:
        project.store = small
        failed = project.manage("dbdev_init").failed(4)
        assert "No space left on device" in failed.err
        assert list(clusters.iterdir()) == []
        assert not project.datadir.exists()
        assert working_in(small) == []
    finally:
        subprocess.run(["umount", clusters], check=True)
    project.manage("dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]


def test_a_limit_on_the_size_of_files(project: Project) -> None:
    project.manage("dbdev_init").ok()
    fill(project, 1, 2)
    limit = ["prlimit", "--fsize=100000:100000"]
    assert "File too large" in under(limit, project, "dbdev_backup").failed(1).err
    assert leftovers(project) == []
    assert "File too large" in under(limit, project, "dbdev_reinit", "--noinput").failed(1).err
    assert numbers(project) == [1, 2]
    under(limit, project, "dbdev_stopserver").ok()
    assert "File too large" in under(limit, project, "dbdev_startserver").failed(4).err
    assert project.servers() == []
    project.manage("dbdev_startserver").ok()
    assert numbers(project) == [1, 2]


def test_a_quota(project: Project, tmp_path: Path) -> None:
    meet_a_quota(project, tmp_path)


# Folders that are closed.


def test_a_store_that_cannot_be_written_to(
    new_project: ProjectFactory, store: Path, tmp_path: Path
) -> None:
    new_project("first").manage("dbdev_init").ok()
    project = new_project()
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    prefix = with_mounts(read_only(store.resolve()), read_only(empty))
    # What is there is used.
    under(prefix, project, "dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]
    project.store = empty
    project.manage("dbdev_destroy", "--noinput").ok()
    shutil.rmtree(project.tempdata)
    failed = under(prefix, project, "dbdev_init").failed(3)
    assert f"The store {empty} cannot be used: Read-only file system" in failed.err
    assert "hint: set DBDEV_STORE" in failed.err


def test_folders_that_were_closed_with_sqlite(new_project: ProjectFactory) -> None:
    base = SETTINGS.replace("backends.postgres", "backends.sqlite")
    project = new_project(pin="", base=base)
    prefix = without_privileges()
    under(prefix, project, "dbdev_init").ok()
    under(prefix, project, "dbdev_backup", "-n", "one").ok()
    folder = project.tempdata / "SqliteBackend-backups"
    for closed, command in (
        (folder, ("dbdev_backup",)),
        (folder, ("dbdev_restore", "--noinput")),
        (project.tempdata, ("dbdev_reinit", "--noinput")),
        (project.tempdata, ("dbdev_destroy", "--noinput")),
    ):
        closed.chmod(0o500)
        failed = under(prefix, project, *command).failed()
        closed.chmod(0o700)
        assert "Permission denied" in failed.err, (closed, command)
        assert str(closed) in failed.err
    under(prefix, project, "dbdev_restore", "--noinput", "-n", "one").ok()


def test_folders_that_were_closed(project: Project) -> None:
    meet_closed_folders(project)


# What a machine may lack.


def test_without_home_xdg_and_a_place_for_temporary_files(project: Project) -> None:
    do_without_home_and_xdg(project)


def test_tmp_that_cannot_be_written_to(project: Project) -> None:
    do_without_tmp(project)


def test_a_cluster_that_was_not_on_disk_when_the_power_failed(project: Project) -> None:
    lose_what_was_not_written(project, project.datadir, "PG_VERSION")


def test_few_descriptors(project: Project) -> None:
    few = ["prlimit", "--nofile=64:64"]
    work_as_ever(few, project, "one.dump")
    limits = psutil.Process(project.pid()).rlimit(resource.RLIMIT_NOFILE)
    assert limits == (64, 64)
    under(few, project, "dbdev_reinit", "--noinput").ok()
    under(few, project, "dbdev_destroy", "--noinput").ok()


def test_a_killed_server_that_nobody_reaps(project: Project) -> None:
    """In a container whose first process does not reap, a killed server is a zombie for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        pytest.skip("only Linux lets this process inherit others")
    zombie = 0
    try:
        project.manage("dbdev_init").ok()
        project.query("SET synchronous_commit = on; CREATE TABLE numbers AS SELECT 1 AS n")
        zombie = project.pid()
        os.kill(zombie, signal.SIGKILL)
        while psutil.Process(zombie).status() != psutil.STATUS_ZOMBIE:
            pass
        project.manage("dbdev_startserver").ok()
        assert psutil.Process(zombie).status() == psutil.STATUS_ZOMBIE
        assert numbers(project) == [1]
        project.manage("dbdev_stopserver").ok()
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        if zombie:
            with suppress(ChildProcessError):
                os.waitpid(zombie, 0)


# A clock that was ahead, and is set back.


def made_in_the_future(directory: Path, day: int) -> Path:
    """A backup as it would be had the clock been decades ahead when it was made."""
    _, _, name = directory.name.partition(".")
    time = f"2099-01-{day:02}_00-00-00-000000"
    ahead = directory.with_name(f"backup-{time}.{name}" if name else f"backup-{time}")
    directory.rename(ahead)
    manifest = json.loads((ahead / "manifest.json").read_text())
    manifest["created"] = "2099-01-01T00:00:00+00:00"
    manifest["started_ns"] += 10**18
    (ahead / "manifest.json").write_text(json.dumps(manifest))
    return ahead


def test_a_clock_that_was_set_back(project: Project) -> None:
    project.manage("dbdev_init").ok()
    fill(project, 1, 2)
    project.query("CHECKPOINT")
    project.manage("dbdev_backup").ok()
    (first,) = backups(project)
    made_in_the_future(first, 1)
    project.query("UPDATE numbers SET n = n + 10")
    project.query("CHECKPOINT")
    project.manage("dbdev_backup").ok()
    project.query("UPDATE numbers SET n = n + 10")
    listed = json.loads(project.manage("dbdev_listbackups", "--format", "json").ok().out)
    assert all(each["age"] >= 0 for each in listed)
    # The one that was made last is the latest, and has what was written after the other.
    project.manage("dbdev_restore", "--noinput", "--verify").ok()
    assert numbers(project) == [11, 12]
    # So is what a restore keeps of what it replaces, however many of the future there are.
    for day in (2, 3, 4):
        project.query("UPDATE numbers SET n = n + 1")
        project.manage("dbdev_restore", "--noinput").ok()
        made_in_the_future(backups(project)[-1], day)
    project.query("UPDATE numbers SET n = 99 WHERE n = 11")
    project.manage("dbdev_restore", "--noinput").ok()
    project.manage("dbdev_restore", "--noinput", "-n", "before-restore").ok()
    assert numbers(project) == [12, 99]
    _, *later = backups(project)
    project.manage("dbdev_clearbackups", "--keep", "1", "--noinput").ok()
    assert backups(project) == later

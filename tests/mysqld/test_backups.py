"""Snapshots and portable backups, whole, damaged, and killed at every step."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backups.helpers import inodes
from tests.conftest import wait_until

from .conftest import SETTINGS, MySqlProject, make_mysql

BACKUP_STEPS = ("begun", "stopped", "copying", "copied", "started", "described", "done")
RESTORE_STEPS = (
    "begun",
    "stopped",
    "built",
    "described",
    "flushed",
    "set-aside",
    "swapped",
    "kept",
    "recorded",
    "started",
    "done",
)


def root(project: MySqlProject) -> Path:
    return project.tempdata / "MySqlBackend-backups"


def backups(project: MySqlProject) -> list[Path]:
    return sorted(p.parent for p in root(project).glob("backup-*/manifest.json"))


def fill(project: MySqlProject, *numbers: int) -> None:
    project.query("CREATE TABLE IF NOT EXISTS numbers (n int)")
    for number in numbers:
        project.query(f"INSERT INTO numbers VALUES ({number})")


def numbers(project: MySqlProject) -> list[int]:
    return [n for (n,) in project.query("SELECT n FROM numbers ORDER BY n")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [["dbdev_backup"], ["dbdev_restore", "-n", "first"]])
def test_a_server_that_is_stopped_for_a_moment_runs_again_after_an_interruption(
    running: MySqlProject, command: list[str], number: signal.Signals
) -> None:
    fill(running, 1, 2)
    running.manage("dbdev_backup", "-n", "first").ok()
    fill(running, 3)
    before = len(running.log)
    process = running.start(*command)
    # Now it waits for the server to be down.
    wait_until(lambda: "Normal shutdown" in running.log[before:])
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert "Interrupted" in said
    assert numbers(running) == [1, 2, 3]


def kill(project: MySqlProject, step: str, *command: str) -> None:
    assert project.manage(*command, DBDEV_FAULT_AT=step).status == -9, step


def assert_nothing_is_shared(project: MySqlProject) -> None:
    live = inodes(project.datadir)
    for backup in backups(project):
        shared = live.keys() & inodes(backup).keys()
        assert not shared, [live[inode] for inode in shared]


@pytest.fixture
def ready(running: MySqlProject) -> MySqlProject:
    running.manage("migrate", "-v0").ok()
    fill(running, 1, 2)
    return running


def test_a_snapshot_of_a_running_server(ready: MySqlProject) -> None:
    idle = ready.connect()
    said = ready.manage("dbdev_backup", "-n", "one").ok()
    assert "MariaDB was down for" in said.out
    assert "which ended 1 connection of clients" in said.out
    idle.close()
    assert numbers(ready) == [1, 2]
    (one,) = backups(ready)
    manifest = json.loads((one / "manifest.json").read_text())
    assert (manifest["engine"], manifest["kind"]) == ("mariadb", "snapshot")
    assert manifest["migrations"]["contenttypes"] == "0002_remove_content_type_name"
    assert not {"mysqld.pid", "ibtmp1"} & set(manifest["files"])

    fill(ready, 3)
    ready.manage("dbdev_backup", "-n", "two").ok()
    files = [name for name in manifest["files"] if name.startswith("mysql/help_")]
    two = backups(ready)[1]
    assert files
    assert all((one / "data" / f).stat().st_ino == (two / "data" / f).stat().st_ino for f in files)
    assert_nothing_is_shared(ready)

    fill(ready, 4)
    said = ready.manage("dbdev_restore", "-n", "one", "--verify").ok()
    assert "Restored" in said.out
    assert numbers(ready) == [1, 2]
    assert_nothing_is_shared(ready)
    ready.manage("dbdev_restore", "-n", "before-restore").ok()
    assert numbers(ready) == [1, 2, 3, 4]
    ready.manage("dbdev_stopserver").ok()
    ready.manage("dbdev_backup", "-n", "stopped").ok()
    assert ready.info()["running"] is False
    ready.manage("dbdev_restore", "-n", "two").ok()
    assert numbers(ready) == [1, 2, 3]
    assert "crash recovery" not in ready.log


@pytest.fixture
def in_memory(store: Path, mariadb_bindir: Path) -> Iterator[MySqlProject]:
    """A project in /dev/shm, where MariaDB writes its redo log through memory."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm to write to")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="dbdev-test-"))
    project = make_mysql(folder / "project", store, mariadb_bindir)
    yield project
    project.clean_up()
    shutil.rmtree(folder)


def test_a_log_that_is_written_through_memory_is_not_taken_for_unchanged(
    in_memory: MySqlProject,
) -> None:
    in_memory.manage("dbdev_init").ok()
    log = in_memory.datadir / "ib_logfile0"
    # As if the cluster were older: no write through memory changes the time.
    os.utime(log, (10**9, 10**9))
    fill(in_memory, 1)
    in_memory.manage("dbdev_backup", "-n", "one").ok()
    fill(in_memory, *range(2, 9))
    in_memory.manage("dbdev_backup", "-n", "two").ok()
    one, two = backups(in_memory)
    assert (one / "data" / log.name).read_bytes() != (two / "data" / log.name).read_bytes()
    in_memory.manage("dbdev_restore", "-n", "one").ok()
    in_memory.manage("dbdev_destroy", "--noinput").ok()
    (in_memory.tempdata / "MySqlBackend.log").unlink()
    in_memory.manage("dbdev_restore", "-n", "two", "--verify").ok()
    assert numbers(in_memory) == list(range(1, 9))
    assert "in the future" not in in_memory.log


def test_a_portable_one_disconnects_nobody_and_replaces_one_database(ready: MySqlProject) -> None:
    ready.query("CREATE DATABASE elsewhere")
    idle = ready.connect("elsewhere")
    ready.manage("dbdev_backup", "--portable", "-n", "one").ok()
    fill(ready, 3)
    idle.cursor().execute("CREATE TABLE of_others (n INT)")
    idle.close()
    ready.manage("dbdev_restore", "-n", "one").ok()
    assert numbers(ready) == [1, 2]
    assert ready.query("SHOW TABLES FROM elsewhere") == [("of_others",)]
    ready.manage("dbdev_restore", "-n", "before-restore").ok()
    assert numbers(ready) == [1, 2, 3]


def test_a_password_that_has_changed_since(ready: MySqlProject) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    ready.settings('DATABASES["default"]["PASSWORD"] = "another"', SETTINGS)
    ready.manage("dbdev_init").ok()
    ready.manage("dbdev_restore", "-n", "one").ok()
    assert ready.sql("SELECT COUNT(*) FROM numbers") == [[2]]


def test_what_cannot_be_restored_changes_nothing(ready: MySqlProject) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    (one,) = backups(ready)
    file = one / "data" / "ibdata1"
    times = file.stat()
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(b"damage")
    assert "is damaged" in ready.manage("dbdev_restore", "-n", "one").failed(5).err
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "is damaged" in ready.manage("dbdev_restore", "-n", "one", "--verify").failed(5).err
    content = (one / "manifest.json").read_text()
    for old, new, status, said in (
        ('"mariadb"', '"mysql"', 5, "is a backup of mysql"),
        ('"version": "1', '"version": "9', 3, "portable backups go over to other versions"),
    ):
        (one / "manifest.json").write_text(content.replace(old, new))
        file.write_bytes(file.read_bytes())
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert said in ready.manage("dbdev_restore", "-n", "one").failed(status).err
    assert numbers(ready) == [1, 2]


def test_a_table_outside_the_cluster_is_in_no_copy_of_it(
    running: MySqlProject, tmp_path: Path
) -> None:
    fill(running, 1, 2)
    outside = tmp_path / "outside"
    outside.mkdir()
    running.query(f"CREATE TABLE far (n int) DATA DIRECTORY = '{outside}'")
    said = running.manage("dbdev_backup").failed(2).err
    assert f"far.isl leads out of the cluster, to {outside}" in said
    assert backups(running) == []
    # It runs again.
    assert numbers(running) == [1, 2]
    running.query("DROP TABLE far")


def test_a_killed_backup_is_none(ready: MySqlProject) -> None:
    for number, step in enumerate(BACKUP_STEPS):
        before = backups(ready)
        kill(ready, f"backup:{step}", "dbdev_backup", "-n", f"killed{number}")
        assert len(backups(ready)) == len(before) + (step == "done")
        ready.manage("dbdev_startserver").ok()
        assert numbers(ready) == [1, 2]
    ready.manage("dbdev_backup", "-n", "whole").ok()
    fill(ready, 3)
    ready.manage("dbdev_restore", "-n", "whole", "--verify").ok()
    assert numbers(ready) == [1, 2]


def test_a_killed_restore_leaves_the_old_or_the_new(ready: MySqlProject) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    fill(ready, 3)
    follow_ups = itertools.cycle(
        [["dbdev_startserver"], ["dbdev_init"], ["dbdev_serverinfo"], ["dbdev_backup"]]
    )
    for step in RESTORE_STEPS:
        kill(ready, f"restore:{step}", "dbdev_restore", "-n", "one")
        ready.manage(*next(follow_ups)).ok()
        ready.manage("dbdev_startserver").ok()
        swapped = RESTORE_STEPS.index(step) >= RESTORE_STEPS.index("swapped")
        assert numbers(ready) == ([1, 2] if swapped else [1, 2, 3]), step
        assert_nothing_is_shared(ready)
        if swapped:
            ready.manage("dbdev_restore", "-n", "before-restore").ok()
            assert numbers(ready) == [1, 2, 3]
    assert [p.name for p in ready.tempdata.glob(".MySqlBackend*")] == []

"""Snapshots of a real server, stopped and running, and what restoring them gives."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Project, ProjectFactory
from tests.machine import needs_every_major

from .helpers import (
    assert_nothing_is_shared,
    backups,
    fill,
    inodes,
    leftovers,
    manifest,
    numbers,
)


@pytest.fixture
def ready(project: Project) -> Project:
    project.manage("dbdev_init").ok()
    fill(project, 1, 2)
    return project


@pytest.mark.parametrize("running", [True, False])
def test_a_snapshot_is_restored(ready: Project, running: bool) -> None:
    if not running:
        ready.manage("dbdev_stopserver").ok()
    done = ready.manage("dbdev_backup", "-n", "first").ok()
    assert re.search(r"Created .*\.first \(first\): [\d.]+ MB, of which it alone", done.out)
    (backup,) = backups(ready)
    content = manifest(backup)
    assert content["kind"] == "snapshot"
    assert content["engine"] == "postgresql"
    assert content["name"] == "first"
    assert content["aliases"] == {"default": "dbdev"}
    assert content["size"] == sum(entry[0] for entry in content["files"].values())
    assert re.fullmatch(r"18\.\d+", content["version"])
    left_out = ("postmaster.pid", "postmaster.opts", "pg_replslot/x", "pg_internal.init")
    assert not [f for f in content["files"] if Path(f).name in left_out]
    assert ("backup_label" in content["files"]) is running

    if not running:
        ready.manage("dbdev_startserver").ok()
    fill(ready, 3)
    restored = ready.manage("dbdev_restore", "-n", "first").ok()
    assert "before-restore" in restored.out
    assert numbers(ready) == [1, 2]
    assert_nothing_is_shared(ready)
    assert leftovers(ready) == []

    ready.manage("dbdev_restore", "-n", "before-restore").ok()
    assert numbers(ready) == [1, 2, 3]
    assert_nothing_is_shared(ready)
    for each in backups(ready):
        ready.manage("dbdev_restore", "--verify", "--no-safety", str(each)).ok()


def test_no_file_is_ever_shared_with_the_live_data(ready: Project) -> None:
    for number in range(10, 14):
        ready.manage("dbdev_backup", "-n", f"n{number}").ok()
        assert_nothing_is_shared(ready)
        fill(ready, number)
        ready.query("CHECKPOINT")
    kept = {p: p.read_bytes() for b in backups(ready) for p in b.rglob("*") if p.is_file()}
    for number in (11, 13, 10, 12):
        ready.manage("dbdev_restore", "-n", f"n{number}").ok()
        assert_nothing_is_shared(ready)
        assert numbers(ready) == [1, 2, *range(10, number)]
        fill(ready, 99)
        ready.query("CHECKPOINT")
    # What ran on the restored data has not written into any backup.
    for path, content in kept.items():
        assert not path.exists() or path.read_bytes() == content


def test_the_next_snapshot_costs_what_has_changed(ready: Project) -> None:
    ready.query("CHECKPOINT")
    ready.manage("dbdev_backup").ok()
    fill(ready, 3)
    ready.manage("dbdev_backup").ok()
    first, second = backups(ready)
    shared = inodes(first / "data").keys() & inodes(second / "data").keys()
    own = sum(
        p.stat().st_size for inode, p in inodes(second / "data").items() if inode not in shared
    )
    assert own < manifest(second)["size"] / 5
    # What is linked keeps the checksum that it had.
    one, two = manifest(first)["files"], manifest(second)["files"]
    linked = [
        path
        for path in two
        if path in one
        and (second / "data" / path).stat().st_ino == (first / "data" / path).stat().st_ino
    ]
    assert len(linked) > 500
    assert all(one[p][1] == two[p][1] for p in linked)


def test_after_a_restore_the_next_snapshot_is_incremental(ready: Project) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    ready.query(
        "CREATE TABLE wide AS SELECT n, repeat(md5(n::text), 20) t FROM generate_series(1, 20000) n"
    )
    ready.manage("dbdev_restore", "-n", "one").ok()
    ready.manage("dbdev_backup", "-n", "two").ok()
    done = ready.manage("dbdev_listbackups", "--format", "json").ok()
    two = next(b for b in json.loads(done.out) if b["name"] == "two")
    assert two["own_size"] < two["size"] / 5


def test_a_damaged_backup_is_refused_before_anything_is_touched(ready: Project) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    (backup,) = backups(ready)
    pid = ready.pid()
    victim = max((backup / "data" / "base").rglob("*"), key=lambda p: p.stat().st_size)
    status = victim.stat()
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    refused = ready.manage("dbdev_restore", "-n", "one").failed(5)
    assert "is damaged" in refused.err
    assert victim.name in refused.err

    # Bits that rot leave the time as it was: reading everything finds them.
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "is damaged" in ready.manage("dbdev_restore", "--verify", "-n", "one").failed(5).err
    victim.unlink()
    assert "is damaged" in ready.manage("dbdev_restore", "-n", "one").failed(5).err
    (backup / "manifest.json").write_text("{}")
    assert "manifest.json cannot be read" in ready.manage("dbdev_restore").failed(5).err
    assert ready.pid() == pid
    assert numbers(ready) == [1, 2]
    assert leftovers(ready) == []


def test_rot_that_is_met_while_copying_leaves_the_old_data(ready: Project) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    fill(ready, 3)
    (backup,) = backups(ready)
    # The table has changed since, so that it is copied from the backup.
    path = str(ready.query("SELECT pg_relation_filepath('numbers')")[0][0])
    victim = backup / "data" / path
    status = victim.stat()
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
    failed = ready.manage("dbdev_restore", "-n", "one").failed(5)
    assert "is damaged" in failed.err
    assert "as it was" in failed.err
    assert numbers(ready) == [1, 2, 3]
    assert leftovers(ready) == []


def test_data_that_does_not_start_gives_way_to_the_old(ready: Project) -> None:
    ready.manage("dbdev_stopserver").ok()
    ready.manage("dbdev_backup", "-n", "one").ok()
    ready.manage("dbdev_startserver").ok()
    fill(ready, 3)
    (backup,) = backups(ready)
    # A whole backup, by its manifest, of a cluster without WAL.
    content = json.loads((backup / "manifest.json").read_text())
    content["files"] = {p: e for p, e in content["files"].items() if not p.startswith("pg_wal/")}
    (backup / "manifest.json").write_text(json.dumps(content))
    failed = ready.manage("dbdev_restore", "-n", "one").failed()
    assert "did not start" in failed.err
    assert "the old data is back" in failed.err
    assert numbers(ready) == [1, 2, 3]
    assert_nothing_is_shared(ready)
    assert backups(ready) == [backup]


def _empty_control(datadir: Path) -> None:
    (datadir / "global" / "pg_control").write_bytes(b"")


def _remove_wal(datadir: Path) -> None:
    shutil.rmtree(datadir / "pg_wal")


@pytest.mark.parametrize("damage", [_empty_control, _remove_wal])
def test_a_damaged_cluster_is_restored_over(ready: Project, damage: Callable[[Path], None]) -> None:
    ready.manage("dbdev_stopserver").ok()
    for name in ("good", "bad"):
        ready.manage("dbdev_backup", "-n", name).ok()
    content = json.loads((backups(ready)[1] / "manifest.json").read_text())
    content["files"] = {p: e for p, e in content["files"].items() if not p.startswith("pg_wal/")}
    (backups(ready)[1] / "manifest.json").write_text(json.dumps(content))
    damage(ready.datadir)
    damaged = sorted(ready.datadir.rglob("*"))

    assert "--no-safety" in ready.manage("dbdev_restore", "-n", "good").failed(5).err
    assert sorted(ready.datadir.rglob("*")) == damaged
    without = ("dbdev_restore", "--no-safety", "-n")
    # What does not start gives way to what was there, whatever that is worth.
    assert "did not start" in ready.manage(*without, "bad").failed().err
    assert sorted(ready.datadir.rglob("*")) == damaged
    assert ready.manage(*without, "good", DBDEV_FAULT_AT="restore:set-aside").status == -9
    assert "is back" in ready.manage(*without, "good").ok().err
    assert numbers(ready) == [1, 2]
    assert_nothing_is_shared(ready)
    assert leftovers(ready) == []
    assert list(ready.tempdata.glob("PostgresBackend.2*")) == []
    assert len(backups(ready)) == 2


def test_restoring_where_there_is_nothing(ready: Project) -> None:
    ready.manage("dbdev_backup").ok()
    ready.manage("dbdev_destroy", "--noinput").ok()
    ready.manage("dbdev_restore").ok()
    assert numbers(ready) == [1, 2]
    assert len(backups(ready)) == 1


def test_a_backup_goes_into_a_project_that_has_nothing_yet(
    ready: Project, new_project: ProjectFactory
) -> None:
    ready.manage("dbdev_backup").ok()
    (backup,) = backups(ready)
    for path in backup.rglob("*"):
        # Its owner has protected it.
        path.chmod(path.stat().st_mode & ~0o222)
    other = new_project("other")
    other.manage("dbdev_restore", str(backup)).ok()
    assert numbers(other) == [1, 2]
    fill(other, 3)
    other.manage("dbdev_restore", str(backup)).ok()
    other.manage("dbdev_restore", "-n", "before-restore").ok()
    assert numbers(other) == [1, 2, 3]
    fill(other, 4)
    for path in backup.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)


def test_a_backup_waits_for_no_client(ready: Project) -> None:
    ready.query("CREATE TABLE django_migrations (id int, app text, name text)")
    with psycopg.connect(
        f"host=127.0.0.1 port={ready.port()} dbname=dbdev user=dbdev password=dbdev"
    ) as client:
        client.execute("LOCK TABLE django_migrations IN ACCESS EXCLUSIVE MODE")
        ready.manage("dbdev_backup").ok()
    (backup,) = backups(ready)
    assert manifest(backup)["migrations"] == {}


def test_a_crashed_cluster_is_copied_and_recovers(ready: Project) -> None:
    fill(ready, 3)
    ready.query("SELECT pg_switch_wal()")
    server = ready.server()
    server.kill()
    server.wait(10)
    ready.manage("dbdev_backup", "-n", "crashed").ok()
    ready.manage("dbdev_restore", "-n", "crashed").ok()
    assert numbers(ready) == [1, 2, 3]


def test_unlogged_and_temporary_tables(ready: Project) -> None:
    ready.query("CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS n")
    ready.manage("dbdev_backup").ok()
    ready.manage("dbdev_restore").ok()
    assert ready.query("SELECT count(*) FROM fleeting") == [(0,)]
    ready.query("INSERT INTO fleeting VALUES (2)")


@pytest.mark.parametrize("whole", [True, False])
@needs_every_major
def test_a_backup_of_another_major_version(new_project: ProjectFactory, whole: bool) -> None:
    """With the pin it goes from 16 to 18; the data that is there is of 18 already, or of 16."""
    project = new_project(pin='[tool.django_dbdev.postgresql]\nversion = "16"\n')
    project.manage("dbdev_init").ok()
    fill(project, 1)
    project.manage("dbdev_backup", "-n", "one").ok()
    assert manifest(backups(project)[0])["version"].startswith("16.")
    fill(project, 2)
    project.manage("dbdev_restore", "-n", "one").ok()
    assert numbers(project) == [1]
    fill(project, 3)
    project.pin('[tool.django_dbdev.postgresql]\nversion = "18"\n')
    if whole:
        project.manage("dbdev_reinit", "--noinput").ok()
        fill(project, 4)
    done = project.manage("dbdev_restore", "-n", "one").ok()
    assert "temporary server of 16." in done.out
    assert numbers(project) == [1]
    assert project.query("SHOW server_version_num")[0][0].startswith("18")
    assert leftovers(project) == []
    assert '"16' not in (project.root / "dbdev.lock").read_text()
    # What was there is kept, and can be had again in the same way.
    project.manage("dbdev_restore", "-n", "before-restore").ok()
    assert numbers(project) == ([4] if whole else [1, 3])


@needs_every_major
def test_a_backup_of_another_major_version_without_the_alias_s_database(
    new_project: ProjectFactory,
) -> None:
    project = new_project(pin='[tool.django_dbdev.postgresql]\nversion = "16"\n')
    project.manage("dbdev_init").ok()
    project.manage("dbdev_backup", "-n", "one").ok()
    project.pin('[tool.django_dbdev.postgresql]\nversion = "18"\n')
    project.settings("DATABASES = {'default': {**DBSETTINGS, 'NAME': 'shop'}}")
    project.manage("dbdev_reinit", "--noinput").ok()
    before = backups(project)
    failed = project.manage("dbdev_restore", "-n", "one").failed(5).err
    assert "has no database shop" in failed
    assert "dbdev" in failed
    assert backups(project) == before
    assert leftovers(project) == []


def test_a_backup_of_another_kind_of_machine(ready: Project) -> None:
    ready.manage("dbdev_backup", "-n", "one").ok()
    (backup,) = backups(ready)
    content = manifest(backup)
    (backup / "manifest.json").write_text(json.dumps({**content, "system": "aarch64-darwin"}))
    fill(ready, 3)
    failed = ready.manage("dbdev_restore", "-n", "one").failed(5).err
    assert "aarch64-darwin" in failed
    assert "--portable" in failed
    assert numbers(ready) == [1, 2, 3]
    assert backups(ready) == [backup]

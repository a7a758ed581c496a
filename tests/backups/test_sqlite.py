"""Backups of SQLite databases that are in use."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Project, ProjectFactory

BASE = """
from django_dbdev.backends.sqlite import DBSETTINGS
SECRET_KEY = "for tests"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""


@pytest.fixture
def project(new_project: ProjectFactory) -> Project:
    project = new_project(base=BASE, pin="")
    project.manage("dbdev_init").ok()
    return project


def database(project: Project) -> Path:
    return project.tempdata / "SqliteBackend" / "dbdev.sqlite3"


def execute(project: Project, *statements: str) -> list[Any]:
    connection = sqlite3.connect(database(project), isolation_level=None)
    try:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows
    finally:
        connection.close()


def numbers(project: Project) -> list[int]:
    return [n for (n,) in execute(project, "SELECT n FROM numbers ORDER BY n")]


def listed(project: Project, *arguments: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(
        project.manage("dbdev_listbackups", "--format", "json", *arguments).ok().out
    )
    return loaded


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_backup_of_a_file_in_use_is_restored(project: Project, mode: str) -> None:
    project.manage("migrate", "-v0").ok()
    execute(project, f"PRAGMA journal_mode = {mode}", "CREATE TABLE numbers (n)")
    user = sqlite3.connect(database(project), isolation_level=None)
    user.execute("INSERT INTO numbers VALUES (1)")
    project.manage("dbdev_backup", "-n", "one").ok()
    user.execute("INSERT INTO numbers VALUES (2)")
    (backup,) = listed(project)
    assert backup["engine"] == "sqlite"
    assert backup["migrations"]["contenttypes"] == "0002_remove_content_type_name"
    user.close()
    project.manage("dbdev_restore", "-n", "one").ok()
    assert numbers(project) == [1]
    assert execute(project, "PRAGMA integrity_check") == [("ok",)]
    project.manage("dbdev_restore", "-n", "before-restore", "--verify").ok()
    assert numbers(project) == [1, 2]
    assert {p.name for p in database(project).parent.iterdir()} <= {
        "dbdev.sqlite3",
        "dbdev.sqlite3-wal",
        "dbdev.sqlite3-shm",
    }


def test_a_writer_is_not_pushed_aside(project: Project) -> None:
    execute(project, "CREATE TABLE numbers (n)", "INSERT INTO numbers VALUES (1)")
    project.manage("dbdev_backup").ok()
    user = sqlite3.connect(database(project), isolation_level=None)
    user.execute("BEGIN IMMEDIATE")
    user.execute("INSERT INTO numbers VALUES (2)")
    assert "in use" in project.manage("dbdev_restore").failed(5).err
    assert not list(project.tempdata.glob("*-backups/*.before-restore"))
    user.execute("COMMIT")
    user.close()
    assert numbers(project) == [1, 2]


def test_kills_and_damage(project: Project) -> None:
    execute(project, "CREATE TABLE numbers (n)", "INSERT INTO numbers VALUES (1)")
    for step in ("begun", "copied", "described"):
        killed = project.manage("dbdev_backup", DBDEV_FAULT_AT=f"backup:{step}")
        assert killed.status == -9
    assert listed(project) == []
    project.manage("dbdev_backup", "-n", "one").ok()
    execute(project, "INSERT INTO numbers VALUES (2)")
    for step in ("begun", "kept", "copying", "built", "swapped"):
        assert project.manage("dbdev_restore", DBDEV_FAULT_AT=f"restore:{step}").status == -9
        swapped = step == "swapped"
        assert numbers(project) == ([1] if swapped else [1, 2])
    project.manage("dbdev_restore", "-n", "before-restore").ok()
    assert numbers(project) == [1, 2]
    assert len(list(database(project).parent.iterdir())) == 1
    copy = Path(listed(project)[0]["directory"]) / "data" / "database.sqlite3"
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert "is damaged" in project.manage("dbdev_restore", "-n", "one").failed(5).err
    assert numbers(project) == [1, 2]


def test_a_damaged_file_is_restored_over(project: Project) -> None:
    execute(project, "CREATE TABLE numbers (n)", "INSERT INTO numbers VALUES (1)")
    project.manage("dbdev_backup", "-n", "one").ok()
    whole = database(project).read_bytes()
    damaged = b"\1" * 512 + whole[512:]
    for content, options, kept in ((damaged, [], 1), (whole[:512], ["--no-safety"], 1)):
        database(project).write_bytes(content)
        assert "dbdev_restore" in project.manage("dbdev_backup").failed(5).err
        project.manage("dbdev_restore", "-n", "one", *options).ok()
        assert numbers(project) == [1]
        beside = list(database(project).parent.glob("*.damaged"))
        assert len(beside) == kept
        assert beside[0].read_bytes() == damaged
    assert len(listed(project)) == 1


def test_a_link_is_followed(new_project: ProjectFactory) -> None:
    project = new_project(
        base=BASE, pin="", settings="DATABASES['default']['NAME'] = 'link.sqlite3'"
    )
    folder = project.root / "elsewhere"
    folder.mkdir()
    (project.root / "link.sqlite3").symlink_to("elsewhere/real.sqlite3")
    assert str(folder / "real.sqlite3") in project.manage("dbdev_init").ok().out
    with closing(sqlite3.connect(folder / "real.sqlite3")) as connection:
        connection.execute("CREATE TABLE numbers (n)")
        project.manage("dbdev_backup").ok()
        connection.execute("DROP TABLE numbers")
    project.manage("dbdev_restore").ok()
    assert (project.root / "link.sqlite3").is_symlink()
    with closing(sqlite3.connect(folder / "real.sqlite3")) as connection:
        assert connection.execute("SELECT * FROM numbers").fetchall() == []


def test_every_alias_has_backups_of_its_own(new_project: ProjectFactory) -> None:
    other = 'DATABASES["other"] = {**DBSETTINGS, "NAME": BASE / "other.sqlite3"}'
    project = new_project(
        base=BASE,
        pin="",
        settings=f"from pathlib import Path\nBASE = Path(__file__).parent\n{other}",
    )
    project.manage("dbdev_init").ok()
    project.manage("dbdev_init", "--database", "other").ok()
    project.manage("dbdev_backup", "--database", "other").ok()
    assert listed(project) == []
    assert len(listed(project, "--database", "other")) == 1
    project.manage("dbdev_restore").failed(2)
    project.manage("dbdev_restore", "--database", "other").ok()


@pytest.mark.parametrize("how", ["restore", "load"])
def test_what_a_file_that_is_gone_has_left_is_not_taken_for_the_new_ones(
    project: Project, how: str
) -> None:
    execute(project, "PRAGMA journal_mode = WAL", "CREATE TABLE numbers (n)")
    execute(project, "INSERT INTO numbers VALUES (1)")
    project.manage("dbdev_backup").ok()
    project.manage("dbdev_createdump", "one.sql").ok()
    log = database(project).with_name("dbdev.sqlite3-wal")
    with closing(sqlite3.connect(database(project), isolation_level=None)) as user:
        user.execute("UPDATE numbers SET n = 2")
        left = log.read_bytes()
    # As when runserver was killed, and somebody removed the file alone.
    log.write_bytes(left)
    database(project).unlink()
    command = ["dbdev_restore"] if how == "restore" else ["dbdev_loaddump", "one.sql"]
    said = project.manage(*command).ok().out
    assert numbers(project) == [1]
    (kept,) = database(project).parent.glob("*.damaged-wal")
    assert kept.read_bytes() == left
    assert str(kept) in said

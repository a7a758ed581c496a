"""dbdev_upgrade of MariaDB: the data goes along to a newer series, or stays whole where it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from django_dbdev.binaries import apt
from django_dbdev.binaries.systems import codename
from tests.conftest import Locks

from .conftest import MySqlFactory, MySqlProject

pytestmark = pytest.mark.skipif(
    not apt.is_there() or codename() != "bookworm",
    reason="the two releases whose MariaDB is used here are bookworm's own and trixie's",
)

OLD = '[tool.django_dbdev.mariadb]\nversion = "10.11"\n'
NEW = '[tool.django_dbdev.mariadb]\nversion = "11.8"\n[tool.django_dbdev.apt]\nsuite = "trixie"\n'
FILL = (
    # First: MariaDB has a sequence's row on disk with the next commit only, and we kill servers.
    "CREATE SEQUENCE counting",
    "CREATE TABLE numbers (n int PRIMARY KEY, text text, KEY (text(20)))",
    "INSERT INTO numbers SELECT seq, REPEAT(MD5(seq), seq % 40) FROM seq_1_to_2000",
    "CREATE TABLE old (n int) ENGINE=Aria AS SELECT 1 AS n",
    "CREATE VIEW few AS SELECT n FROM numbers WHERE n < 10",
    "CREATE FUNCTION three() RETURNS int DETERMINISTIC RETURN 3",
    "CREATE TRIGGER grow BEFORE INSERT ON old FOR EACH ROW SET NEW.n = NEW.n + 1",
    "CREATE TABLE price (amount int) WITH SYSTEM VERSIONING",
    "INSERT INTO price VALUES (40)",
    "UPDATE price SET amount = 50",
    "CREATE USER reader@localhost IDENTIFIED BY 'secret'",
    "GRANT SELECT ON dbdev.numbers TO reader@localhost",
    "CREATE DATABASE `another ``one```",
)
CONTENTS = (
    "SELECT n, text FROM numbers ORDER BY n",
    "SELECT n, three() FROM few ORDER BY n",
    "SELECT n FROM old",
    "SELECT minimum_value, increment FROM counting",
    "SELECT amount FROM price",
    "SELECT amount, row_start FROM price FOR SYSTEM_TIME ALL ORDER BY row_start",
    "SHOW DATABASES",
    "SELECT User, Host FROM mysql.user ORDER BY 1, 2",
)
STEPS = (
    *("begun", "looked", "copied", "upgraded", "checked", "built", "described"),
    *("flushed", "set-aside", "swapped", "kept", "started"),
)


def contents(project: MySqlProject) -> list[list[tuple[object, ...]]]:
    return [project.query(query) for query in CONTENTS]


def series(project: MySqlProject) -> str:
    version: str = project.query("SELECT VERSION()")[0][0]
    return ".".join(version.split(".")[:2])


def kept(project: MySqlProject) -> list[Path]:
    listed = json.loads(project.manage("dbdev_listbackups", "--format", "json").ok().out)
    return [Path(each["directory"]) for each in listed if each["name"] == "before-upgrade"]


def repin(project: MySqlProject, pin: str, locks: Locks) -> None:
    project.pin(pin)
    locks.give(project)


@pytest.fixture
def filled(new_mysql: MySqlFactory, locks: Locks) -> MySqlProject:
    project = new_mysql(pin=OLD)
    del project.environment["DBDEV_MARIADB_BINDIR"]
    locks.give(project)
    project.manage("dbdev_init").ok()
    locks.keep(project, locks.key(project))
    for statement in FILL:
        project.query(statement)
    return project


def test_to_a_newer_series(filled: MySqlProject, locks: Locks) -> None:
    before = contents(filled)
    # A server that crashed is recovered by the version that wrote its log.
    filled.kill()
    repin(filled, NEW, locks)
    said = filled.manage("dbdev_startserver").failed(4).err
    assert "made by MariaDB 10.11" in said
    assert "dbdev_upgrade" in said
    said = filled.manage("dbdev_upgrade").ok().out
    locks.keep(filled, locks.key(filled))
    assert "Upgrading MariaDB 10.11" in said
    assert series(filled) == "11.8"
    assert contents(filled) == before
    assert filled.query("SELECT * FROM numbers", user="reader", password="secret")
    assert not list(filled.tempdata.glob(".MySql*"))
    assert "Upgrading" not in filled.manage("dbdev_upgrade").ok().out
    # What is kept is a whole backup, also for the new version: a server of its own reads it.
    (backup,) = kept(filled)
    filled.query("DELETE FROM numbers")
    said = filled.manage("dbdev_restore", "--verify", "--noinput", str(backup)).ok().out
    assert "a temporary server of 10.11" in said
    assert contents(filled) == before
    assert not list(filled.tempdata.glob(".MySql*"))
    # There is no way back but that backup.
    repin(filled, OLD, locks)
    assert "there is no way back" in filled.manage("dbdev_upgrade").failed(4).err
    assert contents(filled) == before
    # Nor is the other engine a newer version.
    filled.pin("[tool.django_dbdev.mysql]\n")
    said = filled.manage("dbdev_upgrade", "--offline").failed(4).err
    assert "made by MariaDB 11.8, and MySQL is pinned" in said


@pytest.mark.slow
def test_what_does_not_start_is_told_and_nothing_changes(
    filled: MySqlProject, locks: Locks
) -> None:
    before = contents(filled)
    settings = "[tool.django_dbdev.mariadb.settings]\nnonsense = 1\n"
    filled.pin(NEW.replace("[tool.django_dbdev.apt]", f"{settings}[tool.django_dbdev.apt]"))
    said = filled.manage("dbdev_upgrade").failed(4).err
    assert "unknown variable 'nonsense=1'" in said
    assert "as it was" in said
    # Neither version knows that setting.
    assert "It was not started again" in said
    # What is named is there.
    assert "\nlog: " not in said
    repin(filled, OLD, locks)
    filled.manage("dbdev_startserver").ok()
    assert contents(filled) == before
    assert kept(filled) == []


@pytest.mark.slow
def test_killed_at_every_step(filled: MySqlProject, locks: Locks) -> None:
    before = contents(filled)
    repin(filled, NEW, locks)
    for step in STEPS:
        done = filled.manage("dbdev_upgrade", DBDEV_FAULT_AT=f"upgrade:{step}")
        assert done.status == -9, (step, done.all)
        swapped = STEPS.index(step) >= STEPS.index("swapped")
        repin(filled, NEW if swapped else OLD, locks)
        filled.manage("dbdev_startserver").ok()
        assert series(filled) == ("11.8" if swapped else "10.11"), step
        assert contents(filled) == before, step
        assert not list(filled.tempdata.glob(".MySql*")), step
        assert len(kept(filled)) == swapped, step
        if swapped:
            repin(filled, OLD, locks)
            for backup in kept(filled):
                filled.manage("dbdev_restore", "--noinput", "--no-safety", str(backup)).ok()
            filled.manage("dbdev_clearbackups", "--noinput").ok()
            assert series(filled) == "10.11"
        repin(filled, NEW, locks)
    filled.manage("dbdev_upgrade").ok()
    assert contents(filled) == before

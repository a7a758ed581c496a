"""MySQL itself, where apt has it: the life of one server, from nothing to destroy."""

from __future__ import annotations

import pytest

from django_dbdev.binaries import apt
from tests.conftest import Locks

from .conftest import MySqlFactory, MySqlProject
from .test_backups import fill, numbers

pytestmark = [
    pytest.mark.skipif(not apt.is_there(), reason="this system has no apt"),
    pytest.mark.slow,
]

#: Debian's only release with MySQL.
PIN = '[tool.django_dbdev.mysql]\n[tool.django_dbdev.apt]\nsuite = "sid"\n'


@pytest.fixture
def project(new_mysql: MySqlFactory, locks: Locks) -> MySqlProject:
    project = new_mysql(pin=PIN)
    del project.environment["DBDEV_MARIADB_BINDIR"]
    locks.give(project)
    return project


def test_the_life_of_a_server(project: MySqlProject, locks: Locks) -> None:
    made = project.manage("dbdev_init").ok()
    assert "with MySQL" in made.out
    locks.keep(project, locks.key(project))
    project.manage("migrate", "-v0").ok()
    fill(project, 1, 2)
    project.query("CREATE VIEW v AS SELECT n FROM numbers")
    project.query("CREATE TRIGGER t BEFORE INSERT ON numbers FOR EACH ROW SET NEW.n = NEW.n + 0")
    assert project.query(
        "SELECT CONVERT_TZ('2026-07-01 12:00', 'UTC', 'Europe/Berlin') IS NULL"
    ) == [(0,)]
    project.manage("dbdev_createdump", "it.sql.zst").ok()
    project.manage("dbdev_backup", "-n", "one").ok()
    fill(project, 3)
    project.manage("dbdev_restore", "-n", "one").ok()
    assert numbers(project) == [1, 2]
    for step in ("loaddump:triggers-dropped", "loaddump:moved"):
        done = project.manage("dbdev_loaddump", "it.sql.zst", DBDEV_FAULT_AT=step)
        assert done.status == -9
        project.kill()
        project.manage("dbdev_startserver").ok()
        assert project.query("SELECT * FROM v ORDER BY n") == [(1,), (2,)]
        assert project.query(
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'dbdev'"
        ) == [("t",)]
    project.manage("dbdev_loaddump", "it.sql.zst", "--no-reinit").ok()
    assert numbers(project) == [1, 2]
    project.manage("dbdev_loaddump", "it.sql.zst").ok()
    assert numbers(project) == [1, 2]
    info = project.info()
    assert (info["engine"], info["provider"]) == ("mysql", "apt")
    project.manage("dbdev_destroy", "--noinput").ok()
    assert project.servers() == []

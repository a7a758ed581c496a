"""Programs in the middle of their work: they are killed, or the command that runs them is."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psycopg
import pytest

from tests.backups.helpers import fill, leftovers
from tests.conftest import Project, wait_until, working_in
from tests.test_upgrade import contents, filled, major, pin

from .midway import COMMAND, PROGRAM, VICTIMS, killed, was_told
from .scenarios import share_trees

__all__ = ["filled"]

#: Making this index takes until somebody ends it, in a database that is loaded beside the old one.
ENDLESS = """
CREATE FUNCTION endless(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF current_database() <> 'dbdev' THEN PERFORM pg_sleep(600); END IF;
    RETURN $1;
END $$;
CREATE TABLE slow AS SELECT 0 AS n;
CREATE INDEX ON slow (endless(n));
"""
SLEEPERS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
DATABASES = "SELECT datname FROM pg_database ORDER BY 1"


def own_store(project: Project, folder: Path) -> None:
    share_trees(project.store, folder)
    project.store = folder


@VICTIMS
@pytest.mark.parametrize("moment", ["base/1/pg_filenode.map", "base/5"])
def test_initdb(project: Project, tmp_path: Path, victim: str, moment: str) -> None:
    own_store(project, tmp_path / "own")
    clusters = project.store / "clusters"
    result = killed(
        project,
        "dbdev_init",
        program="/initdb",
        victim=victim,
        reached=lambda: list(clusters.glob(f".*.new/*/{moment}")),
    )
    was_told(result, victim, "initdb")
    wait_until(lambda: not working_in(clusters))
    assert not project.datadir.exists()
    project.manage("dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]
    assert list(clusters.glob(".*.new")) == []


@VICTIMS
def test_pip(project: Project, tmp_path: Path, victim: str) -> None:
    project.store = tmp_path / "own"
    result = killed(
        project,
        "dbdev_init",
        program="-m pip",
        victim=victim,
        reached=lambda: list(project.store.rglob("pip/*")),
    )
    if victim == COMMAND:
        assert result.status == -signal.SIGKILL
        wait_until(lambda: not working_in(project.store))
        assert not project.datadir.exists()
    else:
        # The pin allows another package, which the lock has as well.
        assert "pip was ended by signal 9" in result.ok().err
    project.manage("dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("victim", "moment"), [(COMMAND, ""), (PROGRAM, "/**/pg_upgrade_dump_globals.sql")]
)
def test_pg_upgrade(filled: Project, victim: str, moment: str) -> None:
    before = contents(filled)
    pin(filled, "18")
    result = killed(
        filled,
        "dbdev_upgrade",
        program="/pg_upgrade",
        victim=victim,
        reached=lambda: list(filled.tempdata.glob(f"**/pg_upgrade_output.d{moment}")),
    )
    was_told(result, victim, "pg_upgrade")
    pin(filled, "14")
    filled.manage("dbdev_startserver").ok()
    assert contents(filled) == before
    pin(filled, "18")
    filled.manage("dbdev_upgrade").ok()
    assert major(filled) == "18"
    assert contents(filled) == before


@VICTIMS
@pytest.mark.parametrize(
    ("name", "program"), [("a.sql", "psql"), ("a.dump", "pg_restore"), ("", "pg_restore")]
)
def test_loads(project: Project, victim: str, name: str, program: str) -> None:
    project.manage("dbdev_init").ok()
    databases = project.query(DATABASES)
    project.query(ENDLESS)
    load = ["dbdev_loaddump", name]
    if name:
        project.manage("dbdev_createdump", name).ok()
    else:
        project.manage("dbdev_backup", "--portable", "-n", "endless").ok()
        load = ["dbdev_restore", "--noinput", "-n", "endless"]
    project.query("DROP TABLE slow; CREATE TABLE mine AS SELECT 1 AS n")
    project.manage("dbdev_createdump", "mine.sql").ok()
    result = killed(
        project,
        *load,
        program=program,
        victim=victim,
        reached=lambda: project.query(SLEEPERS) != [(0,)],
    )
    was_told(result, victim, program)
    assert project.query("SELECT n FROM mine") == [(1,)]
    if victim == COMMAND:
        project.manage("dbdev_loaddump", "mine.sql").ok()
    wait_until(lambda: project.query(DATABASES) == databases)
    wait_until(lambda: project.query(SLEEPERS) == [(0,)])


@VICTIMS
@pytest.mark.parametrize("portable", [False, True])
def test_pg_dump(project: Project, victim: str, portable: bool) -> None:
    project.manage("dbdev_init").ok()
    fill(project, 1)
    before = sorted(project.root.iterdir())
    dump = ["dbdev_backup", "--portable"] if portable else ["dbdev_createdump", "a.dump"]
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(project.info()["url"], password="dbdev") as connection:
        connection.execute("LOCK TABLE numbers IN ACCESS EXCLUSIVE MODE")
        result = killed(
            project,
            *dump,
            program="pg_dump",
            victim=victim,
            reached=lambda: project.query(waiting) != [(0,)],
        )
    was_told(result, victim, "pg_dump")
    assert json.loads(project.manage("dbdev_listbackups", "--format", "json").ok().out) == []
    project.manage(*dump).ok()
    if portable:
        project.manage("dbdev_doctor", "--fix")
        assert leftovers(project) == []
    else:
        assert sorted(project.root.iterdir()) == sorted([*before, project.root / "a.dump"])

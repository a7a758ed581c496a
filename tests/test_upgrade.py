"""dbdev_upgrade: the data goes along to a newer major version, or stays whole where it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Project, ProjectFactory

FILL = (
    "CREATE TABLE numbers (n int PRIMARY KEY, text text, at timestamptz DEFAULT '2026-01-01Z')",
    "INSERT INTO numbers SELECT g, repeat(md5(g::text), g % 40) FROM generate_series(1, 3000) g",
    "CREATE INDEX ON numbers (text)",
    "CREATE VIEW few AS SELECT n FROM numbers WHERE n < 10",
    "CREATE SEQUENCE counting; SELECT setval('counting', 41)",
    "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TABLE moods (m mood)",
    "INSERT INTO moods VALUES ('glad'), ('sad')",
    "CREATE ROLE reader LOGIN PASSWORD 'secret'; GRANT SELECT ON numbers TO reader",
    'CREATE DATABASE "another ""one"""',
    "ALTER DATABASE dbdev SET work_mem = '3MB'",
    "SELECT lo_from_bytea(4711, 'a large object')",
    "CREATE EXTENSION pg_trgm VERSION '1.3'",
)
CONTENTS = (
    "SELECT n, text, at::text FROM numbers ORDER BY n",
    "SELECT m::text FROM moods ORDER BY 1",
    "SELECT n FROM few ORDER BY n",
    "SELECT last_value FROM counting",
    "SELECT rolname, rolsuper, rolcanlogin FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1",
    "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1",
    "SELECT current_setting('work_mem')",
    "SELECT convert_from(lo_get(4711), 'UTF8')",
    "SELECT similarity('word', 'words')::text",
)
STEPS = (
    *("begun", "looked", "initialised", "copying", "copied", "checked", "built", "described"),
    *("flushed", "set-aside", "swapped", "kept", "started"),
)
SWAPPED = STEPS.index("swapped")


def pin(project: Project, version: str) -> None:
    project.pin(f'[tool.django_dbdev.postgresql]\nversion = "{version}"\n')


def contents(project: Project) -> list[list[tuple[object, ...]]]:
    return [project.query(query) for query in CONTENTS]


def major(project: Project) -> str:
    return str(project.query("SHOW server_version")[0][0]).split(".")[0]


def kept(project: Project) -> list[Path]:
    listed = json.loads(project.manage("dbdev_listbackups", "--format", "json").ok().out)
    return [Path(each["directory"]) for each in listed if each["name"] == "before-upgrade"]


@pytest.fixture
def filled(new_project: ProjectFactory) -> Project:
    project = new_project(pin='[tool.django_dbdev.postgresql]\nversion = "14"\n')
    project.manage("dbdev_init").ok()
    for statement in FILL:
        project.query(statement)
    return project


def test_in_one_leap(filled: Project) -> None:
    before = contents(filled)
    pin(filled, "18")
    for command in ("dbdev_init", "dbdev_startserver"):
        if command == "dbdev_startserver":
            pin(filled, "14")
            filled.manage("dbdev_stopserver").ok()
            pin(filled, "18")
        said = filled.manage(command).failed(4).err
        assert "made by PostgreSQL 14" in said
        assert "18.6" in said
        assert "dbdev_upgrade" in said
    said = filled.manage("dbdev_upgrade").ok().out
    assert "Upgrading PostgreSQL 14.23 -> 18.6" in said
    assert "Updated the extension pg_trgm in dbdev" in said
    assert major(filled) == "18"
    assert contents(filled) == before
    statistics = "SELECT count(*) FROM pg_stats WHERE tablename = 'numbers'"
    assert filled.query(statistics)[0][0] == 3
    (backup,) = kept(filled)
    # What is kept is a whole backup of the old version, for the old version.
    filled.query("DROP TABLE numbers CASCADE")
    pin(filled, "14")
    assert "there is no way back" in filled.manage("dbdev_upgrade").failed(4).err
    filled.manage("dbdev_restore", "--verify", "--noinput", str(backup)).ok()
    assert major(filled) == "14"
    assert contents(filled) == before
    assert not list(filled.tempdata.glob(".Postgres*"))
    # Of the pinned version already, it sees that the server runs and has its extensions.
    version = "SELECT extversion = '1.3' FROM pg_extension WHERE extname = 'pg_trgm'"
    assert filled.query(version) == [(True,)]
    said = filled.manage("dbdev_upgrade").ok().out
    assert "Upgrading" not in said
    assert "Updated the extension pg_trgm in dbdev" in said
    assert filled.query(version) == [(False,)]


@pytest.mark.parametrize(
    "steps",
    [("copying", "set-aside", "swapped"), pytest.param(STEPS, marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_killed_at_every_step(filled: Project, steps: tuple[str, ...]) -> None:
    before = contents(filled)
    pin(filled, "18")
    for step in steps:
        done = filled.manage("dbdev_upgrade", DBDEV_FAULT_AT=f"upgrade:{step}")
        assert done.status == -9, (step, done.all)
        swapped = STEPS.index(step) >= SWAPPED
        pin(filled, "18" if swapped else "14")
        filled.manage("dbdev_startserver").ok()
        assert major(filled) == ("18" if swapped else "14"), step
        assert contents(filled) == before, step
        assert not list(filled.tempdata.glob(".Postgres*")), step
        assert len(kept(filled)) == swapped, step
        if swapped:
            for backup in kept(filled):
                pin(filled, "14")
                filled.manage("dbdev_restore", "--noinput", "--no-safety", str(backup)).ok()
                filled.manage("dbdev_clearbackups", "--noinput").ok()
        pin(filled, "18")
    filled.manage("dbdev_upgrade").ok()
    assert contents(filled) == before


@pytest.mark.parametrize("step", ["set-aside", "swapped"])
def test_clearing_up_takes_nothing_of_an_upgrade_that_was_killed(
    filled: Project, step: str
) -> None:
    before = contents(filled)
    pin(filled, "18")
    assert filled.manage("dbdev_upgrade", DBDEV_FAULT_AT=f"upgrade:{step}").status == -9
    filled.manage("dbdev_clearbackups", "--keep", "9", "--noinput").ok()
    pin(filled, "18" if step == "swapped" else "14")
    filled.manage("dbdev_startserver").ok()
    assert contents(filled) == before
    assert len(kept(filled)) == (step == "swapped")


def upgrade_by_dumps(project: Project) -> None:
    script = """
    import os
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django; django.setup()
    from django.core.management import call_command
    from django_dbdev.backends.postgresql.upgrade import Upgrade
    Upgrade.by_files = False
    call_command("dbdev_upgrade")
    """
    # The installations of the tests have pg_upgrade, so that it has to be hidden.
    pin(project, "18")
    project.write("by_dumps.py", script)
    subprocess.run([sys.executable, "by_dumps.py"], cwd=project.root, env=project.env(), check=True)
    assert major(project) == "18"


def test_by_dumps_where_pg_upgrade_is_not_there(filled: Project) -> None:
    before = contents(filled)
    upgrade_by_dumps(filled)
    assert contents(filled) == before


@pytest.mark.parametrize("how", ["pg_upgrade", "dumps"])
def test_templates_go_along_with_what_is_in_them(new_project: ProjectFactory, how: str) -> None:
    """template1, of which test databases are copies, and templates of the user's own."""
    project = new_project(pin='[tool.django_dbdev.postgresql]\nversion = "14"\n')
    project.manage("dbdev_init").ok()
    project.query("CREATE DATABASE pattern IS_TEMPLATE true")
    for database in ("pattern", "template1"):
        project.query("CREATE TABLE kept AS SELECT 42 AS n", database=database)
        project.query("CREATE EXTENSION pg_trgm VERSION '1.3'", database=database)
    if how == "dumps":
        upgrade_by_dumps(project)
    else:
        pin(project, "18")
        project.manage("dbdev_upgrade").ok()
    for database in ("pattern", "template1"):
        assert project.query("SELECT n FROM kept", database=database) == [(42,)]
        assert project.query(
            "SELECT extversion <> '1.3' FROM pg_extension WHERE extname = 'pg_trgm'",
            database=database,
        ) == [(True,)]
    templates = "SELECT datname FROM pg_database WHERE datistemplate ORDER BY 1"
    assert project.query(templates) == [("pattern",), ("template0",), ("template1",)]
    project.query("CREATE DATABASE another")
    assert project.query("SELECT n FROM kept", database="another") == [(42,)]


def test_a_database_that_lets_nobody_in_is_named(filled: Project) -> None:
    filled.query("CREATE DATABASE closed ALLOW_CONNECTIONS false")
    pin(filled, "18")
    said = filled.manage("dbdev_upgrade").failed(4).err
    assert "closed" in said
    assert "ALLOW_CONNECTIONS true" in said
    assert kept(filled) == []


@pytest.fixture
def another_disk() -> Iterator[Path]:
    """A folder on another file system than pytest's own."""
    place = Path("/dev/shm")
    if not place.is_dir() or place.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("there is no other file system here")
    folder = Path(tempfile.mkdtemp(dir=place, prefix="dbdev-test-"))
    yield folder
    shutil.rmtree(folder)


def test_with_the_backups_on_another_disk(filled: Project, another_disk: Path) -> None:
    before = contents(filled)
    (filled.tempdata / "PostgresBackend-backups").symlink_to(another_disk)
    for step in ("copied-away", "moved-away", "set-aside", "swapped"):
        pin(filled, "18")
        done = filled.manage("dbdev_upgrade", DBDEV_FAULT_AT=f"upgrade:{step}")
        assert done.status == -9, (step, done.all)
        pin(filled, "18" if step == "swapped" else "14")
        filled.manage("dbdev_startserver").ok()
        assert major(filled) == ("18" if step == "swapped" else "14"), step
        assert contents(filled) == before, step
        assert not list(filled.tempdata.glob(".Postgres*")), step
        assert len(kept(filled)) == (step == "swapped"), step
    (backup,) = kept(filled)
    pin(filled, "14")
    filled.manage("dbdev_restore", "--verify", "--noinput", str(backup)).ok()
    assert contents(filled) == before


def test_what_pg_upgrade_refuses_is_said_and_nothing_changes(filled: Project) -> None:
    filled.query("CREATE TABLE old (r regproc)")
    before = contents(filled)
    pid = filled.pid()
    pin(filled, "18")
    said = filled.manage("dbdev_upgrade").failed(4)
    assert "pg_upgrade" in said.err
    # The file with that goes.
    assert "public.old.r" in said.err
    assert "as it was" in said.all
    # It runs again, with the old programs.
    assert filled.pid() != pid
    assert contents(filled) == before
    assert kept(filled) == []


def test_a_newer_minor_version_is_a_restart(new_project: ProjectFactory) -> None:
    project = new_project(pin='[tool.django_dbdev.postgresql]\nversion = "16.14"\n')
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept (n int)")
    pid = project.pid()
    pin(project, "16.15")
    for command in ("dbdev_startserver", "dbdev_init"):
        said = project.manage(command).ok().out
        assert ("restarting" in said) == (command == "dbdev_startserver")
    assert project.pid() != pid
    assert project.query("SHOW server_version")[0][0].startswith("16.15")
    assert project.query("SELECT count(*) FROM kept") == [(0,)]


@pytest.mark.slow
def test_step_by_step(filled: Project) -> None:
    before = contents(filled)
    for version in ("15", "16", "17", "18"):
        pin(filled, version)
        filled.manage("dbdev_upgrade").ok()
        assert major(filled) == version
        assert contents(filled) == before
    assert len(kept(filled)) == 4

"""SQLite: the same commands for a database that is a file."""

from __future__ import annotations

import json
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import MANAGE, SETTINGS, Project, ProjectFactory
from tests.guide_commands import commands

BASE = SETTINGS.replace("backends.postgres", "backends.sqlite")


@pytest.fixture
def project(new_project: ProjectFactory) -> Project:
    return new_project(pin="", base=BASE)


def file_of(project: Project) -> Path:
    return project.tempdata / "SqliteBackend" / "dbdev.sqlite3"


def run(file: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection, connection:
        return connection.execute(statement).fetchall()


def test_from_nothing_to_migrate_and_back(project: Project) -> None:
    file = file_of(project)
    assert "nothing at" in project.manage("dbdev_destroy", "--noinput").ok().out
    done = project.manage("dbdev_init", umask=0o000).ok()
    assert f"Created {file}" in done.out
    assert done.out.splitlines()[-1].endswith("manage.py migrate")
    modes = {oct(stat.S_IMODE(p.stat().st_mode)) for p in (file.parent, project.tempdata)}
    assert modes == {"0o700"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    project.manage("migrate", "--verbosity", "0").ok()
    assert f"Found {file}" in project.manage("dbdev_init").ok().out
    assert run(file, "SELECT count(*) > 0 FROM django_migrations") == [(1,)]

    asked = project.manage("dbdev_destroy", input="no\n").failed(1)
    assert str(file) in asked.out
    assert file.exists()
    project.manage("dbdev_reinit", input="yes\n").ok()
    assert run(file, "SELECT count(*) FROM sqlite_master") == [(0,)]
    project.manage("dbdev_destroy", "--noinput").ok()
    assert not file.parent.exists()


def test_a_data_directory_in_nobodys_home(project: Project) -> None:
    failed = project.manage("dbdev_init", DBDEV_DATADIR="~nosuchuser/folder").failed(2).err
    assert "it is not known where that home is" in failed


@pytest.mark.parametrize("command", ["startserver", "stopserver", "fgrunserver"])
def test_there_is_no_server(project: Project, command: str) -> None:
    assert "SQLite has no server" in project.manage(f"dbdev_{command}").ok().out


def test_serverinfo_in_every_format(project: Project) -> None:
    assert "that does not exist yet" in project.manage("dbdev_serverinfo").ok().out
    project.manage("dbdev_init").ok()
    text = project.manage("dbdev_serverinfo").ok().out
    assert "none: the database is a file" in text
    assert sqlite3.sqlite_version in text
    info = json.loads(project.manage("dbdev_serverinfo", "--format", "json").ok().out)
    assert (info["running"], info["has_server"], info["initialised"]) == (False, False, True)
    assert info["databases"] == {"default": str(file_of(project))}
    env = project.manage("dbdev_serverinfo", "--format", "env").ok().out
    assert env == f"export DATABASE_URL=sqlite:///{file_of(project)}\n"


def test_companions_go_with_the_database(project: Project) -> None:
    project.manage("dbdev_init").ok()
    file = file_of(project)
    for end in ("-wal", "-shm", "-journal"):
        file.with_name(file.name + end).touch()
    keepsake = file.with_name("notes.txt")
    keepsake.touch()
    project.manage("dbdev_destroy", "--noinput").ok()
    assert list(file.parent.iterdir()) == [keepsake]


@pytest.mark.parametrize("name", ["':memory:'", "''", "'file:x?mode=memory'"])
def test_a_name_that_is_no_file_is_refused(new_project: ProjectFactory, name: str) -> None:
    project = new_project(pin="", base=BASE, settings=f"DATABASES['default']['NAME'] = {name}")
    failed = project.manage("dbdev_init").failed(2)
    assert "which is not a file" in failed.err


def test_a_file_that_is_no_database_is_left_alone(project: Project) -> None:
    file = file_of(project)
    file.parent.mkdir(parents=True)
    file.write_text("these are the notes for my thesis, and they are not a database")
    failed = project.manage("dbdev_init").failed(2)
    assert "is not a database that SQLite can read" in failed.err
    assert file.read_text().startswith("these are the notes")


def test_a_file_elsewhere_in_the_project(new_project: ProjectFactory) -> None:
    project = new_project(
        "a project, with 'quotes' & ünïcode?#%20",
        pin="",
        base=BASE,
        settings="DATABASES['default']['NAME'] = 'db ü?.sqlite3'",
    )
    project.manage("dbdev_init", cwd=project.root.parent).ok()
    file = project.root / "db ü?.sqlite3"
    assert file.exists()
    project.manage("dbdev_init").ok()
    missing = "DATABASES['default']['NAME'] = BASE_DIR / 'no such folder' / 'db.sqlite3'"
    project.settings(missing, base=BASE)
    failed = project.manage("dbdev_init").failed(2)
    assert f"There is no folder {project.root / 'no such folder'}" in failed.err


def test_a_data_directory_that_is_set_after_the_import(new_project: ProjectFactory) -> None:
    """Imports stand at the top of settings.py, or in another module that it takes over."""
    more = "DBDEV_DATADIR = 'var/state'; DATABASES['own'] = {**DBSETTINGS, 'NAME': 'own.sqlite3'}"
    project = new_project(pin="", base=BASE, settings=more)
    file = project.root / "var/state/SqliteBackend/dbdev.sqlite3"
    assert f"Created {file}" in project.manage("dbdev_init").ok().out
    project.manage("migrate", "--verbosity", "0").ok()
    assert run(file, "SELECT count(*) > 0 FROM django_migrations") == [(1,)]
    assert not project.tempdata.exists()
    assert f"Created {project.root}/own" in project.manage("dbdev_init", "--database=own").ok().out
    seen = "import os, sys; print(os.environ['DATABASE_URL'])"
    done = project.manage("dbdev_run", "--ephemeral", "--", sys.executable, "-c", seen).ok()
    assert "/var/state/ephemeral/" in done.out


def test_commands_that_are_told_take_the_settings_that_were_given(project: Project) -> None:
    """Else the one that is useful next works on another database."""
    project.write(
        "other.py", "from settings import *\nDATABASES['default']['NAME'] = 'o.sqlite3'\n"
    )
    usual = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'settings')"
    project.write("manage.py", re.sub(r"os\.environ\[.*", usual, MANAGE))
    said = project.manage("dbdev_init", "--settings", "other").ok().out.splitlines()[-1]
    command = f"{said.removeprefix('Next: ')} --verbosity 0"
    subprocess.run(["sh", "-c", command], cwd=project.root, env=project.env(), check=True)
    file = project.root / "o.sqlite3"
    assert run(file, "SELECT count(*) > 0 FROM django_migrations") == [(1,)]
    assert not file_of(project).exists()
    guide = project.manage("dbdev_guide", "--settings=other").ok().out
    line = next(line for line in commands(guide) if "dbdev_serverinfo" in line)
    told = subprocess.run(
        ["sh", "-c", line], cwd=project.root, env=project.env(), capture_output=True, text=True
    )
    assert f"sqlite:///{file}" in told.stdout, told.stderr


def test_two_aliases_are_two_files(new_project: ProjectFactory) -> None:
    """What is destroyed is the file of the alias that was named, and the question says so."""
    other = "DATABASES['other'] = {**DBSETTINGS, 'NAME': BASE_DIR / 'other.sqlite3'}"
    project = new_project(pin="", base=BASE, settings=other)
    project.manage("dbdev_init").ok()
    project.manage("dbdev_init", "--database", "other").ok()
    file = project.root / "other.sqlite3"
    asked = project.manage("dbdev_destroy", "--database", "other", input="yes\n").ok()
    assert str(file) in asked.out
    assert "default" not in asked.out
    assert not file.exists()
    assert file_of(project).exists()

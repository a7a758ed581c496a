"""Backends of a project's own, with the names that 1.2.3 had, or without."""

from __future__ import annotations

import pytest

from tests.conftest import Project, ProjectFactory

BACKEND = """
from pathlib import Path

from django_dbdev.backends.base import BaseDbdevBackend

DBSETTINGS = {"ENGINE": "django.db.backends.oracle"}


class Bare(BaseDbdevBackend):
    def init(self):
        self.create_datadir_if_not_exists()
        Path(self.datadir, "data").write_text("empty")

    def destroy(self):
        self.remove_datadir()

    def backup(self, directory):
        Path(directory, "data").write_text(Path(self.datadir, "data").read_text())

    def restore(self, directory):
        Path(self.datadir, "data").write_text(Path(directory, "data").read_text())


class Custom(Bare):
    def create_dbdump(self, dumpfile):
        Path(dumpfile).write_text(Path(self.datadir, "data").read_text())

    def load_dbdump(self, dumpfile):
        before = Path(self.datadir, "data").read_text()
        Path(self.datadir, "data").write_text(f"{before}, {Path(dumpfile).read_text()}")


class WithSql(Custom):
    def load_sql_dbdump(self, dumpfile):
        Path(self.datadir, "data").write_text(f"SQL {Path(dumpfile).read_text()}")


class Failing(Custom):
    def load_dbdump(self, dumpfile):
        raise OSError(5, "it cannot be read", dumpfile)
"""
SETTINGS = """
from django_dbdev import backendregistry

SECRET_KEY = "for tests"
INSTALLED_APPS = ["django_dbdev"]
DATABASES = {"default": {"ENGINE": "django.db.backends.oracle", "NAME": "x"}}
backendregistry.register("django.db.backends.oracle", "mine.KIND")
"""


@pytest.fixture
def make(new_project: ProjectFactory) -> object:
    def made(kind: str) -> Project:
        project = new_project(pin="", base=SETTINGS.replace("KIND", kind))
        project.write("mine.py", BACKEND)
        project.manage("dbdev_init").ok()
        project.write("a.sql", "dump")
        return project

    return made


def data(project: Project, kind: str = "Custom") -> str:
    return (project.tempdata / kind / "data").read_text()


def test_the_names_of_1_2_3_are_called(make: ProjectFactory) -> None:
    project = make("Custom")
    project.manage("dbdev_loaddump", "a.sql").ok()
    assert data(project) == "empty, dump"
    project.manage("dbdev_createdump", "b.sql").ok()
    assert (project.root / "b.sql").read_text() == "empty, dump"


def test_an_sql_dump_after_a_backup(make: ProjectFactory) -> None:
    project = make("Custom")
    project.manage("dbdev_loaddump", "a.sql").ok()
    assert "Nothing was changed" in project.manage("dbdev_load_sqldump", "a.sql").failed().err
    project.manage("dbdev_load_sqldump", "--noinput", "missing.sql").failed(2)
    assert data(project) == "empty, dump"
    project.manage("dbdev_load_sqldump", "--noinput", "a.sql").ok()
    assert data(project) == "empty, dump"
    (kept,) = project.tempdata.glob("Custom-backups/backup-*.before-load/data")
    assert kept.read_text() == "empty, dump"
    project.manage("dbdev_load_sqldump", "--no-reinit", "a.sql").ok()
    assert data(project) == "empty, dump, dump"


def test_what_a_load_replaced_is_a_backup_like_others(make: ProjectFactory) -> None:
    project = make("Failing")
    (project.tempdata / "Failing" / "data").write_text("precious")
    failed = project.manage("dbdev_load_sqldump", "--noinput", "a.sql").failed()
    assert data(project, "Failing") == "empty"
    (kept,) = project.tempdata.glob("Failing-backups/backup-*.before-load")
    assert f"dbdev_restore {kept}" in failed.err
    assert "before-load" in project.manage("dbdev_listbackups").ok().out
    assert "no backups" in project.manage("dbdev_restore").failed(2).err
    project.manage("dbdev_clearbackups", "--keep", "1", "--noinput").ok()
    project.manage("dbdev_restore", "-n", "before-load").ok()
    assert data(project, "Failing") == "precious"


def test_a_name_of_its_own_for_sql(make: ProjectFactory) -> None:
    project = make("WithSql")
    project.manage("dbdev_load_sqldump", "--no-reinit", "a.sql").ok()
    assert data(project, "WithSql") == "SQL dump"


def test_what_it_does_not_know(make: ProjectFactory) -> None:
    project = make("Custom")
    assert "does not know --schema-only" in (
        project.manage("dbdev_createdump", "b.sql", "--schema-only").failed(2).err
    )
    assert "in files only" in project.manage("dbdev_loaddump", "-").failed(2).err
    assert "in files only" in project.manage("dbdev_createdump", "-").failed(2).err


def test_a_backend_without_dumps(make: ProjectFactory) -> None:
    project = make("Bare")
    for command in ("dbdev_loaddump", "dbdev_createdump"):
        assert "does not do this" in project.manage(command, "a.sql").failed().err
    assert "does not do this" in (
        project.manage("dbdev_load_sqldump", "--noinput", "a.sql").failed().err
    )
    assert data(project, "Bare") == "empty"

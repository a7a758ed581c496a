"""A backend that has only what the contract asks for."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Project, ProjectFactory

BACKEND = '''
import shutil
from pathlib import Path

from django_dbdev.backends.base import BaseDbdevBackend

DBSETTINGS = {"ENGINE": "django.db.backends.dummy", "NAME": "notes"}


class NotesBackend(BaseDbdevBackend):
    """Its data is a file, and it restores by adding to what is there, as a dump does."""

    @property
    def notes(self):
        return Path(self.datadir) / "notes"

    def init(self):
        self.notes.touch()

    def destroy(self):
        self.remove_datadir()

    def backup(self, directory):
        shutil.copy(self.notes, Path(directory) / "backup.txt")

    def restore(self, directory):
        text = (Path(directory) / "backup.txt").read_text()
        if "broken" in text:
            raise RuntimeError("it is broken")
        with self.notes.open("a") as file:
            file.write(text)
'''
BASE = """
from django_dbdev import backendregistry
from notes import DBSETTINGS, NotesBackend
backendregistry.register("django.db.backends.dummy", NotesBackend)
SECRET_KEY = "for tests"
USE_TZ = True
INSTALLED_APPS = ["django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""
SHARED = """
from pathlib import Path
STORAGES = {"shared": {
    "BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {"location": Path(__file__).parent / "shared"},
}}
"""


@pytest.fixture
def project(new_project: ProjectFactory) -> Project:
    project = new_project(base=BASE, pin="")
    project.write("notes.py", BACKEND)
    project.manage("dbdev_init").ok()
    return project


def write(project: Project, text: str) -> None:
    (project.tempdata / "NotesBackend" / "notes").write_text(text)


def read(project: Project) -> str:
    return (project.tempdata / "NotesBackend" / "notes").read_text()


def test_it_is_served_with_a_safety_backup(project: Project) -> None:
    write(project, "one")
    project.manage("dbdev_backup", "-n", "one").ok()
    write(project, "two")
    assert "kept in" in project.manage("dbdev_restore", "-n", "one").ok().out
    assert read(project) == "one"
    project.manage("dbdev_restore", "-n", "before-restore").ok()
    assert read(project) == "two"
    listed = json.loads(project.manage("dbdev_listbackups", "--format", "json").ok().out)
    assert (listed[0]["name"], listed[0]["kind"]) == ("one", "custom")
    project.manage("dbdev_clearbackups", "--noinput").ok()
    assert "no backups" in project.manage("dbdev_listbackups").ok().out


def test_what_cannot_be_restored_leaves_the_old_data(project: Project) -> None:
    write(project, "broken")
    project.manage("dbdev_backup", "-n", "broken").ok()
    write(project, "whole")
    failed = project.manage("dbdev_restore", "-n", "broken")
    assert failed.status != 0
    assert "The old data is back" in failed.err
    assert read(project) == "whole"


def test_what_cannot_be_backed_up_can_be_restored_over(project: Project) -> None:
    write(project, "one")
    project.manage("dbdev_backup", "-n", "one").ok()
    project.manage("dbdev_destroy", "--noinput").ok()
    failed = project.manage("dbdev_restore", "-n", "one").failed(5).err
    assert "cannot be backed up" in failed
    assert "--no-safety" in failed
    said = project.manage("dbdev_restore", "-n", "one", "--no-safety").ok()
    assert "What is replaced cannot be copied" in said.err
    assert read(project) == "one"
    # What cannot be restored either is told by its own words.
    write(project, "broken")
    project.manage("dbdev_backup", "-n", "broken").ok()
    project.manage("dbdev_destroy", "--noinput").ok()
    assert "it is broken" in project.manage("dbdev_restore", "--no-safety", "-n", "broken").all
    assert [p.name for p in project.tempdata.glob("*-backups/*before-restore")] == []


def test_options_that_it_knows_nothing_of(project: Project) -> None:
    for option in (["--portable"], ["--to", "default"]):
        said = project.manage("dbdev_backup", *option).failed(2).err
        assert "NotesBackend" in said
        assert not list(project.tempdata.glob("NotesBackend-backups/*"))


def test_capabilities_are_enough_by_themselves(project: Project) -> None:
    extended = BACKEND.replace(
        "    @property\n",
        "    restores_beside = True\n    backups_are_portable = True\n\n    @property\n",
    )
    project.write("notes.py", extended)
    project.settings(SHARED, BASE)
    write(project, "one")
    project.manage("dbdev_backup", "--to", "shared", "-n", "one").ok()
    project.manage("dbdev_clearbackups", "--noinput").ok()
    write(project, "")
    project.manage("dbdev_restore", "--from", "shared").ok()
    assert read(project) == "one"


def test_a_damaged_backup_is_refused(project: Project) -> None:
    write(project, "one")
    project.manage("dbdev_backup", "-n", "one").ok()
    write(project, "two")
    (backup,) = (project.tempdata / "NotesBackend-backups").glob("backup-*")
    (backup / "backup.txt").write_text("eno")
    assert "is damaged" in project.manage("dbdev_restore", "-n", "one").failed(5).err
    assert read(project) == "two"


@pytest.mark.parametrize("step", ["kept", "emptied"])
def test_a_kill_leaves_the_old_data_in_a_backup(project: Project, step: str) -> None:
    write(project, "one")
    project.manage("dbdev_backup", "-n", "one").ok()
    write(project, "two")
    killed = project.manage("dbdev_restore", "-n", "one", DBDEV_FAULT_AT=f"restore:{step}")
    assert killed.status == -9
    project.manage("dbdev_restore", "-n", "before-restore").ok()
    assert read(project) == "two"

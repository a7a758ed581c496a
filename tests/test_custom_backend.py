"""A backend that somebody else wrote, from the published contract alone."""

from __future__ import annotations

import pytest

from .conftest import Project, ProjectFactory

#: Uses only names of the contract page. Its database is a file; its server a marker beside it.
BACKEND = """
import os

from django_dbdev.backends.base import BaseDbdevBackend

DBSETTINGS = {"ENGINE": "shelf.engine", "NAME": "shelf"}


class ShelfBackend(BaseDbdevBackend):
    def __init__(self, command):
        super().__init__(command)
        self.file = os.path.join(self.datadir, "shelf.txt")
        self.marker = os.path.join(self.datadir, "running")

    def init(self):
        self.create_datadir_if_not_exists()
        open(self.file, "w").close()
        self.stdout.write("shelf made")
        self.start_database_server()

    def destroy(self):
        self.remove_datadir()
        self.stdout.write("shelf gone")

    def run_database_server_in_foreground(self):
        self.stdout.write("shelf in the foreground")

    def start_database_server(self):
        open(self.marker, "w").close()
        self.stdout.write("shelf started")

    def stop_database_server(self):
        os.remove(self.marker)
        self.stdout.write("shelf stopped")

    def backup(self, directory):
        with open(self.file) as source, open(os.path.join(directory, "shelf.txt"), "w") as copy:
            copy.write(source.read())

    def restore(self, directory):
        with open(os.path.join(directory, "shelf.txt")) as source, open(self.file, "w") as copy:
            copy.write(source.read())

    def serverinfo(self):
        self.stdout.write("running" if os.path.exists(self.marker) else "not running")
        self.stderr.write("a word on stderr")
"""

#: Enough of a Django engine to be named in DATABASES.
ENGINE = """
from django.db.backends.dummy.base import DatabaseWrapper as Dummy

class DatabaseWrapper(Dummy):
    vendor = "shelf"
"""

GUIDE = "Shelf\n=====\n\n{{ dbsettings.NAME }} of {{ backend.datadir }} & <co>\n"

SETTINGS = """
from django_dbdev import backendregistry
{registration}
SECRET_KEY = "for tests"
DEBUG = True
INSTALLED_APPS = ["shelf", "django_dbdev"]
TEMPLATES = []
DATABASES = {{"default": {{"ENGINE": "shelf.engine", "NAME": "shelf"}}}}
"""

BY_CLASS = """
from shelf.backend import ShelfBackend
backendregistry.register("shelf.engine", ShelfBackend)
"""
BY_PATH = 'backendregistry.register("shelf.engine", "shelf.backend.ShelfBackend")'


def shelf_project(new_project: ProjectFactory, registration: str = BY_CLASS) -> Project:
    project = new_project("shelf", pin="", base=SETTINGS.format(registration=registration))
    project.write("shelf/__init__.py", "")
    project.write("shelf/engine/__init__.py", "")
    project.write("shelf/engine/base.py", ENGINE)
    project.write("shelf/backend.py", BACKEND)
    project.write("shelf/templates/django_dbdev/shelfbackend.rst", GUIDE)
    return project


@pytest.mark.parametrize("registration", [BY_CLASS, BY_PATH], ids=["class", "dotted path"])
def test_it_is_served_by_every_command(new_project: ProjectFactory, registration: str) -> None:
    project = shelf_project(new_project, registration)
    file = project.tempdata / "ShelfBackend" / "shelf.txt"
    assert "shelf made\nshelf started\n" in project.manage("dbdev_init").ok().out
    assert file.read_text() == ""
    said = project.manage("dbdev_serverinfo").ok()
    assert (said.out, said.err) == ("running\n", "a word on stderr\n")
    assert "shelf stopped" in project.manage("dbdev_stopserver").ok().out
    assert project.manage("dbdev_serverinfo").ok().out == "not running\n"
    assert "shelf started" in project.manage("dbdev_startserver").ok().out
    assert "in the foreground" in project.manage("dbdev_fgrunserver").ok().out
    file.write_text("a book")
    said = project.manage("dbdev_reinit", "--noinput").ok()
    assert "shelf gone\nshelf made\n" in said.out
    assert file.read_text() == ""
    guide = project.manage("dbdev_guide").ok().out
    assert f"shelf of {project.tempdata / 'ShelfBackend'} & <co>" in guide
    assert "shelf gone" in project.manage("dbdev_destroy", "--noinput").ok().out
    assert not file.exists()


def test_its_guide_may_print_more(new_project: ProjectFactory) -> None:
    project = shelf_project(new_project)
    with (project.root / "shelf/backend.py").open("a") as file:
        file.write(
            "    def guide(self):\n"
            "        super().guide()\n"
            "        self.stdout.write('Mind the ladder.')\n"
        )
    said = project.manage("dbdev_guide").ok().out
    assert said.startswith("Shelf\n=====\n")
    assert said.endswith("Mind the ladder.\n")


def test_checks_make_no_backend_that_does_not_look_for_mistakes(
    new_project: ProjectFactory,
) -> None:
    project = shelf_project(new_project)
    project.manage("check").ok()
    assert not project.tempdata.exists()


def test_what_it_has_not_is_said_and_not_a_traceback(new_project: ProjectFactory) -> None:
    project = shelf_project(new_project)
    said = project.manage("dbdev_serverinfo", "--format", "json").failed(2).err
    assert "ShelfBackend" in said
    assert "nothing to lock" in project.manage("dbdev_lock").failed(2).err
    (project.root / "shelf/templates/django_dbdev/shelfbackend.rst").unlink()
    assert "django_dbdev/shelfbackend.rst" in project.manage("dbdev_guide").failed().err


def test_the_helpers_of_the_contract_mean_what_the_page_says(new_project: ProjectFactory) -> None:
    project = shelf_project(new_project)
    script = (
        "from shelf.backend import ShelfBackend\n"
        "from django_dbdev.management.commands._base import BaseDbdevCommand\n"
        "import os\n"
        "class Command(BaseDbdevCommand):\n"
        "    pass\n"
        "backend = ShelfBackend(Command())\n"
        "print(os.path.isdir(backend.datadir))\n"
        "named = backend.create_timestamped_backupdir(name='mine')\n"
        "plain = backend.create_timestamped_backupdir()\n"
        "print(os.path.isdir(named), os.path.dirname(named) == backend.root_backupdir)\n"
        "print(named.endswith('.mine'), os.path.basename(plain).startswith('backup-'))\n"
        "command = backend.command\n"
        "print(backend.stdout is command.stdout, backend.stderr is command.stderr)\n"
        "backend.remove_datadir()\n"
        "print(os.path.exists(os.path.dirname(backend.file)))\n"
        "backend.create_datadir_if_not_exists()\n"
        "print(os.path.isdir(os.path.dirname(backend.file)))\n"
    )
    said = project.manage("shell", "--no-imports", "-c", script).ok().out.split()
    assert said == ["True"] * 7 + ["False", "True"]


def test_its_backups_may_be_anywhere(new_project: ProjectFactory) -> None:
    project = shelf_project(new_project)
    with (project.root / "shelf/backend.py").open("a") as file:
        file.write(
            "    @property\n"
            "    def root_backupdir(self):\n"
            f"        return {str(project.root / 'kept' / 'shelf')!r}\n"
        )
    project.manage("dbdev_init").ok()
    script = (
        "from shelf.backend import ShelfBackend\n"
        "from django_dbdev.management.commands._base import BaseDbdevCommand\n"
        "print(ShelfBackend(BaseDbdevCommand()).create_timestamped_backupdir())\n"
    )
    made = project.manage("shell", "--no-imports", "-c", script).ok().out
    assert made.startswith(str(project.root / "kept" / "shelf" / "backup-"))


def test_an_unknown_engine_is_an_error_that_says_how_to_register(
    new_project: ProjectFactory,
) -> None:
    project = shelf_project(new_project, registration="")
    said = project.manage("dbdev_init").failed(2).err
    assert "backendregistry.register('shelf.engine'" in said
    assert "django.db.backends.postgresql" in said

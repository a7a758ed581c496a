"""The system checks, each by its id."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from django_dbdev.checks import keeps_out_of_git
from django_dbdev.process.privileges import acting_as

from .conftest import ProjectFactory

OTHER = """
DATABASES["reporting"] = {**DBSETTINGS, "NAME": "reporting"}
"""


MYSQL = """
from django_dbdev.backends import mysql
DATABASES["old"] = {**mysql.DBSETTINGS}
"""
RESERVED = "[tool.django_dbdev.postgresql]\nsettings = { port = 5432 }\n"


def test_a_healthy_project_is_silent(new_project: ProjectFactory) -> None:
    project = new_project(
        settings=OTHER
        + """
DATABASES["file"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db"}
DATABASES["old"] = {"ENGINE": "django.db.backends.dummy", "HOST": "db.example.com"}
"""
    )
    for command in ("check", "dbdev_init", "check"):
        said = project.manage(command).ok()
    assert said.all == "System check identified no issues (0 silenced).\n"


@pytest.mark.parametrize(
    ("id", "settings", "pin"),
    [
        ("E001", "", '[tool.django_dbdev.postgresql]\nversion = "sixteen"\n'),
        ("E001", "", '[tool.django_dbdev.postgresql]\nversoin = "16"\n'),
        (
            "E002",
            OTHER,
            '[tool.django_dbdev.databases.reporting.postgresql]\nversion = "17"\n',
        ),
        ("E001", "", RESERVED),
        ("E001", OTHER, RESERVED),
        ("E001", "DATABASES['default']['PASSWORD'] = ''", ""),
        ("E002", OTHER + "DATABASES['reporting']['PASSWORD'] = 'another'", ""),
        ("E002", MYSQL + "DATABASES['old']['PORT'] = DATABASES['default']['PORT']", ""),
        ("W002", "DATABASES['default'] = {**DBSETTINGS, 'HOST': ''}", ""),
        ("W002", "DATABASES['default'] = {**DBSETTINGS, 'HOST': 'db.example.com'}", ""),
        ("W003", "DEBUG = False", ""),
    ],
)
def test_each_mistake_has_its_id_and_a_hint(
    new_project: ProjectFactory, id: str, settings: str, pin: str
) -> None:
    project = new_project(settings=settings, pin=pin or "[tool.django_dbdev]\n")
    # Django 6.1 connects to MariaDB for its own checks of that alias, unless told of another.
    only = ("--database", "default")
    said = project.manage("check", "--fail-level", "WARNING", *only).failed().err
    assert said.count("(django_dbdev.") == said.count(f"(django_dbdev.{id})") == 1, said
    assert "HINT: " in said


def test_what_is_no_toml_is_said_once_and_by_every_command(new_project: ProjectFactory) -> None:
    project = new_project(pin="[tool.django_dbdev.postgresql]\nversion = '18\n")
    said = project.manage("check").failed().err
    assert said.count("(django_dbdev.E001)") == 1
    for command in ("dbdev_init", "dbdev_serverinfo", "dbdev_guide"):
        failed = project.manage(command).failed(2).err
        assert f"{project.root / 'pyproject.toml'} is not valid TOML" in failed


def test_a_data_directory_that_git_would_take_is_a_warning(new_project: ProjectFactory) -> None:
    project = new_project()
    (project.root / ".git").mkdir()
    project.tempdata.mkdir()
    said = project.manage("check", "--fail-level", "WARNING").failed().err
    assert "django_dbdev.W001" in said
    (project.root / ".gitignore").write_bytes(b"caf\xe9\n/dbdev_tempdata/\n")
    project.manage("check", "--fail-level", "WARNING").ok()


@pytest.mark.parametrize("closed", [".", "state", "state/.gitignore"])
def test_a_data_directory_that_another_account_has_closed_is_no_warning(
    open_folder: Path, closed: str
) -> None:
    state = open_folder / "state"
    state.mkdir()
    for folder in (open_folder, state):
        (folder / ".gitignore").write_text("nothing that matters\n")
    (open_folder / closed).chmod(0)
    # To root nothing is closed.
    with acting_as(65534, 65534, []) if os.geteuid() == 0 else nullcontext():
        assert keeps_out_of_git(state)
    for folder in (open_folder, state):
        folder.chmod(0o700)


def test_debug_that_a_test_runner_switched_off_is_no_warning(new_project: ProjectFactory) -> None:
    project = new_project(settings='DATABASES["default"] = {**DBSETTINGS}')
    project.manage("dbdev_init").ok()
    assert "W003" not in project.manage("test").all

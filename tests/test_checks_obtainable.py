from __future__ import annotations

import pytest

from .conftest import ProjectFactory


@pytest.mark.parametrize("locked", ["", "1"])
def test_a_pin_that_nobody_satisfies_fails_the_database_check(
    new_project: ProjectFactory, locked: str
) -> None:
    project = new_project(lock=False, pin='[tool.django_dbdev.postgresql]\nversion = "99"\n')
    project.manage("check", DBDEV_LOCKED=locked).ok()
    said = project.manage("check", "--database", "default", DBDEV_LOCKED=locked).failed().err
    assert "django_dbdev.E001" in said
    assert ("18." in said) is not bool(locked), "the index is not asked under DBDEV_LOCKED"


def test_a_pin_that_can_be_had_passes_and_nothing_is_written(new_project: ProjectFactory) -> None:
    project = new_project(lock=False)
    project.manage("check", "--database", "default").ok()
    assert not (project.root / "dbdev.lock").exists()
    assert not project.tempdata.exists()


def test_executables_that_do_not_satisfy_the_pin_fail_every_check(
    new_project: ProjectFactory,
) -> None:
    project = new_project()
    project.manage("dbdev_init").ok()
    postgres = project.info()["programs"]["postgres"]
    project.pin('[tool.django_dbdev.postgresql]\nversion = "17"\n')
    project.settings(f"DBDEV_POSTGRES_EXECUTABLE = {postgres!r}")
    assert "django_dbdev.E001" in project.manage("check").failed().err

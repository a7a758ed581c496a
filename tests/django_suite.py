"""Django's own test suite on a server that this project makes.

``python -m tests.django_suite ENGINE [LABEL…]``, where ENGINE is postgresql, postgis, mariadb or
mysql. The tests are those of the installed Django, from its source distribution; without labels
they are all that is about databases themselves. With ``--pin TOML`` the project has that pin, and
``--store FOLDER`` names another store than the user's. What Django's tests say is printed, and
their exit status is ours.

It needs ``psycopg-pool``; and mysqlclient for MariaDB and MySQL, since Django does not support
PyMySQL, whose tests it fails where they look into the driver.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

import django

from .conftest import MANAGE, Project

LABELS = (
    *("backends", "introspection", "inspectdb", "schema", "migrations", "transactions"),
    *("transaction_hooks", "indexes", "constraints", "db_functions", "select_for_update"),
    *("model_fields", "bulk_create", "delete_regress", "expressions", "json_tests"),
)
#: Django's models for the tests have ICU collations, and Django 5.2 takes the constraints that
#: PostgreSQL 18 lists for columns without NULL for others.
WITH_ICU = '[tool.django_dbdev.postgresql]\nversion = "17"\nextensions = ["icu"]\n'
#: By engine: its backend's module, labels of its own, and what the project pins.
ENGINES = {
    "postgresql": ("postgres", ("postgres_tests",), WITH_ICU),
    "postgis": ("postgis", ("gis_tests",), "[tool.django_dbdev]"),
    "mariadb": ("mysql", (), "[tool.django_dbdev.mariadb]"),
    "mysql": ("mysql", (), "[tool.django_dbdev.mysql]"),
}
SETTINGS = """
{before}
from django_dbdev.backends.{module} import DBSETTINGS
{after}
DATABASES = {{"default": DBSETTINGS, "other": {{**DBSETTINGS, "NAME": "other"}}}}
INSTALLED_APPS = ["django_dbdev"]
SECRET_KEY = "for tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
"""
PYMYSQL = """
import pymysql
pymysql.version_info = (2, 2, 1, "final", 0)
pymysql.install_as_MySQLdb()
"""
GEO = """
from django_dbdev.backends.postgis import geo_libraries
GDAL_LIBRARY_PATH, GEOS_LIBRARY_PATH = geo_libraries()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.django_suite")
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("labels", nargs="*", help="Django's test labels, in place of the usual")
    parser.add_argument("--pin", help="the project's pyproject.toml")
    parser.add_argument("--store", help="where programs are kept (default: the user's store)")
    parser.add_argument("--parallel", default="auto", help="processes, as Django's runner takes it")
    options = parser.parse_intermixed_args()
    module, more, pin = ENGINES[options.engine]
    with tempfile.TemporaryDirectory(prefix="dbdev-") as name:
        folder = Path(name).resolve()
        suite = fetch_suite(folder)
        labels = options.labels or [x for x in (*LABELS, *more) if (suite / x).is_dir()]
        store = {"DBDEV_STORE": options.store} if options.store else {}
        project = Project(folder / "project", Path(options.store or ""), store)
        project.pin(options.pin or pin)
        project.write("manage.py", MANAGE)
        project.write("settings.py", settings(module))
        environment = {**os.environ, **store, "PYTHONPATH": str(project.root)}
        manage = [sys.executable, str(project.root / "manage.py")]
        init = [*manage, "dbdev_init"]
        subprocess.run(init, cwd=project.root, env=environment, check=True)
        try:
            runner = [sys.executable, str(suite / "runtests.py"), "--settings=settings"]
            runner += ["--noinput", f"--parallel={options.parallel}", *labels]
            return subprocess.run(runner, cwd=suite, env=environment).returncode
        finally:
            destroy = [*manage, "dbdev_destroy", "--noinput"]
            subprocess.run(destroy, cwd=project.root, env=environment, check=True)


def fetch_suite(folder: Path) -> Path:
    """The tests' folder of the installed Django, from the package index as pip has it."""
    wanted = ["--no-deps", "--no-binary", "django", f"django=={django.__version__}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    subprocess.run([*pip, *wanted], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    (tests,) = folder.glob("*/tests")
    return tests


def settings(module: str) -> str:
    before = PYMYSQL if module == "mysql" and find_spec("MySQLdb") is None else ""
    return SETTINGS.format(before=before, module=module, after=GEO if module == "postgis" else "")


if __name__ == "__main__":
    sys.exit(main())

"""Projects with MariaDB, driven as a user drives them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pymysql
import pytest

from tests.conftest import MANAGE, Project

PIN = "[tool.django_dbdev.mariadb]\n"

SETTINGS = """
from pathlib import Path

import pymysql

pymysql.version_info = (2, 2, 1, "final", 0)
pymysql.install_as_MySQLdb()

from django_dbdev.backends.mysql import DBSETTINGS

BASE_DIR = Path(__file__).parent
SECRET_KEY = "for tests"
DEBUG = True
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""


@dataclass
class MySqlProject(Project):
    def query(
        self,
        statement: str,
        *,
        database: str = "dbdev",
        user: str = "root",
        password: str = "dbdev",
        server: str = "MySqlBackend",
    ) -> list[tuple[Any, ...]]:
        with closing(self.connect(database, user, password, server)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall())

    def connect(
        self,
        database: str | None = "dbdev",
        user: str = "root",
        password: str = "dbdev",
        server: str = "MySqlBackend",
    ) -> Any:
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port(server),
            user=user,
            password=password,
            database=database,
            autocommit=True,
        )

    def pid(self, server: str = "MySqlBackend") -> int:
        return int((self.tempdata / server / "mysqld.pid").read_text())

    def port(self, server: str = "MySqlBackend") -> int:
        local = (self.tempdata / server / "dbdev_local.cnf").read_text()
        return int(local.split("port = ")[1].split()[0])

    def server(self, name: str = "MySqlBackend") -> psutil.Process:
        process = psutil.Process(self.pid(name))
        assert Path(process.cwd()) == (self.tempdata / name).resolve()
        return process

    @property
    def datadir(self) -> Path:
        return self.tempdata / "MySqlBackend"

    @property
    def log(self) -> str:
        return (self.tempdata / "MySqlBackend.log").read_text()

    def kill(self) -> None:
        """End the server as a crash does."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.005)

    def clean_up(self) -> None:
        for process in self.servers():
            if process.name() in ("mariadbd", "mysqld"):
                process.kill()
        super().clean_up()


MySqlFactory = Callable[..., MySqlProject]


def make_mysql(
    root: Path,
    store: Path,
    bindir: Path,
    *,
    pin: str = PIN,
    settings: str = "",
    base: str = SETTINGS,
) -> MySqlProject:
    """A project that nobody cleans up."""
    root.mkdir(parents=True)
    project = MySqlProject(root, store, {"DBDEV_MARIADB_BINDIR": str(bindir)})
    project.write("manage.py", MANAGE)
    project.settings(settings, base)
    project.pin(pin)
    return project


@pytest.fixture
def new_mysql(tmp_path: Path, store: Path, mariadb_bindir: Path) -> Iterator[MySqlFactory]:
    """Makes projects: ``new_mysql("name", pin="…", settings="…")``."""
    made: list[MySqlProject] = []

    def make(name: str = "project", *, store: Path = store, **how: str) -> MySqlProject:
        project = make_mysql(tmp_path / name, store, mariadb_bindir, **how)
        made.append(project)
        return project

    yield make
    for project in made:
        project.clean_up()


@pytest.fixture
def mysql(new_mysql: MySqlFactory) -> MySqlProject:
    return new_mysql()


@pytest.fixture
def running(mysql: MySqlProject) -> MySqlProject:
    mysql.manage("dbdev_init").ok()
    return mysql

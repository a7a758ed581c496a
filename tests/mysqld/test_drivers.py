"""mysqlclient and PyMySQL, over TCP and the socket, and neither of them."""

from __future__ import annotations

import importlib.util

import pytest

from .conftest import SETTINGS, MySqlFactory

AS_MYSQLDB = SETTINGS.partition("import pymysql")[2].partition("from django_dbdev")[0]
PLAIN = SETTINGS.replace("import pymysql" + AS_MYSQLDB, "")
needs_mysqlclient = pytest.mark.skipif(
    importlib.util.find_spec("MySQLdb") is None, reason="mysqlclient is not installed"
)
OVER_THE_SOCKET = """
DATABASES["socket"] = {
    **DBSETTINGS, "HOST": f"{BASE_DIR}/dbdev_tempdata/run/mysql.{DBSETTINGS['PORT']}.sock"
}
"""


@pytest.mark.parametrize(
    "base", [SETTINGS, pytest.param(PLAIN, marks=needs_mysqlclient)], ids=["PyMySQL", "mysqlclient"]
)
def test_both_drivers_over_tcp_and_the_socket(new_mysql: MySqlFactory, base: str) -> None:
    project = new_mysql("p", base=base, settings=OVER_THE_SOCKET)
    assert len(str(project.root)) < 80, "else the socket is elsewhere"
    project.manage("dbdev_init", "--database", "socket").ok()
    project.manage("migrate", "-v0").ok()
    for alias in ("default", "socket"):
        assert project.sql("SELECT CURRENT_USER(), COUNT(*) > 0 FROM django_migrations", alias) == [
            ["root@localhost", 1]
        ]
    script = (
        "from django.db import connection as c; c.ensure_connection(); print(type(c.connection))"
    )
    driver = project.manage("shell", "--no-imports", "-c", script).ok().out
    assert ("pymysql" in driver) == (base is SETTINGS)
    assert project.manage("check").ok().err.count("W002") == 0
    assert list(project.info()["databases"]) == ["default", "socket"]


def test_localhost_is_not_taken(new_mysql: MySqlFactory) -> None:
    project = new_mysql(settings='DATABASES["default"]["HOST"] = "localhost"')
    failed = project.manage("dbdev_init").failed(2)
    assert "set HOST to '127.0.0.1'" in failed.err


NONE = 'import sys\nsys.modules["MySQLdb"] = sys.modules["pymysql"] = None\n'
ONE = "import sys\nsys.modules['MySQLdb'] = None\n"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (NONE, "pip install mysqlclient"),
        (ONE, "import pymysql; pymysql.install_as_MySQLdb()"),
    ],
)
def test_without_a_driver_it_says_what_to_install(
    new_mysql: MySqlFactory, missing: str, said: str
) -> None:
    project = new_mysql(base=missing + PLAIN)
    failed = project.manage("dbdev_init").failed()
    assert said in failed.err
    assert not project.datadir.exists()

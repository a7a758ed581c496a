"""dbdev_run and pytest --dbdev with MariaDB; what is the same everywhere, PostgreSQL tests."""

from __future__ import annotations

import json
import signal
import sys
from urllib.parse import urlsplit

import pytest

from tests.conftest import wait_until
from tests.test_dbdev_run import SHOW, running, sessions
from tests.test_pytest_plugin import run_pytest

from .conftest import MySqlFactory, MySqlProject

#: A client that is told nothing: the variables say where the server is.
ASK = "SELECT @@port, @@innodb_flush_log_at_trx_commit, DATABASE()"


def is_quiet(project: MySqlProject) -> bool:
    return not sessions(project) and not project.servers()


def test_the_environment_meets_the_server(mysql: MySqlProject) -> None:
    for options, durability in ((("--ephemeral",), "0"), ((), "2")):
        done = mysql.manage("dbdev_run", *options, "--", sys.executable, "-c", SHOW).ok()
        told = json.loads(done.out)
        url = urlsplit(told["DATABASE_URL"])
        assert (url.scheme, url.username, url.password, url.path) == (
            "mysql",
            told["MYSQL_USER"],
            told["MYSQL_PWD"],
            "/" + told["MYSQL_DATABASE"],
        )
        assert (url.hostname, str(url.port)) == (told["MYSQL_HOST"], told["MYSQL_TCP_PORT"])
        client = f'mariadb --no-defaults -N -u "$MYSQL_USER" "$MYSQL_DATABASE" -e "{ASK}"; exit 7'
        done = mysql.manage("dbdev_run", *options, "--", "sh", "-c", client)
        port, flushes, database = done.out.split()
        assert (done.status, flushes, database) == (7, durability, "dbdev")
        assert (port == told["MYSQL_TCP_PORT"]) == (not options)
        # What started the server ends it, and only ephemeral data goes.
        assert is_quiet(mysql)
        assert mysql.datadir.exists() == (not options)


@pytest.mark.parametrize("options", [pytest.param((), marks=pytest.mark.slow), ("--ephemeral",)])
def test_nothing_is_left_whatever_ends_it(mysql: MySqlProject, options: tuple[str, ...]) -> None:
    process = running(mysql, *options)
    assert any(each.name() == "mariadbd" for each in mysql.servers())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 40 + signal.SIGTERM
    assert is_quiet(mysql)
    process = running(mysql, *options)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: is_quiet(mysql))
    if not options:
        # It was shut down as it should be, and had nothing to recover.
        assert mysql.log.rstrip().endswith("Shutdown complete")


def test_a_server_that_a_backup_restarts_stops_too(mysql: MySqlProject) -> None:
    manage = (sys.executable, str(mysql.root / "manage.py"))
    said = mysql.manage("dbdev_run", "--", *manage, "dbdev_backup").ok()
    assert "was down for" in said.out
    assert is_quiet(mysql)


@pytest.mark.slow
def test_two_engines_in_one_run(new_mysql: MySqlFactory) -> None:
    """Neither takes the other's variables, and both go."""
    pytest.importorskip("psycopg")
    project = new_mysql(
        pin='[tool.django_dbdev.mariadb]\n[tool.django_dbdev.postgresql]\nversion = "18"\n',
        settings="""
        from django_dbdev.backends import postgres
        DATABASES["other"] = postgres.DBSETTINGS
        """,
    )
    done = project.manage("dbdev_run", "--ephemeral", "--", sys.executable, "-c", SHOW).ok()
    told = json.loads(done.out)
    assert told["DATABASE_URL"].startswith("mysql://")
    assert told["PGPORT"] != told["MYSQL_TCP_PORT"]
    assert json.loads(told["DBDEV_EPHEMERAL"]) == {
        "default": int(told["MYSQL_TCP_PORT"]),
        "other": int(told["PGPORT"]),
    }
    assert is_quiet(project)


TESTS = """
import os, pytest

@pytest.mark.django_db
@pytest.mark.parametrize("n", range(2))
def test_database(n):
    from django.db import connection
    cursor = connection.cursor()
    cursor.execute("SELECT @@innodb_flush_log_at_trx_commit, DATABASE()")
    flushes, name = cursor.fetchone()
    assert str(flushes) == os.environ["WANTED_FLUSHES"]
    assert name.startswith("test_")
"""


def test_the_plugin_of_pytest(mysql: MySqlProject) -> None:
    pytest.importorskip("pytest_django")
    mysql.write("test_it.py", TESTS)
    mysql.write("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = settings\n")
    said = run_pytest(mysql, "--dbdev=ephemeral", "-p", "no:xdist", WANTED_FLUSHES="0").ok().out
    assert "2 passed" in said
    assert is_quiet(mysql)
    assert not mysql.datadir.exists()


def test_an_alias_by_our_own_socket_is_one_of_ours(new_mysql: MySqlFactory) -> None:
    """Beside another alias, too: of several, those on other machines are left out."""
    mysql = new_mysql(
        settings="""
        SOCKET = BASE_DIR / "dbdev_tempdata" / "run" / f"mysql.{DBSETTINGS['PORT']}.sock"
        DATABASES["default"] = {**DBSETTINGS, "HOST": str(SOCKET)}
        DATABASES["other"] = {**DBSETTINGS, "HOST": "db.example.com"}
        DATABASES["files"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        """
    )
    looked_at = json.loads(mysql.manage("dbdev_doctor", "--format", "json").out)["servers"]
    assert [server["aliases"] for server in looked_at] == [["default"]]

"""From nothing to a server that answers, back again, and everything in between."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import psutil
import pymysql
import pytest

from django_dbdev import backendregistry
from django_dbdev.backends.mysql import MySqlBackend
from django_dbdev.backends.mysqld.control import MySqlControl
from django_dbdev.backends.mysqld.files import MySqlFiles
from django_dbdev.backends.server import control
from django_dbdev.binaries.toolchain import Toolchain
from django_dbdev.exceptions import ServerError
from django_dbdev.process.privileges import DIRECT
from tests.conftest import wait_until, working_in

from .conftest import PIN, MySqlFactory, MySqlProject

COUNT = "SELECT COUNT(*) FROM kept"


def hidden(project: MySqlProject) -> list[str]:
    """What an unfinished piece of work is called."""
    return sorted(path.name for path in project.tempdata.glob(".MySqlBackend*"))


# init


def test_init_from_nothing(new_mysql: MySqlFactory, fresh_store: Path) -> None:
    project = new_mysql(store=fresh_store)
    project.manage("dbdev_init", umask=0o000).ok()
    project.manage("migrate", "--verbosity", "0").ok()
    assert project.query("SELECT COUNT(*) > 0 FROM django_migrations") == [(1,)]
    assert hidden(project) == []
    assert working_in(fresh_store) == []
    open_to_others = [
        str(path.relative_to(project.root))
        for path in (project.tempdata, *project.tempdata.rglob("*"))
        if stat.S_IMODE(path.lstat().st_mode) & 0o007
        and not path.is_socket()
        # What the server's own script makes; the folder is closed.
        and not path.name.endswith("upgrade_info")
    ]
    assert open_to_others == []


def test_the_server_is_as_it_should_be(running: MySqlProject) -> None:
    tcp = [c.laddr for c in running.server().net_connections("inet") if c.status == "LISTEN"]
    assert tcp == [("127.0.0.1", running.port())]
    info = running.info()
    assert [c.laddr for c in running.server().net_connections("unix")] == [info["socket"]]
    assert stat.S_IMODE(Path(info["socket"]).parent.stat().st_mode) == 0o700
    ((charset, mode, zone, engine),) = running.query(
        "SELECT @@character_set_server, @@sql_mode, @@time_zone, @@default_storage_engine"
    )
    assert (charset, zone, engine) == ("utf8mb4", "+00:00", "InnoDB")
    assert "STRICT_TRANS_TABLES" in mode
    assert running.query(
        "SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA"
        " WHERE SCHEMA_NAME = 'dbdev'"
    ) == [("utf8mb4",)]
    assert (
        running.query("SELECT CONVERT_TZ('2026-07-01 12:00', 'UTC', 'Europe/Berlin')")[0][0].hour
        == 14
    )
    assert (info["engine"], info["running"], info["restart_reasons"]) == ("mariadb", True, [])


def test_nobody_gets_in_without_the_password(running: MySqlProject) -> None:
    assert running.query("SELECT User, Host FROM mysql.user WHERE User <> 'mariadb.sys'") == [
        ("dbdev_admin", "localhost"),
        ("root", "localhost"),
    ]
    where = (
        {"host": "127.0.0.1", "port": running.port()},
        {"unix_socket": running.info()["socket"]},
    )
    for user in ("root", "", "dbdev_admin"):
        for place in where:
            with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
                pymysql.connect(user=user, password="", **place)
    assert (running.datadir / "dbdev_admin").stat().st_mode & 0o077 == 0


def test_a_second_init_changes_nothing(running: MySqlProject) -> None:
    pid = running.pid()
    running.query("CREATE TABLE kept (n int)")
    second = running.manage("dbdev_init").ok()
    assert f"MariaDB is running already on 127.0.0.1:{running.port()} (pid {pid})" in second.out
    assert "User root and its database dbdev are ready" in second.out
    assert running.pid() == pid
    assert running.query(COUNT) == [(0,)]


def test_init_makes_again_what_was_dropped_or_changed(running: MySqlProject) -> None:
    running.query("SET PASSWORD = PASSWORD('another')")
    running.manage("dbdev_init").ok()
    assert running.query("SELECT 1") == [(1,)]

    running.query("REVOKE CREATE ON *.* FROM root@localhost")
    running.manage("dbdev_init").ok()
    running.query("CREATE TABLE again (n int)")

    running.query("DROP DATABASE dbdev")
    assert "Created database dbdev" in running.manage("dbdev_init").ok().out
    running.query("DROP USER root@localhost")
    assert "Created user root" in running.manage("dbdev_init").ok().out
    assert running.query("SELECT 1") == [(1,)]


ZONES = ("time_zone", "time_zone_name", "time_zone_transition", "time_zone_transition_type")
BERLIN = "SELECT CONVERT_TZ('2026-07-01 12:00', 'UTC', 'Europe/Berlin')"
NO_ZONES = """
from pathlib import Path
from django_dbdev.backends.mysqld import commands
commands.ZONES = Path(__file__) / "nothing"
"""


def test_time_zones_that_are_missing_are_told_and_loaded(
    new_mysql: MySqlFactory, fresh_store: Path
) -> None:
    """As on a slim image; Django's queries on dates fail without them."""
    project = new_mysql(store=fresh_store)
    manage = (project.root / "manage.py").read_text()
    project.write("manage.py", NO_ZONES + manage)
    said = project.manage("dbdev_init").ok()
    assert "time zones" in said.err
    assert "tzdata" in said.err
    assert project.query(BERLIN) == [(None,)]
    # The system has them by now.
    project.write("manage.py", manage)
    assert "time zones" in project.manage("dbdev_init").ok().out
    assert project.query(BERLIN)[0][0].hour == 14
    assert "time zones" not in project.manage("dbdev_init").ok().all
    # A cluster from elsewhere has none.
    for table in ZONES:
        project.query(f"TRUNCATE mysql.{table}")
    project.manage("dbdev_init").ok()
    assert project.query(BERLIN)[0][0].hour == 14


AWKWARD = """
DATABASES["default"] = {
    **DBSETTINGS, "NAME": "a `b' %s \\"é-1", "USER": "it's \\\\ %d", "PASSWORD": "p#'\\";#\\\\ `%s",
}
DATABASES["other alias]"] = {**DBSETTINGS, "NAME": "two", "USER": "second", "PASSWORD": " # "}
"""


def test_awkward_names_and_passwords(new_mysql: MySqlFactory) -> None:
    project = new_mysql(settings=AWKWARD)
    project.manage("dbdev_init").ok()
    assert project.sql("SELECT DATABASE()") == [["a `b' %s \"é-1"]]
    assert project.sql("SELECT CURRENT_USER()", "other alias]") == [["second@localhost"]]
    project.manage("migrate", "--verbosity", "0").ok()
    project.manage("dbdev_createdump", "of it.sql").ok()
    project.manage("dbdev_loaddump", "of it.sql").ok()
    assert project.sql("SELECT COUNT(*) > 0 FROM django_migrations") == [[1]]
    project.manage("dbdev_createdump", "two.sql", "--database", "other alias]").ok()


def test_a_password_that_drivers_do_not_agree_about(new_mysql: MySqlFactory) -> None:
    project = new_mysql(settings='DATABASES["default"]["PASSWORD"] = "ü"')
    assert "characters beyond ASCII" in project.manage("dbdev_init").failed(2).err
    assert not project.tempdata.exists()


def test_a_setting_that_stops_the_server_is_shown_and_nothing_is_left(
    new_mysql: MySqlFactory,
) -> None:
    project = new_mysql(pin=PIN + 'settings = { no_such_setting = "1" }\n')
    failed = project.manage("dbdev_init").failed(4)
    assert "unknown variable 'no_such_setting=1'" in failed.err
    assert project.servers() == []
    project.pin(PIN + "settings = { max_connections = 33 }\n")
    project.manage("dbdev_init").ok()
    assert project.query("SELECT @@max_connections") == [(33,)]
    project.pin(PIN + "settings = { max_connections = 34 }\n")
    assert "my.cnf" in project.info()["restart_reasons"][0]


def test_option_files_of_the_machine_are_not_read(mysql: MySqlProject, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in (".my.cnf", "my.cnf"):
        (home / name).write_text("[mysqld]\nmax_connections=5\n[client]\nuser=nobody\n")
    mysql.environment |= {"HOME": str(home), "MYSQL_HOME": str(home), "MYSQL_TCP_PORT": "1"}
    mysql.manage("dbdev_init").ok()
    assert mysql.query("SELECT @@max_connections") == [(100,)]
    mysql.manage("dbdev_createdump", "of it.sql").ok()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{ port = 1 }", "port"),
        ("{ skip-grant-tables = true }", "let everybody in"),
        ("{ loose_datadir = '/x' }", "DBDEV_DATADIR"),
        # The servers take the beginning of a name for the whole.
        ("{ bind_addr = '0.0.0.0' }", "listen on loopback only"),
        ("{ loose-enable_skip_grant = true }", "it would let everybody in"),
        ("{ skip_innodb_doublew = true }", "which cannot corrupt data"),
    ],
)
def test_settings_that_are_not_the_pins(mysql: MySqlProject, settings: str, said: str) -> None:
    mysql.pin(f"{PIN}settings = {settings}\n")
    failed = mysql.manage("dbdev_init").failed()
    assert "cannot be set there" in failed.all
    assert said in failed.all


BOTH = "[tool.django_dbdev.mariadb]\n[tool.django_dbdev.mysql]\nversion = '8.4'\n"


def test_both_engines_pinned_for_one_alias(mysql: MySqlProject) -> None:
    mysql.pin(BOTH)
    # Django 6.1 connects for its own checks.
    for command in (("dbdev_init",), ("dbdev_serverinfo",), ("check", "--tag", "django_dbdev")):
        failed = mysql.manage(*command).failed()
        assert "pins both MariaDB and MySQL for the alias 'default'" in failed.all
    assert not mysql.datadir.exists()


def test_a_pin_that_only_the_other_engine_has(mysql: MySqlProject, mariadb_bindir: Path) -> None:
    mysql.pin("[tool.django_dbdev.mysql]\nversion = '8.4'\n")
    mysql.environment["DBDEV_MYSQL_BINDIR"] = str(mariadb_bindir)
    failed = mysql.manage("dbdev_init").failed(3)
    assert "mysql 8.4 is pinned, and DBDEV_MYSQL_BINDIR cannot provide it" in failed.err


# Ports


def test_a_taken_port_is_left_alone(new_mysql: MySqlFactory) -> None:
    first, second = new_mysql("first"), new_mysql("second")
    first.manage("dbdev_init").ok()
    second.manage("dbdev_init").ok()
    assert first.port() != second.port()
    second.manage("dbdev_stopserver").ok()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", second.port()))
        other.listen()
        before = second.port()
        assert "is taken by" in second.manage("dbdev_startserver").failed(4).err
        moved = second.manage("dbdev_init").ok()
        assert f"Port {before} is taken by" in moved.err
    assert second.port() != before
    assert second.sql("SELECT @@port") == [[second.port()]]


# destroy, reinit


def test_destroy_stops_the_server_and_removes_everything(running: MySqlProject) -> None:
    assert "Nothing was changed" in running.manage("dbdev_destroy", input="no\n").failed(1).err
    running.manage("dbdev_destroy", "--noinput").ok()
    assert running.servers() == []
    left = sorted(path.name for path in running.tempdata.iterdir() if path.is_file())
    assert not running.datadir.exists()
    assert "MySqlBackend.cnf" not in left
    running.manage("dbdev_init").ok()
    assert running.query("SHOW TABLES") == []


def test_reinit_gives_an_empty_database(running: MySqlProject) -> None:
    running.query("CREATE TABLE kept (n int)")
    running.manage("dbdev_reinit", "--noinput").ok()
    assert running.query("SHOW TABLES") == []
    running.query("CREATE TABLE kept (n int)")
    running.pin(PIN + 'settings = { no_such_setting = "1" }\n')
    failed = running.manage("dbdev_reinit", "--noinput").failed(4)
    assert "The old data is back" in failed.err
    running.pin(PIN)
    running.manage("dbdev_startserver").ok()
    assert running.query(COUNT) == [(0,)]
    assert hidden(running) == []


# startserver, stopserver, fgrunserver


def test_starting_and_stopping_twice_is_no_error(mysql: MySqlProject) -> None:
    assert "there is no" in mysql.manage("dbdev_stopserver").ok().out
    assert "dbdev_init" in mysql.manage("dbdev_startserver").failed(4).err
    mysql.manage("dbdev_init").ok()
    pid = mysql.pid()
    assert f"(pid {pid})" in mysql.manage("dbdev_startserver").ok().out
    idle = mysql.connect()
    assert f"Stopped MariaDB (pid {pid})" in mysql.manage("dbdev_stopserver").ok().out
    idle.close()
    assert mysql.servers() == []
    assert "does not run" in mysql.manage("dbdev_stopserver").ok().out
    assert mysql.info()["running"] is False
    mysql.manage("dbdev_startserver").ok()
    assert mysql.query("SELECT 1") == [(1,)]
    assert "crash recovery" not in mysql.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_until_a_signal(running: MySqlProject, number: signal.Signals) -> None:
    running.query("CREATE TABLE kept (n int)")
    assert "running already" in running.manage("dbdev_fgrunserver").failed(4).err
    running.manage("dbdev_stopserver").ok()
    command = running.start("dbdev_fgrunserver")
    assert command.stdout is not None
    assert "Started MariaDB" in command.stdout.readline()
    assert running.query(COUNT) == [(0,)]
    assert any("ready for connections" in line for line in command.stdout)
    command.send_signal(number)
    said, _ = command.communicate(timeout=60)
    assert "Stopped MariaDB" in said
    assert command.returncode == (0 if number == signal.SIGINT else 128 + number)
    assert running.servers() == []
    running.manage("dbdev_startserver").ok()
    assert "crash recovery" not in running.log


# Crashes


def test_a_server_that_was_killed_recovers(running: MySqlProject) -> None:
    running.query("CREATE TABLE kept (n int)")
    running.query("INSERT INTO kept VALUES (1), (2)")
    running.kill()
    assert running.info()["running"] is False
    running.manage("dbdev_startserver").ok()
    assert running.query(COUNT) == [(2,)]
    running.kill()
    running.manage("dbdev_init").ok()
    assert running.query(COUNT) == [(2,)]
    running.kill()
    running.manage("dbdev_backup", "-n", "of a crash").ok()
    running.manage("dbdev_restore", "-n", "of a crash").ok()
    assert running.query(COUNT) == [(2,)]


def test_the_pid_of_somebody_else_is_no_server(running: MySqlProject) -> None:
    running.kill()
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (running.datadir / "mysqld.pid").write_text(f"{other.pid}\n")
            assert running.info()["running"] is False
            assert "does not run" in running.manage("dbdev_stopserver").ok().out
            running.manage("dbdev_startserver").ok()
            assert running.pid() != other.pid
            running.manage("dbdev_destroy", "--noinput").ok()
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.parametrize("begun", ["nothing", "a cluster"])
def test_a_killed_command_is_made_good_by_the_next(
    new_mysql: MySqlFactory, fresh_store: Path, begun: str
) -> None:
    project = new_mysql(store=fresh_store)
    if begun == "a cluster":
        project.manage("dbdev_init").ok()
        project.query("CREATE TABLE kept (n int)")
        project.manage("dbdev_stopserver").ok()
    for delay in (0.45, 0.55, 0.7, 0.9, 1.3, 2.2):
        command = project.start("dbdev_init")
        try:
            command.communicate(timeout=delay)
            break
        except subprocess.TimeoutExpired:
            command.kill()
            command.communicate()
        if (project.datadir / "mysqld.pid").exists() and delay > 1:
            project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]
    assert project.query("SHOW TABLES") == ([] if begun == "nothing" else [("kept",)])
    assert len([p for p in project.servers() if p.name() == "mariadbd"]) == 1
    assert hidden(project) == []
    assert working_in(fresh_store) == []


# Several aliases, other clusters


def test_aliases_with_one_port_share_one_server(new_mysql: MySqlFactory) -> None:
    project = new_mysql(
        settings="""
        AUDITOR = {"NAME": "audit", "USER": "auditor", "PASSWORD": "secret"}
        DATABASES["audit"] = {**DBSETTINGS, **AUDITOR}
        DATABASES["apart"] = {**DBSETTINGS, "PORT": DBSETTINGS["PORT"] + 1}
        """
    )
    project.manage("dbdev_init", "--database", "audit").ok()
    as_auditor = {"database": "audit", "user": "auditor", "password": "secret"}
    assert project.query("SELECT CURRENT_USER()", **as_auditor) == [("auditor@localhost",)]
    assert project.query("SELECT 1") == [(1,)]
    assert list(project.info()["databases"]) == ["default", "audit"]
    project.manage("dbdev_init", "--database", "apart").ok()
    assert project.port("MySqlBackend-apart") == project.port() + 1
    project.manage("dbdev_stopserver", "--database", "apart").ok()
    assert project.query("SELECT 1") == [(1,)]


def test_a_cluster_of_another_version_or_engine_is_not_touched(running: MySqlProject) -> None:
    running.manage("dbdev_stopserver").ok()
    note = running.datadir / "dbdev_cluster.json"
    for engine, version, said in (
        ("mariadb", "10.5.1", "MariaDB 10.5; the pin"),
        ("mysql", "8.4.6", "MySQL 8.4; the pin"),
    ):
        note.write_text(f'{{"engine": "{engine}", "version": "{version}"}}')
        for command in ("dbdev_init", "dbdev_startserver", "dbdev_fgrunserver"):
            failed = running.manage(command).failed(4)
            assert said in failed.err
            assert f"[tool.django_dbdev.{engine}]" in failed.err


@pytest.mark.parametrize("finished", [True, False])
def test_a_cluster_of_123_goes_on(
    mysql: MySqlProject, mariadb_bindir: Path, finished: bool
) -> None:
    """It had root with the password, no note, and no account of ours.

    Where its init was interrupted, root had no password.
    """
    mysql.tempdata.mkdir()
    installed = mariadb_bindir.parent / "bin" / "mariadb-install-db"
    subprocess.run(
        [
            installed,
            "--no-defaults",
            f"--basedir={mariadb_bindir.parent}",
            f"--datadir={mysql.datadir}",
            "--auth-root-authentication-method=normal",
            f"--user={psutil.Process().username()}",
        ],
        check=True,
        capture_output=True,
    )
    statements = "FLUSH PRIVILEGES;"
    if finished:
        statements += "\nALTER USER root@localhost IDENTIFIED BY 'dbdev';"
    subprocess.run(
        [
            mariadb_bindir / "mariadbd",
            "--no-defaults",
            f"--datadir={mysql.datadir}",
            "--bootstrap",
            *(["--user=root"] if os.geteuid() == 0 else []),
        ],
        input=f"{statements}\n".encode(),
        check=True,
        capture_output=True,
    )
    mysql.manage("dbdev_init").ok()
    assert mysql.query("SELECT 1") == [(1,)]
    assert (
        mysql.query(
            "SELECT User, Host FROM mysql.user"
            " WHERE User = '' OR (User = 'root' AND authentication_string = '')"
        )
        == []
    )
    mysql.manage("migrate", "--verbosity", "0").ok()
    mysql.manage("dbdev_backup").ok()


def test_a_server_that_does_not_come_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No real server takes its time when it is told to: this one is a script."""
    program = tmp_path / "mariadbd"
    program.write_text("#!/bin/sh\necho still thinking\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(control, "START_TIMEOUT", 0.3)
    files = MySqlFiles(tmp_path / "state", "MySqlBackend")
    files.datadir.mkdir(parents=True)
    toolchain = Toolchain("mariadb", "10.11.1", "a test", {"mariadbd": program}, "0")
    with pytest.raises(ServerError, match="did not become ready in time") as caught:
        MySqlControl(files, "MariaDB").start(toolchain, 3306, DIRECT)
    assert caught.value.log_tail == "still thinking"
    assert working_in(tmp_path) == []


def test_a_server_whose_pid_file_is_not_there_is_not_taken_for_stopped(
    running: MySqlProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may just not have written it: a command that started it was killed."""
    server, pid_file = running.server(), running.datadir / "mysqld.pid"
    content = pid_file.read_text()
    pid_file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(control, "_REMAINS_TIMEOUT", 0.1)
        with pytest.raises(ServerError, match=rf"\(pid {server.pid}, .* works on"):
            MySqlControl(MySqlFiles(running.tempdata, "MySqlBackend"), "MariaDB").end_strays()
    waiting = running.start("dbdev_backup")
    holder = running.tempdata / "MySqlBackend.lock.holder"
    wait_until(lambda: holder.read_text().startswith(f"{waiting.pid} "))
    pid_file.write_text(content)
    said, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    # It was stopped for the copy, as a server that runs is.
    assert "was down for" in said


@pytest.mark.parametrize(
    "command", [["dbdev_init"], ["dbdev_stopserver"], ["dbdev_destroy", "--noinput"]]
)
def test_a_server_whose_data_was_removed_does_not_stay(
    running: MySqlProject, command: list[str]
) -> None:
    """It does not see that by itself, and would keep the port for ever."""
    old, port = running.server(), running.port()
    shutil.rmtree(running.tempdata)
    assert f"Ended mariadbd (pid {old.pid}" in running.manage(*command).ok().err
    assert not old.is_running() or old.status() == psutil.STATUS_ZOMBIE
    running.manage("dbdev_init").ok()
    assert running.port() == port


def test_engines_that_it_serves() -> None:
    for engine in ("django.db.backends.mysql", "django.contrib.gis.db.backends.mysql"):
        assert backendregistry[engine] is MySqlBackend

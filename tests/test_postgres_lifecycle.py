"""From nothing to a server that answers, back again, and everything in between."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.conftest import Project, ProjectFactory, working_in
from tests.machine import needs_every_major
from tests.test_together import servers

PIN = '[tool.django_dbdev.postgresql]\nversion = "18"\n'
BROKEN_PIN = PIN + 'settings = { no_such_setting = "1" }\n'
#: A connection that goes on asking for the same tables after the server was replaced.
COUNT = "SELECT count(*) FROM kept"


def hidden(project: Project) -> list[str]:
    """What an unfinished piece of work is called."""
    return sorted(p.name for p in project.tempdata.glob(".*.*") if p.name != ".gitignore")


# init


def test_init_from_nothing(new_project: ProjectFactory, fresh_store: Path) -> None:
    project = new_project(store=fresh_store)
    project.manage("dbdev_init", umask=0o000).ok()
    project.manage("migrate", "--verbosity", "0").ok()
    assert project.query("SELECT count(*) > 0 FROM django_migrations") == [(True,)]
    assert project.query("SELECT rolname FROM pg_roles WHERE oid = 10") == [("postgres",)]
    assert (project.tempdata / ".gitignore").read_text().splitlines()[-1] == "*"
    assert hidden(project) == []
    assert left_in(fresh_store) == []


def test_a_second_init_changes_nothing(project: Project) -> None:
    project.manage("dbdev_init").ok()
    pid = project.pid()
    project.query("CREATE TABLE kept (n int)")
    second = project.manage("dbdev_init").ok()
    assert f"running already on 127.0.0.1:{project.port()} (pid {pid})" in second.out
    assert "Role dbdev and its database dbdev are ready" in second.out
    assert second.out.splitlines()[-1].endswith("manage.py migrate")
    assert project.pid() == pid
    assert project.query(COUNT) == [(0,)]


def test_init_makes_again_what_was_dropped_or_changed(project: Project) -> None:
    project.manage("dbdev_init").ok()

    project.query("ALTER ROLE dbdev PASSWORD 'another'")
    project.manage("dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]

    project.query("CREATE ROLE admin SUPERUSER LOGIN PASSWORD 'admin'")
    project.query("DROP DATABASE dbdev", database="postgres")
    assert "Created database dbdev" in project.manage("dbdev_init").ok().out
    assert project.query("SELECT 1") == [(1,)]

    admin = {"user": "admin", "password": "admin", "database": "postgres"}
    project.query("REASSIGN OWNED BY dbdev TO admin", **{**admin, "database": "dbdev"})
    project.query("ALTER DATABASE dbdev OWNER TO admin", **admin)
    project.query("DROP ROLE dbdev", **admin)
    assert "Created role dbdev" in project.manage("dbdev_init").ok().out
    assert project.query("SELECT rolsuper FROM pg_roles WHERE rolname = 'dbdev'") == [(True,)]

    project.query("ALTER ROLE dbdev NOLOGIN NOSUPERUSER", **admin)
    project.manage("dbdev_init").ok()
    assert project.query("SELECT rolsuper FROM pg_roles WHERE rolname = 'dbdev'") == [(True,)]


def test_init_says_so_when_the_account_still_cannot_log_in(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("ALTER ROLE dbdev CONNECTION LIMIT 0")
    project.query("ALTER ROLE dbdev NOSUPERUSER")
    # A superuser is not held to the limit, so that init mends that; a database that lets
    # nobody in, it does not know how to mend.
    project.manage("dbdev_init").ok()
    project.query("ALTER DATABASE dbdev ALLOW_CONNECTIONS false", database="postgres")
    failed = project.manage("dbdev_init").failed(4)
    assert "refused 'dbdev'" in failed.err
    assert "not currently accepting connections" in failed.err
    assert "are ready" not in failed.out


def test_init_starts_a_stopped_project(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept (n int)")
    project.manage("dbdev_stopserver").ok()
    again = project.manage("dbdev_init").ok()
    assert "Started PostgreSQL 18" in again.out
    assert "Initialised" not in again.out
    assert project.query(COUNT) == [(0,)]


def test_init_after_one_that_failed_starts_clean(new_project: ProjectFactory) -> None:
    project = new_project(pin=BROKEN_PIN)
    failed = project.manage("dbdev_init").failed(4)
    assert 'unrecognized configuration parameter "no_such_setting"' in failed.err
    assert f"log: {project.tempdata / 'PostgresBackend.log'}" in failed.err
    assert servers(project) == []
    project.pin(PIN)
    project.manage("dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]


def test_no_log_is_named_that_is_gone(new_project: ProjectFactory, fresh_store: Path) -> None:
    """The server that makes the pristine cluster has one in a folder that is removed."""
    project = new_project(pin=BROKEN_PIN, store=fresh_store)
    failed = project.manage("dbdev_init").failed(4).err
    assert 'unrecognized configuration parameter "no_such_setting"' in failed
    named = [line.removeprefix("log: ") for line in failed.splitlines() if line.startswith("log: ")]
    assert [log for log in named if not Path(log).exists()] == []


def test_init_after_a_failed_initdb_starts_clean(new_project: ProjectFactory) -> None:
    project = new_project(settings='DBDEV_POSTGRES_CREATEDB_LOCALE = "xx_YY.UTF-8"')
    failed = project.manage("dbdev_init").failed(2)
    assert "does not have the locale 'xx_YY.UTF-8'" in failed.err
    assert not project.datadir.exists()
    assert hidden(project) == []
    project.settings()
    project.manage("dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]


def test_foreign_files_in_the_datadir_are_moved_aside(project: Project) -> None:
    project.datadir.mkdir(parents=True)
    (project.datadir / "thesis.txt").write_text("years of work")
    done = project.manage("dbdev_init").ok()
    (aside,) = project.tempdata.glob("PostgresBackend.*.unfinished")
    assert str(aside) in done.err
    assert (aside / "thesis.txt").read_text() == "years of work"
    assert project.query("SELECT 1") == [(1,)]


def test_a_file_in_the_place_of_the_datadir_is_moved_aside(project: Project) -> None:
    project.tempdata.mkdir()
    project.datadir.write_text("what is this doing here")
    project.manage("dbdev_init").ok()
    (aside,) = project.tempdata.glob("PostgresBackend.*.unfinished")
    assert aside.read_text() == "what is this doing here"


def test_leftovers_of_dead_commands_are_swept(project: Project) -> None:
    for name in (
        ".PostgresBackend.2026-11-22_13-40-00-123456.new",
        ".PostgresBackend.2026-11-22_13-40-00-123456.removed",
        ".PostgresBackend-reporting.2026-11-22_13-40-00-123456.new",
    ):
        (project.tempdata / name / "base").mkdir(parents=True)
        (project.tempdata / name / "PG_VERSION").write_text("18\n")
    project.manage("dbdev_init").ok()
    # The other server has a lock of its own: a command may be at work there.
    assert hidden(project) == [".PostgresBackend-reporting.2026-11-22_13-40-00-123456.new"]


def test_what_is_left_of_a_server_whose_name_begins_alike_stays(
    new_project: ProjectFactory,
) -> None:
    project = new_project(
        settings="""
        DATABASES["a"] = {**DBSETTINGS, "PORT": DBSETTINGS["PORT"] + 1}
        DATABASES["a.b"] = {**DBSETTINGS, "PORT": DBSETTINGS["PORT"] + 2}
        """
    )
    others = [
        project.tempdata / f"{name}.2026-11-22_13-40-00-123456.{end}"
        for name, end in ((".PostgresBackend-a.b", "new"), ("PostgresBackend-a.b", "replaced"))
    ]
    for folder in others:
        folder.mkdir(parents=True)
    project.manage("dbdev_init", "--database", "a").ok()
    assert [folder for folder in others if not folder.exists()] == []


def kill_init(project: Project, delay: float) -> bool:
    """Kill ``dbdev_init`` after ``delay`` seconds; whether it was still at work."""
    command = project.start("dbdev_init")
    try:
        command.wait(delay)
    except subprocess.TimeoutExpired:
        command.kill()
        command.wait()
        return True
    finally:
        assert command.stdout is not None
        said = command.stdout.read() if command.returncode >= 0 else ""
        command.stdout.close()
    assert command.returncode == 0, said
    return False


def left_in(store: Path) -> list[psutil.Process]:
    """What works there for good: initdb's own child ends once it finds that it is alone."""
    deadline = time.monotonic() + 20
    while (left := working_in(store)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def whole_or_absent(project: Project) -> bool:
    """Whether nothing half-made bears the cluster's name."""
    if not project.datadir.exists():
        return True
    return all(
        (project.datadir / name).exists()
        for name in ("PG_VERSION", "global/pg_control", "postgresql.conf", "dbdev_local.conf")
    )


def remove_all(project: Project) -> None:
    project.manage("dbdev_destroy", "--noinput").ok()


def moments(first: float, *, times: float = 1, plus: float = 0) -> Iterator[float]:
    while True:
        yield first
        first = first * times + plus


def test_init_may_be_killed_at_any_moment(new_project: ProjectFactory, fresh_store: Path) -> None:
    project = new_project(store=fresh_store)
    killed = 0
    for delay in moments(0.3, times=1.3):
        if not kill_init(project, delay):
            break
        killed += 1
        assert whole_or_absent(project), delay
    assert killed > 2
    project.manage("dbdev_init").ok()
    assert project.query("SELECT 1") == [(1,)]
    assert hidden(project) == []
    assert servers(project) == [project.pid()]
    assert left_in(fresh_store) == []


@pytest.mark.slow
@pytest.mark.parametrize("warm", [True, False])
def test_every_killed_init_is_mended_by_the_next(
    new_project: ProjectFactory, fresh_store: Path, warm: bool
) -> None:
    project = new_project(store=fresh_store)
    if warm:
        project.manage("dbdev_init").ok()
        remove_all(project)
    for delay in moments(0.2, plus=0.01):
        if not warm:
            shutil.rmtree(fresh_store / "clusters", ignore_errors=True)
        if not kill_init(project, delay):
            break
        assert whole_or_absent(project), delay
        project.manage("dbdev_init").ok()
        assert project.query("SELECT 1") == [(1,)], delay
        assert hidden(project) == [], delay
        assert left_in(fresh_store) == [], delay
        remove_all(project)


# destroy


def test_destroy_asks(project: Project) -> None:
    project.manage("dbdev_init").ok()
    pid = project.pid()
    for answer in ("no\n", "y\n", "\n", ""):
        refused = project.manage("dbdev_destroy", input=answer).failed(1)
        assert "all data of default (PostgresBackend)" in refused.out
        assert "Nothing was changed" in refused.err
        assert project.pid() == pid
    backup = project.tempdata / "PostgresBackend-backups" / "backup-2026-11-22_13-40-00-123456"
    backup.mkdir(parents=True)
    project.manage("dbdev_destroy", input="yes\n").ok()
    assert not project.datadir.exists()
    assert not (project.tempdata / "PostgresBackend.pgpass").exists()
    assert hidden(project) == []
    assert project.servers() == []
    assert backup.exists()

    again = project.manage("dbdev_destroy", "--noinput").ok()
    assert "nothing to destroy" in again.out


def test_destroy_finishes_what_a_killed_one_began(project: Project) -> None:
    leftover = project.tempdata / ".PostgresBackend.2026-11-22_13-40-00-123456.removed"
    leftover.mkdir(parents=True)
    (project.tempdata / "PostgresBackend.pgpass").write_text("127.0.0.1:1:*:dbdev:secret\n")
    project.manage("dbdev_destroy", "--noinput").ok()
    assert not leftover.exists()
    assert not (project.tempdata / "PostgresBackend.pgpass").exists()


def test_destroy_does_not_need_the_programs(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.pin(PIN.replace("18", "14"))
    project.manage("dbdev_destroy", "--noinput", DBDEV_OFFLINE="1").ok()
    assert not project.datadir.exists()


# reinit


def test_reinit_gives_an_empty_database(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept (n int)")
    refused = project.manage("dbdev_reinit", input="no\n").failed(1)
    assert "Nothing was changed" in refused.err
    assert project.query(COUNT) == [(0,)]
    done = project.manage("dbdev_reinit", "--noinput").ok()
    assert done.out.splitlines()[-1].endswith("manage.py migrate")
    assert project.query("SELECT to_regclass('kept')") == [(None,)]
    assert hidden(project) == []
    assert list(project.tempdata.glob("PostgresBackend.*.replaced")) == []


def test_reinit_without_a_cluster_makes_one(project: Project) -> None:
    project.manage("dbdev_reinit", "--noinput").ok()
    assert project.query("SELECT 1") == [(1,)]


def test_reinit_that_cannot_start_gives_the_old_data_back(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept (n int)")
    project.pin(BROKEN_PIN)
    failed = project.manage("dbdev_reinit", "--noinput").failed(4)
    assert "no_such_setting" in failed.err
    assert "The old data is back" in failed.err
    project.pin(PIN)
    project.manage("dbdev_startserver").ok()
    assert project.query(COUNT) == [(0,)]
    assert hidden(project) == []


def test_reinit_that_cannot_initialise_leaves_the_server_running(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept (n int)")
    pid = project.pid()
    project.settings('DBDEV_POSTGRES_CREATEDB_LOCALE = "xx_YY.UTF-8"')
    failed = project.manage("dbdev_reinit", "--noinput").failed(2)
    assert "xx_YY.UTF-8" in failed.err
    assert project.pid() == pid
    assert project.query(COUNT) == [(0,)]


@pytest.mark.parametrize("plus", [0.25, pytest.param(0.01, marks=pytest.mark.slow)])
def test_a_killed_reinit_leaves_the_old_data_or_an_empty_database(
    project: Project, plus: float
) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept (n int)")
    for delay in moments(0.3, plus=plus):
        command = project.start("dbdev_reinit", "--noinput")
        try:
            command.communicate(timeout=delay)
            break
        except subprocess.TimeoutExpired:
            command.kill()
            command.communicate()
        project.manage("dbdev_init").ok()
        ((table,),) = project.query("SELECT to_regclass('kept')::text")
        if table is None:
            project.query("CREATE TABLE kept (n int)")
        assert list(project.tempdata.glob("PostgresBackend.*.replaced")) == []
        assert hidden(project) == []


# startserver, stopserver


def test_starting_and_stopping_twice_is_no_error(project: Project) -> None:
    assert "there is no" in project.manage("dbdev_stopserver").ok().out
    failed = project.manage("dbdev_startserver").failed(4)
    assert "dbdev_init" in failed.err
    project.manage("dbdev_init").ok()
    pid = project.pid()
    assert f"(pid {pid})" in project.manage("dbdev_startserver").ok().out
    assert project.pid() == pid
    assert f"Stopped PostgreSQL (pid {pid})" in project.manage("dbdev_stopserver").ok().out
    assert project.servers() == []
    assert "does not run" in project.manage("dbdev_stopserver").ok().out
    project.manage("dbdev_startserver").ok()
    assert project.query("SELECT 1") == [(1,)]


def test_stopping_disconnects_clients_and_loses_nothing(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept (n int)")
    login = f"host=127.0.0.1 port={project.port()} dbname=dbdev user=dbdev password=dbdev"
    with psycopg.connect(login, autocommit=True) as idle:
        idle.execute("INSERT INTO kept VALUES (1)")
        started = time.monotonic()
        project.manage("dbdev_stopserver").ok()
        assert time.monotonic() - started < 20
    project.manage("dbdev_startserver").ok()
    assert project.query(COUNT) == [(1,)]
    assert "automatic recovery" not in (project.tempdata / "PostgresBackend.log").read_text()


def test_a_cluster_of_another_major_version_is_not_touched(project: Project) -> None:
    project.datadir.mkdir(parents=True)
    (project.datadir / "global").mkdir()
    (project.datadir / "global" / "pg_control").write_bytes(bytes(8192))
    (project.datadir / "PG_VERSION").write_text("16\n")
    for command in ("dbdev_init", "dbdev_startserver", "dbdev_fgrunserver"):
        failed = project.manage(command).failed(4)
        assert "was made by PostgreSQL 16" in failed.err
        assert 'version = "16"' in failed.err
    assert sorted(p.name for p in project.datadir.iterdir()) == ["PG_VERSION", "global"]


# Several aliases, several servers


SHARED = """
DATABASES = {
    "default": DBSETTINGS,
    "orders": {**DBSETTINGS, "NAME": "orders"},
    "audit": {**DBSETTINGS, "HOST": "localhost", "NAME": "audit", "USER": "auditor",
              "PASSWORD": "secret"},
}
"""


def test_aliases_with_one_port_share_one_server(new_project: ProjectFactory) -> None:
    project = new_project(settings=SHARED)
    done = project.manage("dbdev_init", "--database", "orders").ok()
    assert done.out.splitlines()[-1].endswith("migrate --database orders")
    pid = project.pid()
    assert project.query("SELECT current_database()", database="orders") == [("orders",)]
    as_auditor = {"database": "audit", "user": "auditor", "password": "secret"}
    assert project.query("SELECT current_user", **as_auditor) == [("auditor",)]
    assert project.sql("SELECT current_user", "audit") == [["auditor"]]
    assert project.query("SELECT 1") == [(1,)]
    # A further alias is made by the next init, of whichever alias.
    project.settings(SHARED + 'DATABASES["late"] = {**DBSETTINGS, "NAME": "late"}')
    project.manage("dbdev_init", "--database", "audit").ok()
    assert project.pid() == pid
    assert project.query("SELECT 1", database="late") == [(1,)]
    asked = project.manage("dbdev_destroy", "--database", "late", input="no\n").failed(1)
    assert "all data of default, orders, audit, late (PostgresBackend)" in asked.out
    assert [p.name for p in project.tempdata.glob("PostgresBackend*") if p.is_dir()] == [
        "PostgresBackend"
    ]


def test_one_role_with_two_passwords_is_refused(new_project: ProjectFactory) -> None:
    other = 'DATABASES["other"] = {**DBSETTINGS, "NAME": "other", "PASSWORD": "another"}'
    project = new_project(settings=other)
    failed = project.manage("dbdev_init").failed(2)
    assert "gives the role 'dbdev' another password than the alias 'default'" in failed.err
    assert "another password" in failed.err
    assert not project.datadir.exists()


TWO_PINS = """
[tool.django_dbdev.postgresql]
version = "18"
[tool.django_dbdev.databases.reporting.postgresql]
version = "17"
"""


@needs_every_major
def test_an_alias_may_have_a_server_of_another_version(new_project: ProjectFactory) -> None:
    project = new_project(
        pin=TWO_PINS + '[tool.django_dbdev.databases.reports.postgresql]\nversion = "17"\n',
        settings="""
        DATABASES["reporting"] = {**DBSETTINGS, "PORT": DBSETTINGS["PORT"] + 1}
        DATABASES["reports"] = {**DATABASES["reporting"], "NAME": "reports"}
        DATABASES["files"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "f.db"}
        """,
    )
    project.manage("dbdev_init").ok()
    project.manage("dbdev_init", "--database", "reporting").ok()
    second = "PostgresBackend-reporting"
    assert project.query("SHOW server_version_num")[0][0].startswith("18")
    assert project.query("SHOW server_version_num", server=second)[0][0].startswith("17")
    assert project.sql("SHOW server_version_num", "reports")[0][0].startswith("17")
    assert project.port(second) == project.port() + 1

    main = project.pid()
    project.manage("dbdev_stopserver", "--database", "reports").ok()
    assert servers(project) == [main]
    info = project.info("--database", "reporting")
    assert info["running"] is False
    assert info["initialised"] is True
    assert info["version"].startswith("17")
    assert list(info["databases"]) == ["reporting", "reports"]
    project.manage("dbdev_startserver", "--database", "reporting").ok()
    assert len(servers(project)) == 2
    project.manage("dbdev_init", "--database", "files").ok()
    assert (project.root / "f.db").exists()
    project.manage("dbdev_reinit", "--noinput", "--database", "reporting").ok()
    assert project.pid() == main
    project.manage("dbdev_destroy", "--noinput", "--database", "reporting").ok()
    assert not (project.tempdata / second).exists()
    assert servers(project) == [main]
    assert project.query("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "own",
    ['version = "17"', 'settings = { work_mem = "8MB" }', "port = 20555"],
    ids=["version", "settings", "port"],
)
def test_aliases_with_one_port_and_different_pins_are_refused(
    new_project: ProjectFactory, own: str
) -> None:
    project = new_project(
        pin=f"{PIN}[tool.django_dbdev.databases.reporting.postgresql]\n{own}\n",
        settings='DATABASES["reporting"] = {**DBSETTINGS, "NAME": "reporting"}',
    )
    for alias in ("default", "reporting"):
        failed = project.manage("dbdev_init", "--database", alias).failed(2)
        assert "their pins differ" in failed.err
        assert "another PORT in DATABASES" in failed.err
    assert not project.datadir.exists()


def test_two_pins_of_aliases_on_one_port_must_agree_in_their_settings(
    new_project: ProjectFactory,
) -> None:
    tables = "".join(
        f"[tool.django_dbdev.databases.{alias}.postgresql]\nsettings = {{ work_mem = '{size}' }}\n"
        for alias, size in (("default", "8MB"), ("reporting", "9MB"))
    )
    project = new_project(
        pin=PIN + tables,
        settings='DATABASES["reporting"] = {**DBSETTINGS, "NAME": "reporting"}',
    )
    assert "their pins differ" in project.manage("dbdev_init").failed(2).err


def test_a_role_whose_rights_were_taken_away_stays_so(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("ALTER ROLE dbdev NOSUPERUSER")
    project.manage("dbdev_init").ok()
    project.manage("dbdev_backup").ok()
    rights = "SELECT rolsuper FROM pg_roles WHERE rolname = 'dbdev'"
    assert project.query(rights) == [(False,)]


def test_a_database_of_another_encoding(new_project: ProjectFactory) -> None:
    project = new_project("projé")
    project.manage("dbdev_init").ok()
    new = "CREATE DATABASE dbdev ENCODING 'LATIN1' TEMPLATE template0 LOCALE_PROVIDER libc"
    project.query("DROP DATABASE dbdev", database="postgres")
    project.query(f"{new} LOCALE 'C'", database="postgres")
    project.query("CREATE TABLE t AS SELECT U&'\\00E9' AS x")
    project.manage("dbdev_init").ok()
    project.manage("dbdev_createdump", "x.sql").ok()
    project.manage("dbdev_loaddump", "x.sql").ok()
    assert project.query("SELECT x FROM t") == [("é",)]


def test_a_folder_with_a_line_break(new_project: ProjectFactory) -> None:
    project = new_project("two\nlines")
    assert "has a line break in it" in project.manage("dbdev_init").failed(2).err
    assert not project.tempdata.exists()


def test_a_backup_of_nothing_leaves_the_state_folder_closed(project: Project) -> None:
    project.manage("dbdev_backup", umask=0o022).failed(4)
    assert project.tempdata.stat().st_mode & 0o777 == 0o700

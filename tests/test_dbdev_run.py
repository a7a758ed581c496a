"""dbdev_run: servers up for a command, and things as they were afterwards, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from django_dbdev.backends.postgresql.commands import ephemeral_options

from .conftest import SETTINGS, Project, ProjectFactory, wait_until, working_in

#: Waits until it is told to end, and then ends with a status of its own.
WAITER = """
import signal, sys, time
def end(number, frame):
    sys.exit(40 + number)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, end)
print("ready", flush=True)
time.sleep(60)
"""
SHOW = "import os, json; print(json.dumps(dict(os.environ)))"


def sessions(project: Project) -> list[str]:
    folder = project.tempdata / "ephemeral"
    return [entry.name for entry in folder.iterdir()] if folder.exists() else []


def is_gone(project: Project) -> bool:
    return not sessions(project) and not project.servers()


def ephemeral_pid(project: Project) -> int:
    (file,) = (project.tempdata / "ephemeral").glob("*/PostgresBackend/postmaster.pid")
    return int(file.read_text().split()[0])


def running(project: Project, *options: str) -> subprocess.Popen[str]:
    """A run of the waiter that has come so far."""
    waiter = project.write("waiter.py", WAITER)
    process = subprocess.Popen(
        [
            *(sys.executable, str(project.root / "manage.py"), "dbdev_run", *options, "--"),
            *(sys.executable, str(waiter)),
        ],
        cwd="/",
        env=project.env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said == "ready\n", said + process.communicate()[1]
    return process


def test_status_output_and_environment_are_the_commands(project: Project) -> None:
    done = project.manage("dbdev_run", "--ephemeral", "--", sys.executable, "-c", SHOW).ok()
    environment = json.loads(done.out)
    assert environment["PGHOST"] == "127.0.0.1"
    assert environment["DATABASE_URL"].endswith(f":{environment['PGPORT']}/dbdev")
    assert "ephemeral" in done.err
    script = project.write("it's a script", '#!/bin/sh\npsql -Atc "SELECT 1 + 1"; exit 7\n')
    script.chmod(0o755)
    done = project.manage("dbdev_run", "--ephemeral", "--", f"./{script.name}")
    assert (done.status, done.out) == (7, "2\n")
    assert project.manage("dbdev_run", "--ephemeral", "no-such-program").failed(127).out == ""
    assert project.manage("dbdev_run", "--ephemeral", "--", "sh", "-c", "kill -9 $$").status == 137
    project.manage("dbdev_run").failed(2)
    assert is_gone(project)
    # Nothing was made of the project's own.
    assert not project.datadir.exists()


def test_what_the_pin_sets_counts_in_ephemeral_servers_too(project: Project) -> None:
    project.pin(
        '[tool.django_dbdev.postgresql]\nversion = "18"\nsettings = { wal_level = "logical" }\n'
    )
    show = "SHOW wal_level; SHOW fsync"
    done = project.manage("dbdev_run", "--ephemeral", "--", "psql", "-Atc", show).ok()
    assert done.out.split() == ["logical", "off"]


def test_ephemeral_options_leave_to_the_pin_what_it_sets() -> None:
    everything = set(ephemeral_options(())) - {"-c"}
    of_replication = {"wal_level=minimal", "max_wal_senders=0"}
    assert of_replication < everything
    for name in ("archive_mode", "summarize_wal", "max_replication_slots", "Max_WAL_Senders"):
        options = ephemeral_options({name})
        assert everything - set(options) == of_replication
        assert options[::2] == ("-c",) * (len(everything) - 2)
    kept = set(ephemeral_options(["work_mem", "checkpoint_timeout"]))
    assert everything - kept == {"checkpoint_timeout=1h"}


def test_django_in_the_command_meets_the_ephemeral_server(new_project: ProjectFactory) -> None:
    """Also where the pin or the settings fix a port, and for several servers."""
    project = new_project(
        pin='[tool.django_dbdev.postgresql]\nversion = "18"\nport = 25431\n',
        settings="""
        DATABASES["shared"] = {**DBSETTINGS, "PORT": 25431, "NAME": "shared"}
        DATABASES["other"] = {**DBSETTINGS, "PORT": 25432, "NAME": "other"}
        """,
    )
    script = project.write(
        "script.py",
        """
        import django
        django.setup()
        from django.db import connections
        for alias in ("default", "shared", "other"):
            cursor = connections[alias].cursor()
            cursor.execute("SELECT current_database(), current_setting('data_directory'),"
                           " current_setting('fsync'), current_setting('port')")
            print(*cursor.fetchone())
        """,
    )
    said = project.manage(
        *("dbdev_run", "--ephemeral", "--", sys.executable, str(script)),
        DJANGO_SETTINGS_MODULE="settings",
        PYTHONPATH=str(project.root),
    )
    rows = [line.split() for line in said.ok().out.splitlines()]
    assert [row[0] for row in rows] == ["dbdev", "shared", "other"]
    assert {row[2] for row in rows} == {"off"}
    places = [Path(row[1]) for row in rows]
    assert all(place.is_relative_to(project.tempdata / "ephemeral") for place in places)
    assert places[0] == places[1] != places[2]
    assert not {"25431", "25432"} & {row[3] for row in rows}
    manage = [sys.executable, str(project.root / "manage.py")]
    said = project.manage(
        "dbdev_run", "--ephemeral", "--", *manage, "dbdev_serverinfo", "--format", "json"
    )
    info = json.loads(said.ok().out)
    assert info["running"]
    assert "ephemeral" in info["datadir"]
    assert is_gone(project)


def test_sqlite_has_a_file_of_its_own(new_project: ProjectFactory) -> None:
    project = new_project(pin="", base=SETTINGS.replace("postgres ", "sqlite "))
    manage = [sys.executable, str(project.root / "manage.py")]
    said = project.manage("dbdev_run", "--ephemeral", "--", *manage, "migrate").ok().out
    assert "contenttypes" in said
    assert not (project.tempdata / "SqliteBackend").exists()
    assert sessions(project) == []


#: Django's own database, as a new project has it, another one and one in memory.
FILES = """
from django_dbdev.backends import sqlite
DATABASES = {
    **{FIRST},
    "default": {**sqlite.DBSETTINGS, "NAME": BASE_DIR / "db.sqlite3"},
    "relative": {**sqlite.DBSETTINGS, "NAME": "relative.sqlite3"},
    "again": {**sqlite.DBSETTINGS, "NAME": str(BASE_DIR / "db.sqlite3")},
    "ours": sqlite.DBSETTINGS,
    "memory": {**sqlite.DBSETTINGS, "NAME": ":memory:"},
}
"""
#: Empties every database, and tells where each was and what was in it.
EMPTY = """
import django
django.setup()
from django.db import connections
for alias in ("default", "again", "relative", "ours"):
    cursor = connections[alias].cursor()
    cursor.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    cursor.execute("SELECT count(*) FROM kept")
    print(alias, cursor.fetchone()[0], connections[alias].settings_dict["NAME"])
    cursor.execute("DELETE FROM kept")
    cursor.execute("INSERT INTO kept VALUES (7)")
"""


@pytest.mark.parametrize("first", ["{}", '{"server": DBSETTINGS}'])
def test_the_developers_own_files_are_not_touched(new_project: ProjectFactory, first: str) -> None:
    """Also beside a server; the aliases of one file still share one."""
    project = new_project(settings=FILES.replace("{FIRST}", first))
    files = [project.root / name for name in ("db.sqlite3", "relative.sqlite3")]
    files.append(project.tempdata / "SqliteBackend" / "dbdev.sqlite3")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("CREATE TABLE kept (n int)")
            connection.execute("INSERT INTO kept VALUES (42)")
    before = [file.read_bytes() for file in files]
    script = project.write("empty.py", EMPTY)
    said = project.manage(
        *("dbdev_run", "--ephemeral", "--", sys.executable, str(script)),
        DJANGO_SETTINGS_MODULE="settings",
        PYTHONPATH=str(project.root),
    )
    rows = [line.split(maxsplit=2) for line in said.ok().out.splitlines()]
    assert [row[:2] for row in rows] == [
        ["default", "0"],
        ["again", "1"],
        ["relative", "0"],
        ["ours", "0"],
    ]
    assert all(Path(row[2]).is_relative_to(project.tempdata / "ephemeral") for row in rows)
    assert [file.read_bytes() for file in files] == before
    assert is_gone(project)


def test_a_file_that_cannot_be_moved_is_refused(new_project: ProjectFactory) -> None:
    settings = FILES.replace("{FIRST}", "{}")
    project = new_project(pin="", settings=settings)
    manage = (sys.executable, str(project.root / "manage.py"))
    # An app that asks before we can say where.
    project.write("early/__init__.py", "")
    project.write(
        "early/apps.py",
        """
        import os
        from django.apps import AppConfig
        class Early(AppConfig):
            name = "early"
            def ready(self):
                from django.db import connection
                connection.cursor().execute("SELECT 1")
                if "HELD" in os.environ:
                    connection.set_autocommit(False)
                    connection.in_atomic_block = True
        """,
    )
    early = 'INSTALLED_APPS.insert(0, "early.apps.Early")\n'
    project.settings(settings + early)
    said = project.manage("dbdev_run", "--ephemeral", "--", *manage, "migrate")
    assert (said.status, "db.sqlite3 already" in said.err) == (1, True), said.all
    said = project.manage("dbdev_run", "--ephemeral", "--", "true", HELD="1").failed(2)
    assert "db.sqlite3 already" in said.err
    project.settings(settings + early.replace("insert(0, ", "append("))
    project.manage("dbdev_run", "--ephemeral", "--", *manage, "migrate").ok()
    # Settings that only the command has.
    more = 'import os\nif "MORE" in os.environ: DATABASES["more"] = dict(DATABASES["relative"])\n'
    project.settings(settings + more)
    child = ("env", "MORE=1", *manage, "migrate", "--database", "more")
    said = project.manage("dbdev_run", "--ephemeral", "--", *child)
    assert (said.status, "your own data" in said.err) == (1, True), said.all
    uri = 'DATABASES["relative"]["NAME"] = f"file:{BASE_DIR}/relative.sqlite3?mode=rwc"\n'
    project.settings(settings + uri)
    project.manage("dbdev_run", "--ephemeral", "--", "true").failed(2)
    shared = 'DATABASES["relative"]["NAME"] = "file:relative?mode=memory&cache=shared"\n'
    project.settings(settings + shared)
    project.manage("dbdev_run", "--ephemeral", "--", "true").ok()
    assert not (project.root / "relative.sqlite3").exists()
    assert is_gone(project)


def test_a_server_that_is_not_the_sessions_is_refused(new_project: ProjectFactory) -> None:
    project = new_project(
        settings="""
        import os
        DATABASES["other"] = {**DBSETTINGS, "PORT": 25998, "NAME": "other"}
        if "MORE" in os.environ:
            DATABASES["more"] = {**DBSETTINGS, "PORT": 25999, "NAME": "more"}
        """
    )
    manage = (sys.executable, str(project.root / "manage.py"))
    chosen = ("dbdev_run", "--ephemeral", "--database", "default", "--")
    said = project.manage(*chosen, "env", "MORE=1", *manage, "migrate", "--database", "more")
    assert (said.status, "your own data" in said.err) == (1, True), said.all
    # One that was not chosen stays what it was.
    show = "from django.db import connections as c; print(*(c[a].settings_dict['PORT'] for a in c))"
    said = project.manage(*chosen, *manage, "shell", "--no-imports", "-c", show).ok()
    ephemeral, own = said.out.split()
    assert int(ephemeral) >= 30000
    assert own == "25998"
    assert is_gone(project)


def test_a_server_that_ran_stays_and_one_that_was_started_stops(project: Project) -> None:
    query = ["psql", "-Atc", "SELECT 42"]
    assert project.manage("dbdev_run", "--", *query).ok().out == "42\n"
    assert project.datadir.exists()
    assert project.servers() == []
    project.manage("dbdev_startserver").ok()
    pid = project.pid()
    assert project.manage("dbdev_run", "--", *query).ok().out == "42\n"
    # Beside it an ephemeral one, which has nothing to do with it.
    project.query("CREATE TABLE kept (n int)")
    project.manage("dbdev_run", "--ephemeral", "--", "psql", "-c", "CREATE TABLE kept ()").ok()
    assert project.pid() == pid
    project.manage("dbdev_stopserver").ok()


def test_who_leaves_last_stops_the_server(project: Project) -> None:
    first, second = running(project), running(project)
    pid = project.pid()
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=30)
    assert project.pid() == pid
    assert project.query("SELECT 1") == [(1,)]
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=30)
    assert project.servers() == []
    assert not (project.datadir / "postmaster.pid").exists()


@pytest.mark.parametrize("options", [(), ("--ephemeral",)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on(
    project: Project, number: signal.Signals, options: tuple[str, ...]
) -> None:
    process = running(project, *options)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 40 + number
    assert is_gone(project)


def test_what_nohup_has_switched_off_stays_so(project: Project) -> None:
    told = "import signal; print(signal.getsignal(signal.SIGHUP).name, flush=True); signal.pause()"
    process = project.start(
        *("dbdev_run", "--verbosity", "0", "--", sys.executable, "-c", told),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "SIG_IGN\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    # By the second one.
    assert process.returncode == 128 + signal.SIGTERM
    assert is_gone(project)


@pytest.mark.parametrize("options", [(), ("--ephemeral",)])
def test_nothing_is_left_when_it_is_killed(project: Project, options: tuple[str, ...]) -> None:
    process = running(project, *options)
    command = psutil.Process(process.pid).children()
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: is_gone(project))
    wait_until(lambda: not any(child.is_running() for child in command))
    if not options:
        # The server was stopped as it should be.
        assert not (project.datadir / "postmaster.pid").exists()


def test_a_server_that_its_command_restarts_stops_too(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.manage("dbdev_backup").ok()
    project.manage("dbdev_stopserver").ok()
    (backup,) = (project.tempdata / "PostgresBackend-backups").iterdir()
    run = ("dbdev_run", "--", sys.executable, str(project.root / "manage.py"))
    said = project.manage(*run, "dbdev_restore", "--noinput", str(backup)).ok()
    assert "Started PostgreSQL" in said.out
    assert project.servers() == []
    # What the user stops and starts is the user's.
    manage = f"{sys.executable} {project.root}/manage.py"
    again = f"{manage} dbdev_stopserver && {manage} dbdev_startserver"
    project.manage("dbdev_run", "--", "sh", "-c", again).ok()
    assert project.query("SELECT 1") == [(1,)]
    project.manage("dbdev_stopserver").ok()


def test_a_killed_run_waits_for_anothers_work(project: Project) -> None:
    """Its watchdog stops the server when the load is done."""
    project.write("slow.sql", "CREATE TABLE loaded (x int); SELECT pg_sleep(4);")
    first = running(project)
    pid = project.pid()
    loading = project.start("dbdev_loaddump", "slow.sql")
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(4)%'"
    # Our own question is one of the two.
    wait_until(lambda: project.query(asleep)[0][0] > 1)
    first.kill()
    first.communicate(timeout=30)
    said, _ = loading.communicate(timeout=60)
    assert loading.returncode == 0, said
    wait_until(lambda: project.servers() == [])
    project.manage("dbdev_startserver").ok()
    assert project.pid() != pid
    assert project.query("SELECT count(*) FROM loaded") == [(0,)]
    project.manage("dbdev_stopserver").ok()


def test_the_next_run_clears_up_where_the_watchdog_was_killed_too(project: Project) -> None:
    process = running(project, "--ephemeral")
    family = psutil.Process(process.pid).children(recursive=True)
    watchdog = next(p for p in family if any("watchdog" in word for word in p.cmdline()))
    server = psutil.Process(ephemeral_pid(project))
    for each in (watchdog, psutil.Process(process.pid)):
        each.kill()
    process.communicate(timeout=30)
    assert server.is_running()
    project.manage("dbdev_run", "--ephemeral", "--", "true").ok()
    assert is_gone(project)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_the_command_outlives_a_server_that_is_killed(project: Project) -> None:
    process = running(project, "--ephemeral")
    os.kill(ephemeral_pid(project), signal.SIGKILL)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 40 + signal.SIGTERM
    assert is_gone(project)


def test_ten_at_once_do_not_meet(project: Project) -> None:
    project.manage("dbdev_run", "--ephemeral", "--", "true").ok()
    statement = "CREATE TABLE mine (n int); SELECT current_setting('port')"
    command = [sys.executable, str(project.root / "manage.py"), "dbdev_run", "--ephemeral", "--"]
    processes = [
        subprocess.Popen(
            [*command, "psql", "-qAtc", statement],
            env=project.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    outcomes = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 10, outcomes
    assert len({out for out, _ in outcomes}) == 10
    assert is_gone(project)


def test_sockets_outside_the_project_go_as_well(new_project: ProjectFactory) -> None:
    project = new_project("a" * 90)
    said = project.manage(
        "dbdev_run", "--ephemeral", "--", "psql", "-Atc", "SHOW unix_socket_directories"
    )
    folder = Path(said.ok().out.strip())
    assert not folder.is_relative_to(project.root)
    assert not folder.exists()
    assert working_in(project.root) == []

"""What all commands share: aliases, words, secrets, and what there is to know of a server."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Project, ProjectFactory

COMMANDS = [
    ["dbdev_init"],
    ["dbdev_destroy", "--noinput"],
    ["dbdev_reinit", "--noinput"],
    ["dbdev_startserver"],
    ["dbdev_stopserver"],
    ["dbdev_fgrunserver"],
    ["dbdev_serverinfo"],
    ["dbdev_guide"],
]
PIN = '[tool.django_dbdev.postgresql]\nversion = "18"\n'
#: One that a shell, a URL, a password file and SQL each would read otherwise.
PASSWORD = "p'\":\\@/ %41é$(id)"
WITH_PASSWORD = f"DATABASES['default']['PASSWORD'] = {PASSWORD!r}"


def test_an_unknown_alias_is_named_with_those_that_there_are(new_project: ProjectFactory) -> None:
    project = new_project(settings="DATABASES['other'] = {**DBSETTINGS, 'NAME': 'other'}")
    for command in COMMANDS:
        failed = project.manage(*command, "--database", "nothing").failed(2)
        assert "There is no database alias 'nothing' in DATABASES." in failed.err
        assert "hint: the aliases are default, other" in failed.err
    assert not project.tempdata.exists()


@pytest.mark.parametrize("engine", ["django.db.backends.oracle", "no.such.engine", ""])
def test_an_engine_without_backend(new_project: ProjectFactory, engine: str) -> None:
    # Without models: with them, Django itself fails on an engine that it cannot load.
    project = new_project(
        settings=f'INSTALLED_APPS = ["django_dbdev"]\nDATABASES["default"]["ENGINE"] = {engine!r}'
    )
    failed = project.manage("dbdev_init").failed(2)
    assert "No backend is registered for the database engine" in failed.err
    assert "django.db.backends.postgresql: django_dbdev.backends.postgres" in failed.err
    assert "hint: register one in settings.py" in failed.err


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("DBDEV_DATADIR = 5", "DBDEV_DATADIR is 5, which is not a path"),
        ("DBDEV_POSTGRES_EXECUTABLE = ['x']", "DBDEV_POSTGRES_EXECUTABLE is ['x'], which is not"),
        ("DBDEV_TEMPLATE_DIRS = 7", "DBDEV_TEMPLATE_DIRS is 7, which is no list of paths"),
        ("DATABASES['default']['PORT'] = float('inf')", "['PORT'] is inf, not a port number"),
    ],
)
def test_settings_of_another_type(project: Project, setting: str, named: str) -> None:
    project.settings(setting)
    assert named in project.manage("dbdev_init").failed(2).err
    assert not project.datadir.exists()


@pytest.mark.parametrize("name", ["DBDEV_DATADIR", "DBDEV_STORE", "DBDEV_POSTGRESQL_BINDIR"])
def test_a_home_that_there_is_not(project: Project, name: str) -> None:
    value = "~nosuchuser/folder"
    told = f"{name} is {value!r}, and it is not known where that home is"
    given: Any = {name: value}
    failed = project.manage("dbdev_init", **given).failed(2).err
    assert told in failed
    assert "hint: write the path in full, without ~" in failed
    checked = project.manage("check", **given).failed().err
    assert f"(django_dbdev.E001) {told}" in checked


def test_a_missing_driver(new_project: ProjectFactory) -> None:
    """No PostgreSQL driver. It is there, for the tests: an import hook hides it."""
    project = new_project(settings='INSTALLED_APPS = ["django_dbdev"]')
    hook = project.write(
        "hidden/sitecustomize.py",
        """
        import sys

        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"psycopg", "psycopg2"}:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Hidden())
        """,
    )
    path = os.pathsep.join([str(hook.parent), os.environ.get("PYTHONPATH", "")])
    for command in (["dbdev_init"], ["dbdev_reinit", "--noinput"]):
        failed = project.manage(*command, PYTHONPATH=path).failed(2)
        assert "No PostgreSQL driver for Python is installed." in failed.err
        assert "pip install 'django_dbdev[postgresql]'" in failed.err
    # Said before anything is made.
    assert not project.datadir.exists()


def test_verbosity(new_project: ProjectFactory) -> None:
    project = new_project(settings=WITH_PASSWORD)
    for command in COMMANDS[:1] + COMMANDS[2:5]:
        silent = project.manage(*command, "--verbosity", "0").ok()
        assert silent.all == ""
    programs = project.manage("dbdev_startserver", "--verbosity", "2").ok()
    (line,) = [line for line in programs.err.splitlines() if f"-D {project.datadir}" in line]
    assert line.startswith("$ ")
    assert "bin/postgres" in line
    assert "Started PostgreSQL" in programs.out
    # What was asked for is printed at verbosity 0 as well.
    assert "running" in project.manage("dbdev_serverinfo", "--verbosity", "0").ok().out


def shell(project: Project, script: str) -> str:
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=project.root,
        env=project.env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_there_is_to_know_of_a_server(new_project: ProjectFactory) -> None:
    project = new_project(settings=WITH_PASSWORD)
    before = project.info()
    assert (before["running"], before["initialised"], before["pid"]) == (False, False, None)
    assert before["size"] is before["uptime"] is None
    assert "not initialised" in project.manage("dbdev_serverinfo").ok().out

    project.manage("dbdev_init").ok()
    info = project.info()
    pid, port = project.pid(), project.port()
    assert (info["running"], info["initialised"], info["pid"]) == (True, True, pid)
    assert (info["alias"], info["engine"]) == ("default", "postgresql")
    assert (info["host"], info["port"]) == ("127.0.0.1", port)
    assert info["url"] == f"postgresql://dbdev@127.0.0.1:{port}/dbdev"
    assert info["version"].startswith("18.")
    assert info["provider"]
    assert info["databases"] == {"default": "dbdev"}
    assert info["datadir"] == str(project.datadir)
    assert info["log"] == str(project.tempdata / "PostgresBackend.log")
    assert Path(info["socket"]).is_socket()
    assert info["size"] > 10_000_000
    assert 0 < info["uptime"] < 600
    assert info["restart_reasons"] == []
    for program in ("postgres", "initdb", "pg_ctl", "psql", "pg_dump", "pg_restore"):
        assert os.access(info["programs"][program], os.X_OK)
    assert "environment" not in info

    text = project.manage("dbdev_serverinfo").ok().out
    for fact in (f"running (pid {pid})", info["version"], info["provider"], info["url"], " MB"):
        assert fact in text
    for place in ("datadir", "log", "socket"):
        assert info[place] in text
    assert str(Path(info["programs"]["psql"]).parent) in text

    # A shell, and the toolchain's own psql, which asks nobody for a password.
    manage = f"{shlex.quote(sys.executable)} manage.py dbdev_serverinfo --format env"
    psql = shlex.quote(info["programs"]["psql"])
    printed = shell(
        project, f'eval "$({manage})" && {psql} -wAtc "SELECT current_user, current_database()"'
    )
    assert printed == "dbdev|dbdev\n"
    printed = shell(project, f'eval "$({manage})" && {psql} -wAt "$DATABASE_URL" -c "SELECT 1"')
    assert printed == "1\n"

    project.manage("dbdev_stopserver").ok()
    after = project.info()
    assert (after["running"], after["initialised"], after["uptime"]) == (False, True, None)
    assert after["version"] == info["version"]
    assert "not running" in project.manage("dbdev_serverinfo").ok().out


def test_serverinfo_tells_what_it_can_of_a_server_that_does_not_let_it_in(
    new_project: ProjectFactory,
) -> None:
    project = new_project(settings='DBDEV_TEMPLATE_DIRS = ["conf"]')
    project.manage("dbdev_init").ok()
    # A project's own rules, with which nobody is let in.
    project.write("conf/postgresql/pg_hba.conf.j2", "local all all reject\n")
    project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_startserver").ok()
    info = project.info()
    assert (info["running"], info["pid"]) == (True, project.pid())
    assert "pg_hba.conf rejects" in info["problem"]
    text = project.manage("dbdev_serverinfo").ok().out
    assert f"running (pid {project.pid()})" in text
    assert "pg_hba.conf rejects" in text


def test_serverinfo_without_the_programs(project: Project) -> None:
    """Before the first init nothing is fetched for a look."""
    (project.root / "dbdev.lock").unlink(missing_ok=True)
    info = project.info()
    assert (info["running"], info["initialised"], info["version"]) == (False, False, None)
    assert not project.tempdata.exists()


def test_serverinfo_names_why_a_restart_is_due(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("ALTER SYSTEM SET max_connections = 44")
    project.query("SELECT pg_reload_conf()")
    (reason,) = project.info()["restart_reasons"]
    assert reason == "settings wait for it: max_connections"
    project.pin(PIN + 'settings = { work_mem = "17MB" }\n')
    reasons = project.info()["restart_reasons"]
    assert reasons[0].startswith("the configuration has changed (postgresql.conf")
    assert reasons[1:] == [reason]
    text = project.manage("dbdev_serverinfo").ok().out
    assert text.count("restart due:") == 2
    project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_startserver").ok()
    assert project.info()["restart_reasons"] == []
    assert project.query("SHOW max_connections") == [("44",)]


def test_commands_are_named_so_that_they_can_be_pasted(project: Project) -> None:
    """From the project's folder, from elsewhere, and from the root of the file system."""
    (project.root / "sub").mkdir()
    project.manage("dbdev_init").ok()
    for cwd in (Path("/"), project.root / "sub", project.root):
        last = project.manage("dbdev_init", cwd=cwd).ok().out.splitlines()[-1]
        command = last.removeprefix("Next: ").removesuffix("migrate") + "check"
        subprocess.run(
            ["sh", "-c", command], cwd=cwd, env=project.env(), check=True, capture_output=True
        )
        if cwd == Path("/"):
            assert str(project.root / "manage.py") in last


def test_options_are_checked_before_anything_is_done(project: Project) -> None:
    failed = project.manage("dbdev_serverinfo", "--format", "yaml").failed(2)
    assert "invalid choice: 'yaml'" in failed.err


def test_a_state_folder_that_cannot_be_made(project: Project) -> None:
    project.tempdata.write_text("a file in its place")
    failed = project.manage("dbdev_init").failed()
    assert str(project.tempdata) in failed.err
    assert project.tempdata.read_text() == "a file in its place"


def test_json_is_json(project: Project) -> None:
    printed = project.manage("dbdev_serverinfo", "--format", "json").ok()
    assert isinstance(json.loads(printed.out), dict)
    assert printed.err == ""

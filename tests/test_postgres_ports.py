"""Ports: whose they are, which one is taken, and that nobody else's server is ever touched."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from django_dbdev import conf
from tests.conftest import SETTINGS, Project, ProjectFactory

PIN = '[tool.django_dbdev.postgresql]\nversion = "18"\n'


@contextmanager
def listening(port: int, host: str = "127.0.0.1") -> Iterator[None]:
    """Somebody else on the port: this process."""
    with socket.create_server((host, port)):
        yield


def free_port() -> int:
    """A free port below those that the kernel hands out to clients."""
    for port in range(30001 + os.getpid() % 500, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def derived(root: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("DBDEV_PROJECT_ROOT", str(root))
    return conf.derived_port("postgresql")


def ours(project: Project, monkeypatch: pytest.MonkeyPatch) -> int:
    """The port that the project's settings have while nothing is recorded."""
    return derived(project.root.resolve(), monkeypatch)


def test_the_port_depends_on_the_path_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = {derived(tmp_path / f"project{n}", monkeypatch) for n in range(50)}
    assert len(ports) >= 49
    assert all(port in conf.DERIVED_PORTS for port in ports)
    # Written down, so that a change of the rule is noticed: every developer's port would move.
    assert derived(Path("/home/ada/bookshop"), monkeypatch) == 29449


def test_two_fresh_projects_run_side_by_side(new_project: ProjectFactory) -> None:
    first, second = new_project("first"), new_project("second")
    for project in (first, second):
        project.manage("dbdev_init").ok()
    assert first.port() != second.port()
    first.query("CREATE TABLE only_in_the_first ()")
    assert second.query("SELECT to_regclass('only_in_the_first')") == [(None,)]
    first.manage("dbdev_stopserver").ok()
    assert second.query("SELECT 1") == [(1,)]
    second.manage("dbdev_destroy", "--noinput").ok()
    first.manage("dbdev_startserver").ok()
    assert first.query("SELECT count(*) FROM only_in_the_first") == [(0,)]


def test_init_moves_on_when_the_port_is_taken(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ours(project, monkeypatch)
    with listening(wanted):
        done = project.manage("dbdev_init").ok()
        moved = project.port()
        assert moved != wanted
        assert f"Port {wanted} is taken by" in done.err
        assert f"(pid {os.getpid()}, user" in done.err
        assert f"took {moved}" in done.err
        assert json.loads((project.tempdata / "servers.json").read_text()) == {
            "folder": str(project.tempdata),
            "ports": {"PostgresBackend": moved},
        }
        project.manage("migrate", "--verbosity", "0").ok()
    assert project.query("SELECT count(*) > 0 FROM django_migrations") == [(True,)]
    # It stays there, also when the first choice is free again.
    project.manage("dbdev_stopserver").ok()
    assert f"127.0.0.1:{moved}" in project.manage("dbdev_startserver").ok().out
    # A recorded port is still ours to choose.
    project.manage("dbdev_stopserver").ok()
    with listening(moved):
        failed = project.manage("dbdev_startserver").failed(4)
        assert f"Port {moved} is taken by" in failed.err
        assert "hint: dbdev_init takes another port" in failed.err
        assert project.manage("dbdev_init").ok()
        assert project.port() not in (moved, wanted)
    project.manage("dbdev_destroy", "--noinput").ok()
    assert json.loads((project.tempdata / "servers.json").read_text())["ports"] == {}


def test_a_copied_project_does_not_go_to_the_server_of_its_model(
    new_project: ProjectFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the same password, and migrate asks nobody whose server it is."""
    model, copy = new_project("model"), new_project("copy")
    with listening(ours(model, monkeypatch)):
        model.manage("dbdev_init").ok()
    without_socket = shutil.ignore_patterns("run")
    shutil.copytree(model.tempdata, copy.tempdata, symlinks=True, ignore=without_socket)
    assert "Traceback" in copy.manage("migrate", "--verbosity", "0").all
    assert model.query("SELECT to_regclass('django_migrations')") == [(None,)]
    copy.manage("dbdev_init").ok()
    copy.manage("migrate", "--verbosity", "0").ok()
    assert copy.port() != model.port()
    assert model.query("SELECT to_regclass('django_migrations')") == [(None,)]


def test_one_process_that_inits_and_migrates_sees_the_port_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(ours(project, monkeypatch)):
        script = (
            "from django.core.management import call_command as call; from django.db import "
            "connection; call('dbdev_init', verbosity=0); call('migrate', verbosity=0); "
            "print(connection.settings_dict['PORT']); connection.close(); "
            "call('dbdev_destroy', interactive=False, verbosity=0); "
            "call('dbdev_init', verbosity=0); call('migrate', verbosity=0)"
        )
        printed = project.manage("shell", "--no-imports", "-c", script).ok().out
    assert int(printed) == project.port()
    # The next process too.
    assert project.sql("SELECT count(*) > 0 FROM django_migrations") == [[True]]


def test_settings_that_cannot_see_the_record_go_where_init_went(
    new_project: ProjectFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting is in a module that the settings module imports, which does not have it yet."""
    project = new_project(base="from base import *")
    project.write("base.py", f'DBDEV_DATADIR = "state"\n{SETTINGS}')
    wanted = ours(project, monkeypatch)
    with listening(wanted):
        assert "took" in project.manage("dbdev_init").ok().err
        assert "is running already" in project.manage("dbdev_init").ok().out
        project.manage("dbdev_stopserver").ok()
        project.manage("dbdev_startserver").ok()
        assert project.info()["port"] != wanted
        assert project.sql("SELECT current_setting('data_directory')") == [
            [str(project.root / "state" / "PostgresBackend")]
        ]


def test_a_recorded_port_is_for_its_own_server_and_for_no_port_that_was_chosen(
    new_project: ProjectFactory,
) -> None:
    settings = """
    DATABASES = {
        "default": {**DBSETTINGS, "PORT": 31000},
        "own": dict(DBSETTINGS),
        "shared": {**DBSETTINGS, "NAME": "other"},
        "far": {**DBSETTINGS, "HOST": "db.example.com"},
        "next": {**DBSETTINGS, "PORT": DBSETTINGS["PORT"] + 1},
    }
    """
    project = new_project(settings=settings)
    project.tempdata.mkdir()
    names = ("PostgresBackend-own", "PostgresBackend-next", "PostgresBackend-far")
    recorded = {name: 31001 + number for number, name in enumerate(names)}
    record = project.tempdata / "servers.json"
    record.write_text(json.dumps({"ports": recorded}))
    script = (
        "import json; from django.db import connections; "
        "print(json.dumps([connections[a].settings_dict['PORT'] for a in connections]))"
    )
    shell = ("shell", "--no-imports", "-c", script)
    default, own, shared, far, following = json.loads(project.manage(*shell).ok().out)
    assert (default, own, shared) == (31000, 31001, 31001)
    assert (far, following) == (far, far + 1)
    assert far in conf.DERIVED_PORTS
    # DBSETTINGS knows of the first server only.
    record.write_text(json.dumps({"ports": {**recorded, "PostgresBackend": 31009}}))
    assert json.loads(project.manage(*shell).ok().out)[:3] == [31000, 31001, 31001]


def test_a_port_of_another_alias_is_not_taken(
    new_project: ProjectFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server need not run; the two would be taken for one."""
    project = new_project(
        settings='DATABASES["legacy"] = {**DBSETTINGS, "PORT": DBSETTINGS["PORT"] + 1}'
    )
    wanted = ours(project, monkeypatch)
    with listening(wanted):
        project.manage("dbdev_init").ok()
    assert project.port() not in (wanted, wanted + 1)


def test_a_server_on_every_address_takes_the_port_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ours(project, monkeypatch)
    with listening(wanted, "0.0.0.0"):
        project.manage("dbdev_init").ok()
        assert project.port() != wanted


@pytest.mark.parametrize("where", ["settings", "environment", "pin"])
def test_a_port_that_was_chosen_is_not_left_for_another(
    new_project: ProjectFactory, where: str
) -> None:
    port = free_port()
    project = new_project(
        pin=PIN + (f"port = {port}\n" if where == "pin" else ""),
        settings=f'DATABASES["default"]["PORT"] = "{port}"' if where == "settings" else "",
        environment={"DBDEV_POSTGRESQL_PORT": str(port)} if where == "environment" else {},
    )
    with listening(port):
        for command in (["dbdev_init"], ["dbdev_reinit", "--noinput"]):
            failed = project.manage(*command).failed(4)
            assert f"Port {port} is taken by" in failed.err
            assert f"(pid {os.getpid()}, user" in failed.err
            assert "hint: set another PORT in DATABASES['default'], or free that one" in failed.err
        assert not project.datadir.exists()
        assert not (project.tempdata / "servers.json").exists()
    project.manage("dbdev_init").ok()
    assert project.port() == port


def test_a_number_in_the_settings_is_the_users_though_it_was_recorded(
    new_project: ProjectFactory,
) -> None:
    """A record of another would be of no use: the settings say this one."""
    port = free_port()
    project = new_project(settings=f'DATABASES = {{"default": {{**DBSETTINGS, "PORT": {port}}}}}')
    project.tempdata.mkdir()
    record = project.tempdata / "servers.json"
    record.write_text(json.dumps({"ports": {"PostgresBackend": port}}))
    with listening(port):
        failed = project.manage("dbdev_init").failed(4)
    assert "hint: set another PORT in DATABASES['default'], or free that one" in failed.err
    assert json.loads(record.read_text()) == {"ports": {"PostgresBackend": port}}


def test_the_environment_goes_before_the_pin_and_the_record(
    new_project: ProjectFactory,
) -> None:
    pinned, chosen = free_port(), free_port() + 1
    project = new_project(pin=f"{PIN}port = {pinned}\n")
    project.tempdata.mkdir()
    (project.tempdata / "servers.json").write_text('{"ports": {"PostgresBackend": 30000}}')
    script = "from django.conf import settings; print(settings.DATABASES['default']['PORT'])"
    shell = ("shell", "--no-imports", "-c", script)
    assert project.manage(*shell).ok().out.strip() == str(pinned)
    in_environment = project.manage(*shell, DBDEV_POSTGRESQL_PORT=str(chosen))
    assert in_environment.ok().out.strip() == str(chosen)
    project.pin(PIN)
    assert project.manage(*shell).ok().out.strip() == "30000"
    (project.tempdata / "servers.json").write_text('{"ports": {"PostgresBackend": 300')
    assert int(project.manage(*shell).ok().out) in conf.DERIVED_PORTS


@pytest.mark.parametrize("port", ["54x32", "0", "65536", "-1", "٥٤٣٢"])
def test_a_malformed_port_in_the_environment(project: Project, port: str) -> None:
    failed = project.manage("dbdev_init", DBDEV_POSTGRESQL_PORT=port).failed(2)
    assert f"DBDEV_POSTGRESQL_PORT is {port!r}" in failed.err
    assert "not a port number (1 to 65535)" in failed.err
    assert not project.datadir.exists()
    check = project.manage("check", DBDEV_POSTGRESQL_PORT=port).failed()
    assert "(django_dbdev.E001) DBDEV_POSTGRESQL_PORT is" in check.err


@pytest.mark.parametrize("port", ["'54x32'", "99999", "'5432,5433'", "[5432]"])
def test_a_malformed_port_in_the_settings(new_project: ProjectFactory, port: str) -> None:
    project = new_project(settings=f"DATABASES['default']['PORT'] = {port}")
    for command in ("dbdev_init", "dbdev_serverinfo"):
        failed = project.manage(command).failed(2)
        assert "DATABASES['default']['PORT'] is" in failed.err
        assert "not a port number (1 to 65535)" in failed.err


def test_a_host_elsewhere_is_refused(new_project: ProjectFactory) -> None:
    project = new_project(settings="DATABASES['default']['HOST'] = 'db.example.com'")
    for command in (["dbdev_init"], ["dbdev_reinit", "--noinput"], ["dbdev_startserver"]):
        failed = project.manage(*command).failed(2)
        assert "DATABASES['default']['HOST'] is 'db.example.com'" in failed.err
        assert "hint: use DBSETTINGS, or set HOST to '127.0.0.1'" in failed.err


def test_the_server_of_another_project_is_never_touched(new_project: ProjectFactory) -> None:
    """Both have the same port in their settings; the other one's server has it."""
    port = free_port()
    settings = f"DATABASES['default']['PORT'] = {port}"
    mine = new_project("mine", settings=settings)
    other = new_project("other", settings=settings)
    mine.manage("dbdev_init").ok()
    mine.query("CREATE TABLE kept ()")
    mine.manage("dbdev_stopserver").ok()
    other.manage("dbdev_init").ok()
    other.query("CREATE TABLE precious (n int)")
    other.query("INSERT INTO precious VALUES (1)")
    pid = other.pid()

    for command in ("dbdev_init", "dbdev_startserver", "dbdev_fgrunserver"):
        failed = mine.manage(command).failed(4)
        assert f"Port {port} is taken by postgres (pid {pid}, user" in failed.err
        assert "it is not touched" in failed.err
    assert "does not run" in mine.manage("dbdev_stopserver").ok().out
    info = mine.info()
    assert (info["running"], info["pid"]) == (False, None)
    mine.manage("dbdev_reinit", "--noinput").failed(4)
    mine.manage("dbdev_destroy", "--noinput").ok()

    assert other.pid() == pid
    assert other.query("SELECT * FROM precious") == [(1,)]
    assert other.query("SELECT to_regclass('kept')") == [(None,)]
    assert other.query("SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1") == [
        ("dbdev",),
        ("postgres",),
    ]


def test_a_server_on_another_port_than_the_settings_is_named(new_project: ProjectFactory) -> None:
    project = new_project()
    project.manage("dbdev_init").ok()
    before = project.port()
    project.settings(f"DATABASES['default']['PORT'] = {free_port()}")
    for command in ("dbdev_init", "dbdev_startserver"):
        failed = project.manage(command).failed(2)
        assert f"runs on port {before}" in failed.err
        assert "hint: restart it: dbdev_stopserver, then dbdev_startserver" in failed.err
    project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_startserver").ok()
    assert project.port() != before
    assert project.sql("SELECT 1") == [[1]]


def test_a_port_of_an_aliases_own_pin_must_be_that_of_its_settings(
    new_project: ProjectFactory,
) -> None:
    first, second = free_port(), free_port() + 1
    project = new_project(
        pin=f"{PIN}[tool.django_dbdev.databases.reporting.postgresql]\nport = {first}\n",
        settings=f'DATABASES["reporting"] = {{**DBSETTINGS, "PORT": {second}}}',
    )
    failed = project.manage("dbdev_init", "--database", "reporting").failed(2)
    assert f"tool.django_dbdev.databases.reporting.postgresql.port is {first}" in failed.err
    assert f"DATABASES['reporting']['PORT'] is {second}" in failed.err

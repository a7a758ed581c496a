"""dbdev_doctor: what it finds, what it mends, and a digest that is the same everywhere."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import SETTINGS, Project, ProjectFactory, wait_until


def doctor(project: Project, *options: str) -> tuple[int, dict[str, Any]]:
    done = project.manage("dbdev_doctor", "--format", "json", *options)
    assert done.status in (0, 1), done.all
    return done.status, json.loads(done.out)


def texts(examined: dict[str, Any], level: str) -> str:
    return "\n".join(f["text"] for f in examined["findings"] if f["level"] == level)


@pytest.fixture
def ready(project: Project) -> Project:
    project.manage("dbdev_init").ok()
    return project


def test_a_healthy_project_on_one_screen(ready: Project) -> None:
    said = ready.manage("dbdev_doctor").ok().out
    for expected in (
        *(str(ready.root), "postgresql 18.6", "dbdev.lock", "running (pid", "digest:"),
        *(f"port {ready.port()}", ".s.PGSQL", str(ready.store)),
    ):
        assert expected in said
    assert len(said.splitlines()) < 25


def test_what_is_safe_is_mended(ready: Project) -> None:
    os.kill(ready.pid(), signal.SIGKILL)
    psutil.wait_procs(ready.servers(), timeout=10)
    ready.datadir.chmod(0o750)
    passfile = ready.tempdata / "PostgresBackend.pgpass"
    passfile.chmod(0o644)
    (ready.tempdata / ".gitignore").unlink()
    (ready.root / ".git").mkdir()
    unfinished = ready.tempdata / "PostgresBackend-backups" / "backup-2026-11-22_13-40-00-123456"
    unfinished.mkdir(parents=True)
    (ready.tempdata / ".PostgresBackend.2026-11-22_13-40-00-123456.new").mkdir()
    status, examined = doctor(ready)
    assert status == 1
    problems = texts(examined, "warning")
    for expected in ("postmaster.pid", "PostgresBackend (0750)", "pgpass", "git", unfinished.name):
        assert expected in problems
    status, examined = doctor(ready, "--fix")
    assert status == 0, examined["findings"]
    assert not (ready.datadir / "postmaster.pid").exists()
    assert not unfinished.exists()
    assert passfile.stat().st_mode & 0o777 == 0o600
    assert (ready.tempdata / ".gitignore").exists()
    assert not (ready.tempdata / ".PostgresBackend.2026-11-22_13-40-00-123456.new").exists()
    ready.manage("dbdev_startserver").ok()


def test_a_pid_file_stays_while_something_works_on_the_data(ready: Project) -> None:
    server = ready.server()
    child = server.children()[0]
    child.suspend()
    try:
        server.kill()
        doctor(ready, "--fix")
        assert (ready.datadir / "postmaster.pid").exists()
    finally:
        child.kill()


def test_what_a_person_has_to_do_is_said(new_project: ProjectFactory) -> None:
    project = new_project(settings='DATABASES["default"] = {**DBSETTINGS, "PASSWORD": ""}')
    status, examined = doctor(project)
    assert status == 1
    assert "PASSWORD" in texts(examined, "error")
    project.settings()
    project.pin("[tool.django_dbdev.postgresql]\nversion = 18\n")
    assert "version" in texts(doctor(project)[1], "error")
    project.pin('[tool.django_dbdev.postgresql]\nversion = "17"\n')
    (server,) = doctor(project)[1]["servers"]
    declined = {each["provider"]: each["reason"] for each in server["declined"]}
    assert "17" in declined["dbdev.lock"]
    # CI, which obeys the lock, will refuse it.
    assert "dbdev.lock has 18.6, and postgresql 17 is pinned" in texts(
        doctor(project)[1], "warning"
    )
    assert len(declined) > 1


def test_a_server_of_an_alias_that_is_gone_is_named(new_project: ProjectFactory) -> None:
    """As after a switch to a branch that does not have it: no command of that one stops it."""
    more = "DATABASES['legacy'] = {**DBSETTINGS, 'PORT': DBSETTINGS['PORT'] + 1}"
    project = new_project(settings=more)
    for alias in ("default", "legacy"):
        project.manage("dbdev_init", "--database", alias).ok()
    assert "no alias" not in texts(doctor(project, "--database", "default")[1], "note")
    project.settings()
    pid = project.pid("PostgresBackend-legacy")
    status, examined = doctor(project)
    assert status == 0
    said = next(f for f in examined["findings"] if f["subject"] == "PostgresBackend-legacy")
    assert said["text"] == f"postgres (pid {pid}) runs, for no alias of these settings"
    assert said["hints"][1] == f"or end it: kill -INT {pid}"
    os.kill(pid, signal.SIGINT)
    wait_until(lambda: not (project.tempdata / "PostgresBackend-legacy/postmaster.pid").exists())


def test_other_backends_are_examined_as_far_as_they_tell(new_project: ProjectFactory) -> None:
    project = new_project(pin="", base=SETTINGS.replace("postgres ", "sqlite "))
    project.manage("dbdev_init").ok()
    status, examined = doctor(project)
    assert status == 0
    assert [server["engine"] for server in examined["servers"]] == ["sqlite"]


def _another_account() -> pwd.struct_passwd | None:
    """One that can run this Python and read this package."""
    account = next((a for a in pwd.getpwall() if a.pw_uid not in (0, 65534)), None)
    if os.geteuid() != 0 or account is None:
        return None
    probe = [sys.executable, "-c", "import django_dbdev, sh, psutil"]
    ids: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    try:
        return account if subprocess.run(probe, cwd="/", **ids).returncode == 0 else None
    except PermissionError:
        return None


def test_the_digest_is_the_same_at_other_paths_for_other_users(
    ready: Project, open_folder: Path
) -> None:
    """Another checkout with the same lock, another store, and another user where we may be one."""
    first = doctor(ready)[1]["digest"]
    assert first
    lock = json.loads((ready.root / "dbdev.lock").read_text())
    store = open_folder / "store"
    for file in lock["engines"]["postgresql"]["systems"].values():
        tree = ready.store / "trees" / file["sha256"]
        if tree.is_dir():
            shutil.copytree(tree, store / "trees" / tree.name, symlinks=True)
            shutil.copy(f"{tree}.json", store / "trees")
    other = Project(open_folder / "it's another", store)
    other.root.mkdir()
    for name in ("manage.py", "settings.py", "pyproject.toml", "dbdev.lock"):
        shutil.copy(ready.root / name, other.root)
    account = _another_account()
    if account is not None:
        subprocess.run(
            ["chown", "-R", f"{account.pw_uid}:{account.pw_gid}", open_folder], check=True
        )
    try:
        other.manage("dbdev_init", "--locked", "--offline").ok()
        assert doctor(other)[1]["digest"] == first
        if account is not None:
            assert other.tempdata.stat().st_uid == account.pw_uid
        # What decides more than the machine does counts.
        other.pin(
            '[tool.django_dbdev.postgresql]\nversion = "18"\nsettings = { work_mem = "8MB" }\n'
        )
        assert doctor(other)[1]["digest"] != first
        other.manage("dbdev_stopserver").ok()
    finally:
        other.clean_up()

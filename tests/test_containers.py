"""A folder that several containers have: pids mean nothing there, and ports are free."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import Project, Result

#: What a container has of its own, but for its files.
_CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--ipc", "--net")


def _have_containers() -> bool:
    try:
        return subprocess.run([*_CONTAINER, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not _have_containers(), reason="only root may make namespaces here"
)


def contained(project: Project, *commands: str) -> Result:
    """Commands of manage.py in a container, one after the other; the status is the last one's."""
    manage = f"{sys.executable} {project.root / 'manage.py'}"
    script = "; ".join(["ip link set lo up", *(f"{manage} {each}" for each in commands)])
    done = subprocess.run(
        [*_CONTAINER, "sh", "-c", script],
        cwd=project.root,
        env=project.env(),
        capture_output=True,
        text=True,
        timeout=180,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "command", ["dbdev_startserver", "dbdev_backup", "dbdev_destroy --noinput", "dbdev_stopserver"]
)
def test_data_on_which_a_server_outside_works_is_left_alone(project: Project, command: str) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept AS SELECT 1 AS n")
    refused = contained(project, command).failed(4)
    assert f"not seen from here works on {project.datadir}" in refused.err
    assert project.query("SELECT n FROM kept") == [(1,)]
    assert not list(project.tempdata.glob("*-backups/*"))


def test_the_doctor_leaves_the_pid_file_of_a_server_outside(project: Project) -> None:
    project.manage("dbdev_init").ok()
    found = contained(project, "dbdev_doctor --fix").failed(1)
    assert "not seen from here" in found.out
    assert project.server().is_running()
    assert "not seen from here" in contained(project, "dbdev_serverinfo").ok().out


def test_data_that_nobody_works_on_any_more_is_free(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept AS SELECT 1 AS n")
    project.manage("dbdev_stopserver").ok()
    # The server ends with its container, whose first process the shell is.
    contained(project, "dbdev_startserver").ok()
    project.manage("dbdev_startserver").ok()
    assert project.query("SELECT n FROM kept") == [(1,)]

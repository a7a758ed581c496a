"""From nothing to a server that answers, back again, and everything in between."""

from __future__ import annotations

from tests.conftest import Project

def test_second_init_changes_nothing(project: Project) -> None:
    project.manage("dbdev_init").ok()
    pid = project.pid()
    project.query("CREATE TABLE kept (n int)")
    second = project.manage("dbdev_init").ok()
    assert f"running already on 127.0.0.1:{project.port()} (pid {pid})" in second.out
    assert project.pid() == pid
    assert project.query("SELECT count(*) FROM kept") == [(0,)]

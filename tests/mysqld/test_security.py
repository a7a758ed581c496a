"""Nobody gets in: what listens, and where passwords are not."""

from __future__ import annotations

from pathlib import Path

from tests.mysqld.conftest import MySqlFactory
from tests.secrets import SECRET, holding, open_to_others, programs, run_all

COMMANDS = [
    ["dbdev_init", "--verbosity", "3"],
    ["dbdev_backup", "-n", "one", "--verbosity", "3"],
    ["dbdev_backup", "-n", "two", "--portable", "--verbosity", "3"],
    ["dbdev_restore", "-n", "two", "--verbosity", "3"],
    ["dbdev_restore", "-n", "one", "--verbosity", "3"],
]


def test_a_password_is_nowhere_but_in_its_file(new_mysql: MySqlFactory, fresh_store: Path) -> None:
    project = new_mysql(
        settings=f"DATABASES['default']['PASSWORD'] = {SECRET!r}", store=fresh_store
    )
    said = run_all(project, COMMANDS, umask=0o000)
    assert SECRET not in said
    ran = programs(project)
    assert {"mariadbd", "mariadb-dump"} <= {Path(args[0]).name for args, _ in ran}
    assert [args for args, _ in ran if any(SECRET in word for word in args)] == []
    server = project.server()
    assert SECRET.encode() not in Path(f"/proc/{server.pid}/environ").read_bytes()
    assert holding(project.tempdata, fresh_store) == ["MySqlBackend.cnf"]
    # What the server's own script makes; the folder is closed.
    left = [each for each in open_to_others(project.tempdata) if "_upgrade_info " not in each]
    assert left == []

    family = [server, *server.children(recursive=True)]
    tcp = {c.laddr for p in family for c in p.net_connections("inet")}
    assert tcp == {("127.0.0.1", project.port())}


def test_a_narrow_umask_keeps_the_server_from_nothing(
    new_mysql: MySqlFactory, fresh_store: Path
) -> None:
    project = new_mysql(store=fresh_store)
    for command in COMMANDS:
        project.manage(*command, umask=0o077).ok()
    project.manage("dbdev_destroy", "--noinput", umask=0o077).ok()

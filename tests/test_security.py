"""Nobody gets in: what listens, who may log in, and where passwords are not."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Project, ProjectFactory
from tests.secrets import SECRET, THEIRS, holding, open_to_others, programs, run_all

COMMANDS = [
    ["dbdev_init", "--verbosity", "3"],
    ["dbdev_stopserver"],
    ["dbdev_startserver", "--verbosity", "3"],
    ["dbdev_backup", "-n", "one", "--verbosity", "3"],
    ["dbdev_backup", "-n", "two", "--portable", "--verbosity", "3"],
    ["dbdev_restore", "-n", "two", "--verbosity", "3"],
    ["dbdev_restore", "-n", "one", "--verbosity", "3"],
    ["dbdev_createdump", "dump.sql", "--verbosity", "3"],
    ["dbdev_loaddump", "dump.sql", "--verbosity", "3"],
    ["dbdev_serverinfo", "--format", "json"],
    ["dbdev_doctor", "--format", "json"],
    ["dbdev_run", "--verbosity", "3", "--", "true"],
]


def test_a_password_is_nowhere_but_in_its_file(
    new_project: ProjectFactory, fresh_store: Path
) -> None:
    project = new_project(
        settings=f"DATABASES['default']['PASSWORD'] = {SECRET!r}", store=fresh_store
    )
    said = run_all(project, COMMANDS, umask=0o000)
    project.query("ALTER ROLE dbdev PASSWORD 'another'", password=SECRET)
    said += run_all(project, [["dbdev_init", "--verbosity", "3"]], umask=0o000)
    project.query("SET log_min_error_statement = debug5; SELECT 1", password=SECRET)
    assert SECRET not in said
    ran = programs(project)
    names = {Path(args[0]).name for args, _ in ran}
    assert {"postgres", "initdb", "pg_dump", "pg_restore", "psql", "true"} <= names
    assert [args for args, _ in ran if any(SECRET in word for word in args)] == []
    # By the names of the user's own variables alone, and the server not even so.
    knowing = [name for _, env in ran for name in env if SECRET in env[name] and name not in THEIRS]
    assert knowing == []
    assert SECRET.encode() not in Path(f"/proc/{project.pid()}/environ").read_bytes()
    assert holding(project.tempdata, fresh_store) == ["PostgresBackend.pgpass"]
    assert open_to_others(project.tempdata) == []


def test_a_narrow_umask_keeps_the_server_from_nothing(
    new_project: ProjectFactory, fresh_store: Path
) -> None:
    """As root the server runs as another account, which has to reach its files."""
    project = new_project(store=fresh_store)
    for command in COMMANDS:
        project.manage(*command, umask=0o077).ok()
    project.manage("dbdev_run", "--ephemeral", "--", "true", umask=0o077).ok()
    project.manage("dbdev_destroy", "--noinput", umask=0o077).ok()


def conninfo(project: Project, **how: str) -> str:
    login = {"port": str(project.port()), "dbname": "dbdev", "user": "dbdev", **how}
    return make_conninfo("", **login)


def refused(project: Project, **how: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(conninfo(project, **how))
    return str(caught.value)


def test_who_gets_in_and_by_which_way(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.manage("dbdev_init").ok()
    server = project.server()
    socket = Path(project.info()["socket"])
    family = [server, *server.children(recursive=True)]
    assert len(family) > 3
    tcp = {c.laddr for p in family for c in p.net_connections("inet")}
    assert tcp == {("127.0.0.1", project.port())}
    unix = {str(c.laddr) for p in family for c in p.net_connections("unix") if c.laddr}
    assert unix == {str(socket)}
    assert project.query("SHOW listen_addresses") == [("127.0.0.1",)]
    assert socket.parent.stat().st_mode & 0o777 == 0o700

    rules = project.query(
        "SELECT type, database, user_name, address, auth_method FROM pg_hba_file_rules"
    )
    assert {(kind, method) for kind, *_, method in rules} <= {
        ("local", "peer"),
        ("local", "scram-sha-256"),
        ("host", "scram-sha-256"),
    }
    assert {address for _, _, _, address, _ in rules if address} <= {"127.0.0.1", "::1"}
    hashes = project.query("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")
    assert all(text.startswith("SCRAM-SHA-256$") for (text,) in hashes)

    monkeypatch.setenv("PGPASSFILE", os.devnull)
    for host in ("127.0.0.1", str(socket.parent)):
        assert "no password supplied" in refused(project, host=host)
        assert "password authentication failed" in refused(project, host=host, password="wrong")
    # What the server asks for, by libpq, which refuses another way of logging in.
    for method, works in (("scram-sha-256", True), ("md5", False), ("password", False)):
        how = {"host": "127.0.0.1", "password": "dbdev", "require_auth": method}
        if works:
            psycopg.connect(conninfo(project, **how)).close()
        else:
            assert "requirement" in refused(project, **how)

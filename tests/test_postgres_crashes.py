"""Servers and commands that die, pid files that lie, and data that was copied."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from django_dbdev.backends.postgresql.control import PostgresControl
from django_dbdev.backends.postgresql.files import PostgresFiles
from django_dbdev.backends.server import control as server_control
from django_dbdev.exceptions import ServerError
from tests.conftest import Project, ProjectFactory, wait_until


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A live process that has nothing to do with any of this, but a pid."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def crash(project: Project) -> str:
    """Kill the postmaster; what it left in its pid file."""
    server = project.server()
    left = (project.datadir / "postmaster.pid").read_text()
    server.kill()
    with suppress(psutil.NoSuchProcess):
        # Who inherits it may take seconds to notice its end.
        while server.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)
    return left


ON_DISK = "SET synchronous_commit = on;"


def filled(project: Project) -> Project:
    project.manage("dbdev_init").ok()
    # On disk at once: by default the last moments before a crash may be missing.
    project.query(f"{ON_DISK} CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    return project


def is_whole(project: Project) -> bool:
    return project.query("SELECT count(*) FROM kept") == [(1000,)]


def shared_memory() -> set[int]:
    """The ids of all segments of System V. Source: proc_sysvipc(5)."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {int(line.split()[1]) for line in lines}


@pytest.mark.skipif(not Path("/proc/sysvipc/shm").exists(), reason="nothing tells of segments here")
def test_shared_memory_that_a_killed_server_left_is_removed(project: Project) -> None:
    filled(project)
    # "key id"; source: PostgreSQL's miscadmin.h on postmaster.pid.
    segment = int((project.datadir / "postmaster.pid").read_text().splitlines()[6].split()[1])
    family = project.servers()
    for process in family:
        process.kill()
    wait_until(lambda: project.servers() == [])
    assert segment in shared_memory()
    project.manage("dbdev_startserver").ok()
    assert is_whole(project)
    assert segment not in shared_memory()


@pytest.mark.parametrize("command", ["dbdev_startserver", "dbdev_init"])
def test_a_killed_server_starts_again_at_once(project: Project, command: str) -> None:
    filled(project)
    crash(project)
    # Its children hold the shared memory for a moment still.
    project.manage(command).ok()
    assert is_whole(project)
    log = (project.tempdata / "PostgresBackend.log").read_text()
    assert "database system was not properly shut down; automatic recovery in progress" in log


def test_a_killed_server_is_not_running(project: Project) -> None:
    filled(project)
    crash(project)
    assert project.info()["running"] is False
    assert "does not run" in project.manage("dbdev_stopserver").ok().out
    project.manage("dbdev_destroy", "--noinput").ok()
    assert not project.datadir.exists()


@contextmanager
def orphan(project: Project) -> Iterator[psutil.Process]:
    """A process of a killed server that is at work, and notices nothing before it has done."""
    with psycopg.connect(
        f"host=127.0.0.1 port={project.port()} user=dbdev password=dbdev dbname=dbdev",
        autocommit=True,
    ) as client:
        client.execute("CREATE TABLE growing (n bigint)")
        found = psutil.Process(client.info.backend_pid)
        writing = threading.Thread(target=_write, args=(client,))
        writing.start()
        try:
            wait_until(lambda: found.cpu_times().user > 0.05)
            crash(project)
            wait_until(lambda: [process.pid for process in project.servers()] == [found.pid])
            yield found
        finally:
            with suppress(psutil.NoSuchProcess):
                found.kill()
            writing.join()


def _write(client: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.Error):
        client.execute("INSERT INTO growing SELECT generate_series(1, 10000000000)")


@pytest.mark.parametrize("command", ["dbdev_backup", "dbdev_restore", "dbdev_destroy"])
def test_what_is_left_of_a_killed_server_is_waited_for(project: Project, command: str) -> None:
    """It writes into files that a restore would give to the new data, and a backup would copy."""
    filled(project).manage("dbdev_backup", "-n", "before").ok()
    options = {"dbdev_backup": ["-n", "after"], "dbdev_destroy": ["--noinput"]}
    with orphan(project) as left:
        control = PostgresControl(PostgresFiles(project.tempdata, "PostgresBackend"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server_control, "_REMAINS_TIMEOUT", 0.1)
            with pytest.raises(ServerError) as caught:
                control.end_strays()
        assert f"postgres (pid {left.pid}" in caught.value.message
        assert caught.value.hints == (f"wait until it is done, or end it: kill -INT {left.pid}",)
        waiting = project.start(command, *options.get(command, []))
        holder = project.tempdata / "PostgresBackend.lock.holder"
        wait_until(lambda: holder.read_text().startswith(f"{waiting.pid} "))
        assert waiting.poll() is None
        left.kill()
        said, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, said
    if command == "dbdev_backup":
        project.manage("dbdev_restore", "-n", "after", "--verify").ok()
    if command != "dbdev_destroy":
        project.manage("dbdev_startserver").ok()
        assert is_whole(project)


def test_a_server_whose_pid_file_was_removed_is_not_taken_for_stopped(project: Project) -> None:
    filled(project)
    pid = project.pid()
    content = (project.datadir / "postmaster.pid").read_text()
    (project.datadir / "postmaster.pid").unlink()
    control = PostgresControl(PostgresFiles(project.tempdata, "PostgresBackend"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_control, "_REMAINS_TIMEOUT", 0.1)
        with pytest.raises(ServerError, match="works on") as caught:
            control.end_strays()
    assert str(pid) in str(caught.value)
    (project.datadir / "postmaster.pid").write_text(content)
    assert is_whole(project)


def test_a_pid_file_that_names_an_unrelated_process(
    project: Project, bystander: subprocess.Popen[bytes]
) -> None:
    """As after a reboot: the pid was given to something else meanwhile."""
    filled(project)
    socket = Path(project.info()["socket"])
    pid = project.pid()
    lock = socket.with_name(f"{socket.name}.lock").read_text()
    left = crash(project)
    wait_until(lambda: project.servers() == [])
    (project.datadir / "postmaster.pid").write_text(left.replace(f"{pid}", f"{bystander.pid}", 1))
    socket.with_name(f"{socket.name}.lock").write_text(
        lock.replace(f"{pid}", f"{bystander.pid}", 1)
    )

    info = project.info()
    assert (info["running"], info["pid"]) == (False, None)
    assert "does not run" in project.manage("dbdev_stopserver").ok().out
    assert bystander.poll() is None
    project.manage("dbdev_startserver").ok()
    assert is_whole(project)
    assert project.pid() != bystander.pid
    project.manage("dbdev_stopserver").ok()
    assert bystander.poll() is None


def test_a_pid_file_that_names_the_server_of_another_project(new_project: ProjectFactory) -> None:
    other = filled(new_project("other"))
    project = filled(new_project("project"))
    left = (project.datadir / "postmaster.pid").read_text()
    mine, others = project.pid(), other.pid()
    project.manage("dbdev_stopserver").ok()
    (project.datadir / "postmaster.pid").write_text(left.replace(str(mine), str(others), 1))

    assert "does not run" in project.manage("dbdev_stopserver").ok().out
    project.manage("dbdev_startserver").ok()
    assert is_whole(project)
    project.manage("dbdev_destroy", "--noinput").ok()
    assert other.pid() == others
    assert is_whole(other)


def test_a_pid_file_that_names_a_server_of_another_user(project: Project) -> None:
    """Of whose working directory the system says nothing to an ordinary user."""
    strangers = [
        process.pid
        for process in psutil.process_iter(["name", "uids"])
        if process.info["name"] == "postgres" and process.info["uids"].effective != os.geteuid()
    ]
    if not strangers:
        pytest.skip("nobody else runs a PostgreSQL on this machine")
    filled(project)
    left = (project.datadir / "postmaster.pid").read_text()
    pid = project.pid()
    project.manage("dbdev_stopserver").ok()
    (project.datadir / "postmaster.pid").write_text(left.replace(str(pid), str(strangers[0]), 1))
    assert "does not run" in project.manage("dbdev_stopserver").ok().out
    project.manage("dbdev_startserver").ok()
    assert is_whole(project)


@pytest.mark.parametrize(
    "content", ["", "garbage", "12", "-1\n/\n0\n0\n\n\n\n", f"{2**31}\n/\n0\n5432\n/\n\n\n\n"]
)
def test_a_damaged_pid_file(project: Project, content: str) -> None:
    filled(project).manage("dbdev_stopserver").ok()
    (project.datadir / "postmaster.pid").write_text(content)
    assert project.info()["running"] is False
    project.manage("dbdev_startserver").ok()
    assert is_whole(project)


def test_data_that_was_copied_while_its_server_ran(new_project: ProjectFactory) -> None:
    """``cp -r`` of a whole project: the copy's pid file names the original's server."""
    original = filled(new_project("original"))
    copy = new_project("copy")
    original.query("CHECKPOINT")
    shutil.copytree(
        original.tempdata, copy.tempdata, ignore=shutil.ignore_patterns("run"), symlinks=True
    )
    assert copy.info()["running"] is False
    assert "does not run" in copy.manage("dbdev_stopserver").ok().out
    copy.manage("dbdev_startserver").ok()
    assert copy.port() != original.port()
    assert copy.pid() != original.pid()
    assert is_whole(copy)
    copy.query("DROP TABLE kept")
    copy.manage("dbdev_destroy", "--noinput").ok()
    assert is_whole(original)


def test_a_project_that_was_moved_while_its_server_ran(new_project: ProjectFactory) -> None:
    project = filled(new_project("before"))
    after = project.root.with_name("after")
    project.root.rename(after)
    project.root = after
    failed = project.manage("dbdev_init").failed()
    assert "dbdev_stopserver" in failed.err
    project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_init").ok()
    assert is_whole(project)


def test_the_server_of_a_killed_command_is_adopted(project: Project) -> None:
    filled(project).manage("dbdev_stopserver").ok()
    for command in ("dbdev_init", "dbdev_startserver"):
        killed = project.start(command)
        # It is killed as soon as there is a server, long before that accepts connections.
        wait_until((project.datadir / "postmaster.pid").exists)
        killed.kill()
        killed.communicate()
        done = project.manage(command).ok()
        assert "running already" in done.out
        assert is_whole(project)
        project.manage("dbdev_stopserver").ok()


def test_a_server_that_starts_slowly_is_waited_for(project: Project) -> None:
    """A command that finds a server which still recovers waits for it, as for its own."""
    filled(project)
    # A real recovery with a lot to replay, after a server that could not write anything down.
    project.query("ALTER SYSTEM SET checkpoint_timeout = '1h'")
    project.query("ALTER SYSTEM SET max_wal_size = '10GB'")
    project.query("SELECT pg_reload_conf()")
    project.query(
        f"{ON_DISK} CREATE TABLE wide AS SELECT repeat('x', 500) FROM generate_series(1, 100000)"
    )
    crash(project)
    wait_until(lambda: project.servers() == [])
    first = project.start("dbdev_startserver")
    wait_until((project.datadir / "postmaster.pid").exists)
    first.kill()
    first.communicate()
    project.manage("dbdev_init").ok()
    assert is_whole(project)
    assert project.query("SELECT count(*) FROM wide") == [(100000,)]


@pytest.mark.slow
def test_commands_may_be_killed_while_they_start_and_stop(project: Project) -> None:
    filled(project)
    for step in range(60):
        for name in ("dbdev_stopserver", "dbdev_startserver"):
            command = project.start(name)
            try:
                command.communicate(timeout=0.25 + step * 0.01)
            except subprocess.TimeoutExpired:
                command.kill()
                command.communicate()
        project.manage("dbdev_init").ok()
        assert is_whole(project)


def at_a_terminal(project: Project, *args: str) -> tuple[int, int]:
    """Start a command in a session of its own on a terminal: its pid, and the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.root)
        os.execve(
            sys.executable, [sys.executable, str(project.root / "manage.py"), *args], project.env()
        )
    return pid, terminal


def read_all(terminal: int) -> str:
    """All that is written to a terminal until its last process closes it."""
    said = b""
    while True:
        try:
            block = os.read(terminal, 10_000)
        except OSError:
            break
        if not block:
            break
        said += block
    return said.decode()


def test_the_server_outlives_the_command_and_its_terminal(project: Project) -> None:
    pid, terminal = at_a_terminal(project, "dbdev_init")
    said = read_all(terminal)
    assert os.waitpid(pid, 0)[1] == 0, said
    assert "Started PostgreSQL" in said
    os.close(terminal)
    server = project.server()
    assert os.getsid(server.pid) == server.pid
    assert server.terminal() is None
    assert project.query("SELECT 1") == [(1,)]


def test_ctrl_c_right_after_the_start_does_not_reach_the_server(project: Project) -> None:
    filled(project).manage("dbdev_stopserver").ok()
    pid, terminal = at_a_terminal(project, "dbdev_startserver")
    said = b""
    while b"Started PostgreSQL" not in said:
        said += os.read(terminal, 1000)
    # As typed on that terminal: the signal goes to its whole process group.
    os.write(terminal, b"\x03")
    rest = read_all(terminal)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert "Traceback" not in rest
    assert is_whole(project)


def test_ctrl_c_while_the_server_starts_leaves_none_that_nobody_knows(project: Project) -> None:
    filled(project).manage("dbdev_stopserver").ok()
    for delay in (0, 0.004, 0.01, 0.03):
        command = project.start("dbdev_startserver", process_group=0)
        wait_until(lambda: "postgres" in {p.name() for p in project.servers()})
        time.sleep(delay)
        os.killpg(command.pid, signal.SIGINT)
        said, _ = command.communicate(timeout=60)
        assert "Traceback" not in said
        assert ("Interrupted" if command.returncode == 130 else "Started PostgreSQL") in said
        if project.servers():
            # It was done, or all but: the signal came while that was said.
            assert is_whole(project)
            project.manage("dbdev_stopserver").ok()
        assert project.servers() == []


def test_a_server_whose_data_was_removed_does_not_write_into_the_new(project: Project) -> None:
    """PostgreSQL writes pg_control by its whole path."""
    project.manage("dbdev_init").ok()
    old = project.server()
    shutil.rmtree(project.tempdata)
    done = project.manage("dbdev_init").ok()
    # Now and then it sees by itself that its files are gone.
    with suppress(psutil.NoSuchProcess):
        assert f"Ended postgres (pid {old.pid}" in done.err or old.status() == "zombie"
        wait_until(lambda: old.status() == "zombie")
    project.query("CREATE TABLE kept AS SELECT 1 AS n")
    project.query("CHECKPOINT")
    server = project.server()
    server.kill()
    server.wait(10)
    project.manage("dbdev_startserver").ok()
    assert project.query("SELECT n FROM kept") == [(1,)]


@pytest.mark.parametrize("command", [["dbdev_stopserver"], ["dbdev_destroy", "--noinput"]])
def test_a_server_whose_data_was_removed_is_ended(project: Project, command: list[str]) -> None:
    """They said that it does not run."""
    project.manage("dbdev_init").ok()
    old = project.server()
    shutil.rmtree(project.tempdata)
    done = project.manage(*command).ok()
    # Now and then it sees by itself that its files are gone.
    with suppress(psutil.NoSuchProcess):
        assert f"Ended postgres (pid {old.pid}" in done.err or old.status() == "zombie"
        wait_until(lambda: old.status() == "zombie")
    assert not project.tempdata.exists()


def test_a_server_whose_data_was_moved_is_named(project: Project) -> None:
    project.manage("dbdev_init").ok()
    old = project.server()
    # It cannot write pg_control any more, and crashes when it is stopped.
    project.query(f"{ON_DISK} CREATE TABLE kept AS SELECT 1 AS n")
    moved = project.tempdata.rename(project.root / "aside")
    refused = project.manage("dbdev_init").failed(4).err
    assert f"postgres (pid {old.pid}" in refused
    assert f"works on {moved / project.datadir.name}" in refused
    assert "move the folder back" in refused
    assert f"kill -INT {old.pid}" in refused
    old.send_signal(signal.SIGINT)
    old.wait(30)
    project.manage("dbdev_init").ok()
    project.manage("dbdev_destroy", "--noinput").ok()
    shutil.rmtree(project.tempdata)
    moved.rename(project.tempdata)
    project.manage("dbdev_startserver").ok()
    assert project.query("SELECT n FROM kept") == [(1,)]

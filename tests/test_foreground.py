"""``dbdev_fgrunserver``: however it ends, no server is left and none is killed the hard way."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import psycopg
import pytest

from tests.conftest import Project


class Foreground:
    """The command on a terminal of its own, as a developer runs it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.said = ""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(project.root)
            manage = str(project.root / "manage.py")
            os.execve(sys.executable, [sys.executable, manage, "dbdev_fgrunserver"], project.env())

    def wait_for(self, text: str) -> None:
        while text not in self.said:
            block = os.read(self._terminal, 10_000).decode()
            assert block, self.said
            self.said += block

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def hang_up(self) -> None:
        os.close(self._terminal)
        self._terminal = -1

    def end(self) -> int:
        """Wait for the command's end; its exit status."""
        while self._terminal >= 0:
            try:
                block = os.read(self._terminal, 10_000)
            except OSError:
                # How Linux says that the terminal's last process has closed it.
                break
            if not block:
                break
            self.said += block.decode()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if self._terminal >= 0:
            self.hang_up()
        self.pid = 0
        return status


@contextmanager
def foreground(project: Project) -> Iterator[Foreground]:
    running = Foreground(project)
    try:
        yield running
    finally:
        if running.pid:
            os.kill(running.pid, signal.SIGKILL)
            running.end()


@pytest.fixture
def stopped(project: Project) -> Project:
    project.manage("dbdev_init").ok()
    project.manage("dbdev_stopserver").ok()
    return project


def ended_clean(project: Project) -> bool:
    log = (project.tempdata / "PostgresBackend.log").read_text()
    return (
        project.servers() == []
        and not (project.datadir / "postmaster.pid").exists()
        and log.rstrip().endswith("database system is shut down")
    )


def test_it_runs_until_it_is_interrupted_and_shows_the_log(stopped: Project) -> None:
    with foreground(stopped) as running:
        running.wait_for("Press Ctrl-C to stop it")
        assert "Started PostgreSQL 18" in running.said
        assert stopped.query("SELECT 1") == [(1,)]
        with pytest.raises(Exception, match="does_not_exist"):
            stopped.query("SELECT * FROM does_not_exist")
        running.wait_for('relation "does_not_exist" does not exist')
        running.type(b"\x03")
        assert running.end() == 0
    assert "Stopped PostgreSQL" in running.said
    assert "Traceback" not in running.said
    assert ended_clean(stopped)


def test_two_quick_interrupts_end_it_as_one_does(stopped: Project) -> None:
    for pause in (0, 0.005, 0.1):
        with foreground(stopped) as running:
            running.wait_for("Press Ctrl-C to stop it")
            running.type(b"\x03")
            time.sleep(pause)
            if psutil.pid_exists(running.pid):
                running.type(b"\x03\x03")
            assert running.end() == 0
        assert "Traceback" not in running.said
        assert "Exception" not in running.said
        assert ended_clean(stopped)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it(stopped: Project, number: signal.Signals) -> None:
    with foreground(stopped) as running:
        running.wait_for("Press Ctrl-C to stop it")
        os.kill(running.pid, number)
        assert running.end() == (0 if number == signal.SIGINT else 128 + number)
    assert "Stopped PostgreSQL" in running.said
    assert "Traceback" not in running.said
    assert ended_clean(stopped)


def test_a_terminal_that_hangs_up_ends_it(stopped: Project) -> None:
    with foreground(stopped) as running:
        running.wait_for("Press Ctrl-C to stop it")
        running.hang_up()
        assert running.end() != 0
    assert ended_clean(stopped)


def test_it_outlives_a_terminal_that_it_was_told_to(stopped: Project) -> None:
    command = stopped.start(
        "dbdev_fgrunserver", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    assert command.stdout is not None
    while "Press Ctrl-C" not in command.stdout.readline():
        assert command.poll() is None
    command.send_signal(signal.SIGHUP)
    command.send_signal(signal.SIGTERM)
    said, _ = command.communicate(timeout=60)
    # By the second one.
    assert command.returncode == 128 + signal.SIGTERM
    assert "Stopped PostgreSQL" in said
    assert ended_clean(stopped)


def test_an_interrupt_while_it_starts_leaves_no_server(stopped: Project) -> None:
    for delay in (0, 0.004, 0.01, 0.03):
        command = stopped.start("dbdev_fgrunserver", process_group=0)
        while "postgres" not in {p.name() for p in stopped.servers()}:
            assert command.poll() is None
        time.sleep(delay)
        os.kill(command.pid, signal.SIGINT)
        said, _ = command.communicate(timeout=60)
        assert "Traceback" not in said, delay
        assert command.returncode == 0, said
        assert stopped.servers() == [], delay
    assert stopped.manage("dbdev_init").ok()
    assert stopped.query("SELECT 1") == [(1,)]


def test_it_ends_when_the_server_is_stopped_from_elsewhere(stopped: Project) -> None:
    with foreground(stopped) as running:
        running.wait_for("Press Ctrl-C to stop it")
        stopped.manage("dbdev_stopserver").ok()
        assert running.end() == 0
    assert "database system is shut down" in running.said
    assert ended_clean(stopped)


def test_it_ends_when_the_server_is_killed_and_says_so(stopped: Project) -> None:
    with foreground(stopped) as running:
        running.wait_for("Press Ctrl-C to stop it")
        stopped.server().kill()
        assert running.end() == 4
    assert "has ended" in running.said
    assert "Traceback" not in running.said
    stopped.manage("dbdev_startserver").ok()
    assert stopped.query("SELECT 1") == [(1,)]


def test_it_refuses_while_a_server_runs(project: Project) -> None:
    project.manage("dbdev_init").ok()
    pid = project.pid()
    failed = project.manage("dbdev_fgrunserver").failed(4)
    assert f"running already (pid {pid})" in failed.err
    assert "hint: stop it first: dbdev_stopserver" in failed.err
    assert project.pid() == pid


def test_it_says_how_to_make_a_cluster_where_there_is_none(project: Project) -> None:
    assert "dbdev_init" in project.manage("dbdev_fgrunserver").failed(4).err


def test_its_output_may_be_piped_and_the_pipe_closed(stopped: Project) -> None:
    command = stopped.start("dbdev_fgrunserver")
    assert command.stdout is not None
    assert "Started PostgreSQL" in command.stdout.readline()
    # Else that line is the one that finds the pipe closed, perhaps before the query is answered.
    assert "Press Ctrl-C" in command.stdout.readline()
    command.stdout.close()
    # A log line ends the server: before the answer is here, or the connection.
    with pytest.raises(psycopg.Error):
        stopped.query("SELECT * FROM does_not_exist")
    assert command.wait(30) != 0
    assert ended_clean(stopped)


def test_at_verbosity_0_it_is_silent(stopped: Project) -> None:
    command = subprocess.Popen(
        [sys.executable, "manage.py", "dbdev_fgrunserver", "--verbosity", "0"],
        cwd=stopped.root,
        env=stopped.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while not (stopped.datadir / "postmaster.pid").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    command.send_signal(signal.SIGTERM)
    said, _ = command.communicate(timeout=60)
    assert said == b""
    assert ended_clean(stopped)

"""Many commands at once: one works, the others wait for it, and all agree in the end."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.conftest import Project, ProjectFactory, working_in

MANY = pytest.param(20, marks=pytest.mark.slow)


def finished(commands: list[subprocess.Popen[str]]) -> list[str]:
    """What each said; all have to succeed, and nobody to wait for ever."""
    said = [command.communicate(timeout=240)[0] for command in commands]
    assert [command.returncode for command in commands] == [0] * len(commands), said
    return said


def servers(project: Project) -> list[int]:
    """Without the processes that they have begun themselves."""
    found = {}
    for process in project.servers():
        # Those that a server ends may be gone by now.
        with suppress(psutil.NoSuchProcess):
            if process.name() in ("postgres", "mariadbd"):
                found[process.pid] = process.ppid()
    return [pid for pid, parent in found.items() if parent not in found]


def init_at_once(project: Project, count: int) -> None:
    said = finished([project.start("dbdev_init") for _ in range(count)])
    assert sum("Initialised" in each for each in said) == 1
    assert sum("running already" in each for each in said) == count - 1
    assert servers(project) == [project.pid()]


def start_stop_and_ask_at_once(project: Project, rounds: int) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept (n int)")
    names = ["dbdev_startserver", "dbdev_stopserver"] * rounds
    commands = [project.start(name) for name in names]
    questions = [project.start("dbdev_serverinfo", "--format", "json") for _ in range(rounds + 1)]
    finished(commands)
    for answer in finished(questions):
        assert json.loads(answer)["running"] in (True, False)
    assert len(servers(project)) <= 1
    project.manage("dbdev_startserver").ok()
    assert project.query("SELECT count(*) FROM kept") == [(0,)]


def back_up_and_restore_at_once(project: Project) -> None:
    """Whichever is first: what a backup holds is one state, and what is restored another."""
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept AS SELECT 1 AS n")
    project.manage("dbdev_backup", "-n", "one").ok()
    project.query("UPDATE kept SET n = 2")
    finished(
        [
            project.start("dbdev_backup", "-n", "two"),
            project.start("dbdev_restore", "-n", "one"),
        ]
    )
    assert project.query("SELECT n FROM kept") == [(1,)]
    project.manage("dbdev_restore", "-n", "two").ok()
    assert project.query("SELECT n FROM kept") in ([(1,)], [(2,)])


@pytest.mark.parametrize("count", [4, MANY])
def test_inits_at_once_make_one_server(project: Project, count: int) -> None:
    init_at_once(project, count)


@pytest.mark.parametrize("count", [2, MANY])
def test_projects_at_once_on_an_empty_store(
    new_project: ProjectFactory, tmp_path: Path, count: int
) -> None:
    """One fetches and unpacks the programs and makes the pristine cluster for all of them."""
    # Its lock, so that only the store is empty.
    new_project("locked").manage("dbdev_lock").ok()
    store = tmp_path / "empty"
    projects = [new_project(f"p{number}", store=store) for number in range(count)]
    for project in projects:
        project.write("dbdev.lock", (tmp_path / "locked" / "dbdev.lock").read_text())
    said = finished([project.start("dbdev_init") for project in projects])
    assert sum("Downloaded" in each for each in said) == 1
    assert sum("Unpacked" in each for each in said) == 1
    assert all("Initialised" in each for each in said)
    assert len({project.port() for project in projects}) == count
    assert all(project.query("SELECT 1") == [(1,)] for project in projects)
    assert sorted(path.name for path in store.rglob(".*.new")) == []
    assert list((store / "tmp").iterdir()) == []
    assert working_in(store) == []


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_starting_stopping_and_asking_at_once(project: Project, rounds: int) -> None:
    start_stop_and_ask_at_once(project, rounds)


def test_a_backup_and_a_restore_at_once(project: Project) -> None:
    back_up_and_restore_at_once(project)


def test_what_was_committed_under_load_is_there_after_a_kill(project: Project) -> None:
    project.manage("dbdev_init").ok()
    project.query("CREATE TABLE kept (writer int, n int)")
    committed = [0] * 4
    enough = threading.Event()

    def write(writer: int) -> None:
        try:
            with psycopg.connect(
                f"host=127.0.0.1 port={project.port()} dbname=dbdev user=dbdev password=dbdev",
                autocommit=True,
            ) as connection:
                connection.execute("SET synchronous_commit = on")
                for n in range(1, 100_000):
                    connection.execute("INSERT INTO kept VALUES (%s, %s)", [writer, n])
                    committed[writer] = n
                    if n == 100:
                        enough.set()
        except psycopg.OperationalError:
            pass

    writers = [threading.Thread(target=write, args=[number]) for number in range(len(committed))]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    project.server().kill()
    for writer in writers:
        writer.join()
    project.manage("dbdev_init").ok()
    kept = dict(project.query("SELECT writer, max(n) FROM kept GROUP BY writer"))
    missing = [n for writer, n in enumerate(committed) if kept.get(writer, 0) < n]
    assert missing == []
    assert project.query("SELECT count(*) FROM kept") == [(sum(kept.values()),)]

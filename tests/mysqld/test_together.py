"""Many commands at once on MariaDB: one works, the others wait for it, and all agree."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pymysql
import pytest

from tests.mysqld.conftest import MySqlFactory, MySqlProject
from tests.test_together import (
    MANY,
    back_up_and_restore_at_once,
    finished,
    init_at_once,
    start_stop_and_ask_at_once,
)


@pytest.mark.parametrize("count", [4, MANY])
def test_inits_at_once_make_one_server(mysql: MySqlProject, count: int) -> None:
    init_at_once(mysql, count)


@pytest.mark.parametrize("count", [2, MANY])
def test_projects_at_once_without_a_pristine_cluster(
    new_mysql: MySqlFactory, fresh_store: Path, count: int
) -> None:
    projects = [new_mysql(f"p{number}", store=fresh_store) for number in range(count)]
    said = finished([project.start("dbdev_init") for project in projects])
    assert all("Initialised" in each for each in said)
    assert len({project.port() for project in projects}) == count
    assert all(project.query("SELECT 1") == [(1,)] for project in projects)
    assert sorted(path.name for path in fresh_store.rglob(".*.new")) == []


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_starting_stopping_and_asking_at_once(mysql: MySqlProject, rounds: int) -> None:
    start_stop_and_ask_at_once(mysql, rounds)


def test_a_server_that_starts_leaves_others_their_temporary_tables(
    new_mysql: MySqlFactory,
) -> None:
    one, two = new_mysql("one"), new_mysql("two")
    one.manage("dbdev_init").ok()
    with closing(one.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE kept ENGINE=Aria SELECT 1 AS n")
        two.manage("dbdev_init").ok()
        # Which reads its files anew.
        cursor.execute("ALTER TABLE kept ADD m int")
        cursor.execute("SELECT n FROM kept")
        assert cursor.fetchall() == ((1,),)


def test_a_backup_and_a_restore_at_once(mysql: MySqlProject) -> None:
    back_up_and_restore_at_once(mysql)


def test_what_was_committed_under_load_is_there_after_a_kill(running: MySqlProject) -> None:
    running.query("CREATE TABLE kept (writer int, n int)")
    committed = [0] * 4
    enough = threading.Event()

    def write(writer: int) -> None:
        try:
            with closing(running.connect()) as connection, connection.cursor() as cursor:
                for n in range(1, 100_000):
                    cursor.execute("INSERT INTO kept VALUES (%s, %s)", (writer, n))
                    committed[writer] = n
                    if n == 100:
                        enough.set()
        except pymysql.MySQLError:
            pass

    writers = [threading.Thread(target=write, args=[number]) for number in range(len(committed))]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    running.kill()
    for writer in writers:
        writer.join()
    running.manage("dbdev_init").ok()
    kept = dict(running.query("SELECT writer, max(n) FROM kept GROUP BY writer"))
    missing = [n for writer, n in enumerate(committed) if kept.get(writer, 0) < n]
    assert missing == []
    assert running.query("SELECT count(*) FROM kept") == [(sum(kept.values()),)]

"""MariaDB's programs are killed in the middle of their work, or the command that runs them is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.conftest import wait_until, working_in
from tests.reliability.midway import VICTIMS, killed, was_told
from tests.reliability.scenarios import share_trees

from .conftest import MySqlProject


@VICTIMS
def test_mariadb_install_db(mysql: MySqlProject, tmp_path: Path, victim: str) -> None:
    share_trees(mysql.store, tmp_path / "own")
    mysql.store = tmp_path / "own"
    clusters = mysql.store / "clusters"
    result = killed(
        mysql,
        "dbdev_init",
        program="/mariadb-install-db",
        victim=victim,
        reached=lambda: list(clusters.glob(".*.new/*/mysql/*.frm")),
    )
    was_told(result, victim, "mariadb-install-db")
    assert not mysql.datadir.exists()
    mysql.manage("dbdev_init").ok()
    assert mysql.query("SELECT 1") == [(1,)]
    assert list(clusters.glob(".*.new")) == []
    wait_until(lambda: not working_in(clusters))


@VICTIMS
def test_mariadb_dump(running: MySqlProject, victim: str) -> None:
    running.query("CREATE TABLE mine AS SELECT 1 AS n")
    before = sorted(running.root.iterdir())
    waiting = "SELECT 1 FROM information_schema.processlist WHERE state LIKE 'Waiting for table%'"
    with closing(running.connect()) as connection:
        connection.cursor().execute("LOCK TABLES mine WRITE")
        result = killed(
            running,
            *("dbdev_createdump", "a.sql"),
            program="dump",
            victim=victim,
            reached=lambda: running.query(waiting),
        )
    was_told(result, victim, "dump")
    running.manage("dbdev_createdump", "a.sql").ok()
    assert sorted(running.root.iterdir()) == sorted([*before, running.root / "a.sql"])

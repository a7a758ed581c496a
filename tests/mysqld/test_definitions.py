"""What the parts of a database mean when they have been made anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from django_dbdev.backends.mysqld import objects

from .conftest import MySqlProject, make_mysql


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, store: Path, mariadb_bindir: Path
) -> Iterator[MySqlProject]:
    """One server for all tests of a worker."""
    project = make_mysql(tmp_path_factory.mktemp("d") / "project", store, mariadb_bindir)
    try:
        project.manage("dbdev_init").ok()
        yield project
    finally:
        project.clean_up()


@pytest.fixture
def project(shared: MySqlProject) -> MySqlProject:
    """The shared server with an empty database."""
    in_one_session(shared, "DROP DATABASE dbdev", "CREATE DATABASE dbdev")
    return shared


def in_one_session(project: MySqlProject, *statements: str) -> None:
    with closing(project.connect()) as connection:
        for statement in statements:
            connection.cursor().execute(statement)


def dump_and_load(project: MySqlProject) -> None:
    project.manage("dbdev_createdump", "it.sql").ok()
    project.manage("dbdev_loaddump", "it.sql").ok()


def test_events_stay_in_their_time_zone(project: MySqlProject) -> None:
    def events() -> list[tuple[object, ...]]:
        return project.query(
            "SELECT EVENT_NAME, TIME_ZONE, STARTS FROM information_schema.EVENTS ORDER BY 1"
        )

    when = "ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 03:00:00' DO SELECT 1"
    in_one_session(
        project,
        "SET time_zone = '+05:00'",
        f"CREATE EVENT a {when}",
        "SET time_zone = 'Europe/Berlin'",
        f"CREATE EVENT b {when}",
        "SET time_zone = '+00:00'",
        f"CREATE EVENT c {when}",
    )
    before = events()
    assert [zone for _, zone, _ in before] == ["+05:00", "Europe/Berlin", "+00:00"]
    dump_and_load(project)
    assert events() == before


def test_a_swap_that_an_older_version_wrote_down() -> None:
    old = {"kind": "EVENT", "name": "e", "statement": "CREATE EVENT e", "sql_mode": ""}
    (found,) = objects.from_plain([{**old, "charset": "utf8mb4", "collation": "utf8mb4_bin"}])
    assert (found.name, found.time_zone) == ("e", "")


def test_the_mode_of_a_routine_does_not_reach_a_view(project: MySqlProject) -> None:
    in_one_session(
        project,
        r"CREATE VIEW slash AS SELECT 'a\\b' AS x",
        "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
        "CREATE PROCEDURE p() SELECT 1",
    )
    dump_and_load(project)
    assert project.query("SELECT x FROM slash") == [(r"a\b",)]


def test_what_a_backslash_is_to_each_part(project: MySqlProject) -> None:
    modes = {
        "ansi_quotes": ("ANSI_QUOTES", "'a\\'', 1 AS \"y\\\", ';'"),
        "both_modes": ("ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "'a\\', 1 AS \"y\\\", ';'"),
        "no_escapes": ("NO_BACKSLASH_ESCAPES", "'a\\', \"x;\", \"y\\\", ';'"),
        "no_mode": ("", "'a\\\\', \"x;\""),
    }

    def found() -> list[tuple[object, ...]]:
        return project.query(
            "SELECT ROUTINE_NAME, ROUTINE_DEFINITION, SQL_MODE FROM information_schema.ROUTINES"
            " WHERE ROUTINE_SCHEMA = 'dbdev' ORDER BY 1"
        )

    for name, (mode, values) in modes.items():
        in_one_session(
            project,
            # What the session answers is in it too, when the dump restores the mode.
            "SET NAMES binary",
            f"SET sql_mode = '{mode}'",
            f"CREATE PROCEDURE {name}() BEGIN SELECT {values}; END",
        )
    before = found()
    assert [mode for _, _, mode in before] == [mode for mode, _ in modes.values()]
    dump_and_load(project)
    assert found() == before


def test_one_large_value(project: MySqlProject) -> None:
    measure = "SELECT OCTET_LENGTH(b), MD5(b) FROM large"
    # Twice as long in a dump, and longer than a packet of dump programs and servers by default.
    in_one_session(
        project,
        "CREATE TABLE large (b LONGBLOB)",
        "INSERT INTO large VALUES (REPEAT(x'00', 40 * 1024 * 1024))",
    )
    before = project.query(measure)
    project.manage("dbdev_backup", "--portable", "-n", "large").ok()
    in_one_session(project, "DROP TABLE large")
    project.manage("dbdev_restore", "-n", "large").ok()
    assert project.query(measure) == before


def test_views_that_name_functions_of_their_database_in_full(project: MySqlProject) -> None:
    def views() -> list[tuple[object, ...]]:
        return [
            project.query(f"SHOW CREATE VIEW {name}")[0][1:2]
            + project.query(f"SELECT * FROM {name}")[0]
            for name in ("above", "named", "under")
        ]

    in_one_session(
        project,
        "CREATE FUNCTION one(n INT) RETURNS INT DETERMINISTIC RETURN 1",
        "CREATE TABLE t (id INT)",
        "INSERT INTO t VALUES (1)",
        "CREATE VIEW named AS SELECT dbdev.one(dbdev.id) AS x, 'the `dbdev`.`one`(1)' AS text"
        " FROM t dbdev",
        "CREATE VIEW above AS SELECT x, text FROM named",
        "CREATE VIEW under AS SELECT * FROM above",
    )
    before = views()
    project.manage("dbdev_createdump", "it.sql").ok()
    # As on a fresh server: the old database is no help.
    in_one_session(project, "DROP DATABASE dbdev", "CREATE DATABASE dbdev")
    project.manage("dbdev_loaddump", "it.sql").ok()
    assert views() == before
    dump_and_load(project)
    assert views() == before
    in_one_session(project, "DROP FUNCTION one")
    project.manage("dbdev_createdump", "without.sql").failed()
    project.write("without.sql", "CREATE VIEW v AS SELECT `dbdev`.`one`(1);\n")
    failed = project.manage("dbdev_loaddump", "without.sql").failed(5)
    assert "line 1: FUNCTION dbdev.one does not exist" in failed.err

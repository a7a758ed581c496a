"""Dumps of everything that a database can hold, and loads that fail or are killed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from .conftest import MySqlProject

#: Tables that refer to each other, and all that is not a table.
CONTENT = """
CREATE TABLE shelf (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40) COLLATE utf8mb4_bin UNIQUE);
CREATE TABLE book (
    id BIGINT PRIMARY KEY AUTO_INCREMENT, shelf_id INT NOT NULL, title VARCHAR(80), cover BLOB,
    price DECIMAL(8,2), twice DECIMAL(9,2) AS (price * 2) STORED, added DATETIME(6), doc JSON,
    CONSTRAINT on_shelf FOREIGN KEY (shelf_id) REFERENCES shelf (id) ON DELETE CASCADE,
    CONSTRAINT dear CHECK (price >= 0), FULLTEXT KEY words (title)
) COMMENT 'of books; 100 %%';
CREATE TABLE note (what VARCHAR(200)) ENGINE=MyISAM;
CREATE SEQUENCE numbers START WITH 7;
CREATE VIEW a_of_z AS SELECT * FROM z_dear;
CREATE OR REPLACE VIEW z_dear AS SELECT b.id, b.title, s.name FROM book b JOIN shelf s
    ON s.id = b.shelf_id WHERE b.price > twice_of(1);
"""
ROUTINES = [
    "CREATE FUNCTION twice_of(n INT) RETURNS INT DETERMINISTIC RETURN n * 2",
    "CREATE PROCEDURE add_note(t TEXT) BEGIN INSERT INTO note VALUES (CONCAT(t, ';')); END",
    "CREATE TRIGGER noted AFTER INSERT ON book FOR EACH ROW CALL add_note(NEW.title)",
    "CREATE TRIGGER noted_too AFTER INSERT ON book FOR EACH ROW INSERT INTO note VALUES ('2')",
    "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM note",
]
ROWS = [
    "INSERT INTO shelf (name) VALUES ('ä 🙂'), ('it''s \\\\ ;')",
    "INSERT INTO book (shelf_id, title, cover, price, added, doc) VALUES"
    " (1, 'One; /* two */ -- three', x'00ff27', 9.50, '2026-11-22 10:00:00.123456', '{\"a\": 1}'),"
    " (2, 'zwölf\\n', NULL, 1.00, '2026-03-29 02:30:00', NULL)",
]


def fill(project: MySqlProject) -> None:
    tables = [each for each in CONTENT.split(";\n") if "VIEW" not in each and each.strip()]
    for statement in (*tables, *ROUTINES):
        project.query(statement.replace("%%", "%"))
    project.query(
        "CREATE VIEW z_dear AS SELECT b.id, b.title, s.name FROM book b JOIN shelf s"
        " ON s.id = b.shelf_id WHERE b.price > twice_of(1)"
    )
    project.query("CREATE VIEW a_of_z AS SELECT * FROM z_dear")
    for statement in ROWS:
        project.query(statement)


def fingerprint(project: MySqlProject) -> dict[str, Any]:
    """All that is in the database, as it answers."""
    found: dict[str, Any] = {}
    for name, kind in project.query("SHOW FULL TABLES"):
        found[name] = kind
        if kind != "SEQUENCE":
            found[f"rows of {name}"] = sorted(map(repr, project.query(f"SELECT * FROM {name}")))
        (created,) = project.query(f"SHOW CREATE TABLE {name}")
        found[f"table {name}"] = created[1]
    for what in ("ROUTINES WHERE ROUTINE_SCHEMA", "TRIGGERS WHERE TRIGGER_SCHEMA"):
        columns = (
            "ROUTINE_NAME, ROUTINE_DEFINITION"
            if "ROUT" in what
            else ("TRIGGER_NAME, ACTION_STATEMENT, ACTION_ORDER, EVENT_OBJECT_TABLE")
        )
        found[what] = project.query(
            f"SELECT {columns}, DEFINER, SQL_MODE FROM information_schema.{what} = 'dbdev'"
            " ORDER BY 1"
        )
    found["events"] = project.query(
        "SELECT EVENT_NAME, EVENT_DEFINITION, STATUS FROM information_schema.EVENTS"
        " WHERE EVENT_SCHEMA = 'dbdev'"
    )
    return found


def databases(project: MySqlProject) -> list[str]:
    return [n for (n,) in project.query("SHOW DATABASES") if n.startswith("dbdev")]


@pytest.fixture
def filled(running: MySqlProject) -> MySqlProject:
    fill(running)
    return running


def test_everything_comes_back(filled: MySqlProject) -> None:
    before = fingerprint(filled)
    said = filled.manage("dbdev_createdump", "of it.sql.gz").ok()
    assert "of it.sql.gz (plain SQL, gzip" in said.out
    for statement in ("DROP TRIGGER noted", "DROP VIEW a_of_z", "DELETE FROM book"):
        filled.query(statement)
    filled.query("CREATE TABLE later (id INT)")
    assert fingerprint(filled) != before
    filled.manage("dbdev_loaddump", "of it.sql.gz").ok()
    assert fingerprint(filled) == before
    assert databases(filled) == ["dbdev"]
    filled.query("INSERT INTO book (shelf_id, title, price) VALUES (1, 'new', 3)")
    assert filled.query("SELECT id FROM book WHERE title = 'new'") == [(3,)]
    assert filled.query("SELECT COUNT(*) FROM note WHERE what IN ('new;', '2')") == [(4,)]
    with pytest.raises(Exception, match="foreign key"):
        filled.query("INSERT INTO book (shelf_id, title) VALUES (99, 'nowhere')")


def test_into_what_is_there(filled: MySqlProject) -> None:
    before = fingerprint(filled)
    filled.write("more.sql", "INSERT INTO shelf (name) VALUES ('more');\n")
    filled.manage("dbdev_loaddump", "more.sql", "--no-reinit").ok()
    assert filled.query("SELECT name FROM shelf WHERE id = 3") == [("more",)]
    filled.query("DELETE FROM shelf WHERE id = 3")
    filled.query("ALTER TABLE shelf AUTO_INCREMENT = 3")
    assert fingerprint(filled) == before
    filled.write("wrong.sql", "DELETE FROM book;\nINSERT INTO nothing VALUES (1);\n")
    failed = filled.manage("dbdev_loaddump", "wrong.sql", "--no-reinit").failed(5)
    assert "line 2: Table" in failed.err
    assert fingerprint(filled) == before
    assert databases(filled) == ["dbdev"]


def history(project: MySqlProject) -> list[tuple[Any, ...]]:
    """Of a system-versioned table, with when each row came and went."""
    return project.query(
        "SELECT amount, row_start, row_end FROM price FOR SYSTEM_TIME ALL ORDER BY row_start"
    )


@pytest.fixture
def versioned(running: MySqlProject) -> MySqlProject:
    running.query("CREATE TABLE price (amount INT) WITH SYSTEM VERSIONING")
    running.query("INSERT INTO price VALUES (40)")
    running.query("UPDATE price SET amount = 50")
    return running


def test_the_history_of_versioned_tables_comes_along(versioned: MySqlProject) -> None:
    before = history(versioned)
    assert [row[0] for row in before] == [40, 50]
    versioned.manage("dbdev_createdump", "whole.sql").ok()
    versioned.manage("dbdev_backup", "--portable", "-n", "whole").ok()
    versioned.manage("dbdev_loaddump", "-", "--no-reinit", input="CREATE TABLE a (n INT);").ok()
    assert history(versioned) == before
    for again in (("dbdev_loaddump", "whole.sql"), ("dbdev_restore", "-n", "whole")):
        versioned.query("DROP TABLE price")
        versioned.manage(*again).ok()
        assert history(versioned) == before, again
    assert versioned.query("SELECT amount FROM price") == [(50,)]


def test_history_that_no_dump_can_hold_is_not_lost_silently(versioned: MySqlProject) -> None:
    versioned.query(
        "CREATE TABLE precise (n INT, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START,"
        " e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e))"
        " WITH SYSTEM VERSIONING"
    )
    before = history(versioned)
    why = "the history of precise, price: mariadb-dump cannot read that of precise"
    failed = versioned.manage("dbdev_loaddump", "-", "--no-reinit", input="SELECT 1;").failed(5)
    assert why in failed.err
    assert history(versioned) == before
    assert databases(versioned) == ["dbdev"]
    for command in (("dbdev_createdump", "-"), ("dbdev_backup", "--portable")):
        assert f"Not in the dump: {why}" in versioned.manage(*command).ok().err
    said = versioned.manage("dbdev_createdump", "-", "--exclude-table", "precise").ok()
    assert "history" not in said.err
    assert "INSERT INTO `price` (`amount`, row_start, row_end)" in said.out


def test_by_standard_streams_and_in_part(filled: MySqlProject) -> None:
    dump = filled.manage("dbdev_createdump", "-", "--schema-only", "--exclude-table", "b*").ok().out
    assert "CREATE TABLE `shelf`" in dump
    assert "`book`" not in dump.replace("`z_dear`", "").split("Dumping events")[0].split("VIEW")[0]
    assert "INSERT INTO" not in dump.split("Dumping events")[0]
    data = filled.manage("dbdev_createdump", "-", "--data-only").ok().out
    assert "CREATE TABLE" not in data
    filled.manage("dbdev_loaddump", "-", input="CREATE TABLE only (n INT);\n").ok()
    assert filled.query("SHOW TABLES") == [("only",)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("CREATE TABLE a (n INT);\nINSERT INTO a VALUES ('x');\n", "line 2: Incorrect integer"),
        ("CREATE TABLE a (n INT);\nSELECT * FROM b;", "line 2: Table"),
        ("-- MariaDB dump 10.19\nCREATE TABLE a (n INT);\n", "is not whole"),
        ("CREATE TABLE a (n INT) COLLATE utf8mb4_of_tomorrow;", "it was written by MySQL"),
        ("-- PostgreSQL database dump\n", "it is a dump of PostgreSQL"),
        ("\\! touch here\n", "line 1: You have an error in your SQL syntax"),
    ],
)
def test_what_cannot_be_loaded_changes_nothing(
    running: MySqlProject, content: str, said: str
) -> None:
    running.query("CREATE TABLE kept (n INT)")
    running.write("bad.sql", content)
    failed = running.manage("dbdev_loaddump", "bad.sql").failed(5)
    assert said in failed.err
    assert running.query("SHOW TABLES") == [("kept",)]
    assert databases(running) == ["dbdev"]
    assert not (running.root / "here").exists()


def test_clients_are_disconnected_and_transactions_do_not_hinder(running: MySqlProject) -> None:
    running.query("CREATE TABLE kept (n INT)")
    other = running.connect()
    other.autocommit(False)
    other.cursor().execute("INSERT INTO kept VALUES (1)")
    running.write("new.sql", "CREATE TABLE other (n INT);\n")
    said = running.manage("dbdev_loaddump", "new.sql").ok()
    assert "Terminated 1 connection to dbdev" in said.err
    assert running.query("SHOW TABLES") == [("other",)]


def test_tables_that_others_refer_to_are_not_replaced(running: MySqlProject) -> None:
    running.query("CREATE TABLE kept (n INT PRIMARY KEY)")
    running.query("CREATE DATABASE elsewhere")
    running.query("CREATE TABLE elsewhere.r (n INT, FOREIGN KEY (n) REFERENCES dbdev.kept (n))")
    running.write("new.sql", "CREATE TABLE other (n INT);\n")
    failed = running.manage("dbdev_loaddump", "new.sql").failed(5)
    assert "elsewhere.r refers to its kept" in failed.err
    assert running.query("SHOW TABLES") == [("kept",)]


STEPS = (
    "loaddump:created",
    "loaddump:loaded",
    "loaddump:written-down",
    "loaddump:triggers-dropped",
    "loaddump:moved",
    "loaddump:unfurnished",
    "loaddump:furnished",
    "loaddump:swapped",
)


def test_a_load_that_is_killed_leaves_one_side_whole(filled: MySqlProject) -> None:
    old = fingerprint(filled)
    filled.manage("dbdev_createdump", "old.sql").ok()
    filled.query("DROP TABLE book")
    filled.query("DROP VIEW z_dear")
    filled.query("DROP VIEW a_of_z")
    filled.query("CREATE TABLE new (n INT)")
    filled.query("CREATE TRIGGER n BEFORE INSERT ON new FOR EACH ROW SET NEW.n = 1")
    new = fingerprint(filled)
    filled.manage("dbdev_createdump", "new.sql").ok()
    filled.manage("dbdev_loaddump", "old.sql").ok()
    assert fingerprint(filled) == old
    for index, step in enumerate(STEPS):
        done = filled.manage("dbdev_loaddump", "new.sql", DBDEV_FAULT_AT=step)
        assert done.status == -9, step
        if index % 2:
            filled.kill()
        filled.manage("dbdev_init").ok()
        found = fingerprint(filled)
        assert found == (old if STEPS.index(step) < STEPS.index("loaddump:moved") else new), step
        filled.manage("dbdev_loaddump", "old.sql").ok()
        assert fingerprint(filled) == old
        assert databases(filled) == ["dbdev"]


@pytest.mark.parametrize(
    ("step", "there", "said"),
    [("triggers-dropped", True, "it is as it was"), ("moved", False, "is finished")],
)
def test_a_load_of_a_dump_without_tables_that_is_killed(
    running: MySqlProject, step: str, there: bool, said: str
) -> None:
    running.query("CREATE TABLE kept (n INT)")
    running.query("CREATE TRIGGER fixed BEFORE INSERT ON kept FOR EACH ROW SET NEW.n = 1")
    before = fingerprint(running)
    running.write("none.sql", "CREATE FUNCTION one() RETURNS INT DETERMINISTIC RETURN 1;\n")
    done = running.manage("dbdev_loaddump", "none.sql", DBDEV_FAULT_AT=f"loaddump:{step}")
    assert done.status == -9
    assert said in running.manage("dbdev_init").ok().err
    assert (fingerprint(running) == before) is there
    functions = "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA='dbdev'"
    assert running.query("SHOW TABLES") == ([("kept",)] if there else [])
    assert running.query(functions) == ([] if there else [("one",)])


def test_a_load_that_is_interrupted_by_the_terminal(running: MySqlProject) -> None:
    running.query("CREATE TABLE kept (n INT)")
    command = subprocess.Popen(
        [sys.executable, "manage.py", "dbdev_loaddump", "-"],
        cwd=running.root,
        env=running.env(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stdin is not None
    command.stdin.write(b"CREATE TABLE other (n INT);\n" + b"-- filler\n" * 20_000)
    command.stdin.flush()
    while not any("__dbdev_new_" in name for name in databases(running)):
        assert command.poll() is None
    command.terminate()
    command.communicate(timeout=60)
    assert running.query("SHOW TABLES") == [("kept",)]
    running.manage("dbdev_loaddump", "-", input="SELECT 1;").ok()
    assert databases(running) == ["dbdev"]


def test_files_of_tables_that_a_power_cut_has_taken(running: MySqlProject) -> None:
    """As they were seen on a disk whose power was cut: the server no longer knows of the table."""
    left = "dbdev__dbdev_new_20260102030405060708"
    running.query(f"CREATE DATABASE {left}")
    (running.datadir / left / "numbers.ibd").write_bytes(bytes(65_536))
    done = running.manage("dbdev_loaddump", "-", input="CREATE TABLE kept (n INT);").ok()
    assert f"Removed {left}, which an earlier command had left" in done.out
    assert databases(running) == ["dbdev"]
    assert not (running.datadir / left).exists()

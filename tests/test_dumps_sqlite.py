"""Dumps of SQLite: plain SQL, loaded into a new file that takes the old one's place."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from django_dbdev.backends import sqlite_dumps
from django_dbdev.backups.dumps import Dump, Format
from django_dbdev.process.locking import exclusive
from tests.conftest import Project, ProjectFactory

SQLITE = """
from pathlib import Path

from django_dbdev.backends.sqlite import DBSETTINGS

BASE_DIR = Path(__file__).parent
SECRET_KEY = "for tests"
USE_TZ = True
INSTALLED_APPS = ["django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""
CONTENT = """
CREATE TABLE shelf (id integer PRIMARY KEY AUTOINCREMENT, name text);
CREATE TABLE book (id integer PRIMARY KEY, shelf_id int REFERENCES shelf, "the; title" text);
CREATE INDEX titles ON book ("the; title");
CREATE TRIGGER t AFTER INSERT ON shelf BEGIN UPDATE shelf SET name = name; DELETE FROM book; END;
INSERT INTO shelf (name) VALUES ('a;b'), ('line
break; -- no comment'), ('it''s');
INSERT INTO book VALUES (1, 2, 'ä\x01\x1f\x7f');
"""


def file(project: Project) -> Path:
    return project.tempdata / "SqliteBackend" / "dbdev.sqlite3"


def rows(project: Project) -> object:
    with closing(sqlite3.connect(file(project))) as connection:
        return [
            connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()
            for columns, table in (
                ("*", "shelf"),
                ("*", "book"),
                ("*", "sqlite_sequence"),
                ("name, sql", "sqlite_master"),
            )
        ]


def execute(project: Project, script: str) -> None:
    with closing(sqlite3.connect(file(project))) as connection:
        connection.executescript(script)


def left(project: Project) -> list[str]:
    return sorted(path.name for path in file(project).parent.iterdir())


@pytest.fixture
def project(new_project: ProjectFactory) -> Project:
    project = new_project(pin="[tool.django_dbdev.sqlite]\n", base=SQLITE)
    project.manage("dbdev_init").ok()
    execute(project, CONTENT)
    return project


@pytest.mark.parametrize("kind", ["sql", "sql.gz", "sql.zst"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_what_is_dumped_comes_back(project: Project, kind: str, journal: str) -> None:
    execute(project, f"PRAGMA journal_mode = {journal}")
    before = rows(project)
    assert "Wrote" in project.manage("dbdev_createdump", f"a.{kind}").ok().out
    execute(project, "DELETE FROM book; CREATE TABLE mine (n int)")
    assert "Loaded" in project.manage("dbdev_loaddump", f"a.{kind}").ok().out
    assert rows(project) == before
    assert left(project) == ["dbdev.sqlite3"]
    with closing(sqlite3.connect(file(project))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == (journal,)
    assert file(project).stat().st_mode & 0o777 == 0o600


def test_a_live_copy_has_what_is_in_the_log_alone(project: Project) -> None:
    with closing(sqlite3.connect(file(project))) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("INSERT INTO book VALUES (2, 1, 'in the log')")
        connection.commit()
        out = project.manage("dbdev_createdump", "-").ok().out
        assert "in the log" in out
        assert out.startswith("BEGIN TRANSACTION;\n")


def test_parts(project: Project) -> None:
    out = project.manage("dbdev_createdump", "-", "--exclude-table", "book").ok().out
    assert "book" not in out.replace("DELETE FROM book", "")
    assert "INSERT INTO" in out
    out = project.manage("dbdev_createdump", "-", "--schema-only").ok().out
    assert "CREATE TRIGGER" in out
    assert "INSERT INTO" not in out
    out = project.manage("dbdev_createdump", "-", "--data-only").ok().out
    assert "CREATE" not in out
    assert (
        ".dump" not in project.manage("dbdev_createdump", "a.dump").failed(5).err.split("These")[1]
    )


def test_failures_change_nothing(project: Project) -> None:
    before = rows(project)
    project.manage("dbdev_createdump", "whole.sql.gz").ok()
    whole = (project.root / "whole.sql.gz").read_bytes()
    text = gzip.decompress(whole)
    wrong = "CREATE TABLE a (n);\nINSERT INTO a\nVALUES (1);\nINSERT INTO nowhere\nVALUES (2);\n"
    for name, content, problem in [
        ("wrong", wrong.encode(), "line 4: no such table: nowhere"),
        ("cut", whole[:-10], "is not whole"),
        ("half", text[: len(text) // 2], "is not whole"),
        ("uncommitted", text.replace(b"COMMIT;", b""), "COMMIT, is missing"),
        ("foreign", b"--\n-- PostgreSQL database dump\n", "a dump of PostgreSQL"),
        ("archive", b"PGDMP\1", "which SQLite does not load"),
        ("image", b"\x89PNG\r\n", "a PNG image"),
        ("latin", "SELECT 'ä';".encode("latin-1"), "not UTF-8"),
    ]:
        (project.root / name).write_bytes(content)
        assert problem in project.manage("dbdev_loaddump", name).failed(5).err
        assert rows(project) == before
    assert left(project) == ["dbdev.sqlite3"]


@pytest.mark.parametrize("options", [(), ("--no-reinit",)])
@pytest.mark.parametrize(
    "end", ["ROLLBACK; -- due to errors", "/* TO */ rollback\nTRANSACTION -- TO\n;"]
)
def test_a_dump_that_takes_itself_back(
    project: Project, options: tuple[str, ...], end: str
) -> None:
    """As sqlite3 ends that of a database that it could not read to the end."""
    before = rows(project)
    project.write("back.sql", f"BEGIN TRANSACTION;\nCREATE TABLE lost (n);\n{end}\n")
    err = project.manage("dbdev_loaddump", *options, "back.sql").failed(5).err
    assert "line 3: ROLLBACK would take back what was loaded before it" in err
    assert rows(project) == before
    assert left(project) == ["dbdev.sqlite3"]


def test_a_part_of_a_dump_may_be_taken_back(project: Project) -> None:
    project.write(
        "part.sql",
        "BEGIN;\nCREATE TABLE a (n);\nSAVEPOINT s;\nCREATE TABLE b (n);\n"
        "ROLLBACK TRANSACTION /* ; */ TO s;\nRELEASE s;\nCOMMIT;\n",
    )
    project.manage("dbdev_loaddump", "part.sql").ok()
    with closing(sqlite3.connect(file(project))) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]


def test_no_reinit_loads_into_what_is_there(project: Project) -> None:
    project.write(
        "more.sql",
        "-- Written by hand\n/* in a\nhurry */ BEGIN; INSERT INTO shelf (name) VALUES ('more');\n"
        "-- The end\nCOMMIT;",
    )
    project.manage("dbdev_loaddump", "--no-reinit", "more.sql").ok()
    before = rows(project)
    project.write("wrong.sql", "INSERT INTO shelf (name) VALUES ('x');\nSELECT nowhere;\n")
    project.manage("dbdev_load_sqldump", "--no-reinit", "wrong.sql").failed(5)
    assert rows(project) == before
    assert "more" in str(before)


def test_a_database_in_use_stays(project: Project) -> None:
    before = rows(project)
    project.manage("dbdev_createdump", "a.sql").ok()
    with closing(sqlite3.connect(file(project), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        err = project.manage("dbdev_loaddump", "a.sql").failed(5).err
        connection.execute("ROLLBACK")
    assert "is in use" in err
    assert rows(project) == before


def test_nobody_else_works_on_the_file_meanwhile(project: Project) -> None:
    project.manage("dbdev_createdump", "a.sql").ok()
    with exclusive(project.tempdata / "SqliteBackend.lock"):
        loading = project.start("dbdev_loaddump", "a.sql")
        assert loading.stdout is not None
        first = loading.stdout.readline()
    assert first.startswith("Waiting for pid")
    assert "Loaded a.sql" in loading.communicate()[0]


def test_a_database_that_is_locked(project: Project) -> None:
    """Said by each command after the same while, and so at the same time here."""
    before = rows(project)
    project.write("more.sql", "INSERT INTO shelf (name) VALUES ('more');")
    commands = [
        ["dbdev_init"],
        ["dbdev_createdump", "a.sql"],
        ["dbdev_backup"],
        ["dbdev_loaddump", "--no-reinit", "more.sql"],
    ]
    with closing(sqlite3.connect(file(project), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        running = [project.start(*command) for command in commands]
        try:
            said = [process.communicate(timeout=60)[0] for process in running]
        finally:
            for process in running:
                process.kill()
        connection.execute("ROLLBACK")
    for out in said:
        assert f"{file(project)} is in use (database is locked)" in out
        assert "hint: end what uses it" in out
        assert "Traceback" not in out
    assert [process.returncode for process in running] == [4, 5, 5, 5]
    assert rows(project) == before
    assert not (project.root / "a.sql").exists()


def test_a_damaged_database_is_kept_beside_the_dump(project: Project) -> None:
    project.manage("dbdev_createdump", "a.sql").ok()
    before = rows(project)
    damaged = b"\1" * 512 + file(project).read_bytes()[512:]
    file(project).write_bytes(damaged)
    project.manage("dbdev_loaddump", "--no-reinit", "a.sql").failed(5)
    out = project.manage("dbdev_loaddump", "a.sql").ok().out
    assert rows(project) == before
    (kept,) = file(project).parent.glob("*.damaged")
    assert str(kept) in out
    assert kept.read_bytes() == damaged
    assert left(project) == ["dbdev.sqlite3", kept.name]


VIRTUAL = """
CREATE VIRTUAL TABLE "to; read" USING fts5(name, content='shelf', content_rowid='id');
CREATE VIRTUAL TABLE search USING fts5(body, tokenize = 'porter');
INSERT INTO search (rowid, body) VALUES (7, 'lines; and shelves'), (9, 'nothing');
CREATE TABLE search_more (n);
CREATE VIRTUAL TABLE box USING rtree(id, low, high);
INSERT INTO box VALUES (4, 1.0, 2.0);
CREATE TRIGGER found AFTER INSERT ON book BEGIN INSERT INTO search (body) VALUES ('book'); END;
"""


def test_virtual_tables(project: Project) -> None:
    execute(project, VIRTUAL)
    before = rows(project)
    project.manage("dbdev_createdump", "a.sql").ok()
    execute(project, "DROP TABLE search; DELETE FROM box")
    project.manage("dbdev_loaddump", "a.sql").ok()
    assert rows(project) == before
    execute(project, "INSERT INTO book VALUES (2, 2, 'b')")
    with closing(sqlite3.connect(file(project))) as connection:
        for found, query in (
            ([(7,)], "SELECT rowid FROM search WHERE search MATCH 'line'"),
            ([(10,)], "SELECT rowid FROM search WHERE search MATCH 'book'"),
            ([(4,)], "SELECT id FROM box WHERE low < 1.5"),
            ([("ok",)], "PRAGMA integrity_check"),
        ):
            assert connection.execute(query).fetchall() == found
    without = ("--exclude-table", "search", "--exclude-table", "to; read", "--exclude-table", "box")
    err = project.manage("dbdev_createdump", "b.sql", "--data-only", *without[:4]).failed(5).err
    assert "--exclude-table=box" in err
    out = project.manage("dbdev_createdump", "-", "--schema-only", *without).ok().out
    assert [line for line in out.splitlines() if "search" in line] == [
        "CREATE TABLE search_more (n);",
        "CREATE TRIGGER found AFTER INSERT ON book BEGIN INSERT INTO search (body) "
        "VALUES ('book'); END;",
    ]


def test_statements_are_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at, is_complete = 0, sqlite3.complete_statement

    def counted(text: str) -> bool:
        nonlocal looked_at
        looked_at += len(text)
        return is_complete(text)

    monkeypatch.setattr(sqlite3, "complete_statement", counted)
    lines = "a line; of ''many\n" * 2000
    text = (
        "-- it's; one\nBEGIN; SELECT ';', \";\", [;'], `;`;\n\n"
        "/* it's;\nleft */ CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 2; END;\n"
        f"INSERT INTO a VALUES ('{lines}{';' * 2000}'); COMMIT;\n-- the; end"
    )
    dump = Dump("a", Format.PLAIN, stream=iter([text.encode()]))
    assert [(line, statement.strip()) for line, statement in sqlite_dumps._split(dump)] == [
        (1, "-- it's; one\nBEGIN;"),
        (2, "SELECT ';', \";\", [;'], `;`;"),
        (
            4,
            "/* it's;\nleft */ CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 2; END;",
        ),
        (6, f"INSERT INTO a VALUES ('{lines}{';' * 2000}');"),
        (2006, "COMMIT;"),
    ]
    assert looked_at < 3 * len(text)


@pytest.mark.parametrize("step", ["created", "loaded", "swapped"])
def test_killed_at_any_step(project: Project, step: str) -> None:
    whole = rows(project)
    project.manage("dbdev_createdump", "a.sql").ok()
    execute(project, "INSERT INTO shelf (name) VALUES ('mine')")
    changed = rows(project)
    project.manage("dbdev_loaddump", "a.sql", DBDEV_FAULT_AT=f"loaddump:{step}")
    assert rows(project) == (whole if step == "swapped" else changed)
    project.manage("dbdev_loaddump", "a.sql").ok()
    assert rows(project) == whole
    assert left(project) == ["dbdev.sqlite3"]


def test_functions_of_django_s_in_constraints_and_columns(project: Project) -> None:
    for statement in (
        "CREATE TABLE page (slug text CHECK (slug REGEXP '^[a-z]+$'), made text,"
        " year int GENERATED ALWAYS AS"
        " (django_date_extract('year', made)) STORED)",
        "CREATE INDEX months ON page (django_date_extract('month', made))",
        "INSERT INTO page (slug, made) VALUES ('abc', '2026-11-23')",
    ):
        project.sql(statement)
    project.manage("dbdev_createdump", "a.sql").ok()
    project.sql("DELETE FROM page")
    project.manage("dbdev_loaddump", "a.sql").ok()
    assert project.sql("SELECT slug, year FROM page") == [["abc", 2026]]
    project.write("more.sql", "INSERT INTO page (slug, made) VALUES ('d', '2027-01-01');\n")
    project.manage("dbdev_loaddump", "--no-reinit", "more.sql").ok()
    assert project.sql("SELECT slug, year FROM page") == [["abc", 2026], ["d", 2027]]
    project.write("wrong.sql", "INSERT INTO page (slug, made) VALUES ('A', '2027-01-01');\n")
    said = project.manage("dbdev_loaddump", "--no-reinit", "wrong.sql").failed(5).err
    assert "CHECK constraint failed" in said


def test_a_dump_of_a_newer_shell(project: Project) -> None:
    """As sqlite3 writes texts with control characters since 3.50; the one here is older."""
    project.write(
        "a.sql",
        "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE note (body text);\n"
        r"INSERT INTO note VALUES(unistr('one\u000atwo \\ \0033\+01F600\U0001f600'));"
        "\nCOMMIT;\n",
    )
    project.manage("dbdev_loaddump", "a.sql").ok()
    assert project.sql("SELECT body FROM note") == [["one\ntwo \\ 3\U0001f600\U0001f600"]]


def test_without_a_database(project: Project) -> None:
    project.manage("dbdev_createdump", "a.sql").ok()
    before = rows(project)
    project.manage("dbdev_destroy", "--noinput").ok()
    assert "dbdev_init" in project.manage("dbdev_createdump", "b.sql").failed(5).err
    project.manage("dbdev_loaddump", "a.sql").ok()
    assert rows(project) == before


def test_standard_input(project: Project) -> None:
    text = project.manage("dbdev_createdump", "-").ok().out
    before = rows(project)
    execute(project, "DROP TABLE book")
    assert "Loaded standard input" in project.manage("dbdev_loaddump", "-", input=text).ok().out
    assert rows(project) == before

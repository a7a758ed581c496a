"""What the filter of plain dumps leaves out, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_dbdev.backends.postgresql.plain import PlainFilter, head_problem
from django_dbdev.exceptions import DumpError

KNOWN = ("client_encoding", "standard_conforming_strings", "default_tablespace", "search_path")


def chunks(text: bytes, size: int) -> Iterator[bytes]:
    return (text[start : start + size] for start in range(0, len(text), size))


def filtered(text: str, *, fresh: bool = True, size: int = 1 << 20) -> str:
    script = PlainFilter(KNOWN, fresh=fresh)
    return b"".join(script.filtered(chunks(text.encode(), size), "the dump")).decode()


FOREIGN = [
    'ALTER TABLE public.t OWNER TO "a ""b"" c";',
    "ALTER FUNCTION f(a int,\n  b text) OWNER TO bob;",
    "alter large object 17 owner to bob ;",
    "GRANT ALL ON TABLE t TO bob;",
    "REVOKE ALL\nON SCHEMA public FROM PUBLIC;",
    "ALTER DEFAULT PRIVILEGES FOR ROLE bob GRANT SELECT ON TABLES TO eve;",
    "COMMENT ON EXTENSION pg_trgm IS 'text; similarity';",
    "COMMENT ON DATABASE shop IS 'x';",
    "SECURITY LABEL FOR anon ON COLUMN public.t.n IS 'MASKED; x';",
    "SET transaction_timeout = 0;",
    "SELECT * FROM pg_catalog.pg_restore_relation_stats(\n\t'version', '180006'::integer,\n"
    "\t'schemaname', 'public',\n\t'relname', 't;'\n);",
    "SET of_the_future TO 'x;y';",
    "SET default_tablespace = fast;",
    "SET ROLE bob;",
    "SET SESSION AUTHORIZATION bob;",
    "RESET SESSION AUTHORIZATION;",
    "CREATE ROLE bob;",
    "CREATE USER bob PASSWORD 'x';",
    "ALTER ROLE bob SET search_path = a;",
    "CREATE DATABASE shop WITH ENCODING 'UTF8';",
    "ALTER DATABASE shop SET work_mem = '1MB';",
    "DROP DATABASE shop;",
    "CREATE TABLESPACE fast LOCATION '/x';",
    "CREATE SUBSCRIPTION s CONNECTION 'host=production' PUBLICATION p WITH (connect = false);",
    "\\connect shop",
    "\\restrict aBc",
    "\\unrestrict aBc",
    "\\set ON_ERROR_STOP off",
]


@pytest.mark.parametrize("statement", FOREIGN)
def test_left_out(statement: str) -> None:
    for before in ("", "-- a comment;\n\n", "SELECT 0; "):
        text = f"{before}{statement}\n\nSELECT 1;\n"
        out = filtered(text)
        assert out.split() == f"{before} SELECT 1;".split()
        # The lines that psql tells are those of the dump.
        assert out.splitlines().index("SELECT 1;") == text.splitlines().index("SELECT 1;")


TRANSACTIONS = [
    "BEGIN;",
    "begin work;",
    "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE,\n  READ WRITE;",
    "START TRANSACTION READ ONLY;",
    "COMMIT;",
    "commit/**/;",
    "COMMIT -- ;\n  WORK;",
    "COMMIT AND NO CHAIN;",
    "COMMIT TRANSACTION AND CHAIN;",
    "END;",
    "END TRANSACTION;",
]


@pytest.mark.parametrize("statement", TRANSACTIONS)
def test_no_transaction_but_the_load_s_own(statement: str) -> None:
    text = f"SELECT 0; {statement}\n\nSELECT 1;\n{statement}"
    out = filtered(text)
    assert out.split() == ["SELECT", "0;", "SELECT", "1;"]
    assert out.splitlines().index("SELECT 1;") == text.splitlines().index("SELECT 1;")
    assert filtered(text[:-1]).split() == out.split()


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("ROLLBACK;", "ROLLBACK would take back"),
        ("Rollback Work And Chain;", "ROLLBACK would take back"),
        ('ROLLBACK /* TO */ -- TO "TO"\n;', "ROLLBACK would take back"),
        ("ABORT TRANSACTION;", "ABORT would take back"),
        ("PREPARE\n TRANSACTION 'x';", "PREPARE TRANSACTION is not possible"),
        ("COMMIT PREPARED 'x';", "COMMIT PREPARED is not possible"),
        ("ROLLBACK PREPARED 'x';", "ROLLBACK PREPARED is not possible"),
    ],
)
def test_what_no_single_transaction_can_hold(statement: str, shown: str) -> None:
    before = f"BEGIN;\nSELECT '\n';\n{DATA}\\copy t from stdin\n1\n\\.\n-- and\n\n"
    line = before.count("\n") + 1
    for size in (1, 1 << 20):
        with pytest.raises(DumpError, match=f"line {line}: {shown}"):
            filtered(f"{before}{statement}\nSELECT 1;\n", size=size)
    with pytest.raises(DumpError, match=f"line {line}: {shown}"):
        filtered(before + statement.removesuffix(";"))


OWN = [
    "SET search_path = public;",
    "SET TIME ZONE 'UTC';",
    "SET default_tablespace = '';",
    "CREATE TABLE t (a text DEFAULT 'GRANT x;', \"ALTER b; OWNER TO c;\" int);",
    "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$BEGIN\nGRANT a TO b;\nEND;$$;",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $a$SELECT $b$;\n$b$;\nGRANT x;$a$;",
    "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT $1; END;",
    "CREATE OR REPLACE FUNCTION f(a int DEFAULT (1)) RETURNS int LANGUAGE sql\n"
    "BEGIN /* END */ ATOMIC\n SELECT CASE a WHEN 1 THEN CASE WHEN true THEN 2 END END, ')END';\n"
    ' SELECT (a)\n  AS "end"; INSERT INTO t VALUES ((CASE WHEN a > 1 THEN 1 END));\nEND;',
    "create procedure p() begin atomic end; SELECT 1;",
    "CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1; END';",
    "SAVEPOINT a; ROLLBACK TO a; ROLLBACK WORK TO SAVEPOINT a; RELEASE a;",
    "PREPARE q AS SELECT 1; SET TRANSACTION READ WRITE;",
    "INSERT INTO t VALUES ('x;\nCOMMIT;\nROLLBACK;'); SELECT $$;\nROLLBACK;$$; -- ;\nSELECT 1;",
    "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a; DELETE FROM b);",
    "/* GRANT x; /* nested */ ; */ SELECT 1;",
    "SELECT E'\\';GRANT x TO y;', e'\\\\', U&'\\0041;', b'1';",
    "SELECT 'it''s; ', '\\', ';';",
    "SELECT a$b$c, d FROM t; SELECT 1 - -1 / 2;",
    "COMMENT ON TABLE t IS 'GRANT';",
    "ALTER TABLE t ADD CHECK (a <> 'x OWNER TO y;');",
    "ALTER TABLE t ALTER a SET STORAGE EXTERNAL;",
    "DO $$BEGIN EXECUTE 'REVOKE x'; END$$;",
    "\\set name value",
    "INSERT INTO t VALUES ('COPY t FROM stdin;\nGRANT x;');",
]


@pytest.mark.parametrize("statement", OWN)
def test_left_alone(statement: str) -> None:
    text = f"{statement}\nSELECT 2;\n"
    assert filtered(text) == text
    # Nothing is open behind it.
    assert filtered(f"{text}END;\n") == f"{text}\n"


DATA = (
    "COPY public.t (a, b) FROM stdin;\nGRANT x;\tALTER TABLE a OWNER TO b;\n\\.x\n\\N\t\\\\.\n"
    "'\t\"\t$$\t/*\n\\.\n"
)


def test_data_is_not_looked_at() -> None:
    for text in (DATA, DATA * 3, "COPY t FROM stdin WITH (FORMAT csv);\n\\.\nSELECT 1;\n"):
        assert filtered(text) == text
    text = DATA.replace("\n", "\r\n")
    assert filtered(text) == text
    text = "\\copy t (a) from stdin\nGRANT x;\n\\.\nSELECT 1;\n"
    assert filtered(text) == text


def test_wherever_the_pieces_of_the_stream_end() -> None:
    statements = [*FOREIGN[:20], *TRANSACTIONS, *OWN]
    text = "".join(f"-- {index}\n{each}\n" for index, each in enumerate(statements))
    text = f"-- x\n{text}{DATA}{text}\nSELECT 'the end'"
    whole = filtered(text)
    for size in (*range(1, 40), 97, 1000):
        assert filtered(text, size=size) == whole


def test_old_strings_have_escapes() -> None:
    text = (
        "SET standard_conforming_strings = off;\nSELECT 'a\\';b';\n"
        "SET standard_conforming_strings = on;\nSELECT 'a\\';\n"
    )
    assert filtered(text) == text


def test_removing_makes_no_sense_in_a_new_database() -> None:
    clean = (
        "ALTER TABLE ONLY public.t DROP CONSTRAINT c;\nDROP INDEX public.i;\nDROP TABLE t;\n"
        "DROP SCHEMA public;\n"
    )
    made = "CREATE TABLE t (a int);\nALTER TABLE t DROP a;\nDROP TABLE t;\n"
    assert filtered(clean + made) == "\n" * 4 + made
    assert filtered(clean + made, fresh=False) == clean + made


def test_the_schema_that_every_database_has() -> None:
    assert filtered("CREATE SCHEMA public;\n") == "CREATE SCHEMA IF NOT EXISTS public;\n"
    assert filtered("CREATE SCHEMA public2;\n") == "CREATE SCHEMA public2;\n"


def test_statistics_are_loaded_by_a_server_that_knows_how() -> None:
    script = PlainFilter((*KNOWN, "pg_restore_attribute_stats"), fresh=True)
    text = b"SELECT * FROM pg_catalog.pg_restore_attribute_stats('version', 1);\n"
    assert b"".join(script.filtered(iter([text]), "the dump")) == text


def test_roles_of_policies_are_made() -> None:
    script = PlainFilter(KNOWN, fresh=True)
    text = (
        b'CREATE POLICY p ON t FOR SELECT TO alice, "B ob", PUBLIC USING (true);\n'
        b"CREATE USER MAPPING FOR carl SERVER s;\nCREATE POLICY q ON t USING (true);\n"
    )
    out = b"".join(script.filtered(iter([text]), "the dump"))
    assert script.roles == {b"alice", b'"B ob"', b"carl"}
    assert out.count(b"CREATE ROLE") == 3
    assert out.count(b"\n") == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("COPY t (a) FROM stdin;\n1\n", "in the middle of the data of t"),
        ("COPY t (a) FROM stdin;\n1\n\\", "in the middle of the data of t"),
        ("COPY t FROM stdin", "the data of its last COPY is missing"),
        ("SELECT 'open", "in the middle of a statement"),
        ("CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;", "in the middle of a statement"),
        ("CREATE FUNCTION f() AS $$ ;", "in the middle of a statement"),
        ("--\n-- PostgreSQL database dump\n--\nSELECT 1;\n", "pg_dump's last line is missing"),
    ],
)
def test_a_dump_that_ends_too_early(text: str, problem: str) -> None:
    with pytest.raises(DumpError, match=f"the dump is not whole: .*{problem}"):
        filtered(text)


def test_a_whole_dump_says_so() -> None:
    text = (
        "--\n-- PostgreSQL database dump\n--\nSELECT 1;\n--\n"
        "-- PostgreSQL database dump complete\n--\n"
    )
    assert filtered(text) == text
    assert filtered(text, size=7) == text
    assert filtered("\ufeffSELECT 1").split() == ["SELECT", "1", ";"]


def test_programs_are_not_run_from_a_restricted_dump() -> None:
    with pytest.raises(DumpError, match=r"after \\restrict, which forbids them: \\! rm -rf /"):
        filtered("\\restrict x\nSELECT 1;\n\\! rm -rf /\n")


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("--\n-- PostgreSQL database cluster dump\n--\n", "whole cluster"),
        ("-- MySQL dump 10.13\n", "MySQL or MariaDB"),
        ("/*M!999999 */\n-- MariaDB dump 10.19\n", "MySQL or MariaDB"),
        ("PRAGMA foreign_keys=OFF;\nBEGIN;", "of SQLite"),
    ],
)
def test_dumps_of_something_else(head: str, problem: str) -> None:
    found = head_problem(head.encode())
    assert found is not None
    assert problem in found.message
    assert head_problem(b"SELECT 1;") is None

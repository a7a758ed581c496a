"""Dumps of PostgreSQL, with real servers: loaded whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import psycopg
import pytest
import zstandard

from django_dbdev.backends.server import ballast
from django_dbdev.exceptions import DumpError
from tests.conftest import MANAGE, SETTINGS, Locks, Project, ProjectFactory, Result, wait_until
from tests.machine import needs_every_major

#: What a dump must bring back: keys, sequences, functions, a view, a large object, odd text.
CONTENT = r"""
CREATE TABLE shelf (id serial PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE book (
    id serial PRIMARY KEY, shelf_id int NOT NULL REFERENCES shelf, title text, price numeric(6,2));
CREATE INDEX ON book (title);
CREATE FUNCTION titles() RETURNS text LANGUAGE sql AS
    $$SELECT string_agg(title, ';' ORDER BY id) FROM book -- GRANT all;$$;
CREATE VIEW cheap AS SELECT * FROM book WHERE price < 5;
INSERT INTO shelf (name) SELECT 'shelf ' || n FROM generate_series(1, 20) n;
INSERT INTO book (shelf_id, title, price)
    SELECT 1 + n % 20, E'\\.\n\t\x01' || chr(228) || n, n % 10 FROM generate_series(1, 2000) n;
INSERT INTO book (shelf_id) VALUES (1);
SELECT lo_from_bytea(4711, 'large');
"""
FINGERPRINT = """
SELECT count(*), sum(hashtext(b::text)::bigint), count(title), (SELECT count(*) FROM cheap),
    md5(titles()), nextval('book_id_seq') > 2001, lo_get(4711) FROM book b
"""
#: What never works: it names a table that is not there, on its third line.
WRONG = "CREATE TABLE fine (n int);\nINSERT INTO fine\n    SELECT n FROM missing;\nSELECT 1;\n"


def make_project(root: Path, store: Path, locks: Locks, version: str) -> Project:
    root.mkdir()
    project = Project(root, store)
    project.write("manage.py", MANAGE)
    project.settings(base=SETTINGS)
    project.pin(f'[tool.django_dbdev.postgresql]\nversion = "{version}"\n')
    locks.give(project)
    key = locks.key(project)
    project.manage("dbdev_init").ok()
    locks.keep(project, key)
    return project


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, store: Path, locks: Locks
) -> Iterator[Project]:
    """One server for all tests of a worker; its database holds CONTENT."""
    project = make_project(tmp_path_factory.mktemp("dumps") / "project", store, locks, "18")
    project.query(CONTENT)
    project.manage("dbdev_createdump", "whole.sql").ok()
    project.manage("dbdev_createdump", "whole.dump").ok()
    project.manage("dbdev_createdump", "whole.tar").ok()
    project.manage("dbdev_createdump", "whole.dir").ok()
    yield project
    project.clean_up()


@pytest.fixture
def project(shared: Project) -> Iterator[Project]:
    """The shared server with the database as it was, and nothing beside it."""
    yield shared
    wait_for_databases(shared)
    if not holds_content(shared):
        shared.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'dbdev'",
            database="postgres",
        )
        shared.manage("dbdev_loaddump", "whole.dump").ok()


def piped(project: Project, content: bytes, *args: str) -> Result:
    """A command with bytes as its standard input."""
    done = subprocess.run(
        [sys.executable, str(project.root / "manage.py"), *args],
        cwd=project.root,
        env=project.env(),
        input=content,
        capture_output=True,
        timeout=180,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def pg_dump(project: Project, *args: str) -> None:
    """pg_dump of the project, as a user runs it."""
    program = next((project.tempdata / "prefix").glob("*/bin")) / "pg_dump"
    passfile = project.tempdata / "PostgresBackend.pgpass"
    subprocess.run(
        [program, "-h", "127.0.0.1", "-p", str(project.port()), "-U", "dbdev", *args, "dbdev"],
        cwd=project.root,
        env=project.env(PGPASSFILE=str(passfile)),
        check=True,
    )


def fingerprint(project: Project) -> object:
    rows = project.query(FINGERPRINT)
    return rows[0]


@pytest.fixture(scope="module")
def whole(shared: Project) -> object:
    return fingerprint(shared)


def holds_content(project: Project) -> bool:
    try:
        return project.query(
            "SELECT count(*), count(title), lo_get(4711) IS NOT NULL FROM book"
        ) == [(2001, 2000, True)]
    except psycopg.Error:
        return False


def databases(project: Project) -> list[str]:
    query = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1"
    return [name for (name,) in project.query(query, database="postgres")]


def wait_for_databases(project: Project) -> None:
    """The replaced database is removed in the background."""
    wait_until(lambda: databases(project) == ["dbdev", "postgres"])


def mark(project: Project) -> None:
    """Something that is in no dump."""
    project.query("CREATE TABLE IF NOT EXISTS mine (n int)")


def is_marked(project: Project) -> bool:
    return project.query("SELECT to_regclass('mine') IS NOT NULL") == [(True,)]


# Every format


Packing = Callable[[bytes], bytes]
PACKED: dict[str, Packing] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("kind", ["sql", "dump", "tar", "dir"])
def test_what_is_dumped_comes_back(project: Project, whole: object, kind: str) -> None:
    mark(project)
    out = project.manage("dbdev_loaddump", f"whole.{kind}").ok().out
    assert f"Loaded whole.{kind}" in out
    assert "Replaced the database dbdev" in out
    assert fingerprint(project) == whole
    assert not is_marked(project)
    assert project.query(
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    ) == [("dbdev",)]
    wait_for_databases(project)


def test_the_server_itself_analyzes_what_was_loaded(project: Project, whole: object) -> None:
    project.manage("dbdev_loaddump", "whole.dump").ok()
    assert project.query("SHOW autovacuum_naptime") == [("10s",)]
    project.query("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    project.query("SELECT pg_reload_conf()")
    analyzed = "SELECT last_autoanalyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'book'"
    try:
        wait_until(lambda: project.query(analyzed) == [(True,)])
    finally:
        project.query("ALTER SYSTEM RESET autovacuum_naptime")
        project.query("SELECT pg_reload_conf()")


@pytest.mark.parametrize("kind", PACKED)
def test_packed_dumps_whatever_their_names(project: Project, whole: object, kind: str) -> None:
    source = "whole.sql" if kind in ("gz", "xz") else "whole.dump"
    packed = project.root / f"photo-{kind}.jpeg"
    packed.write_bytes(PACKED[kind]((project.root / source).read_bytes()))
    mark(project)
    project.manage("dbdev_loaddump", packed.name).ok()
    assert fingerprint(project) == whole
    assert not is_marked(project)


@pytest.mark.parametrize("kind", ["dump", "dir"])
def test_a_name_that_begins_like_an_option(project: Project, whole: object, kind: str) -> None:
    (project.root / f"-f.{kind}").symlink_to(f"whole.{kind}")
    mark(project)
    project.manage("dbdev_loaddump", f"./-f.{kind}").ok()
    assert fingerprint(project) == whole
    assert not is_marked(project)
    wait_for_databases(project)


@pytest.mark.parametrize("kind", ["sql", "sql.gz", "dump"])
def test_standard_streams(project: Project, whole: object, kind: str) -> None:
    if kind == "dump":
        content = (project.root / "whole.dump").read_bytes()
    else:
        content = project.manage("dbdev_createdump", "-").ok().out.encode()
        assert content.startswith(b"--\n-- PostgreSQL database dump")
        content = gzip.compress(content) if kind == "sql.gz" else content
    mark(project)
    done = piped(project, content, "dbdev_loaddump", "-")
    assert "Loaded standard input" in done.ok().out
    assert fingerprint(project) == whole
    assert not is_marked(project)


@pytest.mark.parametrize("kind", ["sql.gz", "sql.bz2", "sql.xz", "sql.zst"])
def test_packed_dumps_are_written(project: Project, kind: str) -> None:
    unpackers: dict[str, Packing] = {
        "sql.gz": gzip.decompress,
        "sql.bz2": bz2.decompress,
        "sql.xz": lzma.decompress,
        "sql.zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    }
    assert (
        f"Wrote {project.root}/new.{kind}"
        in project.manage("dbdev_createdump", f"new.{kind}").ok().out
    )
    text = unpackers[kind]((project.root / f"new.{kind}").read_bytes()).decode()
    assert "CREATE TABLE public.book" in text
    assert "PostgreSQL database dump complete" in text


def test_parts_of_a_database(project: Project) -> None:
    arguments = ("--exclude-table", "book", "--exclude-table", "nothing*", "--schema-only")
    out = project.manage("dbdev_createdump", "-", *arguments).ok().out
    assert "CREATE TABLE public.shelf" in out
    assert "CREATE TABLE public.book" not in out
    assert "COPY" not in out
    out = project.manage("dbdev_createdump", "-", "--data-only").ok().out
    assert "CREATE TABLE" not in out
    assert "COPY public.book" in out
    assert (
        "not allowed"
        in project.manage("dbdev_createdump", "-", "--data-only", "--schema-only").failed().err
    )


def test_a_dump_is_replaced_when_the_new_one_is_whole(project: Project) -> None:
    file = project.root / "kept.dump"
    file.write_text("old")
    project.manage("dbdev_createdump", "kept.dump", "--exclude-table", "(").failed()
    assert file.read_text() == "old"
    project.manage("dbdev_createdump", "kept.dump", "--schema-only").ok()
    assert file.read_bytes().startswith(b"PGDMP")
    assert [path.name for path in project.root.glob(".kept*")] == []
    assert ".sql.zst" in project.manage("dbdev_createdump", "kept.txt").failed(5).err


def test_a_folder_is_replaced_when_it_is_a_dump(project: Project) -> None:
    notes = project.write("precious/sub/notes.txt", "mine")
    for name in ("precious/", "./"):
        assert "folder is replaced whole" in project.manage("dbdev_createdump", name).failed(5).err
    assert notes.read_text() == "mine"
    project.manage("dbdev_createdump", "shop.dir").ok()
    project.manage("dbdev_createdump", "shop.dir/", "--schema-only").ok()
    assert [path.name for path in (project.root / "shop.dir").glob("*.dat*")] == ["toc.dat"]


# Into what is there


@pytest.mark.parametrize("kind", ["sql", "dump"])
def test_no_reinit_loads_into_what_is_there(project: Project, whole: object, kind: str) -> None:
    refused = project.manage("dbdev_loaddump", f"whole.{kind}", "--no-reinit").failed(5).err
    assert "already exists" in refused
    assert fingerprint(project) == whole
    mark(project)
    project.query(
        "DROP VIEW cheap; DROP FUNCTION titles; DROP TABLE book, shelf; SELECT lo_unlink(4711)"
    )
    project.manage("dbdev_loaddump", f"whole.{kind}", "--no-reinit").ok()
    assert fingerprint(project) == whole
    assert is_marked(project)


def test_no_reinit_changes_nothing_when_it_fails(project: Project) -> None:
    mark(project)
    project.write("wrong.sql", "DROP TABLE mine;\n" + WRONG)
    project.manage("dbdev_loaddump", "wrong.sql", "--no-reinit").failed(5)
    project.write("short.sql", "DROP TABLE mine;\nCOPY shelf FROM stdin;\n100\tx\n")
    project.manage("dbdev_loaddump", "short.sql", "--no-reinit").failed(5)
    assert is_marked(project)
    assert project.query("SELECT count(*) FROM shelf") == [(20,)]


def test_transactions_of_the_dump_do_not_end_the_load_s(project: Project) -> None:
    project.write(
        "wrong.sql",
        "BEGIN;\nINSERT INTO shelf (name) VALUES ('new');\nCOMMIT;\nSELECT 'no number'::int;\n",
    )
    err = project.manage("dbdev_loaddump", "wrong.sql", "--no-reinit").failed(5).err
    assert "wrong.sql cannot be loaded: line 4: invalid input syntax" in err
    assert project.query("SELECT count(*) FROM shelf") == [(20,)]
    project.write("back.sql", "CREATE TABLE lost (n int);\nROLLBACK;\nCREATE TABLE t (n int);\n")
    for option in ((), ("--no-reinit",)):
        err = project.manage("dbdev_loaddump", "back.sql", *option).failed(5).err
        assert "line 2: ROLLBACK would take back what was loaded before it" in err
    assert project.query(
        "SELECT to_regclass('lost'), to_regclass('t'), (SELECT count(*) FROM shelf)"
    ) == [(None, None, 20)]


def test_bodies_in_sql_come_back(project: Project) -> None:
    """pg_dump writes them with semicolons and END of their own."""
    project.query("""
        CREATE FUNCTION size_of(price numeric) RETURNS text LANGUAGE sql BEGIN ATOMIC
            SELECT 1;
            SELECT CASE WHEN price < 5 THEN 'small' ELSE CASE WHEN price < 8 THEN 'fair' END END;
        END;
        CREATE PROCEDURE add(name text) BEGIN ATOMIC
            INSERT INTO shelf (name) VALUES (add.name);
            INSERT INTO shelf (name) VALUES (upper(add.name));
        END;
    """)
    pg_dump(project, "-f", "bodies.sql")
    text = (project.root / "bodies.sql").read_text()
    assert "BEGIN ATOMIC" in text
    # As it is around large objects.
    assert "\nBEGIN;\n" in text
    project.query("DROP FUNCTION size_of; DROP PROCEDURE add")
    project.manage("dbdev_loaddump", "bodies.sql").ok()
    project.query("CALL add('new')")
    assert project.query(
        "SELECT size_of(3), size_of(7), size_of(9), lo_get(4711) IS NOT NULL,"
        " (SELECT count(*) FROM shelf)"
    ) == [("small", "fair", None, True, 22)]
    project.manage("dbdev_loaddump", "whole.dump").ok()


def test_plain_dumps_alone(project: Project, whole: object) -> None:
    err = project.manage("dbdev_load_sqldump", "whole.tar").failed(5).err
    assert "pg_dump's tar format, not in plain SQL" in err
    assert fingerprint(project) == whole
    mark(project)
    project.manage("dbdev_load_sqldump", "whole.sql").ok()
    assert not is_marked(project)
    project.write("more.sql", "INSERT INTO shelf (name) VALUES ('more')")
    project.manage("dbdev_load_sqldump", "--no-reinit", "more.sql").ok()
    assert project.query("SELECT count(*) FROM shelf") == [(21,)]
    project.manage("dbdev_loaddump", "whole.dump").ok()


# Foreign dumps


FOREIGN = """--
-- PostgreSQL database dump
--

\\restrict abcDEF

SET statement_timeout = 0;
SET transaction_timeout = 0;
SET of_version_99 = on;
SET default_tablespace = 'fast';
ALTER TABLE ONLY public.kept DROP CONSTRAINT kept_pkey;
DROP TABLE public.kept;
DROP SCHEMA public;
CREATE SCHEMA public;
ALTER SCHEMA public OWNER TO production;
CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;
COMMENT ON EXTENSION pg_trgm IS 'text similarity';
SET default_tablespace = '';
CREATE TABLE public.kept (n integer CONSTRAINT kept_pkey PRIMARY KEY, t text);
ALTER TABLE public.kept OWNER TO production;
COPY public.kept (n, t) FROM stdin;
1\tGRANT ALL ON x TO y;
\\.
CREATE POLICY p ON public.kept TO "a reader" USING (true);
GRANT SELECT ON TABLE public.kept TO "a reader";
ALTER DEFAULT PRIVILEGES FOR ROLE production GRANT ALL ON TABLES TO production;
REVOKE USAGE ON SCHEMA public FROM PUBLIC;
--
-- PostgreSQL database dump complete
--

\\unrestrict abcDEF

"""


def test_a_dump_of_another_server(project: Project) -> None:
    project.write("foreign.sql", FOREIGN)
    out = project.manage("dbdev_loaddump", "foreign.sql").ok().out
    assert project.query("SELECT n, t FROM kept") == [(1, "GRANT ALL ON x TO y;")]
    assert project.query("SELECT tableowner FROM pg_tables WHERE tablename = 'kept'") == [
        ("dbdev",)
    ]
    assert project.query("SELECT polroles::regrole[]::text FROM pg_policy") == [
        ('{"\\"a reader\\""}',)
    ]
    assert "Left out owners, roles and privileges: 6 statements" in out
    assert "Left out settings that this version does not know: 1 statements" in out
    assert '"a reader"' in out
    for name in ("foreign.dump", "foreign.dir"):
        # Owned by a role that is not there when it is loaded.
        project.query('GRANT ALL ON kept TO "a reader"; COMMENT ON EXTENSION pg_trgm IS NULL')
        project.query("CREATE ROLE production; ALTER TABLE kept OWNER TO production")
        project.manage("dbdev_createdump", name).ok()
        wait_for_databases(project)
        project.query('DROP OWNED BY production, "a reader"; DROP ROLE production, "a reader"')
        project.manage("dbdev_loaddump", name).ok()
        assert project.query("SELECT n, t FROM kept") == [(1, "GRANT ALL ON x TO y;")]
        wait_for_databases(project)
    project.query('DROP OWNED BY "a reader"; DROP ROLE "a reader"')


def test_one_schema_alone(project: Project) -> None:
    """pg_dump -n public writes CREATE SCHEMA public, which every new database has."""
    for kind in ("p", "c", "d", "t"):
        pg_dump(project, "-n", "public", f"-F{kind}", "-f", f"schema.{kind}")
        project.manage("dbdev_loaddump", f"schema.{kind}").ok()
        assert project.query("SELECT count(*) FROM book") == [(2001,)]


def test_an_extension_that_is_missing(project: Project, whole: object) -> None:
    project.write("needs.sql", "CREATE EXTENSION IF NOT EXISTS vectors_of_mine;\n")
    err = project.manage("dbdev_loaddump", "needs.sql").failed(5).err
    assert 'extension "vectors_of_mine" is not available' in err
    assert 'extensions = ["vectors_of_mine"]' in err
    assert fingerprint(project) == whole


def test_settings_comments_and_privileges_of_the_database_stay(project: Project) -> None:
    project.query("""
        ALTER DATABASE dbdev SET search_path = "$user", public, "odd, name";
        ALTER DATABASE dbdev SET work_mem = '17MB';
        COMMENT ON DATABASE dbdev IS 'it''s mine';
        CREATE ROLE reader;
        ALTER ROLE reader IN DATABASE dbdev SET work_mem = '18MB';
        REVOKE ALL ON DATABASE dbdev FROM PUBLIC;
        GRANT CONNECT ON DATABASE dbdev TO reader WITH GRANT OPTION;
        ALTER DATABASE dbdev CONNECTION LIMIT 50;
    """)
    query = """
        SELECT datacl::text, datconnlimit, shobj_description(oid, 'pg_database'), datcollate,
            datlocprovider::text, datlocale, pg_get_userbyid(datdba),
            (SELECT array_agg(setrole::regrole::text || setconfig::text ORDER BY setrole)
                FROM pg_db_role_setting WHERE setdatabase = d.oid)
        FROM pg_database d WHERE datname = 'dbdev'
    """
    before = project.query(query)
    project.manage("dbdev_loaddump", "whole.dump").ok()
    assert project.query(query) == before
    assert project.query("SHOW search_path") == [('"$user", public, "odd, name"',)]
    wait_for_databases(project)
    project.query("""
        ALTER DATABASE dbdev RESET ALL; COMMENT ON DATABASE dbdev IS NULL;
        ALTER DATABASE dbdev CONNECTION LIMIT -1; GRANT ALL ON DATABASE dbdev TO PUBLIC;
        REVOKE ALL ON DATABASE dbdev FROM reader; DROP ROLE reader;
    """)


def test_a_database_that_was_dropped_is_made(project: Project, whole: object) -> None:
    project.query("DROP DATABASE dbdev WITH (FORCE)", database="postgres")
    project.manage("dbdev_loaddump", "whole.dump").ok()
    assert fingerprint(project) == whole


# Failures


def test_the_first_error_stops_it_and_says_where(project: Project, whole: object) -> None:
    project.write("wrong.sql", WRONG)
    err = project.manage("dbdev_loaddump", "wrong.sql").failed(5).err
    assert 'wrong.sql cannot be loaded: line 3: relation "missing" does not exist' in err
    assert "SELECT n FROM missing;" in err
    project.write(
        "wrong.sql", "SELECT 1;\nCREATE TABLE c (n int);\nCOPY c FROM stdin;\n1\nx\n2\n3\n\\.\n"
    )
    err = project.manage("dbdev_loaddump", "wrong.sql").failed(5).err
    assert 'line 5: invalid input syntax for type integer: "x"' in err
    assert "COPY c, line 2" in err
    assert fingerprint(project) == whole
    assert databases(project) == ["dbdev", "postgres"]


@pytest.mark.parametrize("kind", ["sql", "sql.gz", "sql.zst", "dump", "tar", "dir", "dump.gz"])
@pytest.mark.parametrize("damage", ["cut", "spoilt"])
def test_damaged_dumps_change_nothing(
    project: Project, whole: object, kind: str, damage: str
) -> None:
    if (kind, damage) == ("sql", "spoilt"):
        pytest.skip("any other text is plain text as well")
    source, _, packing = kind.partition(".")
    if source == "dir":
        shutil.copytree(project.root / "whole.dir", project.root / "bad.dir", dirs_exist_ok=True)
        bad = max((project.root / "bad.dir").glob("*.dat*"), key=lambda file: file.stat().st_size)
    else:
        bad = project.root / f"bad.{kind}"
        shutil.copy(project.root / f"whole.{source}", bad)
    content = bad.read_bytes()
    if packing:
        packer = (
            gzip.compress
            if packing == "gz"
            else zstandard.ZstdCompressor(write_checksum=True).compress
        )
        content = packer(content)
    half = len(content) // 2
    bad.write_bytes(
        content[:half]
        if damage == "cut"
        else content[:half] + b"\0rubbish" * 20 + content[half + 160 :]
    )
    mark(project)
    target = "bad.dir" if source == "dir" else bad.name
    result = project.manage("dbdev_loaddump", target).failed()
    assert (
        "cannot be loaded" in result.err
        or "is damaged" in result.err
        or "is not whole" in result.err
    )
    assert is_marked(project)
    assert databases(project) == ["dbdev", "postgres"]
    assert list(project.tempdata.glob(".Postgres*")) == []


def test_what_is_no_dump_is_refused_at_once(project: Project) -> None:
    (project.root / "photo.sql").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (project.root / "empty.sql").touch()
    (project.root / "folder").mkdir()
    (project.root / "header.dump").write_bytes(b"PGDMP\1\x10\0\4\x08\1")
    for name, problem in [
        ("photo.sql", "a PNG image"),
        ("empty.sql", "it is empty"),
        ("folder", "without a toc.dat"),
        ("missing.sql", "There is no file missing.sql"),
        ("header.dump", "its header is not one that pg_dump writes"),
    ]:
        assert problem in project.manage("dbdev_loaddump", name).failed(5).err
    assert "empty" in project.manage("dbdev_loaddump", "-").failed(5).err


def test_an_archive_of_a_newer_pg_dump(project: Project) -> None:
    content = bytearray((project.root / "whole.dump").read_bytes())
    content[6] += 1
    (project.root / "newer.dump").write_bytes(content)
    err = project.manage("dbdev_loaddump", "newer.dump").failed(5).err
    assert "unsupported version" in err
    assert 'pin version = "18"' in err


# Clients and kills


def test_clients_are_disconnected_and_it_is_said(project: Project, whole: object) -> None:
    mark(project)
    ended = threading.Event()
    failures: list[str] = []

    def busy() -> None:
        """As a runserver that connects again at once."""
        while not ended.is_set():
            try:
                assert project.query("SELECT pg_sleep(0.01), count(*) FROM book")[0][1] == 2001
            except psycopg.Error as error:
                failures.append(str(error))

    clients = [threading.Thread(target=busy) for _ in range(4)]
    idle = psycopg.connect(
        host="127.0.0.1", port=project.port(), dbname="dbdev", user="dbdev", password="dbdev",
        application_name="runserver",
    )  # fmt: skip
    idle.execute("SELECT * FROM mine")
    for client in clients:
        client.start()
    try:
        result = project.manage("dbdev_loaddump", "whole.dump").ok()
    finally:
        ended.set()
        for client in clients:
            client.join()
        idle.close()
    assert "1 × runserver as dbdev" in result.err
    assert "Terminated" in result.err
    assert len(failures) < 40
    assert fingerprint(project) == whole
    assert not is_marked(project)


def test_what_depends_on_the_database_is_told_before_it_is_loaded(
    project: Project, whole: object
) -> None:
    project.query(
        "CREATE SUBSCRIPTION far CONNECTION 'host=127.0.0.1 port=1 dbname=x' PUBLICATION p"
        " WITH (connect = false)"
    )
    try:
        refused = project.manage("dbdev_loaddump", "whole.dump").failed(4).err
        assert "has subscriptions (far)" in refused
    finally:
        project.query("ALTER SUBSCRIPTION far SET (slot_name = NONE)")
        project.query("DROP SUBSCRIPTION far")
    project.query("ALTER DATABASE dbdev IS_TEMPLATE true")
    project.manage("dbdev_loaddump", "whole.dump").ok()
    templates = "SELECT datname FROM pg_database WHERE datistemplate AND datname LIKE 'dbdev%'"
    assert project.query(templates) == [("dbdev",)]
    project.query("ALTER DATABASE dbdev IS_TEMPLATE false")
    wait_for_databases(project)
    assert fingerprint(project) == whole


def test_what_cannot_be_removed_stops_no_later_load(project: Project, whole: object) -> None:
    left = "dbdev__dbdev_old_20260101000000000000"
    project.query(f"CREATE DATABASE {left}")
    subscription = "WITH (connect = false, slot_name = NONE)"
    project.query(
        f"CREATE SUBSCRIPTION far CONNECTION 'dbname=x' PUBLICATION p {subscription}", database=left
    )
    done = project.manage("dbdev_loaddump", "whole.dump").ok()
    assert f"The database {left} could not be removed" in done.err
    assert fingerprint(project) == whole
    project.query("DROP SUBSCRIPTION far", database=left)
    project.query(f"DROP DATABASE {left}")


def test_sessions_of_ours_know_no_limits_of_the_projects(project: Project, whole: object) -> None:
    settings = {
        "statement_timeout": "1ms",
        "transaction_timeout": "1ms",
        "default_transaction_read_only": "on",
    }
    for name, value in settings.items():
        project.query(f"ALTER ROLE dbdev SET {name} = '{value}'")
    try:
        project.manage("dbdev_loaddump", "whole.dump").ok()
        project.manage("dbdev_loaddump", "whole.sql").ok()
        project.manage("dbdev_init").ok()
    finally:
        with psycopg.connect(
            f"host=127.0.0.1 port={project.port()} user=dbdev password=dbdev dbname=dbdev",
            options="-c statement_timeout=0 -c transaction_timeout=0"
            " -c default_transaction_read_only=off",
            autocommit=True,
        ) as connection:
            connection.execute("ALTER ROLE dbdev RESET ALL")
    assert fingerprint(project) == whole


def test_variables_of_the_users_lead_nowhere_else(project: Project, whole: object) -> None:
    variables = {
        "PGHOSTADDR": "192.0.2.1",
        "PGCLIENTENCODING": "SQL_ASCII",
        "PGCHANNELBINDING": "require",
        "PGTARGETSESSIONATTRS": "standby",
        "PGSERVICE": "production",
    }
    given: Any = variables
    project.manage("dbdev_init", **given).ok()
    project.manage("dbdev_loaddump", "whole.sql", **given).ok()
    assert fingerprint(project) == whole


STEPS = ["created", "loaded", "finished", "swapped", "dropped"]


def test_only_clients_of_the_database_are_disconnected(project: Project, whole: object) -> None:
    """Also when one looks so often that PostgreSQL plans the look anew, for any database."""
    login = f"host=127.0.0.1 port={project.port()} user=dbdev password=dbdev"
    renames = b"SELECT 1 FROM pg_stat_activity WHERE query LIKE 'ALTER DATABASE%RENAME%'"
    with (
        psycopg.connect(login, dbname="dbdev") as slow,
        psycopg.connect(login, dbname="postgres", autocommit=True) as bystander,
    ):
        # It cannot be ended for a while.
        backend = psutil.Process(slow.info.backend_pid)
        backend.suspend()
        try:
            load = project.start("dbdev_loaddump", "whole.dump")
            wait_until(lambda: bystander.execute(renames + b" AND state = 'active'").fetchall())
            time.sleep(1)
        finally:
            backend.resume()
        said, _ = load.communicate(timeout=60)
        assert load.returncode == 0, said
        assert bystander.execute("SELECT 1").fetchall() == [(1,)]
    assert fingerprint(project) == whole


STEPS = ["created", "loaded", "finished", "swapped", "dropped"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step(project: Project, whole: object, step: str) -> None:
    mark(project)
    killed = project.manage("dbdev_loaddump", "whole.sql", DBDEV_FAULT_AT=f"loaddump:{step}")
    assert killed.status == -9
    assert fingerprint(project) == whole
    assert is_marked(project) == (step in ("created", "loaded", "finished"))
    again = project.manage("dbdev_loaddump", "whole.dump").ok()
    if step in ("created", "loaded", "finished", "swapped"):
        assert "which an earlier command had left" in again.out
    assert not is_marked(project)
    wait_for_databases(project)


def test_killed_while_it_dumps(project: Project) -> None:
    (project.root / "kept.sql.gz").write_text("old")
    for name in ("kept.sql.gz", "kept.dir"):
        killed = project.manage("dbdev_createdump", name, DBDEV_FAULT_AT="createdump:written")
        assert killed.status == -9
    assert (project.root / "kept.sql.gz").read_text() == "old"
    assert not (project.root / "kept.dir").exists()
    for name in ("kept.sql.gz", "kept.dir"):
        project.manage("dbdev_createdump", name).ok()
    assert list(project.root.glob(".kept*")) == []


# Servers


def test_a_stopped_server(project: Project, whole: object) -> None:
    project.manage("dbdev_stopserver").ok()
    out = project.manage("dbdev_createdump", "stopped.sql").ok().out
    assert "Started PostgreSQL" in out
    assert "Stopped PostgreSQL" in out
    assert "Started PostgreSQL" in project.manage("dbdev_loaddump", "stopped.sql").ok().out
    assert fingerprint(project) == whole


def test_without_a_server(new_project: ProjectFactory) -> None:
    project = new_project()
    project.write("a.sql", "SELECT 1;")
    assert "dbdev_init" in project.manage("dbdev_loaddump", "a.sql").failed(4).err
    assert "dbdev_init" in project.manage("dbdev_createdump", "b.sql").failed(4).err


@pytest.mark.slow
def test_old_versions_and_new(
    tmp_path: Path, store: Path, locks: Locks, shared: Project, whole: object
) -> None:
    """From 14 into 18 in every format; back in plain SQL, as far as the older one knows it."""
    old = make_project(tmp_path / "old", store, locks, "14")
    try:
        old.query(CONTENT)
        for kind in ("sql", "dump", "tar", "dir"):
            old.manage("dbdev_createdump", f"old.{kind}").ok()
            shared.manage("dbdev_loaddump", str(old.root / f"old.{kind}")).ok()
            assert fingerprint(shared) == whole
        old.manage("dbdev_loaddump", str(shared.root / "whole.sql")).ok()
        assert old.query("SELECT count(*) FROM book") == [(2001,)]
        refused = old.manage("dbdev_loaddump", str(shared.root / "whole.dump")).failed(5).err
        assert "unsupported version" in refused
        assert 'pin version = "18"' in refused
    finally:
        old.clean_up()


def test_a_disk_that_fills_up(tmp_path: Path, store: Path, locks: Locks) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        project = make_project(small / "project", store, locks, "18")
        try:
            project.query(CONTENT)
            before = fingerprint(project)
            (tmp_path / "large.sql").write_text(
                "CREATE TABLE large AS SELECT n, repeat(md5(n::text), 30)"
                " FROM generate_series(1, 300000) n;"
            )
            for option in ((), ("--no-reinit",)):
                err = (
                    project.manage("dbdev_loaddump", str(tmp_path / "large.sql"), *option)
                    .failed()
                    .err
                )
                assert "No space left on device" in err
                assert fingerprint(project) == before
            project.manage("dbdev_createdump", str(tmp_path / "whole.dump")).ok()
            project.manage("dbdev_loaddump", str(tmp_path / "whole.dump")).ok()
            assert fingerprint(project) == before
            # What the server gives back by and by would be room again.
            wait_for_databases(project)
            project.query("CHECKPOINT")
            room = shutil.disk_usage(small).free - 20_000_000
            (small / "rest").write_bytes(b"x" * room)
            err = project.manage("dbdev_loaddump", str(tmp_path / "whole.dump")).failed(5).err
            assert "too little space" in err
            assert fingerprint(project) == before
        finally:
            project.clean_up()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_full_disk_is_named_when_the_client_is_told_less(tmp_path: Path) -> None:
    """Which of the server's processes meets it first cannot be arranged: a log stands for it."""
    log = tmp_path / "log"
    log.write_text("No space left on device, yesterday\n")
    served: Any = SimpleNamespace(scratch=tmp_path / ".it", log=log, revive=lambda: None)

    def fail(said: str) -> None:
        with ballast.held(served):
            log.write_text(log.read_text() + said)
            raise DumpError("server closed the connection unexpectedly")

    for said, named in (("PANIC: No space left on device", True), ("PANIC: else", False)):
        with pytest.raises(DumpError) as raised:
            fail(said)
        assert ("No space left" in str(raised.value)) == named


def test_there_is_always_a_database_by_the_name(project: Project) -> None:
    ended = threading.Event()
    seen: set[int] = set()

    def look() -> None:
        with psycopg.connect(
            host="127.0.0.1", port=project.port(), dbname="postgres",
            user="dbdev", password="dbdev", autocommit=True,
        ) as connection:  # fmt: skip
            query = "SELECT count(*) FROM pg_database WHERE datname = 'dbdev'"
            while not ended.is_set():
                seen.update(count for (count,) in connection.execute(query))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        project.manage("dbdev_loaddump", "whole.dump").ok()
    finally:
        ended.set()
        looking.join()
    assert seen == {1}


PORTABLE = """
import sys
from pathlib import Path
from django.core.management import BaseCommand
from django_dbdev.backends.postgres import PostgresBackend
from django_dbdev.backends.postgresql import portable
directory = Path({directory!r})
directory.mkdir(exist_ok=True)
portable.{what}(PostgresBackend(BaseCommand()), directory)
"""


@pytest.mark.parametrize(
    ("version", "ending"), [("18", ".zst"), pytest.param("14", ".gz", marks=pytest.mark.slow)]
)
@needs_every_major
def test_portable_copies(
    project: Project,
    whole: object,
    tmp_path: Path,
    store: Path,
    locks: Locks,
    version: str,
    ending: str,
) -> None:
    """Of one database; restored also by a newer version, others untouched."""
    source = project if version == "18" else make_project(tmp_path / "old", store, locks, version)
    try:
        if source is not project:
            source.query(CONTENT)
        directory = str(tmp_path / "copy")
        source.manage("shell", "-c", PORTABLE.format(directory=directory, what="dump")).ok()
        assert list((tmp_path / "copy" / "dump").glob(f"*.dat{ending}"))
        mark(project)
        project.query("CREATE DATABASE other")
        project.query("CREATE TABLE untouched (n int)", database="other")
        project.manage("shell", "-c", PORTABLE.format(directory=directory, what="restore")).ok()
        assert fingerprint(project) == whole
        assert not is_marked(project)
        assert project.query("SELECT * FROM untouched", database="other") == []
    finally:
        project.query("DROP DATABASE IF EXISTS other WITH (FORCE)")
        if source is not project:
            source.clean_up()

"""Dumps of SQLite: plain SQL, as ``sqlite3``'s own ``.dump`` writes it."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ..backups import faults
from ..backups.dumps import Dump, Format, opened, output_of, replaced, write_compressed
from ..backups.replace import Replacement
from ..exceptions import DumpError
from ..reporting import seconds, size
from .base import timestamp
from .sqlite_file import (
    alone,
    connect,
    existing,
    explained,
    know_functions,
    reading,
    swap,
)

if TYPE_CHECKING:
    from .sqlite import SqliteBackend

_INSERT = re.compile(r'INSERT INTO (?:"((?:[^"]|"")*)"|(\w+))')
_INSERT_VIRTUAL = re.compile(r"INSERT INTO sqlite_master\(.*?VALUES\('table','((?:[^']|'')*)'")
_FRAME = re.compile(r"(?:BEGIN|COMMIT|END|PRAGMA)\b", re.IGNORECASE)
_SPACE = r"(?:\s|--.*\n|/\*(?s:.*?)\*/)*+"
_TRANSACTION = re.compile(rf"{_SPACE}(?:BEGIN|COMMIT|END)\b", re.IGNORECASE)
#: Of all, not of what follows a savepoint.
_ROLLBACK = re.compile(
    rf"{_SPACE}ROLLBACK\b{_SPACE}(?:TRANSACTION\b)?+{_SPACE}(?!TO\b)", re.IGNORECASE
)
_MARK = re.compile(r"""[;'"`\[]|--|/\*""")
#: What ends the texts, names and comments that begin so. Source: SQLite's complete.c.
_CLOSING = {"'": "'", '"': '"', "`": "`", "[": "]", "--": "\n", "/*": "*/"}
_SHOWN_WIDTH = 300


def create(backend: SqliteBackend, dumpfile: str) -> None:
    """What ``dbdev_createdump`` does; the command's options say what is dumped."""
    output = output_of(dumpfile, (Format.PLAIN,))
    options = getattr(backend.command, "options", {})
    database = existing(backend.database)
    started = time.perf_counter()
    with reading(database, "ro") as connection:
        stream = _statements(
            connection,
            exclude=tuple(options.get("exclude_table") or ()),
            schema=not options.get("data_only"),
            data=not options.get("schema_only"),
        )
        if dumpfile == "-":
            write_compressed(stream, sys.stdout.buffer, None)
            return
        path = Path(os.path.abspath(dumpfile))
        with (
            replaced(path) as temporary,
            temporary.open("xb") as file,
            backend.reporter.progress(f"Dumping {path}", None) as progress,
        ):
            write_compressed(stream, file, output.compression, progress)
            os.fsync(file.fileno())
            faults.step("createdump:written")
    backend.reporter.fact(
        f"Wrote {path} ({output.format.value}, {size(path.stat().st_size)}) "
        f"in {seconds(time.perf_counter() - started)}"
    )


def _statements(
    connection: sqlite3.Connection, *, exclude: tuple[str, ...], schema: bool, data: bool
) -> Iterator[bytes]:
    """The dump's statements."""
    tables = {
        f"{sql};": table
        for table, sql in connection.execute("SELECT tbl_name, sql FROM sqlite_master")
        if sql
    }
    virtual, behind = _virtual_tables(connection)
    if not (schema and data) and (kept := [v for v in virtual if not _matches(v, exclude)]):
        raise DumpError(
            "Schema and data of virtual tables are dumped together: what they hold is in tables "
            "that they make themselves.",
            hints=[f"leave them out: {shlex.join(f'--exclude-table={v}' for v in sorted(kept))}"],
        )
    for statement in _dumped(connection, tables):
        insert = _INSERT.match(statement)
        if made := _INSERT_VIRTUAL.match(statement):
            insert, table = None, made[1].replace("''", "'")
        elif insert:
            table = (insert[1] or insert[2]).replace('""', '"')
            if table in virtual:
                # The rows of those behind it are all that it has, as in SQLite's own .dump.
                continue
        else:
            table = tables.get(statement, "")
        if _matches(table, exclude) or _matches(behind.get(table, ""), exclude):
            continue
        is_data = insert is not None or statement.startswith("DELETE FROM")
        if _FRAME.match(statement) or (data if is_data else schema):
            yield f"{statement}\n".encode()


def _dumped(connection: sqlite3.Connection, tables: Mapping[str, str]) -> Iterator[str]:
    """What ``iterdump`` gives, with virtual tables as newer Pythons and SQLite's own shell have it.

    Older ones, such as 3.11.2, make the table itself, and then fail at those behind it.

    :param tables: their names by the statements that make them.
    """
    writable = False
    for statement in connection.iterdump():
        if statement.startswith("CREATE VIRTUAL TABLE"):
            if not writable:
                writable = True
                yield "PRAGMA writable_schema=ON;"
            name, sql = (
                text.replace("'", "''") for text in (tables[statement], statement.rstrip(";"))
            )
            yield (
                "INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql)"  # nosec B608 # quoted
                f"VALUES('table','{name}','{name}',0,'{sql}');"
            )
            continue
        if writable and statement == "COMMIT;":
            yield "PRAGMA writable_schema=OFF;"
        yield statement


def _virtual_tables(connection: sqlite3.Connection) -> tuple[set[str], dict[str, str]]:
    """Their names, and those of the tables behind them with that of the virtual one."""
    virtual = {
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%'"
        )
    }
    behind = {}
    # Nothing before SQLite 3.37.
    for _, name, kind, *_ in connection.execute("PRAGMA main.table_list"):
        owner = name.rpartition("_")[0]
        if kind == "shadow" and owner in virtual:
            behind[name] = owner
    return virtual, behind


def _matches(table: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(table, pattern) for pattern in patterns)


def load(backend: SqliteBackend, dumpfile: str) -> None:
    """What ``dbdev_loaddump`` does; the command's options say how.

    :raises DumpError: when the dump cannot be loaded; nothing is changed then.
    """
    options = getattr(backend.command, "options", {})
    with opened(dumpfile, sys.stdin.buffer) as dump:
        if dump.format is not Format.PLAIN:
            raise DumpError(f"{dump.label} is in {dump.format.value}, which SQLite does not load.")
        for mark, engine in ((b"-- PostgreSQL ", "PostgreSQL"), (b"-- MySQL dump", "MySQL")):
            if mark in dump.head[:200]:
                raise DumpError(f"{dump.label} is a dump of {engine}, not of SQLite.")
        started = time.perf_counter()
        with alone(backend):
            if options.get("reinit", True):
                _replace(backend, dump)
            else:
                _load_into(backend, dump)
    backend.reporter.fact(
        f"Loaded {dump.label} ({dump}, {size(dump.done)}) into {backend.database} "
        f"in {seconds(time.perf_counter() - started)}"
    )


def _replace(backend: SqliteBackend, dump: Dump) -> None:
    """Load into a new file, and rename it over the old one."""
    database = backend.database
    backend.create_datadir_if_not_exists()
    new = Replacement(database, timestamp()).new
    try:
        new.touch(mode=0o600)
        faults.step("loaddump:created")
        with closing(connect(new, "rw")) as connection:
            # Nobody else sees the file, and a half one is thrown away. Not OFF: a dump may take a
            # part of itself back, by ROLLBACK TO.
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA synchronous = OFF")
            _execute_all(backend, connection, dump, frames=True)
        faults.step("loaddump:loaded")
        swap(backend, new)
    finally:
        new.unlink(missing_ok=True)
    faults.step("loaddump:swapped")


def _load_into(backend: SqliteBackend, dump: Dump) -> None:
    """Load into what is there, in one transaction."""
    database = existing(backend.database)
    with explained(database), closing(connect(database, "rw")) as connection:
        # Cannot be switched within the transaction; the dump's rows come in any order.
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("BEGIN IMMEDIATE")
        _execute_all(backend, connection, dump, frames=False)
        faults.step("loaddump:loaded")
        connection.execute("COMMIT")


def _execute_all(
    backend: SqliteBackend, connection: sqlite3.Connection, dump: Dump, *, frames: bool
) -> None:
    """Carry out the dump's statements one by one.

    :param frames: whether those that begin and end transactions are carried out as well.
    :raises DumpError: at the first error, with its statement and line; or when it is not whole.
    """
    know_functions(connection)
    with backend.reporter.progress(f"Loading {dump.label}", dump.size) as progress:
        for line, statement in _split(dump):
            progress(dump.done)
            if not frames and _TRANSACTION.match(statement):
                continue
            if _ROLLBACK.match(statement):
                raise DumpError(
                    f"{dump.label} cannot be loaded: line {line}: ROLLBACK would take back what "
                    "was loaded before it.",
                    hints=["sqlite3 ends a dump so that it could not write whole: write it again"],
                )
            try:
                connection.execute(statement)
            except sqlite3.Error as error:
                shown = statement.strip()
                if len(shown) > _SHOWN_WIDTH:
                    shown = f"{shown[:_SHOWN_WIDTH]}…"
                raise DumpError(
                    f"{dump.label} cannot be loaded: line {line}: {error}", log_tail=shown
                ) from None
    if frames and connection.in_transaction:
        raise DumpError(
            f"{dump.label} is not whole: its last line, COMMIT, is missing.",
            hints=["copy or download it again"],
        )


def _split(dump: Dump) -> Iterator[tuple[int, str]]:
    """The statements, each with the line that it begins in.

    Only a semicolon outside of texts and comments can end one, so that a long text costs nothing.
    """
    begun, parts, closing_mark = 1, list[str](), ""
    for line, text in enumerate(_lines(dump), 1):
        if not parts and text.count(";") == 1 and sqlite3.complete_statement(text):
            # Most of a dump, at a fraction of the price.
            yield line, text
            continue
        start = position = 0
        while True:
            if closing_mark:
                if (found := text.find(closing_mark, position)) < 0:
                    break
                position, closing_mark = found + len(closing_mark), ""
            if (mark := _MARK.search(text, position)) is None:
                break
            position = mark.end()
            if mark[0] != ";":
                closing_mark = _CLOSING[mark[0]]
            elif sqlite3.complete_statement(statement := "".join((*parts, text[start:position]))):
                yield (begun if parts else line), statement
                parts, start = [], position
        rest = text[start:]
        if parts or rest.strip():
            begun = begun if parts else line
            parts.append(rest)
    rest = "".join(parts).strip()
    if rest and not all(line.lstrip().startswith("--") for line in rest.splitlines()):
        raise DumpError(
            f"{dump.label} is not whole: it ends in the middle of a statement.",
            hints=["copy or download it again"],
        )


def _lines(dump: Dump) -> Iterator[str]:
    rest = b""
    try:
        for chunk in dump.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode() + "\n"
        if rest:
            yield rest.decode()
    except UnicodeDecodeError as error:
        raise DumpError(f"{dump.label} cannot be loaded: it is not UTF-8 ({error}).") from None

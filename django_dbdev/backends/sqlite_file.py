"""The file of a SQLite database: opened by its name, replaced while nobody uses it."""

from __future__ import annotations

import glob
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..backups.contract import working_alone
from ..exceptions import BackupError, DumpError
from .base import make_tempdata, timestamp
from .sqlite import COMPANIONS

if TYPE_CHECKING:
    from .sqlite import SqliteBackend

#: Seconds that others get to finish what they do with the database.
_PATIENCE = 5.0
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_UNISTR_SINCE = (3, 50, 0)
_HEX = "[0-9A-Fa-f]"
_ESCAPE = re.compile(rf"\\(?:\\|u?({_HEX}{{4}})|\+({_HEX}{{6}})|U({_HEX}{{8}}))")
STOP_IT = "end what uses it, such as runserver or a shell, and run this again"


def existing(database: Path) -> Path:
    if not database.is_file():
        raise DumpError(f"There is no database at {database}.", hints=["make one: dbdev_init"])
    return database


@contextmanager
def alone(backend: SqliteBackend) -> Iterator[None]:
    """Hold the lock of those that copy or replace the file; what a killed one has left goes."""
    make_tempdata(backend.tempdata)
    with working_alone(backend):
        database = backend.database
        backend.mend()
        for left in database.parent.glob(f".{glob.escape(database.name)}.*.new-*"):
            left.unlink()
        yield


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Each statement its own transaction, until one begins another."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=_PATIENCE, isolation_level=None
    )


def know_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that dumps call.

    Constraints, columns and indexes may call Django's; newer versions of ``sqlite3`` write texts
    with control characters by ``unistr``.
    """
    if sqlite3.sqlite_version_info < _UNISTR_SINCE:
        connection.create_function("unistr", 1, _unistr, deterministic=True)
    with suppress(ImportError):
        # Django's own affair, and a dump that calls none of them can do without.
        import_module("django.db.backends.sqlite3._functions").register(connection)


def _unistr(text: str) -> str:
    """Source: SQLite's documentation, "Built-In Scalar SQL Functions"."""
    return _ESCAPE.sub(
        lambda found: chr(int(found[found.lastindex], 16)) if found.lastindex else "\\", text
    )


@contextmanager
def reading(database: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A connection that sees the database as of one moment.

    Without that ``backup`` of Python's module tries for ever where another has it locked.

    :raises BackupError: for an error of SQLite's, in the block as well.
    """
    with explained(database), closing(connect(database, mode)) as connection:
        connection.execute("BEGIN")
        connection.execute("PRAGMA schema_version").fetchone()
        yield connection


@contextmanager
def explained(database: Path) -> Iterator[None]:
    """:raises BackupError: for an error of SQLite's in the block."""
    try:
        yield
    except sqlite3.Error as error:
        if is_in_use(error):
            raise BackupError(
                f"{database} is in use ({error}); it is as it was.", hints=[STOP_IT]
            ) from None
        raise BackupError(
            f"{database} cannot be used: {error}",
            hints=["put a backup in its place: dbdev_restore"] if _is_damage(error) else (),
        ) from None


def is_in_use(error: sqlite3.Error) -> bool:
    return _code(error) in _IN_USE


def is_damaged(database: Path) -> bool:
    """Whether the file is no database, or one that SQLite cannot open."""
    try:
        with closing(connect(database, "rw")) as connection:
            # Reads its header, what others have left unfinished, and its schema.
            connection.execute("PRAGMA journal_mode").fetchone()
    except sqlite3.Error as error:
        return _is_damage(error)
    return False


def _is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in _DAMAGED


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for what Python's module itself raises."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def swap(backend: SqliteBackend, new: Path, *, keep_damaged: bool = True) -> None:
    """Put ``new`` into the place of the database while nobody uses that.

    :param keep_damaged: whether a file that is no database is kept beside it, and the log of one
        that is gone.
    :raises BackupError: when somebody uses it; it is as it was then.
    """
    database = backend.database
    _sync(new)
    existed = database.is_file()
    if existed:
        new.chmod(database.stat().st_mode & 0o777)
    if not existed or is_damaged(database):
        kept = _set_aside(database, keep_damaged)
        new.rename(database)
        if kept:
            names = ", ".join(map(str, kept))
            backend.reporter.fact(f"What was there is no whole database: it is kept in {names}")
    else:
        with explained(database), closing(connect(database, "rw")) as connection:
            _lock(connection, new)
            new.rename(database)
    _sync(database.parent)


def _lock(connection: sqlite3.Connection, new: Path) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        # A write-ahead log that stayed behind would be taken for the new file's.
        connection.execute("PRAGMA journal_mode = DELETE")
        with closing(connect(new, "rw")) as successor:
            successor.execute("PRAGMA journal_mode = WAL")
        _sync(new)
    connection.execute("BEGIN EXCLUSIVE")


def _set_aside(database: Path, keep: bool) -> list[Path]:
    """Take away what is beside a file that is damaged or gone; keep it, and a copy of the file.

    A log that stayed would be taken for the new file's.

    :returns: What is kept, the file first.
    """
    aside = database.with_name(f"{database.name}.{timestamp()}.damaged")
    kept = []
    for end in COMPANIONS:
        beside = database.with_name(database.name + end)
        if keep and beside.exists():
            kept.append(beside.rename(aside.with_name(aside.name + end)))
        else:
            beside.unlink(missing_ok=True)
    if not keep or not database.exists():
        return kept
    try:
        aside.hardlink_to(database)
    except OSError:
        # A file system without links.
        database.rename(aside)
    return [aside, *kept]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

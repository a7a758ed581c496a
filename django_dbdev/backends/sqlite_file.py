"""The file of a SQLite database: opened by its name, replaced while nobody uses it."""

from __future__ import annotations

import glob
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..backups.contract import working_alone
from ..backups.replace import mend
from ..exceptions import BackupError, DumpError
from .base import make_tempdata

if TYPE_CHECKING:
    from .sqlite import SqliteBackend

#: Seconds that others get to finish what they do with the database.
_PATIENCE = 5.0
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
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
        mend(database, Path(backend.root_backupdir), database.is_file)
        for left in database.parent.glob(f".{glob.escape(database.name)}.*.new-*"):
            left.unlink()
        yield


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Each statement its own transaction, until one begins another."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=_PATIENCE, isolation_level=None
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
        raise BackupError(f"{database} cannot be used: {error}") from None


def is_in_use(error: sqlite3.Error) -> bool:
    return _code(error) in _IN_USE


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for what Python's module itself raises."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def swap(backend: SqliteBackend, new: Path) -> None:
    """Put ``new`` into the place of the database while nobody uses that.

    :raises BackupError: when somebody does; it is as it was then.
    """
    database = backend.database
    _sync(new)
    if not database.is_file():
        new.rename(database)
        _sync(database.parent)
        return
    new.chmod(database.stat().st_mode & 0o777)
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

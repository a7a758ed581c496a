"""Databases beside a database: new ones being filled, and old ones that they replace.

Neither engine can rename a database, but RENAME TABLE moves all tables of two databases in one
step that happens whole or not at all. What is not a table is made anew around that step, from
definitions that are written to a file first: whoever comes after a kill brings the swap to its
end when the tables have moved, and back when they have not.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ...backups import copying
from ...backups.faults import step
from ...exceptions import DumpError, ServerError
from ...records import write_atomically
from . import objects, sql
from .objects import Definition
from .sql import Cursor, Login

_LONGEST = 64
_MARK = re.compile(r"__dbdev_(?:new|old)_\d{20}\Z")
#: A database has files besides those of its tables; source: MariaDB's "Error Codes", 1010.
_HAS_FILES = 1010
_ATTEMPTS = 5
#: Seconds that a statement waits for tables that are in use.
_LOCK_TIMEOUT = 2
#: ER_LOCK_WAIT_TIMEOUT.
_BUSY = 1205


@dataclass(frozen=True)
class Swap:
    """One replacement of a database, as it is written down.

    :param new: the database whose parts come in, and ``old`` the one where those go that were.
    :param filled: whether the new one has tables, which are gone from it when they have moved.
    :param incoming: the definitions of the new one, and ``outgoing`` those of the old.
    """

    database: str
    new: str
    old: str
    filled: bool
    incoming: list[Definition]
    outgoing: list[Definition]

    def write(self, file: Path) -> None:
        content = {
            "database": self.database,
            "new": self.new,
            "old": self.old,
            "filled": self.filled,
            "incoming": objects.to_plain(self.incoming),
            "outgoing": objects.to_plain(self.outgoing),
        }
        write_atomically(file, json.dumps(content))


def _read(file: Path) -> Swap | None:
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    return Swap(
        content["database"],
        content["new"],
        content["old"],
        content["filled"],
        objects.from_plain(content["incoming"]),
        objects.from_plain(content["outgoing"]),
    )


def journal(datadir: Path) -> Path:
    """Where a swap is written down: in the data, so that a copy of them has it too."""
    return datadir / "dbdev_swap.json"


def name_beside(database: str, kind: str) -> str:
    """A name for a database beside ``database``: "shop__dbdev_new_20261122133000123456".

    :param kind: "new" or "old".
    """
    end = f"__dbdev_{kind}_{datetime.now():%Y%m%d%H%M%S%f}"
    return database[: _LONGEST - len(end)] + end


def mend(cursor: Cursor, datadir: Path) -> str:
    """Bring a swap that was killed to its end, or back. The server's lock must be held.

    :returns: What was done, in words; empty where there was nothing to do.
    """
    swap = _read(journal(datadir))
    if swap is None:
        return ""
    moved = bool(objects.tables(cursor, swap.old)) or (
        swap.filled and not objects.tables(cursor, swap.new)
    )
    if moved:
        _furnish(cursor, swap.database, swap.incoming)
        done = f"Loading into {swap.database} was interrupted, and is finished"
    else:
        _furnish(cursor, swap.database, swap.outgoing)
        done = f"Loading into {swap.database} was interrupted: it is as it was"
    journal(datadir).unlink()
    return done


def sweep(cursor: Cursor, datadir: Path) -> list[str]:
    """Remove what killed commands left; their names. The server's lock must be held."""
    cursor.execute("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")
    left = {str(name): mark for (name,) in cursor.fetchall() if (mark := _MARK.search(str(name)))}
    for name, mark in sorted(left.items()):
        try:
            drop(cursor, name)
        except ServerError as error:
            if sql.code(error.__cause__) != _HAS_FILES:
                raise
            # A power cut can leave files of tables that the server knows nothing of.
            for file in datadir.glob(f"*{mark[0]}/*"):
                file.unlink()
            drop(cursor, name)
    return sorted(left)


def drop(cursor: Cursor, database: str) -> None:
    with sql.explained(f"The database {database} could not be removed"):
        cursor.execute("SET SESSION foreign_key_checks = 0")
        cursor.execute(f"DROP DATABASE IF EXISTS {sql.identifier(database)}")
        cursor.execute("SET SESSION foreign_key_checks = 1")


@contextmanager
def new_database(login: Login, database: str) -> Iterator[str]:
    """The name of a new, empty database, which is removed again when the block fails.

    It has the character set of ``database``.
    """
    new = name_beside(database, "new")
    with sql.connect(login) as cursor:
        _create_like(cursor, database, new)
    try:
        yield new
    except BaseException:
        # A server that is gone too must not hide why; the next load sweeps.
        with suppress(ServerError), sql.connect(login) as cursor:
            drop(cursor, new)
        raise


def _create_like(cursor: Cursor, database: str, new: str) -> None:
    cursor.execute(
        "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME"
        " FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s",
        (database,),
    )
    row = cursor.fetchone()
    charset, collation = row or ("utf8mb4", "")
    collate = f" COLLATE {collation}" if collation else ""
    with sql.explained("A database beside the old one could not be created"):
        cursor.execute(f"CREATE DATABASE {sql.identifier(new)} CHARACTER SET {charset}{collate}")


def swap(login: Login, datadir: Path, database: str, new: str) -> tuple[str, int]:
    """Put what is in ``new`` into the place of what is in ``database``.

    :returns: The database that has the old tables now, and how many clients were disconnected.
    :raises DumpError: when tables of other databases refer to the old ones.
    :raises ServerError: when the old ones are still in use; everything is as it was then.
    """
    with sql.connect(login) as cursor:
        _check_references(cursor, database)
        old = name_beside(database, "old")
        _create_like(cursor, database, old)
        planned = Swap(
            database,
            new,
            old,
            bool(objects.tables(cursor, new)),
            [_at_home(each, new, database) for each in objects.definitions(cursor, new)],
            objects.definitions(cursor, database),
        )
        planned.write(journal(datadir))
        step("loaddump:written-down")
        try:
            for each in (database, new):
                objects.drop(cursor, each, ["TRIGGER"])
            step("loaddump:triggers-dropped")
            # The server's log has the new names of tables at once, the file system's has them
            # later: after a power cut between the two MariaDB 10.11 does not start. The first
            # makes the second short.
            copying.flush(datadir)
            ended = _move(cursor, planned)
            copying.flush(datadir)
        except BaseException:
            _furnish(cursor, database, planned.outgoing)
            journal(datadir).unlink()
            raise
        step("loaddump:moved")
        try:
            _furnish(cursor, database, planned.incoming)
        except BaseException:
            _move_back(cursor, planned)
            journal(datadir).unlink()
            raise
        step("loaddump:furnished")
        journal(datadir).unlink()
        return old, ended


def _at_home(wanted: Definition, new: str, database: str) -> Definition:
    """A view as it is to be in ``database``, where it calls functions of ``new`` in full."""
    if wanted.kind != "VIEW":
        return wanted
    # A name that nothing else has; the quotes around it depend on the session.
    there, home = (sql.identifier(name)[1:-1] for name in (new, database))
    return replace(wanted, statement=wanted.statement.replace(there, home))


def _check_references(cursor: Cursor, database: str) -> None:
    cursor.execute(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, REFERENCED_TABLE_NAME"
        " FROM information_schema.REFERENTIAL_CONSTRAINTS"
        " WHERE UNIQUE_CONSTRAINT_SCHEMA = %s AND CONSTRAINT_SCHEMA <> %s",
        (database, database),
    )
    rows = cursor.fetchall()
    if rows:
        schema, table, referred = rows[0]
        raise DumpError(
            f"{database} cannot be replaced: {schema}.{table} refers to its {referred} by a "
            "foreign key, and would refer to the old one then.",
            hints=[f"drop that key first, or the database {schema}"],
        )


def _move(cursor: Cursor, swap: Swap) -> int:
    """Move all tables in one step; how many clients were disconnected for that."""
    pairs = [(swap.database, swap.old, name) for name in objects.tables(cursor, swap.database)]
    pairs += [(swap.new, swap.database, name) for name in objects.tables(cursor, swap.new)]
    if not pairs:
        return _end_clients(cursor, swap.database)
    ended = 0
    cursor.execute("SET SESSION lock_wait_timeout = %s", (_LOCK_TIMEOUT,))
    for attempt in range(_ATTEMPTS):
        ended += _end_clients(cursor, swap.database)
        try:
            with sql.explained(f"{swap.database} could not be replaced, and is as it was"):
                _rename(cursor, pairs)
            return ended
        except ServerError as error:
            if sql.code(error.__cause__) != _BUSY or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _rename(cursor: Cursor, pairs: list[tuple[str, str, str]]) -> None:
    moves = ", ".join(
        f"{sql.identifier(source, name)} TO {sql.identifier(target, name)}"
        for source, target, name in pairs
    )
    cursor.execute(f"RENAME TABLE {moves}")


def _move_back(cursor: Cursor, swap: Swap) -> None:
    objects.drop(cursor, swap.database)
    pairs = [(swap.database, swap.new, name) for name in objects.tables(cursor, swap.database)]
    pairs += [(swap.old, swap.database, name) for name in objects.tables(cursor, swap.old)]
    if pairs:
        _rename(cursor, pairs)
    _furnish(cursor, swap.database, swap.outgoing)


def _furnish(cursor: Cursor, database: str, wanted: list[Definition]) -> None:
    """Have exactly these parts around the tables; may be done again where it was interrupted."""
    objects.drop(cursor, database)
    step("loaddump:unfurnished")
    objects.make(cursor, database, wanted)


def _end_clients(cursor: Cursor, database: str) -> int:
    """Disconnect the clients that use a database, and wait until they are gone."""
    ended: set[int] = set()
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while time.monotonic() < deadline:
        cursor.execute(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = %s AND ID <> CONNECTION_ID()",
            (database,),
        )
        there = [int(number) for (number,) in cursor.fetchall()]
        if not there:
            break
        for number in there:
            # It may be gone by itself.
            with suppress(ServerError), sql.explained("A client could not be disconnected"):
                cursor.execute(f"KILL CONNECTION {number}")
            ended.add(number)
        time.sleep(0.02)
    return len(ended)

"""What a database consists of, and how each part is made again elsewhere.

Tables can be moved from one database to another; views, triggers, routines and events can only
be made anew, from what SHOW CREATE tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...exceptions import ServerError
from . import sql
from .sql import Cursor

#: In the order in which they are made: functions before views, views before events.
_ROUTINES = ("FUNCTION", "PROCEDURE")
_KINDS = (*_ROUTINES, "VIEW", "TRIGGER", "EVENT")


@dataclass(frozen=True)
class Definition:
    """One part that is made by a statement.

    :param sql_mode: in which the statement was written; None for the session's.
    :param charset: of the statement, and ``collation`` that of its literals; empty likewise.
    :param time_zone: that the times of an event are in; empty for the session's.
    """

    kind: str
    name: str
    statement: str
    sql_mode: str | None = None
    charset: str = ""
    collation: str = ""
    time_zone: str = ""


def tables(cursor: Cursor, database: str) -> list[str]:
    """The names of what RENAME TABLE moves."""
    cursor.execute(
        "SELECT TABLE_NAME FROM information_schema.TABLES"
        " WHERE TABLE_SCHEMA = %s AND TABLE_TYPE NOT LIKE '%%VIEW' ORDER BY TABLE_NAME",
        (database,),
    )
    return [str(name) for (name,) in cursor.fetchall()]


def definitions(cursor: Cursor, database: str) -> list[Definition]:
    """All else that is in a database, in an order in which it can be made."""
    # With the database in use the statements do not name it.
    cursor.execute(f"USE {sql.identifier(database)}")
    found: list[Definition] = []
    for kind, names in _names(cursor, database).items():
        for name in names:
            cursor.execute(f"SHOW CREATE {kind} {sql.identifier(name)}")
            row = cursor.fetchone()
            assert row is not None
            found.append(_definition(kind, name, row))
    return found


def _definition(kind: str, name: str, row: Sequence[Any]) -> Definition:
    """From the columns of SHOW CREATE, which each kind has in an order of its own."""
    if kind == "VIEW":
        return Definition(kind, name, str(row[1]), None, str(row[2]), str(row[3]))
    statement, charset = (3, 4) if kind == "EVENT" else (2, 3)
    if row[statement] is None:
        raise ServerError(f"The definition of the {kind.lower()} {name!r} may not be read.")
    return Definition(
        kind,
        name,
        str(row[statement]),
        str(row[1]),
        str(row[charset]),
        str(row[charset + 1]),
        str(row[2]) if kind == "EVENT" else "",
    )


def _names(cursor: Cursor, database: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for statement in (
        "SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES"
        " WHERE ROUTINE_SCHEMA = %s ORDER BY 2",
        "SELECT 'VIEW', TABLE_NAME FROM information_schema.VIEWS"
        " WHERE TABLE_SCHEMA = %s ORDER BY 2",
        # Several triggers of one moment come in the order in which they were made.
        "SELECT 'TRIGGER', TRIGGER_NAME FROM information_schema.TRIGGERS"
        " WHERE TRIGGER_SCHEMA = %s ORDER BY EVENT_OBJECT_TABLE, ACTION_TIMING,"
        " EVENT_MANIPULATION, ACTION_ORDER",
        "SELECT 'EVENT', EVENT_NAME FROM information_schema.EVENTS"
        " WHERE EVENT_SCHEMA = %s ORDER BY 2",
    ):
        cursor.execute(statement, (database,))
        for kind, name in cursor.fetchall():
            names.setdefault(str(kind), []).append(str(name))
    return names


def drop(cursor: Cursor, database: str, kinds: Sequence[str] = _KINDS) -> None:
    """Remove everything of some kinds, dependent ones first."""
    found = _names(cursor, database)
    for kind in (kind for kind in reversed(list(found)) if kind in kinds or kind not in _KINDS):
        for name in found[kind]:
            cursor.execute(f"DROP {kind} IF EXISTS {sql.identifier(database, name)}")


def make(cursor: Cursor, database: str, wanted: Sequence[Definition]) -> None:
    """Make parts in a database that has its tables.

    :raises ServerError: when one cannot be made.
    """
    cursor.execute(f"USE {sql.identifier(database)}")
    left = list(wanted)
    while left:
        # A view may stand on another that comes later by its name.
        failed: list[tuple[Definition, ServerError]] = []
        for each in left:
            try:
                _make(cursor, each)
            except ServerError as error:
                failed.append((each, error))
        if len(failed) == len(left):
            raise failed[0][1]
        left = [each for each, _ in failed]


def _make(cursor: Cursor, wanted: Definition) -> None:
    if wanted.sql_mode is not None:
        cursor.execute("SET SESSION sql_mode = %s", (wanted.sql_mode,))
    else:
        # Not that of the part before: a backslash may be something else in it.
        cursor.execute("SET SESSION sql_mode = DEFAULT")
    if wanted.charset:
        # The driver goes on sending UTF-8: the server is told what the text was written in.
        cursor.execute("SET collation_connection = %s", (wanted.collation,))
    if wanted.time_zone:
        cursor.execute("SET SESSION time_zone = %s", (wanted.time_zone,))
    else:
        cursor.execute("SET SESSION time_zone = DEFAULT")
    with sql.explained(f"The {wanted.kind.lower()} {wanted.name} could not be made"):
        cursor.execute(wanted.statement)


def to_plain(wanted: Sequence[Definition]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(each) for each in wanted]


def from_plain(plain: Sequence[dict[str, Any]]) -> list[Definition]:
    return [Definition(**each) for each in plain]

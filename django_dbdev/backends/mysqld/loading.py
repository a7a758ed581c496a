"""Loading dumps: into a new database whose contents take the old ones' place."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...backups import faults
from ...backups.dumps import Dump, Format, opened
from ...backups.replace import flush_recent
from ...exceptions import DumpError, ServerError
from ...process.run import program_error
from ...process.streams import consume
from ...reporting import seconds, size
from ..server import ballast
from . import beside, commands, dumps, history, sql
from .plain import Quoting, Script, Statement, calling, head_problem
from .served import Served

if TYPE_CHECKING:
    from ..mysql import MySqlBackend

_SHOWN_WIDTH = 300
#: ER_SP_DOES_NOT_EXIST, ER_FUNC_INEXISTENT_NAME_COLLISION.
_NO_ROUTINE = (1305, 1630)


def load(backend: MySqlBackend, dumpfile: str) -> None:
    """What ``dbdev_loaddump`` does; the command's options say how.

    :raises DumpError: when the dump cannot be loaded; nothing is changed then.
    """
    options = getattr(backend.command, "options", {})
    with opened(dumpfile, sys.stdin.buffer) as dump:
        if dump.format is not Format.PLAIN:
            raise DumpError(
                f"{dump.label} is in {dump.format.value}, which {backend.title} does not load.",
                hints=["plain SQL can be loaded, also compressed by gzip, bzip2, xz or zstd"],
            )
        if problem := head_problem(dump.head):
            raise DumpError(f"{dump.label} cannot be loaded: {problem.message}.")
        with backend.served() as served:
            flush_recent(Path(backend.root_backupdir))
            replace_database(served, dump, keep=not options.get("reinit", True))


def replace_database(served: Served, dump: Dump, *, keep: bool = False) -> None:
    """Load into a new database and put its contents into the place of the account's.

    :param keep: begin with a copy of what is there, and load into that.
    :raises DumpError: when the dump cannot be loaded; the old database is as it was then.
    """
    database = served.account.database
    sweep(served)
    with beside.new_database(served.admin, database) as new, ballast.held(served):
        faults.step("loaddump:created")
        if keep:
            _copy(served, new)
        _load(served, dump, new)
        faults.step("loaddump:loaded")
        old, ended = beside.swap(served.admin, served.datadir, database, new)
    faults.step("loaddump:swapped")
    if ended:
        noun = "connection" if ended == 1 else "connections"
        served.reporter.warning(f"Terminated {ended} {noun} to {database}")
    with sql.connect(served.admin) as cursor:
        for left in (new, old):
            beside.drop(cursor, left)
    served.reporter.fact(f"Replaced the contents of {database}")
    faults.step("loaddump:dropped")


def sweep(served: Served) -> None:
    with sql.connect(served.admin) as cursor:
        for name in beside.sweep(cursor, served.datadir):
            served.reporter.fact(f"Removed {name}, which an earlier command had left")


def _copy(served: Served, new: str) -> None:
    """Fill a new database with what the account's has.

    :raises DumpError: when something of it would be lost.
    """
    found = history.find(served)
    if found.lost:
        raise DumpError(
            "To load into what is there, that is copied first, and the copy would lack "
            f"{found.lost}.",
            hints=[
                "back up (dbdev_backup) and load it by the client program (dbdev_guide tells how), "
                "without a copy, and so without a way back"
            ],
        )
    command = dumps.dump(served, dumps.Content(history=found.readable))
    label = f"the copy of {served.account.database}"

    def take(stream: Iterator[bytes]) -> None:
        _carry_out(served, _script(served, label), stream, new)
        for _ in stream:
            """The program is to end by itself."""

    completed, _ = consume(command, take)
    if completed.status != 0:
        raise program_error(command, completed)


def _load(served: Served, dump: Dump, new: str) -> None:
    started = time.perf_counter()
    script = _script(served, dump.label)
    with served.reporter.progress(f"Loading {dump.label}", dump.size) as progress:

        def chunks() -> Iterator[bytes]:
            for chunk in dump.chunks():
                yield chunk
                progress(dump.done)

        _carry_out(served, script, chunks(), new)
    duration = time.perf_counter() - started
    rate = f", {size(round(dump.done / duration))}/s" if dump.done else ""
    served.reporter.fact(
        f"Loaded {dump.label} ({dump}, {size(dump.done)}) in {seconds(duration)}{rate}"
    )
    for kind, count in script.left_out.items():
        served.reporter.fact(f"Left out {kind}: {count}")


def _script(served: Served, label: str) -> Script:
    return Script(label, tuple(int(part) for part in served.toolchain.version.split(".")))


def _carry_out(served: Served, script: Script, chunks: Iterator[bytes], database: str) -> None:
    """
    :raises DumpError: at the first error, with its statement and line.
    """
    try:
        with sql.connect(served.login(database)) as cursor:
            # Rows come in any order, and nobody else sees them yet.
            cursor.execute("SET SESSION foreign_key_checks = 0, unique_checks = 0")
            script.quoting = _quoting(cursor)
            for statement in script.statements(chunks):
                try:
                    _execute(cursor, statement.text, served.account.database, database)
                except ServerError as error:
                    raise _refused(served, script, statement, database, error) from None
                if statement.sets_mode:
                    script.quoting = _quoting(cursor)
    except ServerError as error:
        raise DumpError(f"{script.label} cannot be loaded: {error.message}") from error


def _quoting(cursor: sql.Cursor) -> Quoting:
    # Numbers are the same in whatever character set the dump has asked for.
    cursor.execute(
        "SELECT FIND_IN_SET('NO_BACKSLASH_ESCAPES', @@SESSION.sql_mode),"
        " FIND_IN_SET('ANSI_QUOTES', @@SESSION.sql_mode)"
    )
    row = cursor.fetchone()
    assert row is not None
    return Quoting(escapes=not row[0], ansi=bool(row[1]))


def _execute(cursor: sql.Cursor, statement: bytes, database: str, new: str) -> None:
    """
    :raises ServerError: ``__cause__`` is the driver's error.
    """
    try:
        with sql.explained("refused"):
            sql.execute_raw(cursor, statement)
    except ServerError as error:
        if sql.code(error.__cause__) not in _NO_ROUTINE:
            raise
        # A view that names a function of its database in full: as yet that one is in the new
        # database. The swap gives the view its own words again.
        there = calling(statement, sql.identifier(database).encode(), sql.identifier(new).encode())
        if there == statement:
            raise
        with sql.explained("refused"):
            sql.execute_raw(cursor, there)


def _refused(
    served: Served, script: Script, statement: Statement, new: str, error: ServerError
) -> DumpError:
    text = statement.text
    shown = text[:_SHOWN_WIDTH].decode("utf-8", "replace")
    cause = error.__cause__
    assert cause is not None
    problem = sql.words(cause).replace(new, served.account.database)
    hints = []
    if "Unknown collation" in problem or "Unknown character set" in problem:
        other = "MySQL" if served.toolchain.engine == commands.MARIADB else "MariaDB"
        hints.append(
            f"it was written by {other}, or by a newer version: pin that, or replace the name in "
            "the dump"
        )
    if not sql.is_met(error):
        hints.append(f"the server has ended the connection: see {served.log}")
    return DumpError(
        f"{script.label} cannot be loaded: line {statement.line}: {problem}",
        hints=hints,
        log_tail=shown if len(text) <= _SHOWN_WIDTH else f"{shown}…",
    )

"""What the SQLite guide fills in.

Python's own SQLite is used throughout: it is what the project runs on, and the ``sqlite3``
program need not be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .shell import join, quote

# mode=rw: a misspelt path is an error, where SQLite would else create an empty file.
_OPEN = (
    "import pathlib, sqlite3, sys; "
    'url = pathlib.Path(sys.argv[1]).absolute().as_uri() + "?mode=rw"; '
    "db = sqlite3.connect(url, uri=True, isolation_level=None); "
)
_SQL = _OPEN + r'print(*db.execute(sys.argv[2]), sep="\n")'
_DUMP = _OPEN + r'print(*db.iterdump(), sep="\n")'
_COPY = _OPEN + "db.backup(sqlite3.connect(sys.argv[2]))"
_LOAD = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.stdin.read())"


@dataclass(frozen=True)
class SqliteGuideValues:
    """Ready for a shell: every attribute is quoted, to be printed as it is.

    :param sql: runs the statement that follows, and prints a row a line.
    :param dump: writes the database as SQL.
    :param copy: copies the first file that follows onto the second, also while in use.
    :param load: runs the SQL of its standard input in the file that follows.
    :param shell: Python's SQLite shell; empty before Python 3.12.
    """

    alias: str
    sqlite_version: str
    database: str
    sql: str
    dump: str
    copy: str
    load: str
    shell: str
    manage: str
    database_option: str


def guide_values(
    database: Path,
    *,
    manage: Sequence[str],
    python: str,
    python_version: tuple[int, int],
    sqlite_version: str,
    alias: str = "default",
) -> SqliteGuideValues:
    """The values for one alias.

    :param database: the file, as an absolute path.
    :param python: the interpreter, ``sys.executable``; the two versions are its own.
    """
    file = quote(database)
    # UTF-8 whatever the locale: a dump goes through standard output.
    interpreter = join([python, "-X", "utf8"])
    return SqliteGuideValues(
        alias=quote(alias),
        sqlite_version=sqlite_version,
        database=file,
        sql=f"{interpreter} -c {quote(_SQL)} {file}",
        dump=f"{interpreter} -c {quote(_DUMP)} {file}",
        copy=f"{interpreter} -c {quote(_COPY)}",
        load=f"{interpreter} -c {quote(_LOAD)}",
        shell=f"{interpreter} -m sqlite3 {file}" if python_version >= (3, 12) else "",  # nosec B604
        manage=join(manage),
        database_option="" if alias == "default" else " " + join(["--database", alias]),
    )

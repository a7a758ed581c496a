"""A dump of MariaDB or MySQL, statement by statement, less what is not one database's.

The statements are carried out by the driver and not by the client program, which would take
lines such as ``\\! rm …`` for commands to itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ...exceptions import DumpError

# The lexical structure. Source: MySQL documentation, "Language Structure". What stands in a
# comment that is carried out, /*!50003 …*/ or /*M! …*/, is lexed as if it stood outside; the
# first line of mariadb-dump, /*M!999999\- enable the sandbox mode */, means its own client alone.
_COMMENTS = (
    rb"--(?:[ \t\r][^\n]*+)?(?:\n|\Z)",
    rb"#[^\n]*+(?:\n|\Z)",
    rb"/\*(?!M?!(?!999999\\-))(?:[^*]++|\*(?!/))*+\*/",
)
_SKIPPED = rb"(?:\s++|" + rb"|".join(_COMMENTS) + rb")*+"
_LEADING = re.compile(_SKIPPED, re.DOTALL)
_DELIMITER = re.compile(rb"DELIMITER[ \t]+(\S+)[^\n]*(?:\n|\Z)", re.IGNORECASE)
#: The marks of a comment that is carried out, for looking at what is in it.
_MARKS = re.compile(rb"/\*M?!\d*|\*/")


def _pattern(text: bytes) -> re.Pattern[bytes]:
    """``text`` with a space for any white space, of any case."""
    return re.compile(text.replace(b" ", rb"\s+"), re.IGNORECASE | re.DOTALL)


_NAME = rb"(?:`(?:[^`]|``)*`|[\w$\x80-\xff]+)"
_USE = _pattern(rb"USE (?P<name>" + _NAME + rb")")
_DATABASE = _pattern(rb"(?:CREATE|DROP|ALTER) (?:OR REPLACE )?(?:DATABASE|SCHEMA)\b")
_ACCOUNTS = _pattern(
    rb"(?:GRANT|REVOKE|SET PASSWORD|SET (?:DEFAULT )?ROLE|FLUSH PRIVILEGES"
    rb"|(?:CREATE|DROP|ALTER|RENAME) (?:OR REPLACE )?(?:USER|ROLE))\b"
)
_SERVER = _pattern(
    rb"SET (?:@@)?GLOBAL\b|SET (?:SESSION |@@(?:SESSION\.)?)?SQL_LOG_BIN\b"
    rb"|CHANGE (?:MASTER|REPLICATION)|(?:INSTALL|UNINSTALL) |RESET |PURGE |SHUTDOWN|KILL "
)
_CREATE = _pattern(rb"CREATE\b")
_VIEW = _pattern(rb"CREATE (?:OR REPLACE )?(?:ALGORITHM\s*=\s*\w+ )?(?:SQL SECURITY \w+ )?VIEW\b")
_WHO = rb"(?:'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`]|``)*`|[\w$.%-]+)"
#: It stands before the kind of what is created: the same words behind that are the user's own.
_DEFINER = _pattern(
    rb"(?:\s|/\*M?!\d*|\*/|CREATE\b|OR REPLACE\b|ALGORITHM\s*=\s*\w+)*+"
    rb"(?P<definer>DEFINER\s*=\s*(?:CURRENT_USER(?:\(\))?|"
    + _WHO
    + rb"(?:\s*@\s*"
    + _WHO
    + rb")?))"
)
#: Commands for the client program, which the server would not understand.
_CLIENT = _pattern(rb"(?:SOURCE|SYSTEM|TEE|NOTEE|PAGER|NOPAGER|EDIT|CONNECT|CHARSET|PROMPT)\b")

#: The end of time, which marks a row of a system-versioned table as no history: in MariaDB before
#: 11.5, and since.
_ENDS = (b"'2038-01-19 03:14:07.999999'", b"'2106-02-07 06:28:15.999999'")
_WRITTEN_BY = re.compile(rb"^-- Server version\t(\d+)\.(\d+)", re.MULTILINE)
_HISTORY = _pattern(rb"SET .*system_versioning_insert_history\s*=\s*(?P<value>\S+)\Z")
_SQL_MODE = _pattern(rb"SET .*\bsql_mode\b")
_INSERT = _pattern(rb"(?:INSERT|REPLACE)\b")

_DATABASES = "statements on whole databases"
_RIGHTS = "accounts and privileges"
_OF_THE_SERVER = "settings and commands of the server"
_DEFINERS = "definers: who loads it becomes theirs"


def head_problem(head: bytes) -> DumpError | None:
    """Why a text that begins with ``head`` is no dump of MariaDB or MySQL."""
    start = head[:4096]
    if b"-- PostgreSQL database" in start:
        return DumpError("it is a dump of PostgreSQL, not of MariaDB or MySQL")
    if start.startswith(b"PRAGMA foreign_keys=OFF;"):
        return DumpError("it is a dump of SQLite, not of MariaDB or MySQL")
    return None


@dataclass(frozen=True)
class Quoting:
    """What a session's sql_mode makes of quotes.

    :param escapes: whether a backslash in a string escapes: not with NO_BACKSLASH_ESCAPES.
    :param ansi: whether double quotes are around names, as with ANSI_QUOTES.
    """

    escapes: bool = True
    ansi: bool = False


@dataclass(frozen=True)
class Statement:
    """
    :param line: the one that it begins in, counted from 1.
    :param sets_mode: it may change the session's sql_mode.
    """

    text: bytes
    line: int
    sets_mode: bool = False


class Script:
    """One dump's way through.

    :param version: of the server that takes it, as numbers; empty where that is unknown.
    """

    def __init__(self, label: str, version: tuple[int, ...] = ()) -> None:
        self.label = label
        #: Of the session that carries the statements out. Whoever does that keeps it true: the
        #: next statement is looked for after it.
        self.quoting = Quoting()
        self._version = version
        #: What of each kind was left out, or changed.
        self.left_out: Counter[str] = Counter()
        self._used: dict[str, None] = {}
        self._ends: tuple[bytes, bytes] | None = None
        self._history = False

    def statements(self, chunks: Iterator[bytes]) -> Iterator[Statement]:
        """What is carried out, in its order.

        :raises DumpError: when the dump ends too early, has several databases, or commands for
            the client program.
        """
        whole: bool | None = None
        for text, line in self._split(chunks):
            leading = _LEADING.match(text)
            assert leading is not None
            before = leading.group()
            if self._version and (found := _WRITTEN_BY.search(before)):
                written = (int(found[1]), int(found[2]))
                self._ends = (_end_of_time(written), _end_of_time(self._version))
            if whole is None and re.search(rb"^-- (?:MySQL|MariaDB) dump", before, re.MULTILINE):
                whole = False
            if re.search(rb"^-- Dump completed", before, re.MULTILINE):
                whole = True
            statement = text[leading.end() :]
            if not statement:
                continue
            kept = self._kept(statement, line + before.count(b"\n"))
            if kept is not None:
                mode = _SQL_MODE.match(_plain(kept[:4096])) is not None
                yield Statement(kept, line + before.count(b"\n"), mode)
        if whole is False:
            raise DumpError(
                f"{self.label} is not whole: the last line of its program is missing.",
                hints=["copy or download it again"],
            )

    def _kept(self, statement: bytes, line: int) -> bytes | None:
        """What becomes of a statement; None leaves it out."""
        plain = _plain(statement)
        if found := _USE.match(plain):
            self._use(found["name"])
            return None
        if _CLIENT.match(plain):
            shown = plain[:60].decode("utf-8", "replace")
            raise DumpError(
                f"{self.label} cannot be loaded: line {line}: a command for the client program: "
                f"{shown}",
                hints=["it was not written by a dump program; do not trust this file"],
            )
        for pattern, kind in (
            (_DATABASE, _DATABASES),
            (_ACCOUNTS, _RIGHTS),
            (_SERVER, _OF_THE_SERVER),
        ):
            if pattern.match(plain):
                self.left_out[kind] += 1
                return None
        if _CREATE.match(plain) and (found := _DEFINER.match(statement[:4096])):
            self.left_out[_DEFINERS] += 1
            return statement[: found.start("definer")] + statement[found.end("definer") :]
        if found := _HISTORY.match(plain):
            self._history = found["value"] == b"1"
        elif self._history and self._ends and _INSERT.match(plain):
            # To a server with another end of time such rows would be history, or impossible.
            # What stands within a string has a backslash before its quote.
            written, ours = self._ends
            for before in (b",", b"("):
                statement = statement.replace(before + written, before + ours)
        return statement

    def _use(self, name: bytes) -> None:
        text = name.decode("utf-8", "replace").strip("`").replace("``", "`")
        self._used[text] = None
        if len(self._used) > 1:
            raise DumpError(
                f"{self.label} cannot be loaded: it holds several databases "
                f"({', '.join(self._used)}, …).",
                hints=["dump the one: dbdev_createdump, or mariadb-dump with its name alone"],
            )

    def _split(self, chunks: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
        """The statements, without what ends them, with what is before; and their lines."""
        delimiter = b";"
        first = next(chunks, b"")
        buffer = first.removeprefix(b"\xef\xbb\xbf")
        line, enough, ended = 1, 0, False
        while True:
            # An open string is not looked at again before there is twice as much of it.
            while not ended and len(buffer) < enough:
                more = next(chunks, None)
                ended = more is None
                buffer += more or b""
            position = 0
            while True:
                leading = _LEADING.match(buffer, position)
                assert leading is not None
                start = leading.end()
                command = _DELIMITER.match(buffer, start)
                if command is not None and (ended or command.group().endswith(b"\n")):
                    yield buffer[position:start], line
                    line += buffer.count(b"\n", position, command.end())
                    position = command.end()
                    delimiter = command.group(1)
                    continue
                if command is not None or (
                    not ended and b"DELIMITER".startswith(buffer[start : start + 9].upper())
                ):
                    break  # Its line is not all there.
                found = _until(delimiter, self.quoting).match(buffer, start)
                if found is None:
                    break
                yield buffer[position : found.end() - len(delimiter)], line
                line += buffer.count(b"\n", position, found.end())
                position = found.end()
            buffer = buffer[position:]
            if ended:
                break
            enough = max(2 * len(buffer), 1)
        yield from self._end(buffer, line)

    def _end(self, rest: bytes, line: int) -> Iterator[tuple[bytes, int]]:
        """The last statement, which need not be ended."""
        leading = _LEADING.match(rest)
        assert leading is not None
        if leading.end() < len(rest):
            found = _until(b";", self.quoting).match(rest + b"\n;", leading.end())
            if found is None or found.end() != len(rest) + 2:
                raise DumpError(
                    f"{self.label} is not whole: it ends in the middle of a statement.",
                    hints=["copy or download it again"],
                )
        yield rest, line


def _end_of_time(version: tuple[int, ...]) -> bytes:
    return _ENDS[version >= (11, 5)]


def calling(statement: bytes, own: bytes, other: bytes) -> bytes:
    """A view's statement with what it calls of the database ``own`` called in ``other``.

    :param own: a quoted name, and ``other`` likewise. Dump programs write names so.
    """
    if not _VIEW.match(_plain(statement)):
        return statement
    called = re.compile(re.escape(own) + rb"(?=\.`(?:[^`]|``)*`\s*\()")
    return called.sub(lambda _: other, statement)


def _plain(statement: bytes) -> bytes:
    """The beginning of a statement, to look at; long ones are rows."""
    return _MARKS.sub(b" ", statement[:65536]).strip()


def _quoted(mark: bytes, *, escapes: bool) -> bytes:
    """The expression for what stands between two marks, which are doubled in it."""
    not_plain, escaped = (rb"\\", rb"|\\.") if escapes else (b"", b"")
    return (
        mark + rb"(?:[^" + mark + not_plain + rb"]++" + escaped + b"|" + mark * 2 + rb")*+" + mark
    )


@lru_cache
def _until(delimiter: bytes, quoting: Quoting) -> re.Pattern[bytes]:
    """One statement to its delimiter; no match while a string or comment is open at the end."""
    end = re.escape(delimiter)
    # A character that could begin something longer is taken alone only where it does not.
    plain = rb"[^'\"`#/*\-" + re.escape(delimiter[:1]) + rb"]++"
    single = (
        rb"(?!"
        + end
        + rb")(?:/(?!\*)|\*(?!/)|-(?!-(?:[ \t\r\n]|\Z))|"
        + re.escape(delimiter[:1])
        + rb")"
    )
    tokens = (
        _quoted(b"'", escapes=quoting.escapes),
        # A name with ANSI_QUOTES, and names have no escapes.
        _quoted(b'"', escapes=quoting.escapes and not quoting.ansi),
        _quoted(b"`", escapes=False),
        *_COMMENTS,
        rb"/\*M?!",
        rb"\*/",
        plain,
        single,
    )
    return re.compile(rb"(?:(?!" + end + rb")(?:" + rb"|".join(tokens) + rb"))*+" + end, re.DOTALL)

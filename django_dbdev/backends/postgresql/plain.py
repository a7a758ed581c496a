"""What of a dump in plain SQL a development server takes, as a filter on the stream.

A dump of another server names its owners, roles and tablespaces, and one of a newer pg_dump sets
what an older server does not know. Such statements are left out where they stand alone, outside
of COPY data, strings and bodies of functions; line numbers stay what they are in the dump. So are
those that begin and commit transactions: the load is one, and pg_dump writes some around large
objects. The data of COPY passes through without being looked at but for its end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from typing import NamedTuple

from ...exceptions import DumpError

# The lexical structure of psql's scripts. Source: PostgreSQL documentation, "Lexical Structure".
_NAME = rb"[A-Za-z_\x80-\xff][\w$\x80-\xff]*+"
_TAG = rb"(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*+)?"
_COMMENT = rb"/\*(?:[^*/]++|\*(?!/)|/(?!\*))*+\*/"
for _ in range(3):
    # They nest.
    _COMMENT = rb"/\*(?:[^*/]++|\*(?!/)|/(?!\*)|" + _COMMENT + rb")*+\*/"
_ESCAPED = rb"'(?:[^'\\]++|\\.|'')*+'"
_STANDARD = rb"'(?:[^']++|'')*+'"


class _Lexis(NamedTuple):
    """How text is read while strings have one syntax.

    :param statement: one statement with what is before it, to its semicolon or the end of psql's
        own command. It does not match while any string, comment or body is still open at the end.
    :param token: what may hold anything, or a word or parenthesis, which is its group.
    """

    statement: re.Pattern[bytes]
    token: re.Pattern[bytes]

    def words(self, statement: bytes) -> Iterator[bytes]:
        """Its words, in upper case, and its parentheses; nothing of strings, comments, bodies."""
        found = (match["word"] for match in self.token.finditer(statement))
        return (word.upper() for word in found if word)


def _lexis(string: bytes) -> _Lexis:
    name = rb"(?![eE]')" + _NAME
    holding = (
        rb"[eE]" + _ESCAPED,
        string,
        rb'"[^"]*+"',
        rb"--[^\n]*+\n",
        _COMMENT,
        rb"\$(?P<tag>" + _TAG + rb")\$.*?\$(?P=tag)\$",
    )
    tokens = (
        name,
        rb"[^A-Za-z_\x80-\xff'\"$;\\/\-]++",
        *holding,
        rb"-(?!-)",
        rb"/(?!\*)",
        rb"\$(?!" + _TAG + rb"\$)",
    )
    return _Lexis(
        re.compile(rb"(?:" + rb"|".join(tokens) + rb")*+(?:;|\\[^\n]*+\n)", re.DOTALL),
        re.compile(rb"(?P<word>" + name + rb"|[()])|" + rb"|".join(holding), re.DOTALL),
    )


_LEXIS = _lexis(_STANDARD)
#: With standard_conforming_strings = off, as servers before 9.1 had it.
_OLD_LEXIS = _lexis(_ESCAPED)
_LEADING = re.compile(rb"(?:\s++|--[^\n]*+(?:\n|\Z)|" + _COMMENT + rb")*+", re.DOTALL)
_WORD = re.compile(rb"[A-Za-z]+")
_IDENTIFIER = rb'(?:"(?:[^"]|"")*"|[\w$\x80-\xff]+)'


def _pattern(text: bytes) -> re.Pattern[bytes]:
    """``text`` with a space for any white space, of any case."""
    return re.compile(text.replace(b" ", rb"\s+"), re.IGNORECASE | re.DOTALL)


_COPY = _pattern(rb"COPY (?P<table>.*?)(?:\s*\(.*\))? FROM STDIN\b")
_BACKSLASH_COPY = _pattern(rb"\\copy (?P<table>\S+).* from (?:p?stdin)\b")
_OWNER = _pattern(rb"ALTER .* OWNER TO " + _IDENTIFIER + rb"\s*;\Z")
_PARTS_DROPPED = _pattern(rb"ALTER .* DROP ")
_CLUSTER_WIDE = rb"(?:ROLE|USER(?! MAPPING)|GROUP|DATABASE|TABLESPACE|SUBSCRIPTION)\b"
_OF_THE_CLUSTER = _pattern(rb"(?:CREATE|ALTER|DROP|COMMENT ON) " + _CLUSTER_WIDE)
_PRIVILEGES = _pattern(rb"(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES)\b")
_COMMENT_ON_EXTENSION = _pattern(rb"COMMENT ON EXTENSION ")
_ROLE = _pattern(
    rb"(?:SET(?: (?:SESSION|LOCAL))? (?:ROLE|SESSION AUTHORIZATION)"
    rb"|RESET (?:ROLE|SESSION AUTHORIZATION))\b"
)
_SET = _pattern(
    rb"SET (?:(?:SESSION|LOCAL) )?(?P<name>[A-Za-z_]\w*)\s*(?:=| TO )\s*(?P<value>.*);\Z"
)
_STATISTICS = _pattern(
    rb"SELECT \* FROM pg_catalog\.(?P<name>pg_restore_(?:relation|attribute)_stats)\s*\("
)
_PUBLIC = _pattern(rb"CREATE SCHEMA (?P<name>public\s*;)")
_ROLES = _pattern(
    rb"CREATE (?:POLICY .*? TO (?P<policy>"
    + _IDENTIFIER
    + rb"(?:\s*,\s*"
    + _IDENTIFIER
    + rb")*)(?= USING| WITH|\s*;)|USER MAPPING (?:IF NOT EXISTS )?FOR (?P<mapping>"
    + _IDENTIFIER
    + rb"))"
)
#: How a statement begins that may have a body in SQL, with semicolons of its own.
_ROUTINES = {
    (*create, kind)
    for create in ((b"CREATE",), (b"CREATE", b"OR", b"REPLACE"))
    for kind in (b"FUNCTION", b"PROCEDURE")
}
_NO_ROLES = {b"public", b"current_user", b"current_role", b"session_user", b"user"}

_OWNERS = "owners, roles and privileges"
_TABLESPACES = "tablespaces"
_NEWER = "settings that this version does not know"
_STATISTICS_OF_NEWER = "statistics that this version cannot load"
_CLUSTER = "roles, databases and subscriptions"
_CLEANING = "removal of what a new database does not have"


def head_problem(head: bytes) -> DumpError | None:
    """Why a text that begins with ``head`` is no dump of one PostgreSQL database."""
    start = head[:4096]
    if b"-- PostgreSQL database cluster dump" in start:
        return DumpError(
            "it is a dump of a whole cluster, as pg_dumpall writes it",
            hints=["dump the one database: pg_dump, or dbdev_createdump"],
        )
    if re.search(rb"^-- (?:MySQL|MariaDB) dump", start, re.MULTILINE):
        return DumpError("it is a dump of MySQL or MariaDB, not of PostgreSQL")
    if start.startswith(b"PRAGMA foreign_keys=OFF;"):
        return DumpError("it is a dump of SQLite, not of PostgreSQL")
    return None


def roles_of(statement: bytes) -> list[bytes]:
    """The roles, as they are written, without which the statement cannot be carried out."""
    found = _ROLES.match(statement)
    if found is None:
        return []
    names = re.findall(_IDENTIFIER, found["policy"] or found["mapping"])
    return [name for name in names if name.lower() not in _NO_ROLES]


def open_blocks(words: Iterable[bytes], depth: int) -> int:
    """How many BEGIN ATOMIC and CASE are open after a part of a routine, and before it ``depth``.

    psql finds the end of a routine by such counting too. Source: PostgreSQL, psqlscan.l.
    """
    parentheses = 0
    before = b""
    for word in words:
        if word == b"(":
            parentheses += 1
        elif word == b")":
            parentheses = max(0, parentheses - 1)
        elif parentheses == 0:
            if (before, word) == (b"BEGIN", b"ATOMIC") or (word == b"CASE" and depth):
                depth += 1
            elif word == b"END" and depth:
                depth -= 1
        before = word
    return depth


def make_role(name: bytes) -> bytes:
    """A statement that creates a role where it is missing; it can not log in."""
    return (
        b"DO $dbdev$BEGIN CREATE ROLE %s; EXCEPTION WHEN duplicate_object THEN NULL; END$dbdev$;"
        % name
    )


def _cut(label: str) -> DumpError:
    return DumpError(
        f"{label} is not whole: it ends in the middle of a statement.",
        hints=["copy or download it again"],
    )


class PlainFilter:
    """One dump's way through.

    :param known: the names of the server's settings, and of its functions that load statistics.
    :param fresh: the database is new and empty, so that nothing can be removed from it.
    """

    def __init__(self, known: Collection[str], *, fresh: bool) -> None:
        self._known = known
        self._fresh = fresh
        self._created = False
        self._restricted = False
        self._lexis = _LEXIS
        #: How many blocks of a routine's body in SQL are open.
        self._depth = 0
        #: What of each kind was left out.
        self.left_out: Counter[str] = Counter()
        #: Roles that policies need, as they are written.
        self.roles: set[bytes] = set()
        #: Where the data of each COPY ends, and where its statement does: lines, from 1.
        self.copies: dict[int, int] = {}
        self._line = 1
        self._by_word: dict[bytes, Callable[[bytes], bytes | None]] = {
            b"ABORT": self._transaction,
            b"ALTER": self._alter,
            b"BEGIN": self._transaction,
            b"COMMENT": self._comment,
            b"COMMIT": self._transaction,
            b"COPY": self._keep_created,
            b"CREATE": self._create,
            b"DROP": self._drop,
            b"END": self._transaction,
            b"GRANT": self._privilege,
            b"INSERT": self._keep_created,
            b"PREPARE": self._transaction,
            b"RESET": self._role,
            b"REVOKE": self._privilege,
            b"ROLLBACK": self._transaction,
            b"SECURITY": self._security_label,
            b"SELECT": self._select,
            b"SET": self._set,
            b"START": self._transaction,
        }

    def filtered(self, chunks: Iterator[bytes], label: str) -> Iterator[bytes]:
        """What psql is given.

        :raises DumpError: when the dump ends too early, holds what one transaction cannot, or
            after ``\\restrict`` holds commands for psql.
        """
        first = next(chunks, b"")
        buffer = first.removeprefix(b"\xef\xbb\xbf")
        # pg_dump says that it has come to the end; other texts need not.
        complete = re.search(rb"^-- PostgreSQL database dump\r?$", buffer[:4096], re.M) is None
        enough = 0
        ended = False
        while True:
            # An open string is not looked at again before there is twice as much of it.
            while not ended and len(buffer) < enough:
                more = next(chunks, None)
                ended = more is None
                buffer += more or b""
            out: list[bytes] = []
            position = 0
            copy: bytes | None = None
            while copy is None and (found := self._lexis.statement.match(buffer, position)):
                text = found.group()
                position = found.end()
                leading, piece, copy = self._piece(text)
                if copy is not None and text.endswith(b"\n"):
                    # After psql's own \\copy, as behind a semicolon, the data begins with the
                    # end of the line.
                    position, piece = position - 1, piece[:-1]
                    self._line -= 1
                complete = complete or b"-- PostgreSQL database dump complete" in leading
                out += leading, piece
            yield b"".join(out)
            buffer = buffer[position:]
            if copy is not None:
                buffer = yield from self._copy(buffer, chunks, copy, label)
                enough = 0
                continue
            if ended:
                break
            enough = max(2 * len(buffer), 1)
        yield self._end(buffer, label)
        if self._depth:
            raise _cut(label)
        if not (complete or b"-- PostgreSQL database dump complete" in buffer):
            raise DumpError(
                f"{label} is not whole: pg_dump's last line is missing.",
                hints=["copy or download it again"],
            )

    def _piece(self, text: bytes) -> tuple[bytes, bytes, bytes | None]:
        """What is before the statement, what becomes of it, and the table whose data follows."""
        leading = _LEADING.match(text)
        assert leading is not None
        statement = text[leading.end() :]
        self._line += leading.group().count(b"\n")
        kept, copy = self._kept(statement)
        self._line += statement.count(b"\n")
        return leading.group(), kept, copy

    def _kept(self, statement: bytes) -> tuple[bytes, bytes | None]:
        """What becomes of a statement, and the table whose data follows."""
        if statement.endswith(b"\n"):
            return self._command(statement)
        if self._depth:
            self._depth = open_blocks(self._lexis.words(statement), self._depth)
            return statement, None
        word = _WORD.match(statement)
        rule = self._by_word.get(word.group().upper()) if word else None
        if rule is None:
            return statement, None
        kept = rule(statement)
        if kept is None:
            return b"\n" * statement.count(b"\n"), None
        copy = _COPY.match(statement)
        return kept, copy["table"] if copy else None

    def _copy(
        self, buffer: bytes, chunks: Iterator[bytes], table: bytes, label: str
    ) -> Generator[bytes, None, bytes]:
        """Pass the data of one COPY through; ``buffer`` begins behind its semicolon.

        Returns what follows the line with the end mark.
        """
        start = 0
        begun = self._line
        while True:
            mark = buffer.find(b"\n\\.", start)
            if mark >= 0:
                rest = buffer[mark + 3 : mark + 5]
                if rest[:1] == b"\n" or rest == b"\r\n":
                    yield buffer[: mark + 3]
                    self._line += buffer.count(b"\n", 0, mark + 3)
                    self.copies[self._line] = begun
                    return buffer[mark + 3 :]
                if len(rest) == 2 or rest not in (b"", b"\r"):
                    start = mark + 1
                    continue
            # The end mark may begin in this chunk.
            keep = mark if mark >= 0 else max(start, len(buffer) - 2)
            yield buffer[:keep]
            self._line += buffer.count(b"\n", 0, keep)
            more = next(chunks, None)
            if more is None:
                if mark >= 0:
                    yield buffer[keep:] + b"\n"
                    return b""
                raise DumpError(
                    f"{label} is not whole: it ends in the middle of the data of "
                    f"{table.decode('utf-8', 'replace').strip()}.",
                    hints=["copy or download it again"],
                )
            buffer = buffer[keep:] + more
            start = 0

    def _end(self, rest: bytes, label: str) -> bytes:
        """The last statement, which need not have a semicolon."""
        leading = _LEADING.match(rest)
        assert leading is not None
        if leading.end() == len(rest):
            return rest
        if rest[leading.end() :].startswith(b"\\"):
            found = self._lexis.statement.match(rest + b"\n")
        else:
            found = self._lexis.statement.match(rest + b"\n;")
        if found is None:
            raise _cut(label)
        before, piece, copy = self._piece(found.group())
        if copy is not None:
            raise DumpError(f"{label} is not whole: the data of its last COPY is missing.")
        return before + piece + b"\n"

    def _command(self, text: bytes) -> tuple[bytes, bytes | None]:
        """A line for psql itself."""
        before, _, line = text.rpartition(b"\\")
        if b"\\" in before:
            # More than one, or arguments with backslashes: from the first on.
            at = text.index(b"\\")
            before, line = text[:at], text[at + 1 :]
        name = line.split(maxsplit=1)[0] if line.strip() else b""
        if name == b"restrict":
            self._restricted = True
            return before + b"\n", None
        if name in (b"unrestrict", b"connect", b"c"):
            return before + b"\n", None
        if name in (b"set", b"unset") and b"ON_ERROR_STOP" in line:
            return before + b"\n", None
        if self._restricted:
            # pg_dump's own protection: a dump of a hostile server could run programs by these.
            shown = b"\\" + line.strip()[:60]
            raise DumpError(
                f"A command for psql stands in the dump after \\restrict, which forbids them: "
                f"{shown.decode('utf-8', 'replace')}",
                hints=["it was not written by pg_dump; do not trust this file"],
            )
        copy = _BACKSLASH_COPY.match(b"\\" + line)
        return text, copy["table"] if copy else None

    # Rules: what becomes of a statement; None leaves it out.

    def _keep_created(self, statement: bytes) -> bytes:
        self._created = True
        return statement

    def _leave_out(self, kind: str) -> bytes | None:
        self.left_out[kind] += 1
        return None

    def _privilege(self, statement: bytes) -> bytes | None:
        return self._leave_out(_OWNERS)

    def _alter(self, statement: bytes) -> bytes | None:
        if _OWNER.match(statement) or _PRIVILEGES.match(statement):
            return self._leave_out(_OWNERS)
        if _OF_THE_CLUSTER.match(statement):
            return self._leave_out(_CLUSTER)
        if self._fresh and not self._created and _PARTS_DROPPED.match(statement):
            return self._leave_out(_CLEANING)
        return statement

    def _comment(self, statement: bytes) -> bytes | None:
        if _COMMENT_ON_EXTENSION.match(statement):
            return self._leave_out(_OWNERS)
        if _OF_THE_CLUSTER.match(statement):
            return self._leave_out(_CLUSTER)
        return statement

    def _create(self, statement: bytes) -> bytes | None:
        if _OF_THE_CLUSTER.match(statement):
            return self._leave_out(_CLUSTER)
        self._created = True
        if b"ATOMIC" in statement.upper():
            words = tuple(self._lexis.words(statement))
            if words[:2] in _ROUTINES or words[:4] in _ROUTINES:
                self._depth = open_blocks(words, 0)
        if public := _PUBLIC.match(statement):
            # It is in every new database.
            start = public.start("name")
            return statement[:start] + b"IF NOT EXISTS " + statement[start:]
        roles = roles_of(statement)
        self.roles.update(roles)
        return b"".join(map(make_role, roles)) + statement

    def _drop(self, statement: bytes) -> bytes | None:
        if _OF_THE_CLUSTER.match(statement):
            return self._leave_out(_CLUSTER)
        if self._fresh and not self._created:
            return self._leave_out(_CLEANING)
        return statement

    def _security_label(self, statement: bytes) -> bytes | None:
        return self._leave_out(_OWNERS)

    def _select(self, statement: bytes) -> bytes | None:
        # pg_dump --statistics, of 18 and later.
        found = _STATISTICS.match(statement)
        if found is not None and found["name"].decode().lower() not in self._known:
            return self._leave_out(_STATISTICS_OF_NEWER)
        return statement

    def _role(self, statement: bytes) -> bytes | None:
        return self._leave_out(_OWNERS) if _ROLE.match(statement) else statement

    def _set(self, statement: bytes) -> bytes | None:
        if _ROLE.match(statement):
            return self._leave_out(_OWNERS)
        found = _SET.match(statement)
        if found is None:
            return statement
        name, value = found["name"].decode().lower(), found["value"].strip()
        if name == "standard_conforming_strings":
            off = value.strip(b"'\"").lower() in (b"off", b"false", b"0", b"no")
            self._lexis = _OLD_LEXIS if off else _LEXIS
        elif name == "default_tablespace" and value not in (b"''", b'""'):
            return self._leave_out(_TABLESPACES)
        elif name not in self._known:
            return self._leave_out(_NEWER)
        return statement

    def _transaction(self, statement: bytes) -> bytes | None:
        """The dump is loaded in one transaction, which ends when all of it came through.

        :raises DumpError: when that cannot be.
        """
        words = tuple(self._lexis.words(statement))
        match words:
            case (b"PREPARE", b"TRANSACTION", *_) | (b"COMMIT" | b"ROLLBACK", b"PREPARED", *_):
                raise self._refused(words[:2], "is not possible in the one transaction of a load")
            case (b"ABORT", *_):
                raise self._refused(words[:1], "would take back what was loaded before it")
            case (b"ROLLBACK", *_) if b"TO" not in words:
                raise self._refused(words[:1], "would take back what was loaded before it")
            case (b"BEGIN" | b"COMMIT" | b"END", *_) | (b"START", b"TRANSACTION", *_):
                return None
        return statement

    def _refused(self, words: Iterable[bytes], problem: str) -> DumpError:
        shown = b" ".join(words).decode()
        return DumpError(
            f"The dump cannot be loaded: line {self._line}: {shown} {problem}.",
            hints=["remove it from the dump, together with the statements that it concerns"],
        )

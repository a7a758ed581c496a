"""Loading dumps: into a new database that takes the old one's place, or into what is there."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...backups import faults
from ...backups.dumps import Dump, Format, opened
from ...backups.replace import flush_recent
from ...exceptions import DumpError
from ...process.run import Completed, program_error, run, spawn
from ...process.streams import feed, reading_watched
from ...reporting import seconds, size
from ..server import ballast
from . import beside, dumps, sql
from .archive import read_header
from .commands import session_options
from .plain import PlainFilter, head_problem, make_role
from .served import Served

if TYPE_CHECKING:
    from ..postgres import PostgresBackend

_MOST_JOBS = 8
_SHOWN_LINES = 8
_SHOWN_WIDTH = 160
#: An error of psql: where, and what.
_PSQL_ERROR = re.compile(r"^psql:<stdin>:(\d+): (?:ERROR|FATAL|PANIC|error): +(.*)$", re.MULTILINE)
_COPY_ROW = re.compile(r"^CONTEXT: +COPY .*?, line (\d+)", re.MULTILINE)
_RESTORE_ERROR = re.compile(r"^pg_restore: error: (.*)$", re.MULTILINE)
_RESTORE_ENTRY = re.compile(r"^pg_restore: from TOC entry (.*)$", re.MULTILINE)
_PUBLIC = re.compile(r"^\d+; \d+ \d+ SCHEMA - public ", re.MULTILINE)
_NEED_ROLES = re.compile(r"^\d+; \d+ \d+ (?:POLICY|USER MAPPING) ", re.MULTILINE)


def jobs() -> int:
    """How many connections work at once: one for each processor that we may use."""
    if sys.platform == "linux":
        return min(_MOST_JOBS, len(os.sched_getaffinity(0)))
    return min(_MOST_JOBS, os.cpu_count() or 1)


def load(backend: PostgresBackend, dumpfile: str) -> None:
    """What ``dbdev_loaddump`` does; the command's options say how.

    :raises DumpError: when the dump cannot be loaded; nothing is changed then.
    """
    options = getattr(backend.command, "options", {})
    with opened(dumpfile, sys.stdin.buffer) as dump:
        if options.get("sql_only") and dump.format is not Format.PLAIN:
            raise DumpError(
                f"{dump.label} is in {dump.format.value}, not in plain SQL.",
                hints=["dbdev_loaddump loads every format"],
            )
        with backend.served() as served:
            if options.get("reinit", True):
                flush_recent(Path(backend.root_backupdir))
                replace_database(served, dump)
            else:
                load_into(served, dump)


def replace_database(served: Served, dump: Dump) -> None:
    """Load into a new database and put it into the place of the account's.

    :raises DumpError: when the dump cannot be loaded; the old database is as it was then.
    """
    account = served.account
    sweep(served)
    beside.refuse_what_cannot_go(served.maintenance, account.database)
    with (
        _prepared(served, dump) as prepared,
        beside.new_database(served.maintenance, account) as new,
        ballast.held(served),
    ):
        faults.step("loaddump:created")
        prepared.load(new, fresh=True)
        faults.step("loaddump:loaded")
        _ensure_extensions(served, new)
        faults.step("loaddump:finished")
        old, ended = beside.swap(served.maintenance, account.database, new)
    faults.step("loaddump:swapped")
    if ended:
        who = ", ".join(f"{count} × {client}" for client, count in sorted(ended.items()))
        served.reporter.warning(
            f"Terminated {ended.total()} connections to {account.database}: {who}"
        )
    if old is not None:
        # Removing it waits for the disk to take all of the new one; nobody else has to.
        spawn(dumps.drop_database(served, old), served.log)
        served.reporter.fact(f"Replaced the database {account.database}")
    else:
        served.reporter.fact(f"Created database {account.database}")
    faults.step("loaddump:dropped")


def load_into(served: Served, dump: Dump) -> None:
    """Load into what is there, in one transaction.

    :raises DumpError: when the dump cannot be loaded; nothing is changed then.
    """
    sweep(served)
    with _prepared(served, dump) as prepared, ballast.held(served):
        prepared.load(served.account.database, fresh=False)
        faults.step("loaddump:loaded")
        _ensure_extensions(served, served.account.database)


def sweep(served: Served) -> None:
    with sql.connect(served.maintenance) as cursor:
        removed, problems = beside.sweep(cursor)
    for name in removed:
        served.reporter.fact(f"Removed {name}, which an earlier command had left")
    for problem in problems:
        served.reporter.warning(problem)


class _Prepared:
    """A dump that was looked at, ready to be loaded."""

    def __init__(self, served: Served, dump: Dump) -> None:
        self.served = served
        self.dump = dump

    def load(self, database: str, *, fresh: bool) -> None:
        raise NotImplementedError

    def _loaded(self, started: float, count: int | None) -> None:
        duration = time.perf_counter() - started
        of = f", {size(count)}" if count else ""
        rate = f", {size(round(count / duration))}/s" if count else ""
        self.served.reporter.fact(
            f"Loaded {self.dump.label} ({self.dump}{of}) in {seconds(duration)}{rate}"
        )


@contextmanager
def _prepared(served: Served, dump: Dump) -> Iterator[_Prepared]:
    """
    :raises DumpError: when it is plain already that the dump cannot be loaded.
    """
    if dump.format is Format.PLAIN:
        if problem := head_problem(dump.head):
            raise DumpError(
                f"{dump.label} cannot be loaded: {problem.message}.", hints=problem.hints
            )
        yield _Plain(served, dump)
        return
    with _as_file(served, dump) as path:
        yield _Archive(served, dump, path)


class _Plain(_Prepared):
    def load(self, database: str, *, fresh: bool) -> None:
        served, dump = self.served, self.dump
        started = time.perf_counter()
        with sql.connect(served.login(database)) as cursor:
            cursor.execute(
                "SELECT lower(name) FROM pg_settings"
                " UNION SELECT proname FROM pg_proc WHERE proname ~ '^pg_restore_.*_stats$'"
            )
            known = {name for (name,) in cursor.fetchall()}
        script = PlainFilter(known, fresh=fresh)
        command = dumps.psql(served, database, _options(served.toolchain.major, 1))
        with served.reporter.progress(f"Loading {dump.label}", dump.size) as progress:

            def chunks() -> Iterator[bytes]:
                for chunk in script.filtered(dump.chunks(), dump.label):
                    yield chunk
                    progress(dump.done)
                # Only when all of it came through: an end before this leaves nothing behind.
                yield b"\nCOMMIT;\n"

            completed = feed(command, chunks())
        if completed.status != 0:
            raise _psql_error(dump, completed, script.copies) or program_error(command, completed)
        self._loaded(started, dump.done)
        for kind, count in script.left_out.items():
            served.reporter.fact(f"Left out {kind}: {count} statements")
        _tell_roles(served, script.roles)


class _Archive(_Prepared):
    def __init__(self, served: Served, dump: Dump, path: Path) -> None:
        super().__init__(served, dump)
        self.path = path
        self.header = read_header(path, dump.format)
        command = dumps.pg_restore_list(served, path)
        completed = run(command, check=False)
        if completed.status != 0:
            raise self._error(completed) or program_error(command, completed)
        self.contents = completed.output

    def load(self, database: str, *, fresh: bool) -> None:
        served, dump = self.served, self.dump
        started = time.perf_counter()
        parallel = fresh and dump.format in (Format.CUSTOM, Format.DIRECTORY)
        count = jobs() if parallel else 1
        self._make_roles(database)
        with self._use_list() as use_list:
            options = _options(served.toolchain.major, count)
            command = dumps.pg_restore(
                served, self.path, database, options, jobs=count, use_list=use_list
            )
            stored = dump.size if dump.path else self.path.stat().st_size
            with (
                served.reporter.progress(f"Loading {dump.label}", stored) as progress,
                reading_watched("pg_restore", progress),
            ):
                completed = run(command, check=False)
        if completed.status != 0 or "errors ignored on restore" in completed.errors:
            raise self._error(completed) or program_error(command, completed)
        self._loaded(started, stored)

    def _make_roles(self, database: str) -> None:
        """Create the roles that policies name: pg_restore cannot leave those out."""
        if not _NEED_ROLES.search(self.contents):
            return
        roles: set[bytes] = set()
        for section in ("pre-data", "post-data"):
            script = run(dumps.pg_restore_script(self.served, self.path, section)).output
            known = PlainFilter((), fresh=True)
            for _ in known.filtered(iter([script.encode()]), self.dump.label):
                pass
            roles |= known.roles
        with sql.connect(self.served.login(database)) as cursor:
            for name in roles:
                with sql.explained("A role could not be created"):
                    cursor.execute(make_role(name).decode())
        _tell_roles(self.served, roles)

    @contextmanager
    def _use_list(self) -> Iterator[Path | None]:
        """A list without the schema that every new database has, where the archive creates it."""
        if not _PUBLIC.search(self.contents):
            yield None
            return
        lines = self.contents.splitlines(keepends=True)
        file = Path(f"{self.served.scratch}.list.new")
        file.write_text("".join(line for line in lines if not _PUBLIC.match(line)), "utf-8")
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)

    def _error(self, completed: Completed) -> DumpError | None:
        """What pg_restore said, in our words."""
        found = _RESTORE_ERROR.search(completed.errors)
        if found is None:
            return None
        problem = found.group(1)
        hints = _hints(problem)
        if "unsupported version" in problem:
            hints = [
                f"it was written by pg_dump {self.header.pg_dump_version}, and the pin gives "
                f"{self.served.toolchain.version}: pin "
                f'version = "{self.header.pg_dump_major}" in pyproject.toml, or newer'
            ]
        entry = _RESTORE_ENTRY.search(completed.errors)
        where = f" ({entry.group(1)})" if entry else ""
        problem = problem.removeprefix("could not execute query: ").removeprefix("ERROR:").strip()
        return DumpError(
            f"{self.dump.label} cannot be loaded: {problem}{where}",
            hints=hints,
            log_tail=_shortened(completed.errors[found.end() :]),
        )


@contextmanager
def _as_file(served: Served, dump: Dump) -> Iterator[Path]:
    """The dump as a file or folder that pg_restore can read at any place."""
    if dump.path is not None:
        yield dump.path
        return
    file = Path(f"{served.scratch}.archive.new")
    try:
        with (
            served.reporter.progress(f"Unpacking {dump.label}", dump.size) as progress,
            open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as unpacked,
        ):
            for chunk in dump.chunks():
                unpacked.write(chunk)
                progress(dump.done)
        yield file
    finally:
        file.unlink(missing_ok=True)


def _options(major: int, connections: int) -> dict[str, str]:
    """Settings of the loading connections alone."""
    options = {
        **session_options(major),
        # A commit of each of a thousand statements need not wait for the disk: the swap does.
        "synchronous_commit": "off",
        # For building indexes; the machine's memory is shared by the connections.
        "maintenance_work_mem": f"{_maintenance_memory(connections)}MB",
    }
    if connections > 1:
        # They have every processor busy without helpers of their own.
        options["max_parallel_maintenance_workers"] = "0"
    return options


def _maintenance_memory(connections: int) -> int:
    """MB: an eighth of the machine's memory for all, between 64 and 512 for each."""
    import psutil

    total = psutil.virtual_memory().total // 2**20
    return int(max(64, min(512, total // 8 // connections)))


def _ensure_extensions(served: Served, database: str) -> None:
    """The pin's extensions, where the dump has not brought them."""
    if not served.extensions:
        return
    with (
        sql.connect(served.login(database)) as cursor,
        sql.explained("The pin's extensions could not be created"),
    ):
        created = sql.ensure_extensions(cursor, served.extensions)
    if created:
        served.reporter.fact(f"Created extensions in {database}: {', '.join(created)}")


def _tell_roles(served: Served, roles: set[bytes]) -> None:
    if roles:
        names = ", ".join(sorted(name.decode("utf-8", "replace") for name in roles))
        served.reporter.fact(f"Policies name these roles, made sure that they exist: {names}")


def _psql_error(dump: Dump, completed: Completed, copies: Mapping[int, int]) -> DumpError | None:
    """The first error that psql wrote, with its statement and line."""
    found = _PSQL_ERROR.search(completed.errors)
    if found is None:
        return None
    line, problem = int(found[1]), found[2]
    rest = re.sub(r"^psql:<stdin>:\d+: ", "", completed.errors[found.end() :], flags=re.MULTILINE)
    if (row := _COPY_ROW.search(rest)) and line in copies:
        # psql tells where the data ends, the server which row of it is wrong.
        line = copies[line] + int(row[1])
    return DumpError(
        f"{dump.label} cannot be loaded: line {line}: {problem}",
        hints=_hints(problem),
        log_tail=_shortened(rest),
    )


def _shortened(text: str) -> str:
    lines = text.strip().splitlines()
    shown = [
        line if len(line) <= _SHOWN_WIDTH else f"{line[:_SHOWN_WIDTH]}…"
        for line in lines[:_SHOWN_LINES]
    ]
    return "\n".join([*shown, "…"] if len(lines) > _SHOWN_LINES else shown)


def _hints(problem: str) -> list[str]:
    if found := re.search(r'extension "(.+?)" is not available', problem) or re.search(
        r'could not open extension control file ".*/(.+)\.control"', problem
    ):
        return [
            f'pin it, so that a server with it is looked for: extensions = ["{found.group(1)}"] '
            "in [tool.django_dbdev.postgresql]"
        ]
    if re.search(r'relation ".*" does not exist', problem):
        return ["a dump of data alone needs the tables: --no-reinit loads it into what is there"]
    if "already exists" in problem:
        return ["without --no-reinit it is loaded into a new database"]
    return []

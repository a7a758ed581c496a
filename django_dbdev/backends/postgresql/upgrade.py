"""A cluster of one major version made into one of another, beside it.

By pg_upgrade, which copies the data's files (or clones them, where the file system can) and
carries the rest over as a dump of definitions: the old files are not linked, and stay what they
are. Where one of the two installations lacks programs that it needs, by dumps of everything.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ... import conf
from ...backups.copying import clone
from ...backups.faults import step
from ...backups.replace import discard
from ...binaries.toolchain import Toolchain
from ...exceptions import ProgramError, ServerError
from ...process import ports
from ...process.command import Command
from ...process.privileges import Identity
from ...process.run import run
from ...process.sockets import make_private
from ...reporting import seconds
from . import commands, sql
from .commands import SUPERUSER
from .control import PostgresControl
from .files import PostgresFiles

if TYPE_CHECKING:
    from ..postgres import PostgresBackend

#: What pg_upgrade runs, of the old installation and of the new. Source: its ``exec.c``.
_OLD_PROGRAMS = ("postgres", "pg_controldata", "pg_resetwal", "pg_ctl")
_NEW_PROGRAMS = (
    *_OLD_PROGRAMS,
    "pg_upgrade",
    "initdb",
    "pg_dump",
    "pg_dumpall",
    "pg_restore",
    "psql",
)

#: Everything that users make, and that extensions do not.
_RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                AND d.objid = c.oid AND d.deptype IN ('e', 'i'))
ORDER BY 1, 2, 3
"""
#: A file that pg_upgrade names: on a line of its own, or quoted.
_NAMED = re.compile(r'(?:^\s*|")([^\s"][^"\n]*\.(?:txt|log))(?:"|$)', re.MULTILINE)
_SHOWN = 15
_OUTDATED = """
SELECT name FROM pg_available_extensions
WHERE installed_version IS NOT NULL AND installed_version <> default_version ORDER BY 1
"""


@dataclass(frozen=True)
class Inventory:
    """What a server holds: the same before and after.

    :param counts: rows by database, schema and table; empty where they were not counted.
    """

    roles: tuple[str, ...]
    relations: Mapping[str, tuple[tuple[str, str, str], ...]]
    counts: Mapping[tuple[str, str, str], int]

    def difference(self, other: Inventory) -> str:
        """The first thing that ``other`` has differently, in words; empty where there is none."""
        if missing := sorted(set(self.roles) - set(other.roles)):
            return f"the role {missing[0]!r} is missing"
        for database, relations in self.relations.items():
            if database not in other.relations:
                return f"the database {database!r} is missing"
            for name in sorted(set(relations) ^ set(other.relations[database])):
                return f"{name[0]}.{name[1]} in {database!r} is not on both sides"
        for table, count in self.counts.items():
            if other.counts.get(table) != count:
                found = other.counts.get(table)
                return f"{'.'.join(table)} has {found} rows, and had {count}"
        return ""


class Upgrade:
    """One upgrade of a cluster that does not run, under the server's lock."""

    def __init__(
        self, backend: PostgresBackend, old: Toolchain, new: Toolchain, target: Path, work: Path
    ) -> None:
        self.backend = backend
        self.old, self.new = old, new
        self.work = work
        self.before = PostgresControl(backend.files)
        self.after = PostgresControl(PostgresFiles(target.parent, target.name))

    @cached_property
    def identity(self) -> Identity:
        backend = self.backend
        return backend.choose_identity(
            self.new, backend.tempdata, conf.store(), data=backend.files.datadir
        )

    @property
    def by_files(self) -> bool:
        return set(_OLD_PROGRAMS) <= set(self.old.programs) and set(_NEW_PROGRAMS) <= set(
            self.new.programs
        )

    def run(self) -> Sequence[str]:
        try:
            return self._run()
        finally:
            # Its name is that of the folder, which gets another.
            discard(self.after.files.log)

    def _run(self) -> Sequence[str]:
        facts = []
        self.work.mkdir(mode=0o700)
        self.identity.adopt(self.work)
        port, other = self._two_ports()
        configuration = self.backend.configuration(self.old, port, self.identity)
        configuration.write_local(self.backend.files.datadir)
        self.identity.adopt(self.backend.files.datadir)
        with self._serving(self.before, self.old, port):
            self._refuse_closed(port)
            self._refuse_tablespaces(port)
            wanted = self._inventory(self.before, port)
            options = self._initdb_options(port)
        step("upgrade:looked")
        self._new_cluster(options, other)
        step("upgrade:initialised")
        started = time.perf_counter()
        how = self._by_pg_upgrade(port, other) if self.by_files else self._by_dumps(port, other)
        facts.append(f"Moved the data by {how} in {seconds(time.perf_counter() - started)}")
        step("upgrade:copied")
        with self._serving(self.after, self.new, other):
            if difference := wanted.difference(self._inventory(self.after, other)):
                raise ServerError(f"The upgraded data is not what it was: {difference}.")
            facts += self._finish(wanted, other)
        step("upgrade:checked")
        return facts

    # Servers of our own: reached by their sockets alone.

    def _two_ports(self) -> tuple[int, int]:
        free = (port for port in reversed(conf.EPHEMERAL_PORTS) if ports.is_free(port))
        return next(free), next(free)

    @contextmanager
    def _serving(self, control: PostgresControl, toolchain: Toolchain, port: int) -> Iterator[None]:
        control.start(
            toolchain, port, self.identity, *self._private(control, port), ends_with_us=True
        )
        try:
            yield
        finally:
            if (server := control.running()) is not None:
                control.stop(server)

    def _private(self, control: PostgresControl, port: int) -> tuple[str, ...]:
        folder = str(control.files.socket_directory(port)).replace('"', '""')
        settings = ("listen_addresses=", f"port={port}", f"unix_socket_directories={folder}")
        return tuple(word for setting in settings for word in ("-c", setting))

    def _login(self, control: PostgresControl, port: int, database: str = "postgres") -> sql.Login:
        return replace(sql.superuser(control.files.socket_directory(port), port), database=database)

    # What there is.

    def _inventory(self, control: PostgresControl, port: int) -> Inventory:
        relations: dict[str, tuple[tuple[str, str, str], ...]] = {}
        counts: dict[tuple[str, str, str], int] = {}
        with sql.connect(self._login(control, port)) as cursor:
            sql.prove_identity(cursor, control.files.datadir)
            cursor.execute("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1")
            roles = tuple(str(name) for (name,) in cursor.fetchall())
        for database in _databases(self._login(control, port)):
            with sql.connect(self._login(control, port, database)) as cursor:
                cursor.execute(_RELATIONS)
                found = tuple((str(a), str(b), str(c)) for a, b, c in cursor.fetchall())
                relations[database] = found
                for schema, table, kind in found:
                    # pg_upgrade carries whole files over; dumps are counted.
                    if kind == "r" and not self.by_files:
                        counts[database, schema, table] = _count(cursor, schema, table)
        return Inventory(roles, relations, counts)

    def _refuse_closed(self, port: int) -> None:
        """Neither pg_upgrade nor a dump can look into them."""
        with sql.connect(self._login(self.before, port)) as cursor:
            cursor.execute(
                "SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'"
                " ORDER BY 1"
            )
            names = [str(name) for (name,) in cursor.fetchall()]
        if names:
            raise ServerError(
                f"The cluster has databases that let nobody in: {', '.join(names)}.",
                hints=[
                    f'ALTER DATABASE "{names[0]}" ALLOW_CONNECTIONS true, or drop it, and run '
                    "this again"
                ],
            )

    def _refuse_tablespaces(self, port: int) -> None:
        with sql.connect(self._login(self.before, port)) as cursor:
            cursor.execute("SELECT spcname FROM pg_tablespace WHERE spcname !~ '^pg_'")
            names = [str(name) for (name,) in cursor.fetchall()]
        if names:
            raise ServerError(
                f"The cluster has tablespaces outside its folder ({', '.join(names)}).",
                hints=["move their contents to pg_default, drop them, and run this again"],
            )

    def _initdb_options(self, port: int) -> tuple[str, ...]:
        """What pg_upgrade wants to be the same on both sides."""
        with sql.connect(self._login(self.before, port)) as cursor:
            cursor.execute("SELECT to_jsonb(d) FROM pg_database d WHERE datname = 'template0'")
            row = cursor.fetchone()
            assert row is not None
            template = row[0]
            encoding = sql.scalar(cursor, "SELECT pg_encoding_to_char(%s)", [template["encoding"]])
            segment = int(
                sql.scalar(
                    cursor, "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'"
                )
            )
            checksums = sql.scalar(cursor, "SHOW data_checksums") == "on"
        options = [
            f"--encoding={encoding}",
            f"--lc-collate={template['datcollate']}",
            f"--lc-ctype={template['datctype']}",
            f"--wal-segsize={segment // 1024**2}",
        ]
        provider = template.get("datlocprovider", "c")
        name = template.get("datlocale") or template.get("daticulocale")
        if self.new.major >= 15:
            names = {"c": "libc", "i": "icu", "b": "builtin"}
            options.append(f"--locale-provider={names[provider]}")
            if provider == "i":
                options.append(f"--icu-locale={name}")
            elif provider == "b":
                options.append(f"--builtin-locale={name}")
        if checksums:
            options.append("--data-checksums")
        elif self.new.major >= 18:
            options.append("--no-data-checksums")
        return tuple(options)

    # The new cluster.

    def _new_cluster(self, options: tuple[str, ...], port: int) -> None:
        target = self.after.files.datadir
        target.mkdir(mode=0o700)
        self.identity.adopt(target)
        run(
            commands.initdb(self.new, target, options),
            identity=self.identity,
            failure="The new cluster could not be initialised.",
        )
        configuration = self.backend.configuration(self.new, port, self.identity)
        configuration.write(target)
        self.identity.adopt(target)

    def _by_pg_upgrade(self, port: int, other: int) -> str:
        sockets = self.before.files.socket_directory(port)
        make_private(sockets, self.identity)
        mode = "clone" if _can_clone(self.work) else "copy"
        begun = False

        def note(line: str) -> None:
            nonlocal begun
            if not begun and "Checking" in line:
                begun = True
                step("upgrade:copying")

        command = commands.server_program(
            self.new,
            "pg_upgrade",
            *(f"--old-bindir={_bindir(self.old)}", f"--new-bindir={_bindir(self.new)}"),
            f"--old-datadir={self.before.files.datadir}",
            f"--new-datadir={self.after.files.datadir}",
            *(f"--old-port={port}", f"--new-port={other}"),
            *(f"--socketdir={sockets}", f"--username={SUPERUSER}"),
            f"--jobs={max(1, min(4, os.cpu_count() or 1))}",
            # Never --link: the old data stays what it is. Copying is what no option asks for.
            *(["--clone"] if mode == "clone" else []),
        )
        try:
            run(
                replace(command, cwd=self.work),
                identity=self.identity,
                failure="pg_upgrade could not move the data.",
                on_line=note,
            )
        except ProgramError as error:
            error.log_tail = "\n".join([error.output, *self._named_in(error.output)])
            raise
        return "pg_upgrade, cloning its files" if mode == "clone" else "pg_upgrade"

    def _named_in(self, said: str) -> Iterator[str]:
        """The ends of the files that pg_upgrade names: which table it means stands there alone,
        and they go with what was built.
        """
        for name in dict.fromkeys(_NAMED.findall(said)):
            with suppress(OSError):
                lines = (self.work / name).read_text("utf-8", "replace").splitlines()
                yield from (f"{Path(name).name}:", *lines[-_SHOWN:])

    def _by_dumps(self, port: int, other: int) -> str:
        """Roles as statements, then every database as a dump."""
        with self._serving(self.before, self.old, port), self._serving(self.after, self.new, other):
            roles = self.work / "roles.sql"
            self._client("pg_dumpall", self.before, port, "--globals-only", f"--file={roles}")
            # The superuser is there already, and that is no reason to stop.
            self._client("psql", self.after, other, "--no-psqlrc", "--quiet", f"--file={roles}")
            for number, database in enumerate(_databases(self._login(self.before, port))):
                dump = self.work / f"{number}.dump"
                self._client("pg_dump", self.before, port, "-Fd", f"-f{dump}", "-d", database)
                # What initdb makes is there already.
                there = database in ("postgres", "template1")
                into = (f"-d{database}",) if there else ("--create", "-dpostgres")
                self._client("pg_restore", self.after, other, "--exit-on-error", *into, str(dump))
        return "dumps"

    def _client(self, name: str, control: PostgresControl, port: int, *args: str) -> None:
        folder = str(control.files.socket_directory(port))
        command = Command(
            self.new.program(name),
            args,
            {**self.new.environment, "PGHOST": folder, "PGPORT": str(port), "PGUSER": SUPERUSER},
            hidden=("PG",),
            cwd=self.work,
        )
        run(command, identity=self.identity)

    def _finish(self, wanted: Inventory, port: int) -> list[str]:
        """Bring extensions up to date, and tell the planner what there is."""
        facts = update_extensions(self._login(self.after, port))
        for database in wanted.relations:
            with sql.connect(self._login(self.after, port, database)) as cursor:
                cursor.execute("ANALYZE")
        return facts


def update_extensions(login: sql.Login) -> list[str]:
    """Bring the extensions of every database to the version that the programs have.

    :param login: the superuser's.
    :returns: What was done, as sentences without their ends.
    """
    facts, quoting = [], sql.quoting()
    for database in _databases(login):
        with sql.connect(replace(login, database=database)) as cursor:
            cursor.execute(_OUTDATED)
            for (name,) in cursor.fetchall():
                with sql.explained(f"The extension {name!r} could not be updated"):
                    cursor.execute(
                        quoting.SQL("ALTER EXTENSION {} UPDATE").format(quoting.Identifier(name))
                    )
                facts.append(f"Updated the extension {name} in {database}")
    return facts


def _databases(login: sql.Login) -> list[str]:
    """All but template0, templates too: new databases are copies of template1."""
    with sql.connect(login) as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")
        return [str(name) for (name,) in cursor.fetchall()]


def _count(cursor: sql.Cursor, schema: str, table: str) -> int:
    quoting = sql.quoting()
    statement = quoting.SQL("SELECT count(*) FROM ONLY {}").format(
        quoting.Identifier(schema, table)
    )
    return int(sql.scalar(cursor, statement))


def _bindir(toolchain: Toolchain) -> Path:
    return toolchain.program("postgres").parent


def _can_clone(folder: Path) -> bool:
    """Whether files in ``folder`` can share their blocks."""
    one, other = folder / "clone-1", folder / "clone-2"
    one.write_bytes(b"x" * 4096)
    with one.open("rb") as read, other.open("wb") as write:
        return clone(read.fileno(), write.fileno())

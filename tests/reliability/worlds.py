"""A project of each engine whose content is known, and what may be found after a kill."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil

from django_dbdev.backups import snapshot
from django_dbdev.backups.manifest import read_manifest
from django_dbdev.binaries.find import Sources, find_toolchain
from django_dbdev.binaries.toolchain import Toolchain
from django_dbdev.pins import Requirement
from tests.binaries.channel import Channel, files_of
from tests.conftest import MANAGE, SETTINGS, Project, Result, working_in

from .disk import BusyError, Disk
from .instrument import server_processes
from .warm import Warm

INSTRUMENT = Path(__file__).with_name("instrument.py")
#: Seconds for what goes by itself: children of a killed program, a removal in the background.
_PATIENCE = 30.0

#: What the table holds; None where there is no table.
Content = list[int] | None
OLD: Content = [1, 2, 3]
BACKED_UP: Content = [1, 2]
DUMPED: Content = [7]
EMPTY: Content = None


class World:
    """One project, driven by commands, looked at directly."""

    engine = "PostgreSQL"
    server_name = "PostgresBackend"
    base = SETTINGS
    pin = '[tool.django_dbdev.postgresql]\nversion = "18"\n'
    has_server = True
    #: Statements with which a table of rows is made, ``{rows}`` being VALUES.
    fill: tuple[str, ...] = (
        "SET synchronous_commit = on",
        "DROP TABLE IF EXISTS numbers",
        "CREATE TABLE numbers (n int)",
    )
    dump_options: tuple[str, ...] = ("--format", "custom")

    def __init__(
        self,
        root: Path,
        store: Path,
        environment: dict[str, str] | None = None,
        disk: Disk | None = None,
    ) -> None:
        """:param disk: what the root is on, where its power is to be cut."""
        root.mkdir(parents=True)
        self.disk = disk
        self.project = self.make_project(root, store, dict(environment or {}))
        self.project.write("manage.py", MANAGE)
        self.project.settings(base=self.base)
        self.project.pin(self.pin)
        self.store = store
        self.warm = Warm()

    def make_project(self, root: Path, store: Path, environment: dict[str, str]) -> Project:
        return Project(root, store, environment)

    # Driving it.

    @property
    def root(self) -> Path:
        return self.project.root

    @property
    def tempdata(self) -> Path:
        return self.project.tempdata

    @property
    def datadir(self) -> Path:
        return self.tempdata / self.server_name

    @property
    def backup_root(self) -> Path:
        return self.tempdata / f"{self.server_name}-backups"

    def manage(self, *args: str) -> Result:
        script = self.root / "manage.py"
        return self.warm.run(script, *args, cwd=self.root, env=self.project.env())

    def instrumented(self, *args: str, **environment: str) -> Result:
        """A command under the instrument; see there for the environment."""
        roots = os.pathsep.join(map(str, self.roots))
        env = self.project.env(RELIABILITY_ROOTS=roots, **environment)
        return self.warm.run(INSTRUMENT, self.root / "manage.py", *args, cwd=self.root, env=env)

    @property
    def roots(self) -> list[Path]:
        """Where its servers may work."""
        return [self.root.resolve(), self.store.resolve() / "clusters"]

    @property
    def hit(self) -> Path:
        """What the instrument makes when it has killed, also where that was the disk."""
        return (self.disk.image.parent if self.disk else self.root) / "hit"

    # Its disk.

    def settle(self) -> None:
        """Have all that is there on the disk."""
        assert self.disk is not None
        self.disk.flush()

    def power_up(self) -> None:
        """The machine starts again: nothing runs, and on the disk is what had been written."""
        assert self.disk is not None
        deadline = time.monotonic() + _PATIENCE
        while True:
            for process in working_in(self.disk.folder.resolve()):
                with suppress(psutil.Error):
                    process.kill()
                    process.wait(10)
            try:
                self.disk.unplug()
                break
            except BusyError:
                # One that was just being started.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.disk.plug_in()

    # Its content.

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        for statement in statements:
            found = self.project.query(statement)
        return found

    def ensure(self, content: Content) -> None:
        """Have the server running, with this content and no other."""
        if not self.is_running():
            self.manage("dbdev_init").ok()
        rows = ", ".join(f"({n})" for n in content or ())
        import psycopg

        with psycopg.connect(
            host="127.0.0.1",
            port=self.project.port(),
            dbname="dbdev",
            user="dbdev",
            password="dbdev",
            autocommit=True,
        ) as connection:
            for statement in self.fill:
                connection.execute(statement.encode())
            connection.execute(f"INSERT INTO numbers VALUES {rows}".encode())

    def content(self) -> Content:
        if self.execute("SELECT to_regclass('numbers')") == [(None,)]:
            return None
        return sorted(int(str(n)) for (n,) in self.execute("SELECT n FROM numbers"))

    def is_running(self) -> bool:
        return bool(server_processes([self.datadir.resolve()]))

    def databases(self) -> list[str]:
        """Those that nobody asked for."""
        rows = self.execute("SELECT datname FROM pg_database WHERE datname ~ '__dbdev_'")
        return [str(name) for (name,) in rows]

    # What is left.

    def backups(self) -> list[Path]:
        return sorted(p.parent for p in self.backup_root.glob("backup-*/manifest.json"))

    @staticmethod
    def damaged(backups: Iterable[Path]) -> Iterator[str]:
        for directory in backups:
            try:
                snapshot.verify(directory, read_manifest(directory))
            except Exception as error:
                yield f"{directory.name}: {error}"

    def unfinished(self) -> list[str]:
        """Backups without a manifest."""
        if not self.backup_root.exists():
            return []
        return [
            p.name
            for p in self.backup_root.iterdir()
            if p.is_dir() and not (p / "manifest.json").exists()
        ]

    def leftovers(self) -> list[str]:
        """Files and folders that no finished command leaves."""
        known = (".log", ".log.1", ".lock", ".lock.holder", ".use", ".pgpass", "-backups", ".cnf")
        found = []
        for path in self.tempdata.iterdir() if self.tempdata.exists() else ():
            name = path.name
            if name.startswith("."):
                if name != ".gitignore":
                    found.append(name)
            elif name.startswith(self.server_name) and (
                name.removeprefix(self.server_name) not in ("", *known)
            ):
                found.append(name)
        for folder in (self.root, self.backup_root):
            found += [p.name for p in folder.glob(".*.new")]
        for kind in ("trees", "clusters", "debs"):
            found += [f"store/{kind}/{p.name}" for p in (self.store / kind).glob(".*.new")]
        return found

    def strays(self) -> list[str]:
        """Processes besides the one server."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            servers = server_processes([self.datadir.resolve()])
            own = {s.pid for s in servers[:1]}
            for server in servers[:1]:
                with suppress(psutil.Error):
                    own |= {child.pid for child in server.children(recursive=True)}
            left = [
                process
                for root in self.roots
                for process in working_in(root)
                if process.pid not in own and process.status() != psutil.STATUS_ZOMBIE
            ]
            if not left or time.monotonic() > deadline:
                return [f"{p.pid} {p.name()}" for p in left if p.is_running()]
            time.sleep(0.05)

    def wait_for_background(self) -> None:
        """The removal of a replaced database goes on after its command."""
        deadline = time.monotonic() + _PATIENCE
        while self.has_server and self.is_running() and self.databases():
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def clean_up(self) -> None:
        self.warm.close()
        for server in server_processes(self.roots):
            server.kill()
        for process in working_in(self.root.resolve()):
            with suppress(psutil.Error):
                process.wait(10)
        self.project.clean_up()


class PostgresWorld(World):
    pass


def _programs(folder: Path, store: Path) -> Toolchain:
    """The pinned PostgreSQL, from a store of its own beside the world's."""
    sources = Sources(folder / "programs.lock", folder / "prefix", store)
    return find_toolchain(Requirement("postgresql", "18"), sources).toolchain


class BindirWorld(PostgresWorld):
    """The programs are where the environment says."""

    engine = "bindir"

    def make_project(self, root: Path, store: Path, environment: dict[str, str]) -> Project:
        programs = _programs(root, root.parent / "programs")
        environment["DBDEV_POSTGRESQL_BINDIR"] = str(programs.program("postgres").resolve().parent)
        return super().make_project(root, store, environment)


class CondaWorld(PostgresWorld):
    """The programs come from a channel in a folder, which has what a wheel has."""

    engine = "conda"

    def make_project(self, root: Path, store: Path, environment: dict[str, str]) -> Project:
        programs = _programs(root, root.parent / "programs")
        tree = programs.program("postgres").resolve().parent.parent
        channel = Channel(root / "channel")
        channel.add("postgresql", programs.version, [], files_of(tree))
        channel.index()
        # No other provider has anything.
        environment |= {"PATH": "/nonexistent", "PIP_NO_INDEX": "1"}
        self.pin += f'[tool.django_dbdev.conda]\nchannel = "{channel.folder}"\n'
        return super().make_project(root, store, environment)


class SqliteWorld(World):
    engine = "SQLite"
    server_name = "SqliteBackend"
    base = SETTINGS.replace("backends.postgres", "backends.sqlite")
    pin = ""
    has_server = False
    dump_options = ()

    @property
    def file(self) -> Path:
        return self.datadir / "dbdev.sqlite3"

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        with closing(sqlite3.connect(self.file)) as connection, connection:
            for statement in statements:
                found = connection.execute(statement).fetchall()
        return found

    def ensure(self, content: Content) -> None:
        if not self.file.exists():
            self.manage("dbdev_init").ok()
        rows = ", ".join(f"({n})" for n in content or ())
        self.execute(*self.fill[1:], f"INSERT INTO numbers VALUES {rows}")

    def content(self) -> Content:
        if not self.execute("SELECT 1 FROM sqlite_master WHERE name = 'numbers'"):
            return None
        return sorted(int(str(n)) for (n,) in self.execute("SELECT n FROM numbers"))

    def is_running(self) -> bool:
        return self.file.exists()

    def databases(self) -> list[str]:
        return []


@contextmanager
def world(kind: type[World], root: Path, store: Path, disk: Disk | None = None) -> Iterator[World]:
    made = kind(root, store, disk=disk)
    try:
        yield made
    finally:
        made.clean_up()
        shutil.rmtree(root, ignore_errors=True)

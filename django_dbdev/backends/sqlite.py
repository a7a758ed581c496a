"""SQLite: a file in the datadir, and no server."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

from .. import conf
from ..exceptions import BusyError, ConfigurationError
from ..invocation import manage_arguments
from .base import BaseDbdevBackend, make_tempdata
from .info import ServerInfo, describe
from .sqlite_guide import SqliteGuideValues, guide_values

ENGINE = "sqlite"


def default_file() -> Path:
    """NAME of DBSETTINGS, as far as DBDEV_DATADIR is known by now."""
    try:
        folder = conf.tempdata()
    except ConfigurationError:
        # Settings are being imported: the commands and the checks say it.
        folder = conf.project_root()[0] / conf.DEFAULT_TEMPDATA
    return folder / "SqliteBackend" / "dbdev.sqlite3"


#: As it was when settings.py imported it; see :func:`django_dbdev.servers.use_default_files`.
DEFAULT_FILE = default_file()

DBSETTINGS: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": DEFAULT_FILE,
}

#: What SQLite keeps beside a database file. Source: its documentation, "Temporary Files".
COMPANIONS = ("-journal", "-wal", "-shm")


def is_in_memory(name: str) -> bool:
    """Whether NAME is a database without a file. Source: SQLite, "In-Memory Databases"."""
    if not name.startswith("file:"):
        return name in {"", ":memory:"}
    uri = urlsplit(name)
    options = parse_qs(uri.query)
    return (
        uri.path == ":memory:"
        or options.get("mode", [""])[-1] == "memory"
        or options.get("vfs", [""])[-1] == "memdb"
    )


def file_of(alias: str, settings: Mapping[str, Any]) -> Path | None:
    """The file of an alias, as it is written; None where it is in memory.

    :raises ConfigurationError: when it is written as a URI.
    """
    name = str(settings.get("NAME") or "")
    if is_in_memory(name):
        return None
    if name.startswith("file:"):
        raise not_a_file(alias, name)
    return conf.project_root()[0] / name


def not_a_file(alias: str, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"DATABASES[{alias!r}]['NAME'] is {name!r}, which is not a file.",
        hints=["use DBSETTINGS of django_dbdev.backends.sqlite, or name a file"],
    )


class SqliteBackend(BaseDbdevBackend):
    """SQLite. Starting and stopping says that there is nothing to start."""

    has_info: ClassVar[bool] = True
    has_dump_options: ClassVar[bool] = True
    restores_beside: ClassVar[bool] = True
    shares_server: ClassVar[bool] = False
    backups_are_portable: ClassVar[bool] = True

    @cached_property
    def database(self) -> Path:
        """The database's file, not a link to it: that is what a new one takes the place of.

        :raises ConfigurationError: when the alias has no file, as with ``:memory:``.
        """
        file = file_of(self.alias, self.dbsettings)
        if file is None:
            raise not_a_file(self.alias, str(self.dbsettings.get("NAME") or ""))
        return file.resolve() if file.is_symlink() else file

    @property
    def _is_spatial(self) -> bool:
        return str(self.dbsettings["ENGINE"]).endswith(".spatialite")

    @property
    def lost_by_destroy(self) -> str:
        return str(self.database)

    def init(self) -> None:
        if self._is_spatial:
            from .spatialite import require_spatialite

            require_spatialite()
        make_tempdata(self.tempdata)
        if self.database.parent == self._datadir:
            self.create_datadir_if_not_exists()
        existed = self.database.is_file()
        if existed:
            self._check()
        elif not self.database.parent.is_dir():
            raise ConfigurationError(f"There is no folder {self.database.parent} for the database.")
        else:
            self._create()
        self.reporter.fact(f"{'Found' if existed else 'Created'} {self.database}")

    def destroy(self) -> None:
        removed = [file for file in self._files() if file.exists()]
        if removed:
            from ..backups.replace import flush_recent

            flush_recent(Path(self.root_backupdir))
        for file in removed:
            file.unlink()
        if self._datadir.is_dir() and not any(self._datadir.iterdir()):
            self._datadir.rmdir()
        self.reporter.fact(
            f"Removed {self.database}" if removed else f"There is nothing at {self.database}"
        )

    def start_database_server(self) -> None:
        self.reporter.fact("SQLite has no server to start")

    def stop_database_server(self) -> None:
        self.reporter.fact("SQLite has no server to stop")

    def run_database_server_in_foreground(self) -> None:
        self.reporter.fact("SQLite has no server to run")

    @property
    def root_backupdir(self) -> str:
        """Every alias has a file, and so backups, of its own."""
        first = self.server_aliases[0] == self.alias
        return super().root_backupdir if first else f"{self._datadir}-{self.alias}-backups"

    def backup(self, directory: str) -> None:
        from .sqlite_backups import back_up

        back_up(self, Path(directory))

    def restore(self, directory: str) -> None:
        from .sqlite_backups import restore

        restore(self, Path(directory))

    def mend(self) -> None:
        from ..backups.replace import mend

        mend(self.database, Path(self.root_backupdir), self.database.is_file)

    def create_dbdump(self, dumpfile: str) -> None:
        if self._is_spatial:
            # Python's SQLite dumps virtual tables, and once more what is behind them.
            raise ConfigurationError(
                "A SpatiaLite database cannot be written as SQL statements.",
                hints=["keep a copy by dbdev_backup; dumpdata writes its rows"],
            )
        from . import sqlite_dumps

        sqlite_dumps.create(self, dumpfile)

    def load_dbdump(self, dumpfile: str) -> None:
        from . import sqlite_dumps

        sqlite_dumps.load(self, dumpfile)

    def serverinfo(self) -> None:
        self.stdout.write(describe(self.info()))

    def info(self) -> ServerInfo:
        files = [file for file in self._files() if file.exists()]
        url = f"sqlite:///{quote(str(self.database))}"
        return ServerInfo(
            alias=self.alias,
            engine=ENGINE,
            running=False,
            initialised=bool(files),
            datadir=self.database.parent,
            databases={self.alias: str(self.database)},
            version=sqlite3.sqlite_version,
            provider="Python",
            environment={"DATABASE_URL": url},
            url=url,
            size=sum(file.stat().st_size for file in files) if files else None,
            has_server=False,
        )

    @property
    def guide_values(self) -> SqliteGuideValues:
        """What the guide's template fills in."""
        return guide_values(
            self.database,
            manage=manage_arguments(),
            python=sys.executable,
            python_version=sys.version_info[:2],
            sqlite_version=sqlite3.sqlite_version,
            alias=self.alias,
        )

    def _files(self) -> Sequence[Path]:
        name = self.database.name
        return [self.database, *(self.database.with_name(name + end) for end in COMPANIONS)]

    def _create(self) -> None:
        """An empty file is an empty database; for ourselves alone."""
        self.database.touch(mode=0o600)

    def _check(self) -> None:
        """Refuse a file that is something else, before anything writes to it."""
        try:
            connection = sqlite3.connect(f"file:{quote(str(self.database))}?mode=ro", uri=True)
            try:
                connection.execute("PRAGMA schema_version").fetchone()
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            from .sqlite_file import STOP_IT, is_in_use

            if is_in_use(error):
                raise BusyError(f"{self.database} is in use ({error}).", hints=[STOP_IT]) from None
            raise ConfigurationError(
                f"{self.database} is not a database that SQLite can read: {error}",
                hints=["move it away, or name another file in DATABASES"],
            ) from None

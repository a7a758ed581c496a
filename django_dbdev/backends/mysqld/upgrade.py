"""A cluster of one series made into one of another, beside it: a copy that the new server takes.

Both engines read the files of an older series after a clean shutdown. MySQL's server brings its
own tables up to date when it starts, MariaDB has a program for that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...backups.copying import copy_tree
from ...backups.faults import step
from ...backups.replace import discard
from ...binaries.toolchain import Toolchain
from ...exceptions import ServerError
from ...process.privileges import Identity
from ...process.run import run
from ...records import write_atomically
from ...reporting import seconds
from . import commands, sql
from .files import Made, MySqlFiles
from .private import option_file, serving
from .snapshot import scan_stopped

if TYPE_CHECKING:
    from ..mysql import MySqlBackend

#: Everything that users make.
_PARTS = """
SELECT TABLE_SCHEMA, TABLE_TYPE, TABLE_NAME FROM information_schema.TABLES
UNION ALL SELECT ROUTINE_SCHEMA, ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES
UNION ALL SELECT TRIGGER_SCHEMA, 'TRIGGER', TRIGGER_NAME FROM information_schema.TRIGGERS
UNION ALL SELECT EVENT_SCHEMA, 'EVENT', EVENT_NAME FROM information_schema.EVENTS
UNION ALL SELECT SCHEMA_NAME, 'DATABASE', SCHEMA_NAME FROM information_schema.SCHEMATA
"""
_OF_THE_SERVER = {"information_schema", "mysql", "performance_schema", "sys"}
#: Changes wait nowhere when the old server ends, not even for a purge: source: both manuals on
#: upgrades.
_SLOW_SHUTDOWN = "--innodb-fast-shutdown=0"


@dataclass(frozen=True)
class Inventory:
    """What a server holds: the same before and after.

    :param parts: database, kind and name of each.
    """

    accounts: frozenset[tuple[str, ...]]
    parts: frozenset[tuple[str, ...]]

    def difference(self, other: Inventory) -> str:
        """The first thing that ``other`` has differently, in words; empty where there is none."""
        for user, host in sorted(self.accounts - other.accounts):
            return f"the user {user!r}@{host!r} is missing"
        for database, kind, name in sorted(self.parts ^ other.parts):
            return f"the {kind.lower()} {name!r} in {database!r} is not on both sides"
        return ""


def build(
    backend: MySqlBackend, old: Toolchain, new: Toolchain, target: Path, work: Path
) -> Sequence[str]:
    """Bring the cluster, which does not run, to the series of ``new`` at ``target``.

    :returns: What was done.
    """
    datadir, after = backend.files.datadir, MySqlFiles(target.parent, target.name)
    identity = backend.choose_identity(new, data=datadir)
    work.mkdir(mode=0o700)
    try:
        with serving(backend, backend.files, old, _SLOW_SHUTDOWN) as login:
            wanted = _inventory(login)
        step("upgrade:looked")
        started = time.perf_counter()
        # What leads out of the cluster would be changed there.
        scan_stopped(datadir)
        copy_tree(datadir, target)
        facts = [f"Copied the data in {seconds(time.perf_counter() - started)}"]
        step("upgrade:copied")
        configuration = backend.configuration(new, backend.port, identity)
        configuration.write(target)
        started = time.perf_counter()
        # What a crash leaves of it is thrown away, and the swap waits for the disk.
        with serving(backend, after, new, *backend.ephemeral_options) as login:
            if new.engine == commands.MARIADB:
                _upgrade_tables(new, login, work, identity)
            step("upgrade:upgraded")
            if difference := wanted.difference(_inventory(login)):
                raise ServerError(f"The upgraded data is not what it was: {difference}.")
        facts.append(
            f"{backend.title} {new.version} took them in {seconds(time.perf_counter() - started)}"
        )
        after.note_made(Made(new.engine, new.version))
        identity.adopt(target)
        step("upgrade:checked")
        return facts
    finally:
        # Its name is that of the folder, which gets another.
        discard(after.log)


def _upgrade_tables(toolchain: Toolchain, login: sql.Login, work: Path, identity: Identity) -> None:
    """Bring the server's own tables up to date, and look whether those of users can be read."""
    options = work / "client.cnf"
    write_atomically(options, option_file(login))
    identity.adopt(work)
    command = commands.client(toolchain, "upgrade", options, "", ())
    run(
        replace(command, cwd=work),
        identity=identity,
        failure="mariadb-upgrade could not bring the data up to date.",
    )


def _inventory(login: sql.Login) -> Inventory:
    with sql.connect(login) as cursor:
        cursor.execute("SELECT User, Host FROM mysql.user")
        accounts = frozenset((str(user), str(host)) for user, host in cursor.fetchall())
        cursor.execute(_PARTS)
        parts = frozenset(
            (str(database), str(kind), str(name))
            for database, kind, name in cursor.fetchall()
            if str(database) not in _OF_THE_SERVER
        )
    return Inventory(accounts, parts)

"""The pristine clusters of MariaDB and MySQL, with accounts, databases and time zones in them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...binaries.engines import get_engine
from ...binaries.store import Store
from ...binaries.toolchain import Toolchain
from ...exceptions import ServerError
from ...process.privileges import DIRECT
from ...process.run import program_error, run
from ...process.streams import consume
from ...records import write_atomically
from ..server import pristine
from ..server.accounts import Account
from . import commands, sql
from .configuration import Configuration
from .control import ADMIN, MySqlControl
from .files import Made, MySqlFiles

#: Raised when what is built here changes, so that older pristine clusters are not used.
_FORMAT = 2
#: Names the socket; there is no TCP here.
_PORT = 3306
#: What of a cluster is its own and made anew by a start.
_OWN = ("auto.cnf", "mysqld.pid", "dbdev_local.cnf", "my.cnf")


@dataclass(frozen=True)
class Recipe:
    """All that a pristine cluster depends on.

    :param options: what a cluster is made with and never changes after.
    """

    toolchain: Toolchain
    accounts: Sequence[Account]
    configuration: Configuration
    options: Mapping[str, Any]

    def key(self) -> str:
        options = (_FORMAT, sorted(self.options.items()))
        return pristine.key(self.toolchain, self.accounts, DIRECT, *options)

    def control(self, folder: Path) -> MySqlControl:
        title = get_engine(self.toolchain.engine).title
        return MySqlControl(MySqlFiles(folder, pristine.NAME), title)


def clone(recipe: Recipe, store: Store, target: Path) -> None:
    """Put a pristine cluster at ``target``, which must not exist."""
    pristine.clone(recipe.key(), store, target, lambda folder: _build(recipe, folder))


@contextmanager
def _without_blanks(toolchain: Toolchain, datadir: Path) -> Iterator[tuple[Toolchain, Path]]:
    """Both by paths without blanks: mariadb-install-db is a shell script that does not quote."""
    base = commands.basedir(toolchain)
    if not re.search(r"\s", f"{base}{datadir}"):
        yield toolchain, datadir
        return
    with TemporaryDirectory(prefix="dbdev-") as folder:
        programs, data = Path(folder, "programs"), Path(folder, "data")
        programs.symlink_to(base)
        data.symlink_to(datadir.parent)
        yield replace(toolchain, prefix=programs), data / datadir.name


def _build(recipe: Recipe, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    control = recipe.control(folder)
    files, toolchain = control.files, recipe.toolchain
    files.datadir.mkdir(mode=0o700)
    with _without_blanks(toolchain, files.datadir) as (linked, datadir):
        run(
            commands.initialise(linked, datadir, recipe.options),
            failure="The cluster could not be initialised.",
        )
    configuration = replace(recipe.configuration, port=_PORT, socket=files.socket(_PORT))
    configuration.write(files.datadir)
    control.start(toolchain, _PORT, DIRECT, "--skip-networking", ends_with_us=True)
    try:
        _furnish(recipe, control)
    finally:
        server = control.running()
        if server is not None:
            control.stop(server)
    files.note_made(Made(toolchain.engine, toolchain.version))
    files.log.unlink(missing_ok=True)
    for name in _OWN:
        (files.datadir / name).unlink(missing_ok=True)


def _furnish(recipe: Recipe, control: MySqlControl) -> None:
    """Set root's password before anything else, and make what the project asks for."""
    files = control.files
    secret = secrets.token_hex(32)
    write_atomically(files.admin, secret)
    with sql.connect(sql.Login("root", "", files.socket(_PORT))) as cursor:
        sql.ensure_user(cursor, ADMIN, secret)
        # What is not a parameter, such as the zones, is for the server's own account.
        sql.remove_other_accounts(cursor, [account.user for account in recipe.accounts])
        for account in recipe.accounts:
            sql.ensure_user(cursor, account.user, account.password)
            sql.ensure_database(cursor, account.database)
        load_zones(recipe.toolchain, cursor)


def adopt(files: MySqlFiles, logins: Sequence[sql.Login], socket: Path) -> None:
    """Make our own account in a cluster from elsewhere, by an account that may do so.

    :param socket: the server's. By it root comes in where an init was interrupted before root
        had a password.
    :raises ServerError: when none of ``logins`` may; what the server said to the last.
    """
    secret = secrets.token_hex(32)
    refused: ServerError | None = None
    for login in (*logins, sql.Login("root", "", socket)):
        try:
            with sql.connect(login) as cursor:
                sql.prove_identity(cursor, files.datadir)
                sql.ensure_user(cursor, ADMIN, secret)
            write_atomically(files.admin, secret)
            with sql.connect(sql.Login(ADMIN, secret, socket)) as cursor:
                sql.remove_open_accounts(cursor)
            return
        except ServerError as error:
            refused = error if refused is None or login.password else refused
    assert refused is not None
    raise refused


def load_zones(toolchain: Toolchain, cursor: sql.Cursor) -> bool:
    """Fill the tables of time zones, without which CONVERT_TZ knows no zone by its name.

    :returns: Whether the system has any.
    """
    if not commands.ZONES.is_dir():
        return False
    command = commands.zones(toolchain)
    completed, script = consume(command, b"".join)
    if completed.status != 0:
        raise program_error(command, completed, "The time zones could not be read.")
    cursor.execute("USE mysql")
    for statement in _statements(script.decode()):
        cursor.execute(statement)
    return True


def _statements(script: str) -> Iterator[str]:
    """The statements of a script that has no semicolon in a string at the end of a line."""
    for statement in re.split(r";\s*$", script, flags=re.MULTILINE):
        if statement.strip():
            yield statement.strip()

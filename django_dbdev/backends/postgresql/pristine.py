"""The pristine clusters of PostgreSQL: ``initdb`` takes 0.4 s, cloning a tenth of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...binaries.store import Store
from ...binaries.toolchain import Toolchain
from ...exceptions import ConfigurationError, ProgramError
from ...process.command import Command
from ...process.privileges import Identity
from ...process.run import run
from ..server import pristine
from ..server.accounts import Account
from . import commands, sql
from .configuration import Configuration
from .control import PostgresControl
from .files import PostgresFiles

#: Raised when what is built here changes, so that older pristine clusters are not used.
_FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """All that a pristine cluster depends on."""

    toolchain: Toolchain
    locale: tuple[str, ...]
    accounts: Sequence[Account]
    configuration: Configuration
    identity: Identity

    def key(self) -> str:
        options = (_FORMAT, self.locale, commands.WAL_SEGMENT)
        return pristine.key(self.toolchain, self.accounts, self.identity, *options)


def clone(recipe: Recipe, store: Store, target: Path) -> None:
    """Put a pristine cluster at ``target``, which must not exist."""
    pristine.clone(recipe.key(), store, target, lambda folder: _build(recipe, folder))


def _build(recipe: Recipe, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    control = PostgresControl(PostgresFiles(folder, pristine.NAME))
    files = control.files
    recipe.identity.adopt(folder)
    run_initdb(
        commands.initdb(recipe.toolchain, files.datadir, recipe.locale),
        recipe.identity,
        recipe.locale,
    )
    port = 5432  # Names the socket; there is no TCP here.
    socket_directory = files.socket_directory(port)
    configuration = replace(recipe.configuration, port=port, socket_directory=socket_directory)
    configuration.write(files.datadir)
    recipe.identity.adopt(files.datadir)
    no_tcp = ("-c", "listen_addresses=")
    control.start(recipe.toolchain, port, recipe.identity, *no_tcp, ends_with_us=True)
    try:
        with sql.connect(sql.superuser(socket_directory, port)) as cursor:
            for account in recipe.accounts:
                sql.ensure_role(cursor, account)
                sql.ensure_database(cursor, account)
            # On disk in the shape that clones need: no work left for their first minutes.
            cursor.execute("CHECKPOINT")
    finally:
        server = control.running()
        if server is not None:
            control.stop(server)
    for left in (files.log, files.datadir / "postmaster.opts"):
        left.unlink(missing_ok=True)


def run_initdb(command: Command, identity: Identity, locale: tuple[str, ...]) -> None:
    try:
        run(command, identity=identity, failure="The cluster could not be initialised.")
    except ProgramError as error:
        if "invalid locale" in error.output:
            raise ConfigurationError(
                f"This machine does not have the locale {_locale_name(locale)!r}.",
                hints=[f"DBDEV_POSTGRES_CREATEDB_LOCALE can be one of: {_known_locales()}"],
            ) from error
        raise


def _locale_name(locale: tuple[str, ...]) -> str:
    return locale[-1].partition("=")[2]


def _known_locales() -> str:
    """The C library's locales on this machine, as its own program lists them."""
    try:
        listed = run(Command(Path("/usr/bin/locale"), ("-a",))).output.split()
    except ProgramError:
        listed = []
    return ", ".join(sorted({"C", "POSIX", *listed}))

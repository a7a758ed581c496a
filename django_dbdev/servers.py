"""All servers of a project at once, for what does not work on one alias alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import conf
from .exceptions import ConfigurationError
from .registry import backendregistry
from .reporting import SILENT, Reporter

if TYPE_CHECKING:
    from .backends.base import BaseDbdevBackend
    from .backends.server.alias import ServerAlias


@dataclass(frozen=True)
class Caller:
    """What backends read of the command that called them."""

    stdout: Any
    stderr: Any
    reporter: Reporter = SILENT
    options: Mapping[str, Any] = field(default_factory=dict)
    alias: str = ""
    server_name: str = ""
    server_aliases: tuple[str, ...] = ()


def servers_of(aliases: Iterable[str], caller: Caller) -> list[BaseDbdevBackend]:
    """A backend for each server of ``aliases``; one alias stands for all that share it.

    Of several, those whose engine is nobody's or whose HOST is another machine are left out.

    :raises ConfigurationError: when there is one alias only, and nobody serves its engine.
    """
    databases, chosen = conf.databases(), list(aliases)
    found: dict[str, BaseDbdevBackend] = {}
    for alias in sorted(chosen, key=lambda name: name != "default"):
        settings = conf.database(alias)
        try:
            backend = backendregistry.for_engine(settings["ENGINE"])
        except ConfigurationError:
            if len(chosen) == 1:
                raise
            continue
        server = backendregistry.server_of(alias, databases)
        made = backend(_calling(caller, alias, server))
        if len(chosen) > 1 and not made.is_here(str(settings.get("HOST") or "")):
            continue
        if not backend.shares_server:
            found[f"{server.name}\0{alias}"] = made
        else:
            found.setdefault(server.name, made)
    return list(found.values())


def _calling(caller: Caller, alias: str, server: Any) -> Any:
    return replace(caller, alias=alias, server_name=server.name, server_aliases=server.aliases)


def use_recorded_ports() -> None:
    """Have Django connect to where init has moved a server.

    DBSETTINGS cannot tell that where DBDEV_DATADIR is not set yet while it is imported, or where
    the server is not the first of its backend. A PORT that the user chose stays.

    :raises ConfigurationError: when the pins or a setting are malformed.
    """
    recorded = conf.recorded()
    if not recorded:
        return
    databases, found = conf.databases(), {}
    for alias, backend in _server_aliases():
        if backend.is_movable(databases[alias]):
            found[alias] = recorded.get(backendregistry.server_of(alias, databases).name)
    # Only now: the servers' names follow from the ports.
    for alias, port in found.items():
        if port is not None and isinstance(settings := databases[alias], dict):
            settings["PORT"] = conf.RecordedPort(port)


def use_default_files() -> None:
    """Have Django work on the file of SQLite's DBSETTINGS where DBDEV_DATADIR has it.

    DBSETTINGS cannot tell that where DBDEV_DATADIR is not set yet while it is imported. A NAME
    that the user chose stays.

    :raises ConfigurationError: when the setting is malformed.
    """
    if (sqlite := sys.modules.get(f"{__package__}.backends.sqlite")) is None:
        return
    for settings in conf.databases().values():
        if settings.get("NAME") is sqlite.DEFAULT_FILE and isinstance(settings, dict):
            settings["NAME"] = sqlite.default_file()


def use_ephemeral_places() -> None:
    """Have Django connect to this session's own servers and files, whatever settings.py says.

    :raises ConfigurationError: when an alias would work on a server or a SQLite file that is not
        the session's, as one that the settings of ``dbdev_run`` did not have.
    """
    places, databases = conf.ephemeral_places(), conf.databases()
    for alias in server_ports():
        if not isinstance(places.get(alias), int):
            raise _not_the_sessions(alias, "a server")
    for alias, place in places.items():
        settings = databases.get(alias)
        if isinstance(place, int) and isinstance(settings, dict):
            settings["PORT"] = place
    for alias, file in sqlite_files().items():
        place = places.get(alias, "")
        if isinstance(place, str) and place:
            use_file(alias, Path(place))
        elif not file.resolve().is_relative_to(conf.tempdata().resolve()):
            raise _not_the_sessions(alias, str(file))


def _not_the_sessions(alias: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"DATABASES[{alias!r}] is {what}, and this session has nothing in its place: it would "
        "work on your own data.",
        hints=["give dbdev_run the same settings as the command that it runs"],
    )


def server_ports() -> dict[str, int]:
    """The PORT of each alias with a server that is for us to start, as the settings have it."""
    databases, found = conf.databases(), {}
    for alias, backend in _server_aliases():
        # The commands say which is malformed.
        with suppress(TypeError, ValueError):
            if databases[alias].get("HOST") in backend.hosts:
                found[alias] = int(databases[alias].get("PORT") or backend.default_port)
    return found


def _server_aliases() -> Iterator[tuple[str, type[ServerAlias]]]:
    from .backends.server.alias import ServerAlias

    for alias, backend in _known_aliases():
        if issubclass(backend, ServerAlias):
            yield alias, backend


def _known_aliases() -> Iterator[tuple[str, type[BaseDbdevBackend]]]:
    for alias, settings in conf.databases().items():
        try:
            backend = backendregistry.for_engine(settings["ENGINE"])
        except ConfigurationError:
            continue  # The commands say it.
        yield alias, backend


def sqlite_files() -> dict[str, Path]:
    """The file of each alias that is SQLite's and has one, which need not exist.

    :raises ConfigurationError: when a NAME is a URI that names a file.
    """
    from .backends.sqlite import file_of

    found = ((alias, file_of(alias, settings)) for alias, settings in _sqlite_aliases())
    return {alias: file for alias, file in found if file is not None}


def memory_aliases() -> set[str]:
    """The aliases that are SQLite's and in memory."""
    from .backends.sqlite import is_in_memory

    return {
        alias for alias, settings in _sqlite_aliases() if is_in_memory(str(settings["NAME"] or ""))
    }


def _sqlite_aliases() -> Iterator[tuple[str, Mapping[str, Any]]]:
    from .backends.sqlite import SqliteBackend

    for alias, backend in _known_aliases():
        if issubclass(backend, SqliteBackend):
            yield alias, conf.databases()[alias]


def use_file(alias: str, file: Path) -> None:
    """Have Django work on another file than DATABASES names.

    :raises ConfigurationError: when it works on that one already.
    """
    from django.db import connections

    settings = conf.databases()[alias]
    if str(settings["NAME"]) == str(file):
        return
    opened = {each.alias for each in connections.all(initialized_only=True) if each.connection}
    if alias in opened or not isinstance(settings, dict):
        raise ConfigurationError(
            f"DATABASES[{alias!r}] cannot be moved to {file}: Django works on "
            f"{settings['NAME']} already.",
            hints=[
                "an app that asks the database while Django is set up belongs behind "
                "django_dbdev in INSTALLED_APPS"
            ],
        )
    settings["NAME"] = file

"""All servers of a project at once, for what does not work on one alias alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import conf
from .exceptions import ConfigurationError
from .records import recorded_ports
from .registry import backendregistry
from .reporting import SILENT, Reporter

if TYPE_CHECKING:
    from .backends.base import BaseDbdevBackend


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
        if len(chosen) > 1 and str(settings.get("HOST") or "") not in backend.hosts:
            continue
        server = backendregistry.server_of(alias, databases)
        if not backend.shares_server:
            found[f"{server.name}\0{alias}"] = backend(_calling(caller, alias, server))
        elif server.name not in found:
            found[server.name] = backend(_calling(caller, alias, server))
    return list(found.values())


def _calling(caller: Caller, alias: str, server: Any) -> Any:
    return replace(caller, alias=alias, server_name=server.name, server_aliases=server.aliases)


def use_recorded_ports() -> None:
    """Have Django connect to where init has moved a server.

    DBSETTINGS cannot tell that where DBDEV_DATADIR is not set yet while it is imported, or where
    the server is not the first of its backend. A PORT that the user chose stays.

    :raises ConfigurationError: when the pins or a setting are malformed.
    """
    recorded = recorded_ports(conf.tempdata())
    if not recorded:
        return
    from .backends.server.alias import ServerAlias

    databases, found = conf.databases(), {}
    for alias, settings in databases.items():
        try:
            backend = backendregistry.for_engine(settings["ENGINE"])
        except ConfigurationError:
            continue  # The commands say it.
        if issubclass(backend, ServerAlias) and backend.is_movable(settings):
            found[alias] = recorded.get(backendregistry.server_of(alias, databases).name)
    # Only now: the servers' names follow from the ports.
    for alias, port in found.items():
        if port is not None and isinstance(settings := databases[alias], dict):
            settings["PORT"] = conf.RecordedPort(port)

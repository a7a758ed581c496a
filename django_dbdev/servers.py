"""All servers of a project at once, for what does not work on one alias alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import conf
from .exceptions import ConfigurationError
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

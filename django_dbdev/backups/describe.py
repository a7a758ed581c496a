"""The manifest of a backup that has just been made."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from .. import conf
from .context import git_state
from .manifest import FileEntry, Manifest
from .names import place_of
from .snapshot import Tree


class Backend(Protocol):
    """What is used of a backend."""

    @property
    def alias(self) -> str: ...
    @property
    def server_name(self) -> str: ...


@dataclass(frozen=True)
class Copied:
    """What a copy consists of; ``started_ns`` is when its reading began."""

    tree: Tree
    files: Mapping[str, FileEntry]
    started_ns: int


def describe(
    backend: Backend,
    directory: Path,
    copied: Copied,
    *,
    engine: str,
    kind: str,
    aliases: Iterable[str],
    begun: float,
    version: str = "",
    system: str = "",
    migrations: Mapping[str, str] | None = None,
) -> Manifest:
    """:param begun: what ``time.perf_counter`` gave when the work began."""
    place = place_of(directory)
    branch, commit = git_state(conf.project_root()[0])
    return Manifest(
        engine=engine,
        version=version,
        system=system,
        kind=kind,
        alias=backend.alias,
        aliases={a: str(conf.database(a).get("NAME") or "") for a in aliases},
        server=backend.server_name,
        name=place.name if place else "",
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        started_ns=copied.started_ns,
        duration=round(time.perf_counter() - begun, 3),
        branch=branch,
        commit=commit,
        migrations=migrations or {},
        files=copied.files,
        folders=copied.tree.folders,
        links=copied.tree.links,
    )

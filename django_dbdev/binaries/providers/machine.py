"""Installations on the machine: the system's packages, Homebrew, Postgres.app, PATH."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...pins import Requirement
from ..engines import Engine
from ..programs import (
    ask_version,
    installation_digest,
    list_programs,
    prove,
    require_extensions,
)
from ..toolchain import Toolchain
from .base import Declined


@dataclass(frozen=True)
class Machine:
    """The newest installation that satisfies the requirement.

    :param places: globs of folders of programs to look in; the engine's own where None.
    """

    engine: Engine
    places: tuple[str, ...] | None = None
    name: str = "this machine"

    def find(self, requirement: Requirement) -> Toolchain:
        refused: list[str] = []
        fitting: list[tuple[tuple[int, ...], str, Path]] = []
        for folder in self.folders():
            try:
                version = ask_version(self.engine, self._server(folder), {})
            except Declined as declined:
                refused.append(f"{folder}: {declined.reason}")
                continue
            if requirement.matches(version):
                fitting.append((_numbers(version), version, folder))
            else:
                refused.append(f"{folder} has {version}")
        # The first of equals wins: max() would take any.
        for _, version, folder in sorted(fitting, key=lambda found: found[0], reverse=True):
            try:
                return self._toolchain(folder, version, requirement)
            except Declined as declined:
                refused.append(f"{folder} ({version}): {declined.reason}")
        if refused:
            raise Declined(f"none of its {self.engine.title} fits: {'; '.join(refused)}")
        raise Declined(f"it has no {self.engine.title} of its own")

    def folders(self) -> Iterator[Path]:
        """The folders that hold the server program, each once."""
        from glob import glob

        patterns = self.engine.places if self.places is None else self.places
        candidates = [folder for pattern in patterns for folder in sorted(glob(pattern))]
        if self.places is None:
            candidates += [entry for entry in os.get_exec_path() if os.path.isabs(entry)]
        seen: set[Path] = set()
        for candidate in candidates:
            # A link on PATH leads to the folder where all the programs are.
            server = self._server(Path(candidate))
            if os.access(server, os.X_OK) and server.is_file():
                folder = server.resolve().parent
                if folder not in seen:
                    seen.add(folder)
                    yield folder

    def _server(self, folder: Path) -> Path:
        """Where the server program is, or would be."""
        others = self.engine.other_names.get(self.engine.server, ())
        there = (folder / name for name in (self.engine.server, *others))
        # Not Path.exists, which raises where the folder may not be entered: su leaves root's PATH.
        return next((path for path in there if os.path.exists(path)), folder / self.engine.server)

    def _toolchain(self, folder: Path, version: str, requirement: Requirement) -> Toolchain:
        programs = list_programs(self.engine, folder)
        prove(self.engine, programs, {})
        require_extensions(self.engine, programs, {}, requirement.extensions)
        required = {name: programs[name] for name in self.engine.required}
        return Toolchain(
            engine=self.engine.name,
            version=version,
            provider=f"{folder} on {self.name}",
            programs=programs,
            digest=installation_digest(required),
            prefix=folder.parent,
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())

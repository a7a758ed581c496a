"""Programs that the settings name one by one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...exceptions import ConfigurationError
from ...pins import Requirement
from ..engines import Engine
from ..programs import (
    ask_version,
    installation_digest,
    list_programs,
    require_extensions,
    require_programs,
)
from ..toolchain import Toolchain
from .base import Declined


@dataclass(frozen=True)
class Executables:
    """``programs`` holds what is set; a bare name is looked up on PATH.

    :param base: what relative paths are relative to: the project's root.
    """

    engine: Engine
    programs: Mapping[str, Path]
    base: Path
    name: str = "the executable settings"

    def resolved(self) -> dict[str, Path]:
        """Absolute paths of what is set.

        :raises ConfigurationError: when a setting names what cannot be run.
        """
        return {name: self._resolve(name, path) for name, path in self.programs.items()}

    def _resolve(self, name: str, path: Path) -> Path:
        from shutil import which

        setting = self.engine.settings.get(name, name)
        if len(path.parts) == 1:
            if found := which(str(path)):
                return Path(os.path.abspath(found))
            raise ConfigurationError(
                f"{setting} is {str(path)!r}, and PATH has no such program.",
                hints=[f"set {setting} to an absolute path, or remove it"],
            )
        path = self.base / path
        if path.is_file() and os.access(path, os.X_OK):
            return path
        problem = "is not executable" if path.is_file() else "does not exist"
        raise ConfigurationError(
            f"{setting} is {path}, which {problem}.",
            hints=[f"correct {setting}, or remove it: the pin alone provides the programs"],
        )

    def find(self, requirement: Requirement) -> Toolchain:
        """What is not set comes from the folder of the server program, which must be set."""
        explicit = self.resolved()
        server = explicit[self.engine.server]
        # Debian and Homebrew put links on PATH; the other programs are beside the real one.
        programs: dict[str, Path] = {}
        for folder in (server.resolve().parent, server.parent):
            programs |= list_programs(self.engine, folder)
            if all(name in programs for name in self.engine.required):
                break
        known = (*self.engine.required, *self.engine.other_names, self.engine.config_program)
        programs = {name: programs[name] for name in known if name in programs} | explicit
        require_programs(self.engine, programs, server.parent)
        version = ask_version(self.engine, server, {})
        if not requirement.matches(version):
            raise Declined(f"{server} is {self.engine.title} {version}")
        require_extensions(self.engine, programs, {}, requirement.extensions)
        return Toolchain(
            engine=self.engine.name,
            version=version,
            provider=self.name,
            programs=programs,
            digest=installation_digest(programs),
        )

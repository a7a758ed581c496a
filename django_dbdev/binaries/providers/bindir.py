"""Programs in one folder: what a Nix shell exports, or what is installed on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
class Bindir:
    """The folder that the environment names, ``DBDEV_POSTGRESQL_BINDIR`` and its like.

    :param origin: where its programs come from, in the words of the shell that names it.
    :param suffix: of the variable, where it speaks for one alias.
    """

    engine: Engine
    folder: Path
    origin: str = ""
    suffix: str = ""

    @property
    def name(self) -> str:
        return self.engine.bindir_variable + self.suffix

    def find(self, requirement: Requirement) -> Toolchain:
        programs = list_programs(self.engine, self.folder)
        if not programs:
            raise Declined(f"{self.folder} does not exist, or is empty")
        require_programs(self.engine, programs, self.folder)
        version = ask_version(self.engine, programs[self.engine.server], {})
        if not requirement.matches(version):
            raise Declined(f"{self.folder} has {self.engine.title} {version}")
        require_extensions(
            self.engine, programs, {}, requirement.extensions, self._sharedir(programs)
        )
        required = {name: programs[name] for name in self.engine.required}
        return Toolchain(
            engine=self.engine.name,
            version=version,
            provider=f"{self.origin} ({self.name})" if self.origin else self.name,
            programs=programs,
            digest=installation_digest(required),
            prefix=self.folder.parent,
        )

    def _sharedir(self, programs: Mapping[str, Path]) -> Path | None:
        """Where shared files are, for builds without the program that tells: nixpkgs' have none."""
        if self.engine.config_program in programs:
            return None
        share = self.folder.resolve().parent / "share"
        folders = (share / self.engine.name, share)
        extensions = Path(self.engine.extension_file).parent
        return next((folder for folder in folders if (folder / extensions).is_dir()), None)

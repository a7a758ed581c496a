"""A program to run, as data."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """What to run. Passwords go into ``environment`` or into files, never into ``args``.

    :param environment: added to the caller's.
    :param hidden: prefixes of the caller's variables that the program must not see, such as
        "PG": a PGSERVICE or PGOPTIONS of the user's would change what it does.
    """

    program: Path
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    cwd: Path | None = None

    def __str__(self) -> str:
        """The command line as one would type it in a shell, without its environment."""
        return shlex.join([str(self.program), *self.args])

    def full_environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not (self.hidden and name.startswith(self.hidden))
        }
        return {**kept, **self.environment}

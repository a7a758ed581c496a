"""A program to run, as data."""

from __future__ import annotations

import os
import re
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
    :param secrets: passwords: a variable of the caller's that is one, or has one as a URL or a
        connection string does, is hidden too, whatever its name.
    """

    program: Path
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    cwd: Path | None = None
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def __str__(self) -> str:
        """The command line as one would type it in a shell, without its environment."""
        return shlex.join([str(self.program), *self.args])

    def full_environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not (self.hidden and name.startswith(self.hidden)) and not self._is_telling(value)
        }
        return {**kept, **self.environment}

    def _is_telling(self, value: str) -> bool:
        from urllib.parse import quote

        forms = {
            form
            for secret in self.secrets
            for form in (secret, quote(secret, safe="", errors="surrogateescape"))
        }
        return any(re.search(rf"(?:^|[:=]){re.escape(form)}(?:$|[@&\s])", value) for form in forms)

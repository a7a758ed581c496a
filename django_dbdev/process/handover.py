"""Another program in the place of this process: its terminal, its streams, its pid."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from ..exceptions import ConfigurationError


def become(program: str, args: Sequence[str], environment: Mapping[str, str]) -> None:
    """Does not return.

    :param program: a path, or a name that is looked for on the PATH of ``environment``.
    :param environment: added to ours.
    :raises ConfigurationError: when it cannot be run.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        os.execvpe(program, [program, *args], {**os.environ, **environment})
    except OSError as error:
        raise ConfigurationError(f"{program} cannot be run: {error.strerror}.") from None

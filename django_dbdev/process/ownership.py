"""Folders that somebody else may have put where we look for our own."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..exceptions import ConfigurationError


def refuse_planted(folder: Path) -> None:
    """Refuse a folder of another account's in a place where every account may make one.

    Programs are run, and data is believed, from where it stands. A link counts as well as what
    it leads to. What is not there yet is nobody's.

    :raises ConfigurationError: when it is neither ours, nor root's, nor that of the place's owner.
    """
    try:
        parent = folder.parent.stat()
        owners = {folder.lstat().st_uid}
    except OSError:
        return
    with suppress(OSError):
        owners.add(folder.stat().st_uid)
    strangers = owners - {os.geteuid(), 0, parent.st_uid}
    if strangers and parent.st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"{folder} belongs to somebody else (uid {min(strangers)}), and everybody can write "
            f"to {folder.parent}: it is not used.",
            hints=[f"look who made {folder}, and remove it, or name another place"],
        )

"""What somebody else may have put where we look for our own."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from .exceptions import ConfigurationError


def planted_by(path: Path, *trusted: int) -> int | None:
    """The other account that has put a file or folder in a place where every account may.

    A link counts as well as what it leads to. What is not there yet is nobody's.

    :param trusted: uids that may, besides ourselves, root and the owner of the place.
    """
    try:
        parent = path.parent.stat()
        owners = {path.lstat().st_uid}
    except OSError:
        return None
    with suppress(OSError):
        owners.add(path.stat().st_uid)
    strangers = owners - {os.geteuid(), 0, parent.st_uid, *trusted}
    return min(strangers) if strangers and parent.st_mode & stat.S_IWOTH else None


def owner_of(path: Path) -> int:
    """The uid of what is there; our own where nothing is."""
    try:
        return path.stat().st_uid
    except OSError:
        return os.geteuid()


def planted_on_the_way(folder: Path, project: Path) -> tuple[Path, int] | None:
    """What another account has put where every account may, and who: ``folder``, or one above it.

    Where the project itself lies nothing is looked at, and its owner is trusted.
    """
    owner = owner_of(project)
    for each in (folder, *folder.parents):
        if each == project or each in project.parents:
            break
        if (stranger := planted_by(each, owner)) is not None:
            return each, stranger
    return None


def refuse_planted(folder: Path, project: Path) -> None:
    """Refuse a folder that stands where another account may have planted it.

    Programs are run, and data is believed, from where it stands.

    :raises ConfigurationError: when it, or a folder above it, is neither ours, nor root's, nor
        that of the place's owner.
    """
    if (found := planted_on_the_way(folder, project)) is not None:
        planted, stranger = found
        raise ConfigurationError(
            f"{planted} belongs to somebody else (uid {stranger}), and everybody can write "
            f"to {planted.parent}: {'it' if planted == folder else folder} is not used.",
            hints=[f"look who made {planted}, and remove it, or name another place"],
        )

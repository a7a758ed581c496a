"""Where a server's Unix socket goes.

A socket's path has at most 107 bytes on Linux and 103 on macOS (``sun_path`` less its final
zero), and projects lie deep. So: in the project where it fits, else below
``$XDG_RUNTIME_DIR``, else below ``/tmp``, in a folder named by a hash of the project's.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from ..exceptions import ServerError

MAX_PATH = 107 if sys.platform == "linux" else 103


def socket_directory(tempdata: Path, file_name: str) -> Path:
    """The folder for a socket called ``file_name``; not yet made."""
    for folder in _candidates(tempdata):
        if len(os.fsencode(folder / file_name)) <= MAX_PATH and not _awkward(folder):
            return folder
    raise ServerError(
        f"There is no place for a Unix socket {file_name} whose path is short enough."
    )


def _candidates(tempdata: Path) -> Iterator[Path]:
    yield tempdata / "run"
    name = hashlib.sha256(os.fsencode(tempdata)).hexdigest()[:16]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "django_dbdev" / name
    yield Path("/tmp") / f"django_dbdev-{os.geteuid()}" / name


def _awkward(folder: Path) -> bool:
    """Whether PostgreSQL or libpq would read the path as a list, or the configuration break."""
    return any(c in ',"' or ord(c) < 32 for c in str(folder)) or not folder.is_absolute()


def make_private(folder: Path) -> None:
    """Make a folder that only we can enter, and refuse one that somebody else has planted.

    :raises ServerError: when it is a link, not ours, or open to others and cannot be closed.
    """
    parents = [folder]
    if folder.parent.name.startswith("django_dbdev"):
        parents.insert(0, folder.parent)
    for each in parents:
        try:
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = each.lstat()
        except OSError as error:
            raise ServerError(f"The folder {each} cannot be made: {error.strerror}.") from None
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
            raise ServerError(
                f"{each} is a link, or belongs to somebody else (uid {status.st_uid}): "
                "a server's socket is not put there.",
                hints=[f"look who made {each}, and remove it"],
            )
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o077:
            each.chmod(0o700)

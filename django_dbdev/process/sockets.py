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
from .privileges import DIRECT, Identity

MAX_PATH = 107 if sys.platform == "linux" else 103
_LOCAL = "run"
_TMP = Path("/tmp")  # nosec B108 # see make_private


def socket_directory(tempdata: Path, file_name: str) -> Path:
    """The folder for a socket called ``file_name``; not yet made."""
    for folder in _candidates(tempdata):
        if len(os.fsencode(folder / file_name)) <= MAX_PATH and not _awkward(folder):
            return folder
    raise ServerError(
        f"There is no place for a Unix socket {file_name} whose path is short enough."
    )


def socket_folders(tempdata: Path) -> list[Path]:
    """All folders outside the project in which a server of this state may have its socket."""
    return [folder for folder in _candidates(tempdata) if not folder.is_relative_to(tempdata)]


def _candidates(tempdata: Path) -> Iterator[Path]:
    yield tempdata / _LOCAL
    name = hashlib.sha256(os.fsencode(tempdata)).hexdigest()[:16]
    if (runtime := _runtime_directory()) is not None:
        yield runtime / "django_dbdev" / name
    yield _TMP / f"django_dbdev-{os.geteuid()}" / name


def _runtime_directory() -> Path | None:
    """``$XDG_RUNTIME_DIR``, if it is ours: su and sudo may leave another user's.

    Root's is not used: a server's own account could not enter it.
    """
    path = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    try:
        owner = path.stat().st_uid
    except OSError:
        return None
    return path if path.is_absolute() and owner == os.geteuid() != 0 else None


def _awkward(folder: Path) -> bool:
    """Whether PostgreSQL or libpq would read the path as a list, or the configuration break."""
    text = str(folder)
    return (
        any(c in ',"' or ord(c) < 32 or 0xDC80 <= ord(c) <= 0xDCFF for c in text)
        or not folder.is_absolute()
    )


def make_private(folder: Path, identity: Identity = DIRECT) -> None:
    """Make a folder that only the server's account can enter, and root.

    Refused is one that somebody else may have planted in a folder that everyone can write to.

    :raises ServerError: when it, or the folder of ours that it stands in, is a link or not ours.
    """
    if folder.name != _LOCAL:
        # A server's own account passes through; nobody else can look into it or write there.
        _make(folder.parent, 0o711, {os.geteuid(), 0})
    # What stands in a folder of root's own was made by root, for whomever it is now.
    trusted = {os.geteuid(), 0, identity.owner[0]}
    _make(folder, 0o700, None if os.geteuid() == 0 and _only_ours(folder.parent) else trusted)
    identity.adopt(folder)


def _make(folder: Path, mode: int, owners: set[int] | None) -> None:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise ServerError(
            f"The folder {folder} cannot be made: {error.strerror}.",
            hints=[
                f"the path of a socket has at most {MAX_PATH} bytes: it stands in the project "
                "where that has a shorter one, and in DBDEV_STORE likewise"
            ],
        ) from None
    if not stat.S_ISDIR(status.st_mode) or not (owners is None or status.st_uid in owners):
        raise ServerError(
            f"{folder} is a link, or belongs to somebody else (uid {status.st_uid}): "
            "a server's socket is not put there.",
            hints=[f"look who made {folder}, and remove it"],
        )
    if os.geteuid() in (status.st_uid, 0) and stat.S_IMODE(status.st_mode) != mode:
        folder.chmod(mode)


def _only_ours(folder: Path) -> bool:
    """Whether nobody else could have put anything into the folder."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022

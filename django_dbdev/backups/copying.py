"""Copying files the cheapest way that the file system has."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder of plain files, folders and links to ``target``, which must not exist.

    ``copy_file_range`` shares the blocks where the file system can (btrfs, XFS), and copies
    inside the kernel elsewhere. Modes are kept, times are not.
    """
    os.mkdir(target, 0o700)
    with os.scandir(source) as entries:
        for entry in entries:
            path = os.path.join(target, entry.name)
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), path)
            elif entry.is_dir(follow_symlinks=False):
                copy_tree(Path(entry.path), Path(path))
            else:
                copy_file(entry.path, path)


if sys.platform == "linux":

    def copy_file(source: str | Path, target: str | Path) -> None:
        """Copy one file to ``target``, which must not exist."""
        read = os.open(source, os.O_RDONLY)
        try:
            status = os.fstat(read)
            write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, status.st_mode & 0o777)
            try:
                left = status.st_size
                while left > 0:
                    copied = os.copy_file_range(read, write, left)
                    if copied == 0:
                        break
                    left -= copied
            finally:
                os.close(write)
        except OSError as error:
            if error.errno not in _NO_COPY_FILE_RANGE:
                raise
            os.unlink(target)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
        finally:
            os.close(read)

    import errno as _errno

    #: Across file systems on old kernels, and where a file system or sandbox has no such call.
    _NO_COPY_FILE_RANGE = {_errno.EXDEV, _errno.ENOSYS, _errno.EOPNOTSUPP, _errno.EINVAL}

else:

    def copy_file(source: str | Path, target: str | Path) -> None:
        """Copy one file to ``target``, which must not exist."""
        shutil.copyfile(source, target)
        shutil.copymode(source, target)

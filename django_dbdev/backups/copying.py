"""Copying files the cheapest way that the file system has."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

#: Why a hard link cannot be made here, though both files are as they should be.
_NO_LINK = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
#: Why a file cannot be cloned here.
_NO_CLONE = {errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
#: ``ioctl`` numbers and flags of Linux; source: linux/fs.h.
_FICLONE = 0x40049409
_SYNC_FILE_RANGE_WRITE = 2
#: What is wrong with the file that is written, whichever of two an error names.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
                raise _named(error, target) from None
            os.unlink(target)
            _copy_plainly(source, target)
        finally:
            os.close(read)

    #: Across file systems on old kernels, and where a file system or sandbox has no such call.
    _NO_COPY_FILE_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

    def clone(read: int, write: int) -> bool:
        """Share all blocks of one open file with another; False where that cannot be done."""
        import fcntl

        try:
            fcntl.ioctl(write, _FICLONE, read)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            return False
        return True

    def begin_writing(descriptor: int, begin: int, end: int) -> None:
        """Have the kernel write a part of a file to disk, without waiting for it."""
        _libc().sync_file_range(
            ctypes.c_int(descriptor),
            ctypes.c_int64(begin),
            ctypes.c_int64(end - begin),
            ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
        )

    def flush(folder: Path) -> None:
        """Wait until all of the folder's file system is on disk."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if _libc().syncfs(ctypes.c_int(descriptor)) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(folder))
        finally:
            os.close(descriptor)

    @cache
    def _libc() -> Any:
        return ctypes.CDLL(None, use_errno=True)

else:

    def copy_file(source: str | Path, target: str | Path) -> None:
        """Copy one file to ``target``, which must not exist."""
        _copy_plainly(source, target)

    def clone(read: int, write: int) -> bool:
        """Share all blocks of one open file with another; False where that cannot be done."""
        return False

    def begin_writing(descriptor: int, begin: int, end: int) -> None:
        """Have the kernel write a part of a file to disk, without waiting for it."""

    def flush(folder: Path) -> None:
        """Wait until all of the folder's file system is on disk."""
        os.sync()


def _copy_plainly(source: str | Path, target: str | Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise _named(error, target) from None
    shutil.copymode(source, target)


def _named(error: OSError, target: str | Path) -> OSError:
    """The error with the name of the file that there was no room for."""
    if error.errno not in _NO_ROOM:
        return error
    return OSError(error.errno, os.strerror(error.errno), str(target))


def link(source: str, target: str) -> bool:
    """Make a hard link; False where the file systems do not allow it."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True

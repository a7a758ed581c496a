"""Unpacking archives from elsewhere.

Every member is checked here, on every version of Python: its name stays in the folder, links
lead nowhere outside it, nothing is a device, and the whole is not absurdly large. Links are
made last, so that nothing is ever written through one. Permissions become 0755 or 0644.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from gzip import GzipFile

from ..exceptions import IntegrityError

#: What no package of a database server comes near: bytes of all files, and members.
MAX_BYTES = 2_000_000_000
MAX_MEMBERS = 100_000
#: Of what is read into memory as one piece: bytes of a name, of a link's target, of a file's part.
MAX_PIECE = 65_536

#: How the system refuses a name; its other errors, such as a full disk, are not the archive's.
_BAD_NAME = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR})


class ArchiveError(IntegrityError):
    """An archive that is damaged, or that wants to write where it must not."""


@contextmanager
def _damage_told(label: str) -> Iterator[None]:
    """Whatever the readers of archives raise over bytes that make no sense is our own error."""
    import tarfile
    import zipfile
    import zlib

    try:
        yield
    except (
        *(zipfile.BadZipFile, tarfile.TarError, zlib.error),
        # Encrypted; numbers, text and ends where there are others.
        *(EOFError, RuntimeError, ValueError, ArithmeticError, TypeError),
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.errno not in (None, *_BAD_NAME):
            raise
        raise ArchiveError(f"{label} is damaged: {error}.") from None


def bounded(chunks: Iterable[bytes], label: str) -> Iterator[bytes]:
    """The same chunks of an archive that another program unpacks.

    :raises ArchiveError: when they are more than :data:`MAX_BYTES`.
    """
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > MAX_BYTES:
            raise ArchiveError(f"{label} unpacks to more than {MAX_BYTES} bytes.")
        yield chunk


@dataclass
class _Target:
    """Writes members below ``folder``."""

    folder: Path
    label: str
    total: int = 0
    members: int = 0
    links: list[tuple[Path, str]] = field(default_factory=list)
    made: set[Path] = field(default_factory=set)

    def path(self, name: str, strip: int) -> Path | None:
        """Where a member goes; None for the top folders that are stripped."""
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise ArchiveError(f"{self.label} has more than {MAX_MEMBERS} members.")
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise ArchiveError(f"{self.label} has a member with an unsafe name: {name!r}.")
        parts = pure.parts[strip:]
        return self.folder.joinpath(*parts) if parts else None

    def directory(self, path: Path) -> None:
        if path not in self.made:
            if path != self.folder:
                self.directory(path.parent)
            try:
                path.mkdir(parents=True, exist_ok=True)
                # The umask may take away what a server account needs.
                path.chmod(0o755)
            except (FileExistsError, NotADirectoryError):
                raise ArchiveError(
                    f"{self.label} has a file where it wants a folder: {path.name!r}."
                ) from None
            self.made.add(path)

    def file(self, path: Path, content: IO[bytes], size: int, mode: int) -> None:
        self.total += size
        if self.total > MAX_BYTES:
            raise ArchiveError(f"{self.label} unpacks to more than {MAX_BYTES} bytes.")
        self.directory(path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags, 0o755 if mode & 0o111 else 0o644)
        except FileExistsError:
            raise ArchiveError(f"{self.label} has a member twice: {path.name!r}.") from None
        with os.fdopen(descriptor, "wb") as file:
            # The umask may take away what a server account needs.
            os.fchmod(descriptor, 0o755 if mode & 0o111 else 0o644)
            shutil.copyfileobj(content, file, MAX_PIECE)
            written = file.tell()
        if written != size:
            raise ArchiveError(f"{self.label} is damaged: {path.name!r} is cut short.")

    def link(self, path: Path, target: str) -> None:
        landing = Path(os.path.normpath(path.parent / target))
        if os.path.isabs(target) or not landing.is_relative_to(self.folder):
            raise ArchiveError(f"{self.label} has a link that leaves it: {path.name!r}.")
        self.directory(path.parent)
        self.links.append((path, target))

    def finish(self) -> None:
        for path, target in self.links:
            try:
                path.symlink_to(target)
            except FileExistsError:
                raise ArchiveError(f"{self.label} has a member twice: {path.name!r}.") from None
        for path, _ in self.links:
            # A chain of links may leave the folder where no single one of them does.
            landing = Path(os.path.realpath(path))
            if not landing.is_relative_to(os.path.realpath(self.folder)):
                raise ArchiveError(f"{self.label} has a link that leaves it: {path.name!r}.")


def unpack_zip(archive: Path, folder: Path, *, label: str) -> None:
    """Unpack a zip file, such as a wheel, keeping the run bits that ``zipfile`` drops.

    :raises ArchiveError: ``label`` names the archive in it.
    """
    import zipfile

    target = _Target(folder, label)
    target.directory(folder)
    with _damage_told(label):
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                mode = member.external_attr >> 16
                path = target.path(member.filename, 0)
                if path is None or member.is_dir():
                    target.directory(path or folder)
                elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # Others may ask for any amount of memory.
                    raise ArchiveError(f"{label} is packed in an unusual way: {path.name!r}.")
                elif stat.S_ISLNK(mode):
                    if member.file_size > MAX_PIECE:
                        raise ArchiveError(f"{label} has a link without end: {path.name!r}.")
                    target.link(path, content.read(member).decode("utf-8", "replace"))
                elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    raise ArchiveError(f"{label} has a special file: {member.filename!r}.")
                else:
                    with content.open(member) as file:
                        target.file(path, file, member.file_size, mode)
        target.finish()


def unpack_inner_tar(archive: Path, member: str, folder: Path, *, label: str) -> None:
    """Unpack the one ``.tar.gz`` that stands below ``member`` in a zip file, without its top.

    :raises ArchiveError: ``label`` names the archive in it.
    """
    import zipfile

    with _damage_told(label), zipfile.ZipFile(archive) as content:
        inner = [
            name
            for name in content.namelist()
            if name.startswith(f"{member}/") and name.endswith(".tar.gz")
        ]
        if len(inner) != 1:
            raise ArchiveError(f"{label} holds {len(inner)} archives, where one is expected.")
        with content.open(inner[0]) as file:
            unpack_tar(file, folder, label=label, strip=1)


def unpack_tar(file: IO[bytes], folder: Path, *, label: str, strip: int = 0) -> None:
    """Unpack a ``.tar.gz``, read once from its beginning to its end.

    :param strip: how many top folders to leave out.
    :raises ArchiveError: ``label`` names the archive in it.
    """
    import gzip
    import tarfile

    target = _Target(folder, label)
    target.directory(folder)
    with _damage_told(label), gzip.open(file) as unpacked:
        pieces = cast("IO[bytes]", _Pieces(unpacked, label))
        with tarfile.open(fileobj=pieces, mode="r:") as content:
            for member in content:
                path = target.path(member.name, strip)
                if path is None or member.isdir():
                    if not member.isdir():
                        raise ArchiveError(f"{label} has no top folder: {member.name!r}.")
                    target.directory(path or folder)
                elif member.issym():
                    target.link(path, member.linkname)
                elif member.islnk():
                    _copy_hard_link(target, path, member.linkname, strip)
                elif member.isreg() and (source := content.extractfile(member)) is not None:
                    target.file(path, source, member.size, member.mode)
                else:
                    raise ArchiveError(f"{label} has a special file: {member.name!r}.")
        target.finish()


@dataclass
class _Pieces:
    """What ``tarfile`` reads from: it takes a header as one piece, however long that says it is."""

    content: GzipFile
    label: str

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_PIECE:
            raise ArchiveError(f"{self.label} has a name without end.")
        return self.content.read(size)

    def seek(self, offset: int) -> int:
        return self.content.seek(offset)

    def tell(self) -> int:
        return self.content.tell()


def _copy_hard_link(target: _Target, path: Path, name: str, strip: int) -> None:
    source = target.path(name, strip)
    if source is None or not source.is_file():
        raise ArchiveError(f"{target.label} has a link to what it does not hold: {name!r}.")
    with open(source, "rb") as content:
        target.file(path, content, source.stat().st_size, source.stat().st_mode)

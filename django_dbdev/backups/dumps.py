"""Dumps as files: what one holds, by its content, and streams of its bytes.

A dump is recognised by what is in it, never by its name; one that is written gets its format
from its name. What a format means to an engine is the backends' business.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any, Protocol

from .. import conf
from ..exceptions import DumpError
from ..records import is_alive

#: Bytes that are read at a time: compressed ones, and plain ones, which only pass through.
_CHUNK = 128 * 1024
_PLAIN_CHUNK = 512 * 1024
#: Bytes by which a dump is recognised.
_HEAD = 64 * 1024
#: How the names of dumps end that are being written.
_UNFINISHED = ".unfinished"
#: What pg_dump writes in directory format. Source: its pg_backup_directory.c.
_TOC = "toc.dat"
_IN_DIRECTORY = re.compile(r"toc\.dat|blobs(_\d+)?\.toc|(blob_)?\d+\.dat(\.(gz|lz4|zst))?")
#: How deep compressions may be nested before it is no dump any more.
_DEPTH = 3


class Format(Enum):
    """What is in a dump. The values are what people call them."""

    PLAIN = "plain SQL"
    CUSTOM = "pg_dump's custom format"
    TAR = "pg_dump's tar format"
    DIRECTORY = "pg_dump's directory format"


class _Coder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes) -> bytes: ...


class Encoder(Protocol):
    def compress(self, data: Any) -> bytes: ...
    def flush(self) -> bytes: ...


@dataclass(frozen=True)
class Compression:
    """A way to compress one stream. The modules load when they are used.

    :param magic: the bytes that it begins with.
    """

    name: str
    suffix: str
    magic: bytes
    decoder: Callable[[], _Coder]
    encoder: Callable[[], Encoder]


def _gzip_decoder() -> _Coder:
    import zlib

    return zlib.decompressobj(wbits=31)


def _gzip_encoder() -> Encoder:
    import zlib

    return zlib.compressobj(wbits=31)


def _bz2_decoder() -> _Coder:
    import bz2

    return bz2.BZ2Decompressor()


def _bz2_encoder() -> Encoder:
    import bz2

    return bz2.BZ2Compressor()


def _xz_decoder() -> _Coder:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ)


def _xz_encoder() -> Encoder:
    import lzma

    # xz's own default, 6, takes a minute for each gigabyte more and saves a few per cent.
    return lzma.LZMACompressor(lzma.FORMAT_XZ, preset=2)


def _zstd_decoder() -> _Coder:
    import zstandard

    # Room for what `zstd --long=31` writes.
    return zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()


def _zstd_encoder() -> Encoder:
    import zstandard

    return zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()


COMPRESSIONS = (
    Compression("gzip", ".gz", b"\x1f\x8b", _gzip_decoder, _gzip_encoder),
    Compression("bzip2", ".bz2", b"BZh", _bz2_decoder, _bz2_encoder),
    Compression("xz", ".xz", b"\xfd7zXZ\x00", _xz_decoder, _xz_encoder),
    Compression("zstd", ".zst", b"\x28\xb5\x2f\xfd", _zstd_decoder, _zstd_encoder),
)

#: What zstd's decoders pass over. Source: RFC 8878, "Skippable Frames".
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")

#: What people pass by mistake, by its first bytes.
_OTHERS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"\x04\x22\x4d\x18", "compressed by lz4: unpack it first"),
    (b"SQLite format 3\0", "an SQLite database, not a dump of one"),
    (b"\x7fELF", "a program"),
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
#: What no dump in text begins with. Further on it has whatever characters the database has, but
#: for zero, which no engine's dumps have as it is.
_NOT_AT_FIRST = frozenset(range(32)) - set(b"\t\n\v\f\r")
_FIRST = 16


def compression_of(head: bytes) -> Compression | None:
    """How something is compressed that begins with ``head``."""
    if _SKIPPABLE.match(head):
        # How pzstd begins.
        head = COMPRESSIONS[-1].magic
    return next((each for each in COMPRESSIONS if head.startswith(each.magic)), None)


def format_of(head: bytes) -> Format:
    """What is in a dump that begins with ``head``.

    :raises DumpError: saying what it is instead, where that can be told.
    """
    if not head:
        raise DumpError("it is empty")
    if head.startswith(b"PGDMP"):
        return Format.CUSTOM
    if head[257:262] == b"ustar":
        if head.startswith(b"toc.dat\0"):
            return Format.TAR
        raise DumpError("it is a tar archive, but not one that pg_dump wrote")
    for magic, what in _OTHERS:
        if head.startswith(magic):
            raise DumpError(f"it is {what}")
    if head.startswith(_UTF16):
        raise DumpError(
            "it is text in UTF-16, as PowerShell's > writes it",
            hints=["write the dump with pg_dump's own option --file, or convert it to UTF-8"],
        )
    if b"\0" in head or not _NOT_AT_FIRST.isdisjoint(head[:_FIRST]):
        raise DumpError(
            "it is neither text nor anything that pg_dump writes",
            hints=[_READABLE],
        )
    return Format.PLAIN


_READABLE = (
    "these can be loaded: plain SQL, also compressed by gzip, bzip2, xz or zstd, "
    "and pg_dump's custom, tar and directory formats"
)


class Dump:
    """An opened dump.

    :param label: what messages call it.
    :param path: where it lies as it is; None where its bytes only come by the stream, because
        it is compressed or no file.
    :param size: bytes as stored; None where that is not known.
    """

    def __init__(
        self,
        label: str,
        format: Format,
        *,
        path: Path | None = None,
        size: int | None = None,
        compressions: Sequence[Compression] = (),
        head: bytes = b"",
        source: _Source | None = None,
        stream: Iterator[bytes] | None = None,
    ) -> None:
        self.label = label
        self.format = format
        self.path = path
        self.size = size
        self.compressions = tuple(compressions)
        #: The first bytes, decompressed.
        self.head = head
        self._source = source
        self._stream = stream or iter(())

    @property
    def done(self) -> int:
        """The bytes that were read so far, as stored."""
        return self._source.done if self._source else 0

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, decompressed. They can be asked for once.

        :raises DumpError: when it is damaged, or ends too early.
        """
        yield self.head
        yield from self._stream

    def __str__(self) -> str:
        """What it is, in words: "plain SQL, gzip"."""
        return ", ".join([self.format.value, *(each.name for each in self.compressions)])


@contextmanager
def opened(name: str, standard_input: IO[bytes]) -> Iterator[Dump]:
    """The dump ``name``, recognised; "-" is standard input.

    :raises DumpError: when there is none, it cannot be read, or it is no dump.
    """
    if name == "-":
        yield _recognised("standard input", standard_input, None)
        return
    path = Path(name)
    try:
        if path.is_dir():
            yield _directory(path)
            return
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(name, error) from None
    with file:
        yield _recognised(str(path), file, path)


def _directory(path: Path) -> Dump:
    toc = path / _TOC
    if not toc.is_file():
        raise DumpError(
            f"{path} is a folder without a {_TOC}, so it is no dump in directory format."
        )
    if not _is_archive(toc):
        raise DumpError(f"{toc} is damaged: it does not begin as pg_dump's files do.")
    size = sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
    return Dump(str(path), Format.DIRECTORY, path=path, size=size)


def _is_archive(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(5) == b"PGDMP"


def _recognised(label: str, file: IO[bytes], path: Path | None) -> Dump:
    size, regular = None, False
    try:
        status = os.fstat(file.fileno())
        if regular := stat.S_ISREG(status.st_mode):
            size = status.st_size
    except OSError:
        pass
    source = _Source(label, file)
    stream = source.chunks()
    compressions: list[Compression] = []
    head = _take(stream, _HEAD)
    while (compression := compression_of(head)) is not None and len(compressions) < _DEPTH:
        compressions.append(compression)
        stream = decompressed(_chained(head, stream), compression, label)
        head = _take(stream, _HEAD)
    source.plain = not compressions
    try:
        format = format_of(head)
    except DumpError as error:
        packed = f", unpacked from {compressions[-1].name}," if compressions else ""
        raise DumpError(
            f"{label}{packed} cannot be loaded: {error.message}.", hints=error.hints
        ) from None
    return Dump(
        label,
        format,
        path=path if regular and not compressions else None,
        size=size,
        compressions=compressions,
        head=head,
        source=source,
        stream=stream,
    )


class _Source:
    """The bytes as stored, counted."""

    def __init__(self, label: str, file: IO[bytes]) -> None:
        self._label = label
        self._file = file
        self.done = 0
        self.plain = False

    def chunks(self) -> Iterator[bytes]:
        while True:
            try:
                chunk = self._file.read(_PLAIN_CHUNK if self.plain else _CHUNK)
            except OSError as error:
                raise _unreadable(self._label, error) from None
            if not chunk:
                return
            self.done += len(chunk)
            yield chunk


def _take(stream: Iterator[bytes], count: int) -> bytes:
    """At least ``count`` bytes from the front, where there are so many."""
    taken: list[bytes] = []
    length = 0
    for chunk in stream:
        taken.append(chunk)
        length += len(chunk)
        if length >= count:
            break
    return b"".join(taken)


def _chained(head: bytes, stream: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from stream


def decompressed(stream: Iterator[bytes], compression: Compression, label: str) -> Iterator[bytes]:
    """The bytes behind a compression, of all its members one after the other.

    :raises DumpError: when it is damaged, or ends within a member.
    """
    try:
        decoder: _Coder | None = compression.decoder()
    except ImportError as error:
        raise DumpError(
            f"{label} is compressed by {compression.name}, for which {error.name} is missing.",
            hints=[f"install it: pip install {error.name}"],
        ) from None
    for chunk in stream:
        while chunk:
            if decoder is None:
                # Between and after members there may be padding.
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                decoder = compression.decoder()
            try:
                content = decoder.decompress(chunk)
            except Exception as error:  # Each module has an error of its own.
                raise DumpError(
                    f"{label} is damaged: {compression.name} cannot unpack it ({error})."
                ) from None
            chunk = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder = None
            if content:
                yield content
    if decoder is not None:
        raise DumpError(
            f"{label} is not whole: it ends in the middle of what {compression.name} wrote.",
            hints=["copy or download it again"],
        )


def _unreadable(name: str, error: OSError) -> DumpError:
    if isinstance(error, FileNotFoundError):
        return DumpError(f"There is no file {name}.")
    return DumpError(f"{name} cannot be read: {error.strerror}.")


@dataclass(frozen=True)
class Output:
    """What to write."""

    format: Format
    compression: Compression | None = None


_ENDINGS = {
    ".sql": Output(Format.PLAIN),
    **{f".sql{each.suffix}": Output(Format.PLAIN, each) for each in COMPRESSIONS},
    ".dump": Output(Format.CUSTOM),
    ".custom": Output(Format.CUSTOM),
    ".tar": Output(Format.TAR),
    ".dir": Output(Format.DIRECTORY),
    "/": Output(Format.DIRECTORY),
}


def output_of(name: str, formats: Sequence[Format] = tuple(Format)) -> Output:
    """The format of the dump ``name``, by its ending; "-" is plain.

    :param formats: those that the engine has.
    :raises DumpError: naming the endings; or when what is at ``name`` is more than an earlier dump.
    """
    if name == "-":
        return Output(Format.PLAIN)
    known = {end: output for end, output in _ENDINGS.items() if output.format in formats}
    for ending, output in known.items():
        if name.lower().endswith(ending):
            _check_place(Path(os.path.abspath(name)), output.format)
            return output
    listing = "\n".join(
        f"  {ending:<9} {output.format.value}"
        + (f", {output.compression.name}" if output.compression else "")
        for ending, output in known.items()
    )
    raise DumpError(f"The ending of {name!r} names no format. These do:\n{listing}")


def _check_place(path: Path, format: Format) -> None:
    """Refuse what a dump must not take the place of. A file takes that of any other file."""
    hints = ["name a folder that is not there yet, such as shop.dir"]
    if format is not Format.DIRECTORY:
        if path.is_dir():
            raise DumpError(
                f"{path} is a folder, and {format.value} is a file.",
                hints=["name a file that is not there yet"],
            )
        return
    place = path.resolve()
    for kept, what in (
        (conf.project_root()[0], "the project"),
        (conf.tempdata(), "the databases of the project"),
    ):
        if kept.resolve().is_relative_to(place):
            raise DumpError(
                f"{path} holds {what}, whose place a dump would take: a folder is replaced whole.",
                hints=hints,
            )
    if path.is_dir():
        if not _is_replaceable(path):
            raise DumpError(
                f"{path} holds other things than an earlier dump, and a folder is replaced whole.",
                hints=hints,
            )
    elif path.exists():
        raise DumpError(f"{path} is no folder, as {format.value} is.", hints=hints)


def _is_replaceable(folder: Path) -> bool:
    """Whether there is nothing in it but a dump in directory format."""
    try:
        entries = list(os.scandir(folder))
        return not entries or (
            all(entry.is_file() and _IN_DIRECTORY.fullmatch(entry.name) for entry in entries)
            and _is_archive(folder / _TOC)
        )
    except OSError:
        return False


def write_compressed(
    stream: Iterator[bytes],
    file: IO[bytes],
    compression: Compression | None,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write ``stream`` to ``file``, compressed; ``progress`` is told the bytes before that."""
    encoder = compression.encoder() if compression else None
    done = 0
    for chunk in stream:
        file.write(encoder.compress(chunk) if encoder else chunk)
        done += len(chunk)
        progress(done)
    if encoder is not None:
        file.write(encoder.flush())
    file.flush()


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A name beside ``path`` for a new file or folder, which takes its place in the end.

    What ``path`` was stays as it is when the block fails. What is written has to be on disk
    when the block ends. Where it is a link, that is of what it leads to.
    """
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    _clear_up(path)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        # The programs would name the temporary file.
        raise DumpError(f"{path.parent} cannot be written to.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_UNFINISHED}")
    try:
        yield temporary
        old = path.with_name(f".{path.name}.{os.getpid()}.old{_UNFINISHED}")
        if temporary.is_dir() and path.exists():
            # A folder cannot be replaced in one step; a file can.
            path.rename(old)
        temporary.rename(path)
        _remove(old)
        _sync_folder(path.parent)
    except OSError as error:
        raise DumpError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        _remove(temporary)


def _clear_up(path: Path) -> None:
    """Remove what killed commands left of ``path``; a folder that they moved aside comes back."""
    left = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.old)?{re.escape(_UNFINISHED)}")
    for entry in sorted(path.parent.glob(f".*{_UNFINISHED}")):
        found = left.fullmatch(entry.name)
        if found is None or is_alive(int(found[1])):
            continue
        if found[2] and not os.path.lexists(path):
            entry.rename(path)
        else:
            _remove(entry)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The header of pg_dump's archives, read without pg_restore.

Source: PostgreSQL, src/bin/pg_dump/pg_backup_archiver.c, ``ReadHead``. The custom format begins
with it, the directory and tar formats have it in toc.dat.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from ...backups.dumps import Format
from ...exceptions import DumpError

#: From this version of the format on the compression is named by one byte.
_COMPRESSION_BYTE = (1, 15)
_LONGEST = 1024


@dataclass(frozen=True)
class Header:
    """Which database an archive is of, and who wrote it.

    :param server_version: of the server that was dumped, as it names itself; may be longer
        than a number: "16.13 (Debian 16.13-1)".
    """

    database: str
    server_version: str
    pg_dump_version: str

    @property
    def pg_dump_major(self) -> str:
        return self.pg_dump_version.split(".")[0].split()[0]


def read_header(path: Path, format: Format) -> Header:
    """
    :raises DumpError: when the file is not one that pg_dump wrote.
    """
    try:
        if format is Format.TAR:
            with tarfile.open(path, "r:") as archive:
                member = archive.extractfile("toc.dat")
                content = member.read(64 * 1024) if member else b""
        else:
            file = path / "toc.dat" if format is Format.DIRECTORY else path
            with file.open("rb") as opened:
                content = opened.read(64 * 1024)
        return parse_header(content)
    except (ValueError, IndexError, KeyError, tarfile.TarError):
        raise DumpError(
            f"{path} is damaged: its header is not one that pg_dump writes.",
            hints=["copy or download it again"],
        ) from None


def parse_header(content: bytes) -> Header:
    """
    :raises ValueError: when it is not one, or ends too early. So does IndexError.
    """
    if content[:5] != b"PGDMP":
        raise ValueError("no archive")
    version = (content[5], content[6])
    integer = content[8]
    if version < (1, 10) or not 4 <= integer <= 8:
        raise ValueError("no archive of our time")
    # Sizes of integers and offsets, and the format, are one byte each.
    position = 11
    position += 1 if version >= _COMPRESSION_BYTE else 1 + integer
    # Seconds, minutes, hours, day, month, year, and whether it was summer time.
    position += 7 * (1 + integer)
    texts = []
    for _ in range(3):
        negative = content[position]
        length = int.from_bytes(content[position + 1 : position + 1 + integer], "little")
        position += 1 + integer
        if negative or length > _LONGEST or position + length > len(content):
            raise ValueError("no text")
        texts.append(content[position : position + length].decode("utf-8", "replace"))
        position += length
    return Header(*texts)

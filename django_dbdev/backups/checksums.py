"""What a file's checksum is, and how it is computed.

XXH3 with 128 bits: it finds damage, which is what a backup's checksum is for, at the speed of
memory. Files above :data:`CHUNK` are hashed in chunks, so that two processors can share one
large file: their checksum is that of the chunks' digests, one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

#: Bytes. A part of every checksum of a larger file: it cannot change.
CHUNK = 32 * 1024 * 1024
#: Bytes that are read at once: what fits a processor's cache.
BLOCK = 256 * 1024


def new_hash() -> Any:
    """An object with ``update`` and ``digest``."""
    import xxhash

    return xxhash.xxh3_128()


def combined(digests: Sequence[bytes]) -> str:
    """The checksum of a file whose chunks have these digests."""
    if len(digests) == 1:
        return digests[0].hex()
    state = new_hash()
    for digest in digests:
        state.update(digest)
    return str(state.hexdigest())


def chunks(size: int) -> list[tuple[int, int]]:
    """Begin and end of each chunk of a file; an empty file has one, which is empty."""
    return [(begin, min(begin + CHUNK, size)) for begin in range(0, size, CHUNK)] or [(0, 0)]


def digest_of(descriptor: int, begin: int, end: int) -> tuple[bytes, int]:
    """The digest of a part of an open file, and how many bytes there were of it."""
    state = new_hash()
    buffer = memoryview(bytearray(min(BLOCK, max(end - begin, 1))))
    position = begin
    while position < end:
        count = os.preadv(descriptor, [buffer[: end - position]], position)
        if count == 0:
            break
        state.update(buffer[:count])
        position += count
    return state.digest(), position - begin


def checksum_of(path: str | os.PathLike[str]) -> str:
    """The checksum of a whole file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        return combined([digest_of(descriptor, *chunk)[0] for chunk in chunks(size)])
    finally:
        os.close(descriptor)

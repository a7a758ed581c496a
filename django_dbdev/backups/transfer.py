"""Copying many files at once, each with its checksum, in one pass.

Where the file system can share blocks, files are cloned, which takes the same time whatever
their size; they get no checksum, for which all of them would be read. Elsewhere a block is
read, hashed and written while it is in the processor's cache: that is cheaper than
``copy_file_range`` and a second reading, and two threads can work on one large file, which
``copy_file_range`` locks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from . import checksums, copying, faults
from .manifest import FileEntry

#: Threads: copying is bound by memory and system calls, more do not help.
WORKERS = min(4, os.cpu_count() or 1)
#: Nanoseconds. A file that was written so shortly before a point in time may have been written
#: after it as well, with the same time stamp.
UNCERTAIN_NS = 2_000_000_000
_BATCH = 48


@dataclass(frozen=True, slots=True)
class Job:
    """One file to copy.

    :param size: bytes at the last look; decides how the work is divided.
    """

    source: str
    target: str
    size: int


def copy_all(
    jobs: Sequence[Job],
    *,
    step: str = "",
    may_vanish: bool = False,
    flushed_next: bool = False,
) -> list[FileEntry | None]:
    """Copy files; targets must not exist. Modes and times of modification are kept.

    :param step: where tests kill the command, in the middle of it.
    :param may_vanish: a source that is gone is passed over, and its result is None.
    :param flushed_next: the caller waits for the disk afterwards, which begins to write at once.
    :returns: For each job what was copied, with inode and time of the source as they were
        before it was read; what was cloned has no checksum.
    :raises OSError: with the target's name; what is copied by then stays.
    """
    return _Transfer(step, may_vanish, flushed_next).run(jobs)


def hash_all(paths: Sequence[str]) -> list[str]:
    """The checksums of files, in their order; large files are shared by the threads."""
    parts: list[tuple[int, int, int]] = []
    for number, path in enumerate(paths):
        parts += [(number, *chunk) for chunk in checksums.chunks(os.stat(path).st_size)]
    # Dealt out, so that no thread has all the large ones.
    count = min(len(parts), 8 * WORKERS)
    with ThreadPoolExecutor(WORKERS) as pool:
        batches = [pool.submit(_hash_parts, paths, parts[n::count]) for n in range(count)]
        digests = dict(pair for batch in batches for pair in batch.result())
    found: list[list[bytes]] = [[] for _ in paths]
    for number, begin, _ in parts:
        found[number].append(digests[number, begin])
    return [checksums.combined(each) for each in found]


def _hash_parts(
    paths: Sequence[str], parts: Sequence[tuple[int, int, int]]
) -> list[tuple[tuple[int, int], bytes]]:
    digests = []
    for number, begin, end in parts:
        descriptor = os.open(paths[number], os.O_RDONLY)
        try:
            digests.append(((number, begin), checksums.digest_of(descriptor, begin, end)[0]))
        finally:
            os.close(descriptor)
    return digests


class _Transfer:
    def __init__(self, step: str, may_vanish: bool, flushed_next: bool) -> None:
        self.step = step
        self.may_vanish = may_vanish
        self.flushed_next = flushed_next
        self.clones = True
        self.middle = -1

    def run(self, jobs: Sequence[Job]) -> list[FileEntry | None]:
        results: list[FileEntry | None] = [None] * len(jobs)
        if not jobs:
            return results
        # The large ones first, so that the threads end together.
        order = sorted(range(len(jobs)), key=lambda i: -jobs[i].size)
        self.middle = order[len(order) // 2]
        large = [i for i in order if jobs[i].size > checksums.CHUNK]
        small = order[len(large) :]
        # Dealt out, so that every batch has files of all sizes.
        count = max(1, -(-len(small) // _BATCH), min(len(small), 2 * WORKERS))
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                opened = [(i, _Large(self, jobs[i], pool)) for i in large]
                batches = [pool.submit(self._batch, jobs, small[n::count]) for n in range(count)]
                for i, each in opened:
                    results[i] = each.result()
                for batch in batches:
                    for i, entry in batch.result():
                        results[i] = entry
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return results

    def _batch(
        self, jobs: Sequence[Job], numbers: Sequence[int]
    ) -> list[tuple[int, FileEntry | None]]:
        done = []
        for number in numbers:
            done.append((number, self._copy(jobs[number])))
            if number == self.middle and self.step:
                faults.step(self.step)
        return done

    def _copy(self, job: Job) -> FileEntry | None:
        with ExitStack() as files, _naming(job.target):
            both = self.open(job, files)
            if both is None:
                return None
            read, write, status = both
            if self.cloned(read, write):
                return finish_clone(write, status)
            digests = [
                self.copy_part(read, write, begin, end)
                for begin, end in checksums.chunks(status.st_size)
            ]
            return finish(write, status, digests)

    def open(self, job: Job, files: ExitStack) -> tuple[int, int, os.stat_result] | None:
        """Source and target, opened, and what the source is before it is read."""
        try:
            read = os.open(job.source, os.O_RDONLY)
        except FileNotFoundError:
            if self.may_vanish:
                return None
            raise
        files.callback(os.close, read)
        status = os.fstat(read)
        # A backup may have been made read-only; what is built of it is written to.
        mode = status.st_mode & 0o777 | 0o600
        write = os.open(job.target, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        files.callback(os.close, write)
        return read, write, status

    def copy_part(self, read: int, write: int, begin: int, end: int) -> tuple[bytes, int]:
        done = copy_part(read, write, begin, end)
        if self.flushed_next and end - begin == checksums.CHUNK:
            copying.begin_writing(write, begin, end)
        return done

    def cloned(self, read: int, write: int) -> bool:
        self.clones = self.clones and copying.clone(read, write)
        return self.clones


class _Large:
    """A file whose parts are copied by several threads."""

    def __init__(self, transfer: _Transfer, job: Job, pool: ThreadPoolExecutor) -> None:
        self.files = ExitStack()
        self.target = job.target
        self.finish: Callable[[], FileEntry | None] = lambda: None
        with _naming(job.target):
            both = transfer.open(job, self.files)
            if both is None:
                return
            read, write, status = both
            cloned = transfer.cloned(read, write)
        if cloned:
            self.finish = lambda: finish_clone(write, status)
            return
        parts = [
            pool.submit(transfer.copy_part, read, write, begin, end)
            for begin, end in checksums.chunks(status.st_size)
        ]
        self.finish = lambda: finish(write, status, [part.result() for part in parts])

    def result(self) -> FileEntry | None:
        with self.files, _naming(self.target):
            return self.finish()


@contextmanager
def _naming(target: str) -> Iterator[None]:
    """Errors of open files bear no name: they get the one of what could not be written."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, target) from None


def copy_part(read: int, write: int, begin: int, end: int) -> tuple[bytes, int]:
    """Copy a part of an open file. What it gives is its digest, and how many bytes there were."""
    state = checksums.new_hash()
    buffer = memoryview(bytearray(min(checksums.BLOCK, max(end - begin, 1))))
    position = begin
    while position < end:
        count = os.preadv(read, [buffer[: end - position]], position)
        if count == 0:
            break
        state.update(buffer[:count])
        done = 0
        while done < count:
            done += os.pwrite(write, buffer[done:count], position + done)
        position += count
    return state.digest(), position - begin


def finish(write: int, status: os.stat_result, parts: Sequence[tuple[bytes, int]]) -> FileEntry:
    """Give the copy the source's time; its size and checksum are those of what was copied."""
    size = os.fstat(write).st_size
    if size == sum(count for _, count in parts) and size == status.st_size:
        checksum = checksums.combined([digest for digest, _ in parts])
    else:
        # The source was truncated meanwhile.
        checksum = _hash(write, size)
    os.utime(write, ns=(status.st_mtime_ns, status.st_mtime_ns))
    return FileEntry(size, checksum, status.st_ino, status.st_mtime_ns)


def finish_clone(write: int, status: os.stat_result) -> FileEntry:
    """Give the clone the source's time."""
    os.utime(write, ns=(status.st_mtime_ns, status.st_mtime_ns))
    return FileEntry(os.fstat(write).st_size, "", status.st_ino, status.st_mtime_ns)


def _hash(descriptor: int, size: int) -> str:
    return checksums.combined(
        [checksums.digest_of(descriptor, begin, end)[0] for begin, end in checksums.chunks(size)]
    )

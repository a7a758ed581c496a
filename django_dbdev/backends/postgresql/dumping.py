"""Writing dumps: to a temporary name, renamed when they are whole."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ...backups import faults
from ...backups.dumps import Format, Output, output_of, replaced, write_compressed
from ...exceptions import ProgramError
from ...process.run import program_error, run
from ...process.streams import consume
from ...reporting import seconds, size
from ..info import tree_size
from . import dumps
from .dumps import Content
from .loading import jobs
from .served import Served

if TYPE_CHECKING:
    from ..postgres import PostgresBackend


def create(backend: PostgresBackend, dumpfile: str) -> None:
    """What ``dbdev_createdump`` does; the command's options say what is dumped.

    :raises DumpError: before anything is run, when the name tells no format.
    """
    output = output_of(dumpfile)
    options = getattr(backend.command, "options", {})
    content = Content(
        tuple(options.get("exclude_table") or ()),
        bool(options.get("schema_only")),
        bool(options.get("data_only")),
    )
    with backend.served(leave_running=False) as served:
        if dumpfile == "-":
            dump_to_stream(served, sys.stdout.buffer, content)
        else:
            dump_to_file(served, Path(os.path.abspath(dumpfile)), output, content)


def dump_to_file(served: Served, path: Path, output: Output, content: Content) -> None:
    """Write a dump of the account's database; what is at ``path`` stays until it is whole."""
    started = time.perf_counter()
    with replaced(path) as temporary:
        if output.format is Format.DIRECTORY:
            dump_directory(served, temporary, content)
        elif output.compression is None:
            run(dumps.pg_dump(served, output.format, content, file=temporary))
        else:
            _dump_compressed(served, temporary, output, content)
        faults.step("createdump:written")
    total = tree_size(path) if path.is_dir() else path.stat().st_size
    packed = f", {output.compression.name}" if output.compression else ""
    served.reporter.fact(
        f"Wrote {path} ({output.format.value}{packed}, {size(total)}) "
        f"in {seconds(time.perf_counter() - started)}"
    )


def dump_to_stream(served: Served, stream: IO[bytes], content: Content) -> None:
    """Write a dump in plain SQL to an open file."""
    stream.flush()
    run(dumps.pg_dump(served, Format.PLAIN, content), stdout=stream)


def dump_directory(served: Served, folder: Path, content: Content = Content()) -> str:  # noqa: B008
    """Write a dump in directory format, parallel, and on disk at the end.

    :returns: how it is compressed: the best that the programs were built with.
    """
    *better, last = dumps.compressions(served.toolchain.major)
    command = partial(dumps.pg_dump, served, Format.DIRECTORY, content, file=folder, jobs=jobs())
    for compression in better:
        try:
            run(command(compression=compression))
            return compression
        except ProgramError as error:
            if "not support compression" not in error.output:
                raise
            shutil.rmtree(folder, ignore_errors=True)
    run(command(compression=last))
    return last


def _dump_compressed(served: Served, path: Path, output: Output, content: Content) -> None:
    command = dumps.pg_dump(served, output.format, content)
    with path.open("xb") as file, served.reporter.progress(f"Dumping {path}", None) as progress:

        def write(stream: Iterator[bytes]) -> None:
            write_compressed(stream, file, output.compression, progress)

        completed, _ = consume(command, write)
        if completed.status != 0:
            raise program_error(command, completed)
        os.fsync(file.fileno())

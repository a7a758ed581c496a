"""Writing dumps: to a temporary name, renamed when they are whole."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ...backups import faults
from ...backups.dumps import Format, Output, output_of, replaced, write_compressed
from ...process.command import Command
from ...process.run import program_error, run
from ...process.streams import consume
from ...reporting import seconds, size
from . import dumps, history, sql
from .dumps import Content
from .served import Served

if TYPE_CHECKING:
    from ..mysql import MySqlBackend


def create(backend: MySqlBackend, dumpfile: str) -> None:
    """What ``dbdev_createdump`` does; the command's options say what is dumped.

    :raises DumpError: before anything is run, when the name tells no format.
    """
    output = output_of(dumpfile, (Format.PLAIN,))
    options = getattr(backend.command, "options", {})
    with backend.served(leave_running=False) as served:
        content = Content(
            _matching(served, tuple(options.get("exclude_table") or ())),
            bool(options.get("schema_only")),
            bool(options.get("data_only")),
        )
        if dumpfile == "-":
            sys.stdout.buffer.flush()
            run(_command(served, content), stdout=sys.stdout.buffer)
        else:
            dump_to_file(served, Path(os.path.abspath(dumpfile)), output, content)


def dump_to_file(served: Served, path: Path, output: Output, content: Content) -> None:
    """Write a dump of the account's database; what is at ``path`` stays until it is whole."""
    started = time.perf_counter()
    with replaced(path) as temporary:
        write(served, temporary, output, content)
        faults.step("createdump:written")
    packed = f", {output.compression.name}" if output.compression else ""
    served.reporter.fact(
        f"Wrote {path} ({output.format.value}{packed}, {size(path.stat().st_size)}) "
        f"in {seconds(time.perf_counter() - started)}"
    )


def write(
    served: Served,
    path: Path,
    output: Output,
    content: Content = Content(),  # noqa: B008
) -> None:
    """Write a dump to a new file, on disk at the end."""
    command = _command(served, content)
    with path.open("xb") as file, served.reporter.progress(f"Dumping {path}", None) as progress:

        def take(stream: Iterator[bytes]) -> None:
            write_compressed(stream, file, output.compression, progress)

        completed, _ = consume(command, take)
        if completed.status != 0:
            raise program_error(command, completed)
        os.fsync(file.fileno())


def _command(served: Served, content: Content) -> Command:
    """The dump with the history of system-versioned tables; warns where it cannot have that."""
    if not content.schema_only:
        found = history.find(served, content.without)
        content = replace(content, history=found.readable)
        if found.lost:
            served.reporter.warning(f"Not in the dump: {found.lost}")
    return dumps.dump(served, content)


def _matching(served: Served, patterns: Sequence[str]) -> list[str]:
    """The names of the tables and views that a pattern of the user's fits."""
    if not patterns:
        return []
    with sql.connect(served.admin) as cursor:
        cursor.execute(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s",
            (served.account.database,),
        )
        names = [str(name) for (name,) in cursor.fetchall()]
    return [name for name in names if any(fnmatchcase(name, each) for each in patterns)]

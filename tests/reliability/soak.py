"""The same rounds again and again, and what grows.

``python -m tests.reliability.soak --rounds 200``: init, write, backup, restore, destroy. Counted
after each: files and bytes of the store and of the project, processes of both, and the descriptors
that the server has; files in the folder for temporary files that bear our name; sockets.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import psutil

from tests.conftest import working_in

from .scenarios import share_trees
from .worlds import BACKED_UP, OLD, PostgresWorld, World

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "build" / "reliability-store"


@dataclass(frozen=True)
class Count:
    """What there was after a round; ``seconds`` is what it took."""

    seconds: float
    descriptors: int
    project_files: int
    project_bytes: int
    store_files: int
    store_bytes: int
    temporary: int
    processes: int
    sockets: int


def one_round(world: World) -> Count:
    started = time.perf_counter()
    world.manage("dbdev_init").ok()
    world.ensure(BACKED_UP)
    world.manage("dbdev_backup").ok()
    world.ensure(OLD)
    world.manage("dbdev_restore", "--noinput").ok()
    assert world.content() == BACKED_UP
    descriptors = world.project.server().num_fds()
    world.manage("dbdev_clearbackups", "--noinput").ok()
    world.manage("dbdev_destroy", "--noinput").ok()
    took = time.perf_counter() - started
    assert world.strays() == []
    # What a server has logged is meant to stay: it is cut at a size of its own.
    files, size = _folder(world.root, besides=f"{world.server_name}.log")
    store_files, store_size = _folder(world.store)
    return Count(
        took,
        descriptors,
        files,
        size,
        store_files,
        store_size,
        sum("dbdev" in name for name in os.listdir(tempfile.gettempdir())),
        len(working_in(world.root.resolve())),
        _sockets(world.root.resolve()),
    )


def _folder(folder: Path, besides: str = "") -> tuple[int, int]:
    """How many files and folders, and bytes."""
    count = size = 0
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if name != besides:
                with suppress(FileNotFoundError):
                    status = os.lstat(os.path.join(parent, name))
                    count, size = count + 1, size + (0 if name in folders else status.st_size)
    return count, size


def _sockets(root: Path) -> int:
    return sum(
        str(root) in str(connection.laddr) for connection in psutil.net_connections(kind="unix")
    )


def soak(world: World, rounds: int, tell: Callable[[int, Count], None]) -> list[Count]:
    """Counts of so many rounds, after a first one that makes what is made once."""
    one_round(world)
    counts = []
    for number in range(rounds):
        counts.append(one_round(world))
        tell(number + 1, counts[-1])
    return counts


#: What must not grow by as much as one; bytes are of rendered files whose length may differ.
STEADY = ("descriptors", "project_files", "store_files", "store_bytes", "processes", "sockets")


def grown(counts: Sequence[Count]) -> list[str]:
    """What was more at the end than at the beginning."""
    first, last = asdict(counts[0]), asdict(counts[-1])
    return [f"{name}: {first[name]} → {last[name]}" for name in STEADY if last[name] > first[name]]


def report(counts: Sequence[Count]) -> str:
    """The first and the last quarter, by their medians."""
    quarter = max(1, len(counts) // 4)
    lines = [f"{len(counts)} rounds", f"{'':<15} {'first quarter':>14} {'last quarter':>14}"]
    for name in asdict(counts[0]):
        early, late = (
            median(getattr(each, name) for each in part)
            for part in (counts[:quarter], counts[-quarter:])
        )
        lines.append(f"{name:<15} {early:>14.6g} {late:>14.6g}")
    lines += grown(counts) or ["nothing grew"]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.reliability.soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args(arguments)
    options.store.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="s")).resolve()
    # Others put things into the shared one meanwhile.
    share_trees(options.store.resolve(), folder / "store")
    world = PostgresWorld(folder / "p", folder / "store")

    def tell(number: int, count: Count) -> None:
        if number % 10 == 0:
            print(f"{number}: {count.seconds:.1f} s", flush=True)

    try:
        counts = soak(world, options.rounds, tell)
    finally:
        world.clean_up()
        shutil.rmtree(folder, ignore_errors=True)
    print(report(counts))
    return int(bool(grown(counts)))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Everything that is measured, in one run: ``benchmarks/run [--quick] [--only PART…]``.

Prints one table of ratios, with medians and spread, and writes ``results.json`` and from that the
page and the plot of the documentation. ``--only PART --replace`` writes the sections of a part
anew, and leaves the others as they were: what is compared stands in one section.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import django
import psutil

from . import backups, dumps, init, mysql, nix, nothing, peers, report, run
from .harness import Section
from .sizes import MEGABYTES, Size, sizes

PARTS = ("init", "run", "nothing", "peers", "mysql", "nix", "backups", "dumps", "sizes")


@dataclass(frozen=True)
class Amount:
    """How much is measured. Sizes in megabytes."""

    rounds: int
    megabytes: int
    sizes: tuple[int, ...]


FULL, QUICK = Amount(5, 1100, MEGABYTES), Amount(1, 20, (5, 20))


#: Parts that run peers.
WITH_PEERS = {"peers", "backups", "sizes"}


def measure(part: str, place: Path, amount: Amount, python: Path | None) -> Iterator[Section]:
    """One part but the sizes, in a folder of its own; what this machine lacks is left out.

    :param python: that of the peers' environment, for the parts that run them.
    """
    place.mkdir()
    rounds, megabytes = amount.rounds, amount.megabytes
    if part == "init":
        yield from init.sections(place, 2 * rounds)
    elif part == "run":
        yield from run.sections(place, 2 * rounds)
    elif part == "mysql":
        if (bindir := mysql.find_bindir(place)) is not None:
            yield from mysql.sections(place, rounds, bindir)
    elif part == "nothing":
        yield from nothing.sections(place, min(rounds, 3))
    elif part == "nix":
        if shutil.which("nix") is not None:
            yield from nix.sections(place, 2 * rounds)
    elif part == "peers" and python is not None:
        yield from peers.sections(place, 2 * rounds, python)
    elif part == "backups":
        yield from backups.sections(place, rounds, megabytes)
    elif part == "dumps":
        yield from dumps.sections(place, rounds, megabytes)


def ratios(sections: list[Section]) -> str:
    """One table for all."""
    lines = []
    for section in sections:
        lines += ["", f"{section.title:<56}{'median':>9}{'min':>9}{'max':>9}{'goal':>9}"]
        for row in section.rows:
            low, median, high = row.ratio
            goal = "" if row.limit is None else f"{row.limit:.2f}"
            lines.append(f"  {row.label:<54}{median:>9.2f}{low:>9.2f}{high:>9.2f}{goal:>9}")
    return "\n".join(lines[1:])


def machine(folder: Path) -> dict[str, str]:
    """What a reader needs to judge the figures; no names."""
    stats = [p for p in psutil.disk_partitions(all=True) if folder.is_relative_to(p.mountpoint)]
    fstype = max(stats, key=lambda p: len(p.mountpoint)).fstype if stats else "unknown"
    memory = round(psutil.virtual_memory().total / 2**30)
    return {
        "System": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "memory": f"{memory} GiB",
        "file system": fstype,
        "Python": platform.python_version(),
        "Django": django.get_version(),
    }


def results(sections: list[Section], by_size: list[Size], folder: Path) -> dict[str, Any]:
    today = date.today().isoformat()
    return {
        "machine": machine(folder),
        "sections": [{**section.as_dict(), "date": today} for section in sections],
        "sizes": [size.as_dict() for size in by_size],
    }


def replaced(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Old results with the new sections in the place of those with the same titles."""
    sections = {section["title"]: section for section in (*old["sections"], *new["sections"])}
    return {**old, "sections": list(sections.values()), "sizes": new["sizes"] or old["sizes"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; nothing is written")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="some parts; nothing is written")
    parser.add_argument("--replace", action="store_true", help="write those parts, with --only")
    parser.add_argument("--rounds", type=int, help=f"default: {FULL.rounds}; twice for init, peers")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    options = parser.parse_args()
    amount = QUICK if options.quick else FULL
    if options.rounds:
        amount = Amount(options.rounds, amount.megabytes, amount.sizes)
    parts = options.only or list(PARTS)
    kept = report.read() if options.replace else None
    folder = Path(tempfile.mkdtemp(prefix="dbdev-bench-", dir=options.folder)).resolve()
    if kept is not None and kept["machine"] != machine(folder):
        folder.rmdir()
        parser.error(f"the other parts were measured on another machine: {kept['machine']}")
    sections: list[Section] = []
    by_size: list[Size] = []
    failed = False
    try:
        python = peers.python_of_peers(folder) if WITH_PEERS & set(parts) else None
        if python is not None:
            os.environ["DSLR"] = str(python.with_name("dslr"))
        for part in parts:
            try:
                if part == "sizes":
                    for size in sizes(folder / part, amount.rounds, amount.sizes):
                        by_size.append(size)
                    continue
                for section in measure(part, folder / part, amount, python):
                    sections.append(section)
                    print(section.table(), end="\n\n", file=sys.stderr, flush=True)
            except (SystemExit, Exception) as error:
                # What takes an hour is not thrown away for one part.
                failed = True
                print(f"{part} failed: {error!r}", file=sys.stderr, flush=True)
            except KeyboardInterrupt:
                failed = True
                print(f"Ended in {part}; what was measured is kept", file=sys.stderr, flush=True)
                break
        found = results(sections, by_size, folder)
    finally:
        _remove(folder)
    print(ratios(sections))
    if options.json:
        options.json.write_text(_json(found))
    if not options.quick and (options.replace or not options.only):
        report.RESULTS.write_text(_json(replaced(kept, found) if kept else found))
        report.write()
        print(f"Wrote {report.RESULTS}, {report.PAGE} and {report.PLOT}")
    if failed:
        sys.exit(1)


def _json(found: Mapping[str, Any]) -> str:
    return json.dumps(found, indent=2) + "\n"


def _remove(folder: Path) -> None:
    """Stop what a part that failed left running, and remove the folder."""
    for data in folder.rglob("postmaster.pid"):
        manage = data.parents[2] / "manage.py"
        if manage.exists():
            subprocess.run([sys.executable, manage, "dbdev_stopserver"], capture_output=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

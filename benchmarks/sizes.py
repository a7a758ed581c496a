"""Snapshot and restore against the size of the database, for the plot in the documentation.

For each size a project with a hundred tables (see :mod:`.backups`): the first snapshot, one after
three tables have changed, restoring each; pg_dump and pg_restore; DSLR where it is there.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import backups
from .harness import Measurements, alternate

MEGABYTES = (50, 200, 500, 1000, 2000)
_OURS = (backups.FIRST, backups.NEXT, backups.EMPTY, backups.BACK)
_THEIRS = (backups.DUMP, backups.LOAD, backups.DSLR, backups.DSLR_BACK)


@dataclass(frozen=True)
class Size:
    """Median seconds by what was done, net of what Django itself takes."""

    megabytes: int
    seconds: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        return {"megabytes": self.megabytes, "seconds": dict(self.seconds)}


def sizes(folder: Path, rounds: int, megabytes: Sequence[int]) -> Iterator[Size]:
    for each in megabytes:
        place = folder / str(each)
        place.mkdir(parents=True)
        with backups.benches(place) as make:
            known = backups.contenders(make("project", each))
            wanted = (backups.CHECK, *_OURS, *_THEIRS)
            chosen = {name: known[name] for name in wanted if name in known}
            yield Size(each, _net(alternate(chosen, rounds)))


def _net(measured: Measurements) -> dict[str, float]:
    check = measured.seconds[backups.CHECK]
    found = {}
    for name, values in measured.seconds.items():
        if name in _OURS:
            values = [max(v - less, 0.001) for v, less in zip(values, check, strict=True)]
        if name != backups.CHECK:
            found[name] = statistics.median(values)
    return found

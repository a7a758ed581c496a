"""Timing whole commands in turn, and printing ratios.

Machines are noisy and drift, so contenders alternate in one run, round by round, and a ratio is
taken within each round; medians and the spread over the rounds are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Contender = Callable[[int], float]


@dataclass
class Measurements:
    """Seconds by contender, one for each round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def ratio(
        self, of: Sequence[str], to: str, *, less: Sequence[str] = ()
    ) -> tuple[float, float, float]:
        """Minimum, median and maximum of (sum of ``of`` - sum of ``less``) / ``to``."""
        values = [
            (sum(self.seconds[n][i] for n in of) - sum(self.seconds[n][i] for n in less)) / base
            for i, base in enumerate(self.seconds[to])
        ]
        return min(values), statistics.median(values), max(values)


def alternate(contenders: Mapping[str, Contender], rounds: int) -> Measurements:
    """Run every contender once a round; the first round only warms up."""
    measured = Measurements({name: [] for name in contenders})
    for index in range(rounds + 1):
        # The order turns, so that none always runs behind the same other.
        names = list(contenders)
        for name in names[index % len(names) :] + names[: index % len(names)]:
            seconds = contenders[name](index)
            if index:
                measured.seconds[name].append(seconds)
    return measured


def timed(arguments: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path) -> float:
    """Seconds that a whole command takes; it must succeed."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(argument) for argument in arguments],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed:\n{done.stdout}")
    return seconds


def as_unprivileged(arguments: Sequence[str | Path]) -> list[str]:
    """The same command where root may run it: PostgreSQL's programs refuse root."""
    words = [str(argument) for argument in arguments]
    if os.geteuid() == 0:
        return ["unshare", "--user", "--map-user=1", "--map-group=1", *words]
    return words


def own_start_and_stop(
    postgres: Path, data: Path, sockets: Path, env: Mapping[str, str]
) -> tuple[float, float]:
    """What PostgreSQL itself takes on a stopped cluster that django_dbdev made.

    :return: Seconds from spawn to the first accepted connection, and from signal to exit.
    """
    local = (data / "dbdev_local.conf").read_text()
    port = int(local.split("port = ")[1].split()[0])
    started = time.perf_counter()
    server = subprocess.Popen(
        as_unprivileged([postgres, "-D", data, "-k", sockets]),
        env=dict(env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pid_file = data / "postmaster.pid"
    while not (pid_file.exists() and "ready" in pid_file.read_text()):
        if server.poll() is not None:
            raise SystemExit(f"the server on {data} ended with status {server.returncode}")
        time.sleep(0.001)
    with socket.create_connection(("127.0.0.1", port)):
        up = time.perf_counter() - started
    started = time.perf_counter()
    server.send_signal(signal.SIGINT)
    server.wait()
    return up, time.perf_counter() - started


@dataclass(frozen=True)
class Row:
    """A line of the table; ``limit`` is what the ratio must not exceed, None for information."""

    label: str
    ratio: tuple[float, float, float]
    limit: float | None = None


@dataclass(frozen=True)
class Section:
    """What was measured together, and the ratios that come of it."""

    title: str
    measured: Measurements
    rows: Sequence[Row]

    def table(self) -> str:
        lines = [self.title, "", f"{'':<52}{'median':>9}{'min':>9}{'max':>9}"]
        for name, values in self.measured.seconds.items():
            lines.append(
                f"{name + ' [s]':<52}{statistics.median(values):>9.3f}"
                f"{min(values):>9.3f}{max(values):>9.3f}"
            )
        lines.append("")
        for row in self.rows:
            low, median, high = row.ratio
            verdict = "" if row.limit is None else f"  (goal: at most {row.limit:.2f})"
            lines.append(f"{row.label:<52}{median:>9.2f}{low:>9.2f}{high:>9.2f}{verdict}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "seconds": self.measured.seconds,
            "ratios": {
                row.label: {
                    "min": row.ratio[0],
                    "median": row.ratio[1],
                    "max": row.ratio[2],
                    "goal": row.limit,
                }
                for row in self.rows
            },
        }


def show(sections: Iterable[Section], *, as_json: bool) -> None:
    """Print tables as they come, or JSON at the end."""
    if as_json:
        print(json.dumps([section.as_dict() for section in sections], indent=2))
        return
    for section in sections:
        print(section.table(), end="\n\n", flush=True)


def parser_of(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    return parser


def measure(options: argparse.Namespace, sections: Callable[[Path], Iterable[Section]]) -> None:
    """Show what is measured in a folder of its own, which is removed."""
    folder = Path(tempfile.mkdtemp(prefix="dbdev-bench-", dir=options.folder))
    try:
        show(sections(folder), as_json=options.json)
    finally:
        shutil.rmtree(folder)

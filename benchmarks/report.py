"""The documentation's page and plot, from ``results.json``: ``python -m benchmarks.report``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "benchmarks.rst"
PLOT = HERE.parent / "docs" / "_static" / "benchmarks-sizes.svg"

_HEAD = """\
Benchmarks
==========

Made by ``benchmarks/run``, which measures whole commands, as users type them, with a warm store
unless a section begins from nothing and says so. What is compared alternates in one run, round by
round, and a ratio is taken within each round; medians and the least and greatest of all rounds are
given. Nothing is removed while something is being measured, and what was written is on disk before
the next begins. A goal is what the ratio should not exceed.

"""
_TAIL = """\
How to run it
-------------

On a quiet machine, with some 15 GB free for the full sizes:

.. code-block:: console
   :class: elsewhere

   $ pip install -e '.[benchmarks]'
   $ benchmarks/run

It makes a virtual environment of its own for the peers, measures for an hour or more, prints one
table, and writes ``benchmarks/results.json``, this page and the plot. ``benchmarks/run --quick``
shows in minutes that everything works, and writes nothing; ``--only peers`` measures a
part, and with ``--replace`` its sections take the place of those on this page. The parts run by
themselves too: ``python -m benchmarks.init``, and ``run``, ``nothing``, ``peers``,
``mysql``, ``nix``, ``backups`` and ``dumps`` likewise.
"""


def page(results: Mapping[str, Any] | None) -> str:
    """The whole of ``docs/benchmarks.rst``; ``results`` is None before the first run."""
    if results is None:
        return _HEAD + _TAIL
    machine = "; ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [f"{machine}.", ""]
    for section in results["sections"]:
        lines += _section(section)
    if results["sizes"]:
        lines += _sizes(results["sizes"])
    return _HEAD + "\n".join(lines) + "\n" + _TAIL


def _section(section: Mapping[str, Any]) -> Iterator[str]:
    yield from _title(section["title"])
    rounds = max(len(values) for values in section["seconds"].values())
    yield f"Measured on {section['date']}, {rounds} {'round' if rounds == 1 else 'rounds'}."
    yield ""
    ratios = [
        (label, _number(r["median"]), f"{_number(r['min'])} to {_number(r['max'])}", _goal(r))
        for label, r in section["ratios"].items()
    ]
    yield from _table(("ratio", "median", "spread", "goal"), ratios)
    seconds = [
        (name, f"{statistics.median(values):.3f}", f"{min(values):.3f} to {max(values):.3f}")
        for name, values in section["seconds"].items()
    ]
    yield from _table(("seconds", "median", "spread"), seconds)


def _sizes(sizes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from _title("Snapshot and restore by size")
    yield "A hundred tables of uneven size; net of what Django itself takes to start. Restoring"
    yield "contains stopping and starting the server."
    yield ""
    yield f".. image:: _static/{PLOT.name}"
    yield "   :alt: Seconds against megabytes, for what the table below lists"
    yield "   :width: 100%"
    yield ""
    names = list(sizes[0]["seconds"])
    yield from _table(
        ("median seconds", *(f"{size['megabytes']} MB" for size in sizes)),
        [(name, *(f"{size['seconds'][name]:.2f}" for size in sizes)) for name in names],
    )


def _title(text: str) -> list[str]:
    return [text, "-" * len(text), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    for row in (head, *rows):
        for index, cell in enumerate(row):
            yield f"   {'  ' if index else '* '}- {cell}".rstrip()
    yield ""


def _goal(ratio: Mapping[str, Any]) -> str:
    return "" if ratio["goal"] is None else _number(ratio["goal"])


def _number(value: float) -> str:
    return f"{value:.2f}"


def plot(sizes: Sequence[Mapping[str, Any]]) -> None:
    """Seconds against megabytes, both in logarithms."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "django_dbdev", "font.size": 10}
    figure, axes = pyplot.subplots(figsize=(8, 5))
    megabytes = [size["megabytes"] for size in sizes]
    for name in sizes[0]["seconds"]:
        ours = "snapshot" in name.split("DSLR")[0] or name.startswith("restore")
        axes.plot(
            megabytes,
            [size["seconds"][name] for size in sizes],
            marker="o",
            linestyle="-" if ours else "--",
            label=f"{name}{' (django_dbdev)' if ours else ''}",
        )
    axes.set(xscale="log", yscale="log", xlabel="database, MB", ylabel="seconds")
    axes.set_xticks(megabytes, [str(each) for each in megabytes])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def read() -> dict[str, Any] | None:
    """What the last run measured; None where there was none."""
    if not RESULTS.exists():
        return None
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))
    return found


def write() -> None:
    results = read()
    PAGE.write_text(page(results), "utf-8")
    if results is not None and results["sizes"]:
        plot(results["sizes"])


if __name__ == "__main__":
    write()

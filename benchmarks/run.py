"""dbdev_run --ephemeral and pytest --dbdev against the bare script of PostgreSQL's own programs.

    python -m benchmarks.run [--rounds 10] [--json]

The script makes a cluster without syncing, starts it, makes a role and a database, and stops it.
Every contender begins without a server and without data, with the store warm, and removes what
it has made while it is timed. What Python and Django need to begin at all is shown beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from . import init
from .harness import (
    Measurements,
    Row,
    Section,
    alternate,
    as_unprivileged,
    measure,
    parser_of,
    timed,
)
from .init import EXAMPLE, free_port

BARE = """
set -e
"$BIN/initdb" --no-sync -D "$DIR/data" -U postgres >"$DIR/initdb.log" 2>&1
"$BIN/pg_ctl" -w -D "$DIR/data" -l "$DIR/log" -o "-p $PORT -k $DIR -h 127.0.0.1" start >/dev/null
"$BIN/createuser" -h "$DIR" -p "$PORT" -U postgres -s dbdev
"$BIN/createdb" -h "$DIR" -p "$PORT" -U postgres -O dbdev dbdev
"$BIN/pg_ctl" -w -D "$DIR/data" -m immediate stop >/dev/null
rm -r "$DIR/data"
"""

TEST = "def test_nothing():\n    pass\n"


class Bench(init.Bench):
    def __init__(self, folder: Path, template: Path) -> None:
        super().__init__(folder, template)
        self.script.write_text(BARE)
        (self.project / "test_nothing.py").write_text(TEST)

    def bare(self, index: int) -> float:
        folder = self.folder / f"bare-{index}"
        folder.mkdir()
        env = {**self.env, "BIN": str(self.bin), "DIR": str(folder), "PORT": str(free_port())}
        return timed(as_unprivileged(["bash", self.script]), env=env, cwd=folder)

    def run(self, index: int) -> float:
        return self.manage(self.project, "dbdev_run", "--ephemeral", "--", "true")

    def pytest(self, *options: str) -> float:
        arguments = [sys.executable, "-m", "pytest", "-q", "test_nothing.py", *options]
        env = {**self.env, "DJANGO_SETTINGS_MODULE": "bookshop.settings", "PYTHONPATH": "."}
        return timed(arguments, env=env, cwd=self.project)

    def pytest_off(self, index: int) -> float:
        return self.pytest()

    def pytest_on(self, index: int) -> float:
        return self.pytest("--dbdev=ephemeral")


def rows(measured: Measurements) -> list[Row]:
    ratio = measured.ratio
    run, bare, off, on = "dbdev_run --ephemeral", "bare script", "pytest", "pytest --dbdev"
    return [
        Row("dbdev_run --ephemeral -- true / bare script", ratio([run], bare), 1.0),
        Row("(the same - manage.py check) / bare script", ratio([run], bare, less=["check"])),
        Row("what pytest --dbdev=ephemeral adds / bare script", ratio([on], bare, less=[off]), 1.0),
    ]


def sections(folder: Path, rounds: int) -> Iterator[Section]:
    bench = Bench(folder, EXAMPLE)
    measured = alternate(
        {
            "bare script": bench.bare,
            "dbdev_run --ephemeral": bench.run,
            "check": bench.check,
            "pytest": bench.pytest_off,
            "pytest --dbdev": bench.pytest_on,
        },
        rounds,
    )
    yield Section("Servers for one command", measured, rows(measured))


def main() -> None:
    options = parser_of(__doc__, rounds=10).parse_args()
    measure(options, lambda folder: sections(folder, options.rounds))


if __name__ == "__main__":
    main()

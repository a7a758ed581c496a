"""What loading dumps costs: ``python -m benchmarks.dumps [--rounds N] [--megabytes N] [--json]``.

On two databases of the same size, alternating in one run:

- ``psql -1 -f`` of a plain dump, and ``dbdev_loaddump`` of the same file;
- ``pg_restore -j`` of a dump in directory format, and ``dbdev_loaddump`` of the same folder;
- ``manage.py check``: what Django itself costs, taken off the times of ``dbdev_loaddump``.

One database is pgbench's, whose rows are nearly all in one table; the other has a hundred tables
of uneven size, the largest 15 % of all, with text that does not compress to nothing. psql and
pg_restore load into a database that is there and empty; ``dbdev_loaddump`` makes the database and
puts it into the place of the old one. Nobody analyzes: the server would do that by itself, soon
after, and so in the middle of what is measured next; here it is told not to.
Between two loads the server writes everything to disk, which no contender is charged for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .harness import Contender, Row, Section, alternate, show, timed

EXAMPLE = Path(__file__).resolve().parent.parent / "example"
LIMIT = 1.05
#: MB of a pgbench database for each unit of its scale, its index included.
PGBENCH_UNIT = 15.7

#: A hundred tables; $1 is the megabytes of all. Words and hashes: text as real projects have it.
HUNDRED = """
DO $do$
DECLARE
    share float8; rows int;
BEGIN
    FOR t IN 1..100 LOOP
        share := CASE WHEN t = 1 THEN 0.15 ELSE 0.85 * (1.0 / t ^ 0.8) / 9.7 END;
        rows := greatest(10, (share * {megabytes} * 1000000 / 330)::int);
        EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, name text NOT NULL, '
            'body text NOT NULL, price numeric(10,2), made timestamptz NOT NULL)', t);
        EXECUTE format('INSERT INTO t%s SELECT n, ''name '' || n, md5(n::text) || '' lorem '' '
            '|| md5((n * 7)::text) || '' ipsum dolor sit amet, consetetur sadipscing '' '
            '|| md5((n * 13)::text) || '' elitr sed diam nonumy '' || md5((n * 17)::text), '
            'n %% 10000 / 7.0, ''2026-01-01''::timestamptz + n * interval ''1 s'' '
            'FROM generate_series(1, %s) n', t, rows);
        EXECUTE format('CREATE INDEX ON t%s (made)', t);
        EXECUTE format('CREATE INDEX ON t%s (name)', t);
    END LOOP;
END $do$
"""


class Bench:
    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self.project = folder / "project"
        ignore = shutil.ignore_patterns("dbdev_tempdata", "__pycache__")
        shutil.copytree(EXAMPLE, self.project, ignore=ignore)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DBDEV_", "PG"))},
            "DBDEV_STORE": os.environ.get("DBDEV_STORE", str(folder / "store")),
        }
        self.manage("dbdev_init")
        tempdata = self.project / "dbdev_tempdata"
        self.bin = next((tempdata / "prefix").glob("*/bin"))
        port = (tempdata / "PostgresBackend" / "postmaster.pid").read_text().split("\n")[3]
        self.env |= {
            "PGHOST": "127.0.0.1",
            "PGPORT": port,
            "PGUSER": "dbdev",
            "PGPASSFILE": str(tempdata / "PostgresBackend.pgpass"),
        }
        for statement in ("ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"):
            self.run("psql", "-q", "-o", os.devnull, "-d", "postgres", "-c", statement)
        self.run("createdb", "pgbench")
        scale = max(1, round(megabytes / PGBENCH_UNIT))
        self.run("pgbench", "-i", "-q", "-s", str(scale), "pgbench")
        self.run("createdb", "hundred")
        self.run("psql", "-q", "-d", "hundred", "-c", HUNDRED.format(megabytes=megabytes))
        for name in ("pgbench", "hundred"):
            self.run("pg_dump", "-f", self.dump(name, "sql"), name)
            self.run("pg_dump", "-Fd", "-j2", "-Z1", "-f", self.dump(name, "dir"), name)
            self.run("dropdb", name)

    def dump(self, name: str, kind: str) -> Path:
        return self.folder / f"{name}.{kind}"

    def run(self, program: str, *arguments: str | Path) -> float:
        return timed([self.bin / program, *arguments], env=self.env, cwd=self.folder)

    def manage(self, *arguments: str | Path) -> float:
        command = [sys.executable, self.project / "manage.py", *arguments]
        return timed(command, env=self.env, cwd=self.project)

    def settle(self) -> None:
        """The same state of the disk before each contender."""
        query = "SELECT count(*) FROM pg_database WHERE datname LIKE '%dbdev_old%'"
        while self._answer(query) != "0":
            time.sleep(0.1)
        self.run("psql", "-q", "-d", "postgres", "-c", "CHECKPOINT")
        os.sync()

    def _answer(self, query: str) -> str:
        file = self.folder / "answer"
        self.run("psql", "-XAt", "-d", "postgres", "-o", file, "-c", query)
        return file.read_text().strip()

    def rival(self, arguments: list[str | Path], index: int) -> float:
        self.run("dropdb", "--if-exists", "rival")
        self.run("createdb", "-T", "template0", "rival")
        self.settle()
        program, *rest = arguments
        return self.run(str(program), *rest, "-d", "rival") if rest else 0.0

    def loaddump(self, dump: Path, index: int) -> float:
        self.settle()
        return self.manage("dbdev_loaddump", dump)

    def check(self, index: int) -> float:
        return self.manage("check")

    def contenders(self, name: str) -> dict[str, Contender]:
        plain, folder = self.dump(name, "sql"), self.dump(name, "dir")
        jobs = str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count())
        psql: list[str | Path] = ["psql", "-X", "-1", "-q", "-o", "/dev/null", "-f", plain]
        restore: list[str | Path] = ["pg_restore", "-j", jobs, folder]
        return {
            "psql -1 -f": partial(self.rival, psql),
            "dbdev_loaddump plain": partial(self.loaddump, plain),
            f"pg_restore -j{jobs}": partial(self.rival, restore),
            "dbdev_loaddump directory": partial(self.loaddump, folder),
            "manage.py check": self.check,
        }


def sections(folder: Path, rounds: int, megabytes: int) -> Iterator[Section]:
    bench = Bench(folder, megabytes)
    try:
        for name in ("pgbench", "hundred"):
            contenders = bench.contenders(name)
            measured = alternate(contenders, rounds)
            psql, plain, restore, directory, check = contenders
            found = [
                Row(f"plain / {psql}", measured.ratio([plain], psql, less=[check]), LIMIT),
                Row(
                    f"directory / {restore}",
                    measured.ratio([directory], restore, less=[check]),
                    LIMIT,
                ),
            ]
            yield Section(f"Loading dumps of {megabytes} MB: {name}", measured, found)
    finally:
        bench.manage("dbdev_stopserver")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=1100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = sections(Path(folder), options.rounds, options.megabytes)
        show(found, as_json=options.json)


if __name__ == "__main__":
    main()

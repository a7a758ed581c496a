"""What backups cost: ``python -m benchmarks.backups [--rounds N] [--json] [--part NAME]``.

On two databases of about 1.1 GB, each on a server of its own: ``pgbench`` (one relation holds
nearly all of it) and ``project`` (a hundred tables of uneven size, the largest 15 %, with text
that does not compress to nothing). Alternating in one run, all commands as users type them, net of
``manage.py check``:

- ``cp -a`` of a stopped datadir without what a snapshot leaves out: 1.00; and the same until it is
  on disk, for which restores wait;
- the first snapshot: with no other to link to; and restoring it when nothing of it is there,
  and when all of it is;
- three tables changed: the next snapshot, and restoring that of before;
- the server's own stop and start, which restores contain;
- pg_dump -Fc and pg_restore into a new database; a file_copy template in either direction;
  DSLR where it is installed (``DSLR`` in the environment names its program).

Nothing is removed while it is being measured; what was, is on disk before the next begins.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from .harness import Measurements, Row, Section, alternate, own_start_and_stop, show, timed

SETTINGS = """
from django_dbdev.backends.postgres import DBSETTINGS
SECRET_KEY = "for a benchmark"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""
MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
#: One relation holds nearly all of it; a hundred tables of uneven size.
KINDS = ("pgbench", "project")
PIN = '[tool.django_dbdev.postgresql]\nversion = "18"\n'
#: Bytes of a row of text: eight digests, which do not compress.
_ROW = 300
_TEXT = " || ".join(f"md5((n * 8 + {i})::text)" for i in range(8))


class Bench:
    """One project with one database."""

    def __init__(self, folder: Path, kind: str, megabytes: int, lock: Path | None) -> None:
        self.root = folder / kind
        self.root.mkdir()
        self.kind = kind
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DBDEV_", "PG"))}
        store = os.environ.get("DBDEV_STORE", str(folder / "store"))
        self.env = {**kept, "DBDEV_STORE": store}
        for name, content in (
            ("settings.py", SETTINGS),
            ("manage.py", MANAGE),
            ("pyproject.toml", PIN),
        ):
            (self.root / name).write_text(content)
        if lock is not None:
            shutil.copy(lock, self.root / "dbdev.lock")
        self.manage("dbdev_init")
        self.bin = next((self.root / "dbdev_tempdata" / "prefix").glob("*/bin")).resolve()
        self.data = self.root / "dbdev_tempdata" / "PostgresBackend"
        self.backups = self.root / "dbdev_tempdata" / "PostgresBackend-backups"
        if kind == "pgbench":
            self.run("pgbench", "-i", "-q", "-s", str(max(1, megabytes * 70 // 1100)))
            self.tables = ["pgbench_accounts"]
        else:
            self.tables = self._fill(megabytes * 1_000_000)
        self.sql("VACUUM ANALYZE")
        self.settle()

    def _fill(self, total: int) -> list[str]:
        """A hundred tables: each a seventh smaller than the one before, the first 15 %."""
        weights = [0.15 * (1 - 0.145) ** n + 0.0002 for n in range(100)]
        scale = total / _ROW / sum(weights)
        names = []
        for n, weight in enumerate(weights):
            names.append(f"t{n}")
            self.sql(
                f"CREATE TABLE t{n} AS SELECT n AS id, {_TEXT} AS body "
                f"FROM generate_series(1, {int(weight * scale) + 1}) n",
                f"ALTER TABLE t{n} ADD PRIMARY KEY (id)",
            )
        return names

    # How things are run.

    def manage(self, *arguments: str) -> float:
        return timed(
            [sys.executable, self.root / "manage.py", *arguments], env=self.env, cwd=self.root
        )

    def _client(self) -> dict[str, str]:
        lines = (self.data / "postmaster.pid").read_text().splitlines()
        return {
            **self.env,
            "PGHOST": "127.0.0.1",
            "PGPORT": lines[3],
            "PGUSER": "dbdev",
            "PGPASSWORD": "dbdev",
            "PGDATABASE": "dbdev",
            "LD_LIBRARY_PATH": str(self.bin.parent / "lib"),
        }

    def run(self, program: str, *arguments: str) -> float:
        return timed([self.bin / program, *arguments], env=self._client(), cwd=self.root)

    def sql(self, *statements: str, database: str = "dbdev") -> float:
        client = self._client()
        started = time.perf_counter()
        with psycopg.connect(
            host=client["PGHOST"],
            port=client["PGPORT"],
            user="dbdev",
            password="dbdev",
            dbname=database,
            autocommit=True,
        ) as connection:
            for statement in statements:
                connection.execute(statement.encode())
        return time.perf_counter() - started

    def settle(self) -> None:
        """Nothing is left to write, and what was written counts as old."""
        self.sql("CHECKPOINT")
        os.sync()
        time.sleep(2.1)

    def clear(self) -> None:
        self.manage("dbdev_clearbackups", "--noinput")
        (self.backups / "restored.json").unlink(missing_ok=True)
        os.sync()

    def change(self) -> None:
        """Rows of three tables of middling size; of the one table where there is one."""
        for name in self.tables[8:11] or self.tables:
            column = "body = body || 'x'" if self.kind == "project" else "abalance = abalance + 1"
            key = "id" if self.kind == "project" else "aid"
            self.sql(f"UPDATE {name} SET {column} WHERE {key} % 100 = 0")

    # What is measured. Each prepares what it needs, off the clock.

    def check(self, index: int) -> float:
        return self.manage("check")

    def cp(self, index: int) -> float:
        """``cp -a`` of what a snapshot keeps."""
        self.clear()
        self.manage("dbdev_stopserver")
        self.manage("dbdev_backup")
        self.manage("dbdev_startserver")
        (kept,) = self.backups.glob("backup-*/data")
        target = self.root / f"cp-{index}"
        seconds = timed(["cp", "-a", kept, target], env=self.env, cwd=self.root)
        shutil.rmtree(target)
        return seconds

    def cp_to_disk(self, index: int) -> float:
        """The same, until it is on disk: what a restore waits for before it swaps."""
        self._ensure_snapshot()
        self.settle()
        (kept, *_) = self.backups.glob("backup-*/data")
        target = self.root / f"cp-disk-{index}"
        seconds = timed(["cp", "-a", kept, target], env=self.env, cwd=self.root)
        seconds += timed(["sync", "-f", target], env=self.env, cwd=self.root)
        shutil.rmtree(target)
        os.sync()
        return seconds

    def first_snapshot(self, index: int) -> float:
        self.clear()
        self.settle()
        return self.manage("dbdev_backup")

    def restore_nothing_there(self, index: int) -> float:
        """All of it is copied: none of the live files is known, and none is the same."""
        self._ensure_snapshot()
        self.settle()
        self.manage("dbdev_destroy", "--noinput")
        os.sync()
        return self.manage("dbdev_restore")

    def restore_unchanged(self, index: int) -> float:
        self._ensure_snapshot()
        return self.manage("dbdev_restore", "--no-safety")

    def next_snapshot(self, index: int) -> float:
        self.clear()
        self.settle()
        self.manage("dbdev_backup")
        self.change()
        self.settle()
        return self.manage("dbdev_backup")

    def restore_changed(self, index: int) -> float:
        self.clear()
        self.settle()
        self.manage("dbdev_backup")
        self.change()
        self.settle()
        return self.manage("dbdev_restore")

    def _ensure_snapshot(self) -> None:
        if not list(self.backups.glob("backup-*/manifest.json")):
            self.settle()
            self.manage("dbdev_backup")

    def stop_and_start(self, index: int) -> float:
        """The server's own, without any command of ours."""
        self.settle()
        self.manage("dbdev_stopserver")
        seconds = own_start_and_stop(self.bin / "postgres", self.data, self.root, self.env)
        self.manage("dbdev_startserver")
        return sum(seconds)

    def pg_dump(self, index: int) -> float:
        self.settle()
        file = self.root / "bench.dump"
        file.unlink(missing_ok=True)
        return self.run("pg_dump", "-Fc", "-f", str(file))

    def pg_restore(self, index: int) -> float:
        file = self.root / "bench.dump"
        if not file.exists():
            self.pg_dump(index)
        self.sql("CREATE DATABASE other")
        seconds = self.run("pg_restore", "-d", "other", str(file))
        self.sql("DROP DATABASE other")
        os.sync()
        return seconds

    def template(self, index: int) -> float:
        self.settle()
        seconds = self.sql(
            "CREATE DATABASE kept TEMPLATE dbdev STRATEGY file_copy", database="postgres"
        )
        self.sql("DROP DATABASE kept")
        os.sync()
        return seconds

    def template_back(self, index: int) -> float:
        """Drop the database, and make it again from the kept one, as such tools restore."""
        self.sql("CREATE DATABASE kept TEMPLATE dbdev STRATEGY file_copy", database="postgres")
        self.settle()
        seconds = self.sql(
            "DROP DATABASE dbdev",
            "CREATE DATABASE dbdev TEMPLATE kept STRATEGY file_copy",
            database="postgres",
        )
        self.sql("DROP DATABASE kept", database="postgres")
        os.sync()
        return seconds

    def dslr(self, *arguments: str) -> float:
        client = self._client()
        url = f"postgresql://dbdev:dbdev@127.0.0.1:{client['PGPORT']}/dbdev"
        client["PATH"] = f"{self.bin}:{client['PATH']}"
        return timed([os.environ["DSLR"], "--url", url, *arguments], env=client, cwd=self.root)

    def dslr_snapshot(self, index: int) -> float:
        self.settle()
        seconds = self.dslr("snapshot", "-y", "bench")
        self.dslr("delete", "bench")
        return seconds

    def dslr_restore(self, index: int) -> float:
        self.dslr("snapshot", "-y", "bench")
        self.settle()
        seconds = self.dslr("restore", "bench")
        self.dslr("delete", "bench")
        return seconds


CHECK = "manage.py check"
CP, CP_DISK = "cp -a of what is kept", "cp -a, sync -f"
FIRST, NEXT = "first snapshot", "next snapshot"
EMPTY, SAME, BACK = "restore, nothing there", "restore, nothing changed", "restore, changed"
STOP_START = "the server's own stop and start"
DUMP, LOAD = "pg_dump -Fc", "pg_restore"
TEMPLATE, TEMPLATE_BACK = "file_copy template", "file_copy template back"
DSLR, DSLR_BACK = "DSLR snapshot", "DSLR restore"


def contenders(bench: Bench) -> dict[str, Callable[[int], float]]:
    found: dict[str, Callable[[int], float]] = {
        CHECK: bench.check,
        CP: bench.cp,
        CP_DISK: bench.cp_to_disk,
        FIRST: bench.first_snapshot,
        EMPTY: bench.restore_nothing_there,
        SAME: bench.restore_unchanged,
        NEXT: bench.next_snapshot,
        BACK: bench.restore_changed,
        STOP_START: bench.stop_and_start,
        DUMP: bench.pg_dump,
        LOAD: bench.pg_restore,
        TEMPLATE: bench.template,
        TEMPLATE_BACK: bench.template_back,
    }
    if "DSLR" in os.environ:
        found |= {DSLR: bench.dslr_snapshot, DSLR_BACK: bench.dslr_restore}
    return found


def rows(kind: str, measured: Measurements) -> list[Row]:
    """Ratios of times net of ``manage.py check``; restores net of a stop and a start as well."""
    net = {
        name: [max(s - c, 0.001) for s, c in zip(values, measured.seconds[CHECK], strict=True)]
        for name, values in measured.seconds.items()
        if name in {FIRST, NEXT, EMPTY, SAME, BACK}
    }
    plain = Measurements({**measured.seconds, **net})

    def ratio(of: str, to: str) -> tuple[float, float, float]:
        less = [STOP_START] if of in {EMPTY, SAME, BACK} and to in {CP, CP_DISK, FIRST} else []
        return plain.ratio([of], to, less=less)

    found = [
        Row(f"{FIRST} / cp -a", ratio(FIRST, CP), 1.15),
        Row(f"({EMPTY} - stop, start) / cp -a", ratio(EMPTY, CP), 1.15),
        Row(f"({EMPTY} - stop, start) / cp -a, sync -f", ratio(EMPTY, CP_DISK)),
        Row(f"({SAME} - stop, start) / cp -a", ratio(SAME, CP), 1.15),
        Row(f"{FIRST} / pg_dump", ratio(FIRST, DUMP), 1 / 3),
        Row(f"{EMPTY} / pg_restore", ratio(EMPTY, LOAD), 1 / 7),
        Row(f"{FIRST} / template", ratio(FIRST, TEMPLATE), 1.0),
        Row(f"{SAME} / template back", ratio(SAME, TEMPLATE_BACK), 1.0),
        Row(f"{BACK} / template back", ratio(BACK, TEMPLATE_BACK), 1.0),
    ]
    if DSLR in measured.seconds:
        found += [
            Row(f"{FIRST} / DSLR", ratio(FIRST, DSLR), 1.0),
            Row(f"{EMPTY} / DSLR restore", ratio(EMPTY, DSLR_BACK), 1.0),
        ]
    if kind == "project":
        found += [
            Row(f"{NEXT} / {FIRST}", ratio(NEXT, FIRST), 0.25),
            Row(f"({BACK} - stop, start) / {FIRST}", ratio(BACK, FIRST), 0.25),
            Row(f"{NEXT} / pg_dump", ratio(NEXT, DUMP), 1 / 10),
            Row(f"{BACK} / pg_restore", ratio(BACK, LOAD), 1 / 15),
        ]
    return found


@contextmanager
def benches(folder: Path, lock: Path | None = None) -> Iterator[Callable[[str, int], Bench]]:
    """Makes projects by kind and megabytes, and destroys them at the end."""
    made: list[Bench] = []

    def make(kind: str, megabytes: int) -> Bench:
        made.append(Bench(folder, kind, megabytes, lock))
        return made[-1]

    try:
        yield make
    finally:
        for bench in made:
            subprocess.run(
                [sys.executable, str(bench.root / "manage.py"), "dbdev_destroy", "--noinput"],
                env=bench.env,
                capture_output=True,
            )


def sections(
    folder: Path,
    rounds: int,
    megabytes: int,
    *,
    kinds: Sequence[str] = KINDS,
    lock: Path | None = None,
) -> Iterator[Section]:
    with benches(folder, lock) as make:
        for kind in kinds:
            bench = make(kind, megabytes)
            measured = alternate(contenders(bench), rounds)
            bench.manage("dbdev_destroy", "--noinput")
            title = f"Backups of {megabytes} MB: {kind}"
            yield Section(title, measured, rows(kind, measured))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    parser.add_argument("--part", choices=KINDS, help="one database alone")
    parser.add_argument("--megabytes", type=int, default=1100)
    parser.add_argument("--only", nargs="*", help="contenders to run, by name")
    parser.add_argument("--lock", type=Path, help="a dbdev.lock to begin with")
    options = parser.parse_args()
    kinds = (options.part,) if options.part else KINDS
    folder = Path(tempfile.mkdtemp(prefix="dbdev-bench-", dir=options.folder))
    try:
        if options.only:
            _show_seconds(folder, kinds, options)
            return
        found = sections(folder, options.rounds, options.megabytes, kinds=kinds, lock=options.lock)
        show(found, as_json=options.json)
    finally:
        shutil.rmtree(folder)


def _show_seconds(folder: Path, kinds: Sequence[str], options: argparse.Namespace) -> None:
    """Some contenders alone have no ratios."""
    results: dict[str, dict[str, list[float]]] = {}
    with benches(folder, options.lock) as make:
        for kind in kinds:
            known = contenders(make(kind, options.megabytes))
            chosen = {name: known[name] for name in known if name in options.only}
            results[kind] = alternate(chosen, options.rounds).seconds
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

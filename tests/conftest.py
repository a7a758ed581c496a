"""Real projects in temporary folders, whose servers are stopped when the test ends."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import hypothesis
import psutil
import psycopg
import pytest

from django_dbdev.binaries.find import Sources, find_toolchain
from django_dbdev.exceptions import PinError, ToolchainError
from django_dbdev.pins import Requirement, parse_pins
from django_dbdev.process.processes import working_directory

# Begun in the background by a script, or by nohup: what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

#: What the developer's own environment must not decide.
_OURS = re.compile(r"DBDEV_|PG|DJANGO_|NO_COLOR|FORCE_COLOR|PYTHONUNBUFFERED")

# A loaded machine is no failure.
hypothesis.settings.register_profile("dbdev", deadline=None)
hypothesis.settings.load_profile("dbdev")

SETTINGS = """
from pathlib import Path

from django_dbdev.backends.postgres import DBSETTINGS

BASE_DIR = Path(__file__).parent
SECRET_KEY = "for tests"
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


@dataclass
class Result:
    status: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err

    def ok(self) -> Result:
        assert self.status == 0, self.all
        return self

    def failed(self, status: int | None = None) -> Result:
        """The command failed as commands do: with its own words and no traceback."""
        assert self.status != 0, self.all
        assert "Traceback" not in self.all, self.all
        if status is not None:
            assert self.status == status, self.all
        return self


@dataclass
class Project:
    """A Django project of its own, driven as a user drives it: by processes of manage.py."""

    root: Path
    store: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, content: str) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(content), "utf-8")
        return file

    def pin(self, table: str) -> None:
        self.write("pyproject.toml", table)

    def settings(self, extra: str = "", base: str = SETTINGS) -> None:
        self.write("settings.py", base + "\n" + dedent(extra))

    def env(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not _OURS.match(k)}
        return {**kept, "DBDEV_STORE": str(self.store), **self.environment, **more}

    def manage(
        self,
        *args: str,
        input: str | None = "",
        cwd: Path | None = None,
        umask: int = -1,
        **environment: str,
    ) -> Result:
        done = subprocess.run(
            [sys.executable, str(self.root / "manage.py"), *args],
            cwd=cwd or self.root,
            env=self.env(**environment),
            input=input,
            capture_output=True,
            text=True,
            timeout=180,
            umask=umask,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *args: str, **how: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.root / "manage.py"), *args],
            cwd=self.root,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **how,
        )

    def info(self, *args: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(
            self.manage("dbdev_serverinfo", "--format", "json", *args).ok().out
        )
        return loaded

    def sql(self, statement: str, alias: str = "default") -> list[list[Any]]:
        """Rows, as Django's own connection of the alias gives them."""
        script = (
            "import json, sys; from django.db import connections\n"
            f"c = connections[{alias!r}].cursor(); c.execute({statement!r})\n"
            "print(json.dumps(c.fetchall() if c.description else [], default=str))"
        )
        rows: list[list[Any]] = json.loads(
            self.manage("shell", "--no-imports", "-c", script).ok().out.splitlines()[-1]
        )
        return rows

    def query(
        self,
        statement: str,
        *,
        database: str = "dbdev",
        user: str = "dbdev",
        password: str = "dbdev",
        server: str = "PostgresBackend",
    ) -> list[tuple[Any, ...]]:
        """Rows, by a connection of the test's own to whatever runs on the datadir."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port(server),
            dbname=database,
            user=user,
            password=password,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def pid(self, server: str = "PostgresBackend") -> int:
        """The server's pid, as PostgreSQL itself wrote it down."""
        return int(self._pid_file(server)[0])

    def port(self, server: str = "PostgresBackend") -> int:
        return int(self._pid_file(server)[3])

    def _pid_file(self, server: str) -> list[str]:
        return (self.tempdata / server / "postmaster.pid").read_text().splitlines()

    def server(self, name: str = "PostgresBackend") -> psutil.Process:
        """The running server, proved by its working directory."""
        process = psutil.Process(self.pid(name))
        assert working_directory(process) == (self.tempdata / name).resolve()
        return process

    @property
    def tempdata(self) -> Path:
        return self.root / "dbdev_tempdata"

    @property
    def datadir(self) -> Path:
        return self.tempdata / "PostgresBackend"

    def servers(self) -> list[psutil.Process]:
        """All processes that work in this project's folder."""
        return working_in(self.root)

    def clean_up(self) -> None:
        for pid_file in self.root.rglob("postmaster.pid"):
            try:
                pid = int(pid_file.read_text().split()[0])
                process = psutil.Process(pid)
                if working_directory(process) == pid_file.parent.resolve():
                    process.send_signal(signal.SIGQUIT)
            except (psutil.Error, OSError, ValueError, IndexError):
                continue
        deadline = time.monotonic() + 10
        while self.servers() and time.monotonic() < deadline:
            time.sleep(0.02)
        left = self.servers()
        for process in left:
            process.kill()
        assert not left, f"processes were left behind: {left}"
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """pytest's, with a name so short that the socket of a project in it is in the project.

    See ``django_dbdev/process/sockets.py`` for where it is otherwise.
    """
    folder = tmp_path_factory.mktemp("t")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account can enter; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="dbdev-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def store(pytestconfig: pytest.Config) -> Path:
    """One store for all tests, workers and runs: what was fetched once is not fetched again."""
    if chosen := os.environ.get("DBDEV_TEST_STORE"):
        return Path(chosen).resolve()
    cache = pytestconfig.cache
    assert cache is not None
    return cache.mkdir("dbdev-store")


@pytest.fixture(scope="session")
def mariadb_bindir(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of MariaDB's server program, fetched as a project fetches it."""
    if chosen := os.environ.get("DBDEV_TEST_MARIADB_BINDIR"):
        return Path(chosen)
    folder = tmp_path_factory.mktemp("mariadb")
    try:
        found = find_toolchain(
            Requirement("mariadb"), Sources(folder / "dbdev.lock", folder / "prefix", store)
        )
    except ToolchainError as error:
        pytest.skip(f"there is no MariaDB for this machine: {error}")
    return found.toolchain.program("mariadbd").resolve().parent


@pytest.fixture
def fresh_store(tmp_path: Path, store: Path) -> Iterator[Path]:
    """A store that has the programs and no pristine cluster yet."""
    fresh = tmp_path / "store"
    fresh.mkdir(mode=0o700)
    for kind in ("trees", "proofs"):
        (store / kind).mkdir(parents=True, exist_ok=True)
        (fresh / kind).symlink_to(store / kind)
    yield fresh
    for process in working_in(fresh):
        process.kill()


def wait_until(condition: Callable[[], object], timeout: float = 20) -> None:
    """:param timeout: seconds, which a loaded machine may need."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def working_in(folder: Path) -> list[psutil.Process]:
    """All other processes whose working directory is below ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            cwd = working_directory(process)
            if cwd and cwd.is_relative_to(folder) and process.pid != os.getpid():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@dataclass(frozen=True)
class Locks:
    """Lock files of earlier tests, by what decides them: the index is asked once for each."""

    folder: Path

    def key(self, project: Project) -> str | None:
        """A name for what the project pins, settings and ports aside; None where it is wrong."""
        source = project.root / "pyproject.toml"
        try:
            pins = parse_pins(
                tomllib.loads(source.read_text("utf-8"))["tool"]["django_dbdev"], source
            )
        except (OSError, ValueError, LookupError, TypeError, PinError):
            return None
        wanted = sorted(f"{pin.key} {pin.requirement}" for pin in pins)
        return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]

    def give(self, project: Project) -> None:
        kept = self.folder / f"{self.key(project)}.lock"
        if kept.exists():
            shutil.copyfile(kept, project.root / "dbdev.lock")

    def keep(self, project: Project, key: str | None) -> None:
        """Keep the project's lock, when it still has the pins that it began with."""
        lock, kept = project.root / "dbdev.lock", self.folder / f"{key}.lock"
        if key and key == self.key(project) and lock.exists() and not kept.exists():
            temporary = kept.with_name(f"{kept.name}.{os.getpid()}")
            shutil.copyfile(lock, temporary)
            temporary.replace(kept)


@pytest.fixture(scope="session")
def locks(store: Path) -> Locks:
    folder = store.parent / f"{store.name}-locks"
    folder.mkdir(parents=True, exist_ok=True)
    return Locks(folder)


ProjectFactory = Callable[..., Project]


@pytest.fixture
def new_project(tmp_path: Path, store: Path, locks: Locks) -> Iterator[ProjectFactory]:
    """Makes projects: ``new_project("name", pin="…", settings="…")``.

    With ``lock=False`` the project has no lock file to begin with.
    """
    made: list[tuple[Project, str | None]] = []

    def make(
        name: str = "project",
        *,
        pin: str = '[tool.django_dbdev.postgresql]\nversion = "18"\n',
        settings: str = "",
        base: str = SETTINGS,
        store: Path = store,
        environment: Mapping[str, str] | None = None,
        lock: bool = True,
    ) -> Project:
        root = tmp_path / name
        root.mkdir(parents=True)
        project = Project(root, store, dict(environment or {}))
        project.write("manage.py", MANAGE)
        project.settings(settings, base)
        if pin:
            project.pin(pin)
        if lock:
            locks.give(project)
        made.append((project, locks.key(project) if lock else None))
        return project

    yield make
    for project, key in made:
        locks.keep(project, key)
    for project, _ in made:
        project.clean_up()


@pytest.fixture
def project(new_project: ProjectFactory) -> Project:
    return new_project()

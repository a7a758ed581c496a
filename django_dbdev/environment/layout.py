"""What the folder of a project tells about how it is installed and tested."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
_VERSION = re.compile(r"3\.\d+")


@dataclass(frozen=True)
class Layout:
    """A project's folder, as the generated files see it. Paths are relative, in POSIX notation.

    :param name: of the project's folder.
    :param folder: the project's, seen from the repository's; "." where they are one.
    :param manage: manage.py, seen from the project's folder.
    :param python: the version that the project asks for, such as "3.12".
    :param install: what pip is told to install; empty where the project does not say.
    :param pytest: whether the tests are run by pytest.
    :param flake: whether there is a flake.nix; ``devenv`` whether there is a devenv.nix.
    """

    name: str
    folder: str
    manage: str
    python: str
    install: tuple[str, ...]
    pytest: bool
    flake: bool
    devenv: bool


def repository_of(root: Path) -> Path:
    """The folder that git or another would check out; the project's own where there is none."""
    return next((f for f in (root, *root.parents) if (f / ".git").exists()), root)


def read_layout(root: Path, manage: Path, pyproject: Mapping[str, Any]) -> Layout:
    """
    :param root: the project's folder, absolute.
    :param manage: the project's manage.py.
    :param pyproject: its pyproject.toml, parsed.
    """
    folder = root.relative_to(repository_of(root))
    install = tuple(f"-r {name}" for name in _REQUIREMENTS if (root / name).is_file())
    if not install and "project" in pyproject:
        install = ("-e .",)
    return Layout(
        name=root.name,
        folder=folder.as_posix(),
        manage=(manage.relative_to(root) if manage.is_relative_to(root) else manage).as_posix(),
        python=_python(root, pyproject),
        install=install,
        pytest="pytest" in pyproject.get("tool", {}) or (root / "pytest.ini").is_file(),
        flake=(root / "flake.nix").is_file(),
        devenv=(root / "devenv.nix").is_file(),
    )


def _python(root: Path, pyproject: Mapping[str, Any]) -> str:
    """.python-version, else the oldest that ``requires-python`` allows, else the one that runs."""
    try:
        chosen = (root / ".python-version").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        project = pyproject.get("project", {})
        chosen = str(project.get("requires-python", "")) if isinstance(project, dict) else ""
    found = _VERSION.search(chosen)
    return found.group() if found else f"{sys.version_info.major}.{sys.version_info.minor}"

"""What the folder of a project tells about how it is installed and tested."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from configparser import Error as ConfigParserError
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
#: Usual names of extras and dependency groups that hold what the tests need.
_FOR_TESTS = ("test", "tests", "dev")
#: pytest's own files, and its sections in those of others. Source: its documentation,
#: "Configuration".
_PYTEST_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")
_PYTEST_SECTIONS = {"tox.ini": "pytest", "setup.cfg": "tool:pytest"}
#: What is installed beside them where the tests are run by pytest.
PYTEST = ("pytest", "pytest-django")
_HAS_PYTEST = re.compile(r"^\s*pytest[-_.]django\b", re.IGNORECASE | re.MULTILINE)
_VERSION = re.compile(r"\b3\.(\d+)")
#: Python 3.11 is the oldest that django_dbdev runs on.
OLDEST = 11


@dataclass(frozen=True)
class Layout:
    """A project's folder, as the generated files see it. Paths are relative, in POSIX notation.

    :param name: of the project's folder.
    :param folder: the project's, seen from the repository's; "." where they are one.
    :param manage: manage.py, seen from the project's folder.
    :param python: the version that the project asks for, such as "3.12".
    :param install: arguments of ``pip install``; empty where the project does not say.
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
    repository = repository_of(root)
    pytest = "pytest" in _table(pyproject, "tool") or _configures_pytest(root)
    return Layout(
        name=root.name,
        folder=root.relative_to(repository).as_posix(),
        manage=_relative(manage, root) if manage.is_relative_to(repository) else "manage.py",
        python=_python(root, pyproject),
        install=_install(root, pyproject, pytest),
        pytest=pytest,
        flake=(root / "flake.nix").is_file(),
        devenv=(root / "devenv.nix").is_file(),
    )


def _configures_pytest(root: Path) -> bool:
    """Whether pytest finds its configuration in the folder, pyproject.toml aside."""
    if any((root / name).is_file() for name in _PYTEST_FILES):
        return True
    for name, section in _PYTEST_SECTIONS.items():
        parser = RawConfigParser(strict=False)
        try:
            parser.read(root / name, "utf-8")
        except (OSError, ValueError, ConfigParserError):
            continue
        if parser.has_section(section):
            return True
    return False


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _install(root: Path, pyproject: Mapping[str, Any], pytest: bool) -> tuple[str, ...]:
    """Requirements files, else the project with what its tests need, and pytest in any case.

    Of a project that does not say how it is built, what it depends on: pip would look for the one
    package that it has, and Django projects have several.
    """
    files = [name for name in _REQUIREMENTS if (root / name).is_file()]
    project = _table(pyproject, "project")
    if files:
        arguments = [argument for name in files for argument in ("-r", name)]
        named = [(root / name).read_text("utf-8", "replace") for name in files]
    elif project:
        extras = _table(project, "optional-dependencies")
        groups = _table(pyproject, "dependency-groups")
        wanted = _texts(project.get("dependencies"), *map(extras.get, _FOR_TESTS))
        named = [*wanted, *_texts(*map(groups.get, _FOR_TESTS))]
        if "build-system" in pyproject:
            chosen = ",".join(name for name in _FOR_TESTS if name in extras)
            arguments = ["-e", f".[{chosen}]" if chosen else "."]
        else:
            arguments = list(dict.fromkeys(_others(wanted, str(project.get("name")))))
        arguments += [f"--group={name}" for name in _FOR_TESTS if name in groups]
    else:
        return ()
    if not arguments:
        return ()
    missing = pytest and not _HAS_PYTEST.search("\n".join(named))
    return (*arguments, *(PYTEST if missing else ()))


def _texts(*lists: object) -> list[str]:
    return [str(each) for several in lists if isinstance(several, list) for each in several]


def _others(requirements: Iterable[str], own: str) -> Iterator[str]:
    """Without the project itself, whose extras name each other by it."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    for text in requirements:
        try:
            name = Requirement(text).name
        except InvalidRequirement:
            continue
        if canonicalize_name(name) != canonicalize_name(own):
            yield text


def _python(root: Path, pyproject: Mapping[str, Any]) -> str:
    """.python-version, else the oldest that ``requires-python`` allows, else the one that runs.

    Never one that is too old for django_dbdev.
    """
    minor = _chosen(root) or _oldest(pyproject) or sys.version_info.minor
    return f"3.{max(minor, OLDEST)}"


def _chosen(root: Path) -> int | None:
    try:
        found = _VERSION.search((root / ".python-version").read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return int(found.group(1)) if found else None


def _oldest(pyproject: Mapping[str, Any]) -> int | None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        allowed = SpecifierSet(str(_table(pyproject, "project")["requires-python"]))
    except (LookupError, InvalidSpecifier):
        return None
    # The newest patch release of each: ">=3.12.4" allows 3.12.
    return next((n for n in range(OLDEST, 100) if allowed.contains(f"3.{n}.99")), None)

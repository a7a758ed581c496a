"""Where the project is, as far as no command is needed to see it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from django_dbdev import conf
from django_dbdev.exceptions import ConfigurationError
from django_dbdev.process.privileges import acting_as


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings in an installed package; the process begins in the folder ``here``."""
    (tmp_path / ".git").mkdir()
    for folder in ("installed", "here", "project/below"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "installed" / "dbdev_installed_settings.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "installed")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "dbdev_installed_settings")
    monkeypatch.setattr("sys.argv", ["django-admin"])
    monkeypatch.chdir(tmp_path / "here")
    conf._find_root.cache_clear()
    return tmp_path


def test_settings_in_an_installed_package(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert conf.project_root() == (place / "here", False)
    (place / "project" / "manage.py").touch()
    monkeypatch.setattr("sys.argv", [str(place / "project" / "manage.py"), "dbdev_init"])
    assert conf.project_root() == (place / "project", True)
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.chdir(place / "project" / "below")
    conf._find_root.cache_clear()
    assert conf.project_root() == (place / "project", True)
    # What stands above the settings goes first.
    (place / "installed" / "pyproject.toml").touch()
    conf._find_root.cache_clear()
    assert conf.project_root() == (place / "installed", True)


def test_a_file_that_is_closed_to_us_is_told_by_the_commands(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """settings.py is being imported when it is looked for."""
    file = open_folder / "pyproject.toml"
    file.write_text("[tool.django_dbdev]\n")
    file.chmod(0)
    monkeypatch.setenv("DBDEV_PROJECT_ROOT", str(open_folder))
    conf._find_root.cache_clear()
    nobody = acting_as(65534, 65534, [65534]) if os.geteuid() == 0 else nullcontext()
    with nobody:
        assert conf._find_root(open_folder) == open_folder
        with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
            conf.project()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another")
@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_another_has_planted_above_a_project_is_passed_over(tmp_path: Path, kind: str) -> None:
    """Pins decide what is run, and everybody can write to a folder such as /tmp."""
    (tmp_path / ".git").mkdir()
    project = tmp_path / "open" / "project"
    project.mkdir(parents=True)
    project.parent.chmod(0o1777)
    (project / "manage.py").touch()
    (tmp_path / "ours.toml").write_text("[tool.django_dbdev]\n")
    planted = project.parent / "pyproject.toml"
    if kind == "file":
        planted.write_text("[tool.django_dbdev]\n")
    else:
        planted.symlink_to(tmp_path / "ours.toml")

    def root() -> Path | None:
        conf._find_root.cache_clear()
        return conf._find_root(project)

    assert root() == project.parent
    os.lchown(planted, 1, 1)
    assert root() == project
    (project / "manage.py").rename(project.parent / "manage.py")
    os.chown(project.parent / "manage.py", 1, 1)
    assert root() is None
    # Whose settings are run may say where the project is.
    os.chown(project, 1, 1)
    assert root() == project.parent

"""Every command that a guide prints is run, in order, in one bash, as its reader would."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machine import needs_sqlite3

from .conftest import Project, ProjectFactory
from .guide_commands import ASKS, INTERACTIVE, all_commands

SQLITE = """
from django_dbdev.backends.sqlite import DBSETTINGS
SECRET_KEY = "for tests"
DEBUG = True
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_dbdev"]
DATABASES = {"default": DBSETTINGS}
"""


def script(rst: str, folder: Path) -> str:
    """A bash script of the guide's lines: a status that is not 0 ends it, named."""
    lines = [f"cd {shell(folder)}"]
    for command in all_commands(rst):
        line = command.line
        if command.kind.startswith("needs"):
            continue
        if command.kind == ASKS:
            line = f"echo yes | {line}"
        elif command.kind == INTERACTIVE:
            # An interactive one ends by the end of its input, or is ended like by Ctrl-C.
            line = f"timeout --signal=INT 3 {line} </dev/null || [ $? -eq 124 ]"
        if "latest.dump" in line:
            lines.append("cp mydump.dump latest.dump")
        lines.append(f"{line} || {{ echo FAILED: {shell(line)}; exit 1; }}")
    return "\n".join(lines)


def shell(text: object) -> str:
    return shlex.quote(str(text))


def run_all(project: Project, rst: str, folder: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, "-c", script(rst, folder)],
        env=project.env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", ["it's a prôject 100% $HOME"])
def test_every_command_of_the_postgresql_guide_runs(
    new_project: ProjectFactory, tmp_path: Path, name: str
) -> None:
    project = new_project(name)
    project.manage("dbdev_init").ok()
    project.manage("migrate", "-v0").ok()
    rst = project.manage("dbdev_guide").ok().out
    done = run_all(project, rst, tmp_path / "reader")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert len(all_commands(rst)) > 50
    shutil.rmtree(tmp_path / "reader")


@needs_sqlite3
def test_every_command_of_the_sqlite_guide_runs(
    new_project: ProjectFactory, tmp_path: Path
) -> None:
    project = new_project("a project", base=SQLITE, pin="")
    project.manage("dbdev_init").ok()
    project.manage("migrate", "-v0").ok()
    rst = project.manage("dbdev_guide").ok().out
    done = run_all(project, rst, tmp_path / "reader")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    shutil.rmtree(tmp_path / "reader")


def test_a_terminal_gets_it_rendered_and_a_pipe_gets_it_raw(new_project: ProjectFactory) -> None:
    project = new_project("a project", base=SQLITE, pin="")
    project.manage("dbdev_init").ok()
    raw = project.manage("dbdev_guide").ok().out
    assert "::\n" in raw
    rendered = project.manage("dbdev_guide", "--format", "terminal").ok().out
    assert "::\n" not in rendered
    assert "\x1b[" not in rendered, "no colours in a pipe"
    for command in all_commands(raw):
        assert command.line in rendered, "commands are neither wrapped nor clipped"
    coloured = project.manage("dbdev_guide", "--format", "terminal", "--force-color").ok().out
    assert "\x1b[" in coloured

"""The page of the docs that builds a backend: its very code, run by every command."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from textwrap import dedent

import pytest

from django_dbdev.process.ports import is_free

from .conftest import Project, ProjectFactory

PAGE = Path(__file__).parent.parent / "docs/howto/custom-backend.rst"
_BLOCK = re.compile(
    r"^``(?P<file>[\w./]+)``(?P<more> goes on)?:\n\n\.\. code-block:: \w+\n\n"
    r"(?P<code>(?:    .*\n|\n)+)",
    re.MULTILINE,
)
_PORT = "20077"


def files_of_page() -> dict[str, str]:
    """What the page says to write, by file."""
    found: dict[str, str] = {}
    for match in _BLOCK.finditer(PAGE.read_text("utf-8")):
        # What goes on stands as deep in the class as it does in its file.
        code = re.sub(r"^    ", "", match["code"], flags=re.MULTILINE)
        assert bool(match["more"]) == (match["file"] in found), match["file"]
        found[match["file"]] = found.get(match["file"], "") + code
    return found


@pytest.fixture
def project(new_project: ProjectFactory) -> Project:
    files = files_of_page()
    assert len(files) == 5
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    project = new_project("notes", pin="", base=dedent(files.pop("settings.py")))
    for name, code in files.items():
        project.write(name, code.replace(_PORT, port))
    for package in ("notes", "notes/engine"):
        project.write(f"{package}/__init__.py", "")
    return project


def ask(project: Project, line: str) -> str:
    port = int(project.manage("dbdev_serverinfo").ok().out.split("port: ")[1].split()[0])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{line}\n".encode())
        return connection.makefile().readline().strip()


def test_the_code_of_the_page_is_a_backend(project: Project) -> None:
    project.manage("check").ok()
    assert not project.tempdata.exists()
    said = project.manage("dbdev_init").ok().out
    assert "Started notes" in said
    assert "running already" in project.manage("dbdev_init").ok().out
    assert ask(project, "PUT milk two litres") == "two litres"
    project.manage("dbdev_backup", "-n", "before").ok()
    assert ask(project, "PUT milk none") == "none"
    project.manage("dbdev_restore", "-n", "before").ok()
    assert ask(project, "GET milk") == "two litres"
    project.manage("dbdev_stopserver").ok()
    assert "notes: not running" in project.manage("dbdev_serverinfo").ok().out
    project.manage("dbdev_startserver").ok()
    assert ask(project, "GET milk") == "two litres"
    guide = project.manage("dbdev_guide").ok().out
    assert "GET notes" in guide
    assert str(project.tempdata / "NotesBackend/notes.json") in guide
    assert "before" in project.manage("dbdev_listbackups").ok().out
    project.manage("dbdev_reinit", "--noinput").ok()
    assert ask(project, "GET milk") == ""
    project.manage("dbdev_destroy", "--noinput").ok()
    assert project.servers() == []
    port = re.search(r'"PORT": (\d+)', (project.root / "notes/backend.py").read_text())
    assert port is not None
    assert is_free(int(port[1]))

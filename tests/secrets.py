"""Where a password is and where it is not, while all commands run."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import Project

#: One that no quoting changes, so that it is found wherever it is written.
SECRET = "s3cr3t-s3cr3t"
#: What a user may have in the environment: by ``eval "$(manage.py dbdev_env)"``, and for the
#: settings to read.
THEIRS: dict[str, Any] = {
    "DATABASE_URL": f"postgresql://dbdev:{SECRET}@127.0.0.1:5432/dbdev",
    "DB_PASSWORD": SECRET,
    "REPORTING_URL": f"mysql://root:{SECRET}@127.0.0.1:3306/dbdev",
}

#: Python itself tells of each program before it becomes it, in us and in our forks.
HOOK = """
import json, os, sys

def told(event, details):
    if event in ("os.exec", "os.posix_spawn"):
        program, args, env = details[:3]
        said = {
            "args": [os.fsdecode(program), *map(os.fsdecode, args)],
            "env": {os.fsdecode(k): os.fsdecode(v) for k, v in (env or os.environ).items()},
        }
        file = os.open(os.environ["EXEC_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, (json.dumps(said) + "\\n").encode())
        os.close(file)

sys.addaudithook(told)
"""


def run_all(project: Project, commands: Sequence[Sequence[str]], umask: int) -> str:
    """Run commands, with the password in the environment; all that they said."""
    hook = project.write("hook/sitecustomize.py", HOOK).parent
    said = []
    for command in commands:
        done = project.manage(
            *command,
            umask=umask,
            PYTHONPATH=os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")]),
            EXEC_LOG=str(project.root / "execs"),
            **THEIRS,
        ).ok()
        said.append(done.all)
    return "\n".join(said)


def programs(project: Project) -> list[tuple[list[str], dict[str, str]]]:
    """All that was run, with its arguments and its environment."""
    lines = (project.root / "execs").read_text().splitlines()
    return [(line["args"], line["env"]) for line in map(json.loads, lines)]


def holding(*folders: Path) -> list[str]:
    """The names of the files that hold the password."""
    return [
        path.name
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes()
    ]


def open_to_others(folder: Path) -> list[str]:
    """What others than the owner may read, write or enter, with its mode."""
    return [
        f"{path.relative_to(folder)} {stat.S_IMODE(path.lstat().st_mode):o}"
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink() and not path.is_socket() and path.lstat().st_mode & 0o077
    ]

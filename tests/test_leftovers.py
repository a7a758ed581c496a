"""Ending what a killed command has left: servers, and nothing of the developer's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django_dbdev.backups.replace import mend
from django_dbdev.process.leftovers import remove_with_servers


@contextmanager
def waiting(name: str, tools: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program called ``name`` that works in ``folder``."""
    program = tools / name
    program.symlink_to(sys.executable)
    process = subprocess.Popen(
        [program, "-I", "-S", "-c", "import time; time.sleep(60)"], cwd=folder
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


#: Nix's server, which cannot be had here, is one by its name alone.
NAMES = ("bash", "postgres_exporter", "mysqldump", ".postgres-wrapped", "mariadbd")


def test_only_servers_are_ended(tmp_path: Path) -> None:
    """In live data that an upgrade has left, and in the folder of a session that goes."""
    for step in ("upgrade", "session"):
        live, tools = tmp_path / step / "Live", tmp_path / step / "tools"
        for folder in (live, tools):
            folder.mkdir(parents=True)
        with ExitStack() as stack:
            processes = [stack.enter_context(waiting(name, tools, live)) for name in NAMES]
            if step == "upgrade":
                root = live.with_name("Live-backups")
                (root / "backup-2026-01-02_03-04-05-678901.before-upgrade").mkdir(parents=True)
                assert "interrupted" in mend(live, root, lambda: True)
            else:
                remove_with_servers(live)
            assert [process.poll() is None for process in processes] == [True] * 3 + [False] * 2
        assert live.exists() == (step == "upgrade")

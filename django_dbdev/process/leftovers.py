"""Ending servers that nobody waits for any more, and removing the folder in which they work."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .processes import working_directory
from .sockets import socket_folders

if TYPE_CHECKING:
    import psutil

#: Seconds for a server to give its shared memory back, before it is killed.
_PATIENCE = 5.0
#: What servers are called; wrapped, as Nix makes them, ".postgres-wrapped", of which the system
#: keeps 15 characters.
_SERVER = re.compile(r"\.?(postgres|postmaster|mariadbd|mysqld)(-wra\w*)?")


def remove_with_servers(folder: Path) -> None:
    """Remove ``folder``, and first end the servers in it."""
    end_servers_in(folder)
    remove(folder)


def remove(folder: Path) -> None:
    """Remove ``folder``, and the sockets that belong to it."""
    deadline = time.monotonic() + _PATIENCE
    while folder.exists():
        # What a killed server started may write until it notices.
        shutil.rmtree(folder, ignore_errors=time.monotonic() < deadline)
    for sockets in socket_folders(folder):
        shutil.rmtree(sockets, ignore_errors=True)


def end_servers_in(folder: Path) -> None:
    """End the servers that work in ``folder``. A shell or a ``tail`` there is its user's own."""
    import psutil

    folder = folder.resolve()
    # SIGQUIT ends a server at once, and it still cleans up what is not in its folder.
    for number in (signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + _PATIENCE
        found = [process for process in working_in(folder) if _is_server(process)]
        for process in found:
            with suppress(psutil.Error):
                process.send_signal(number)
        while found and time.monotonic() < deadline:
            time.sleep(0.005)
            found = [process for process in found if _is_alive(process)]
        if not found:
            return


def servers_by_folder(parent: Path) -> dict[Path, psutil.Process]:
    """The server that works in each folder of ``parent``; of its processes the first."""
    found: dict[Path, psutil.Process] = {}
    for process in sorted(working_in(parent.resolve()), key=lambda each: each.pid):
        cwd = working_directory(process)
        if cwd is not None and cwd.parent == parent.resolve() and _is_server(process):
            found.setdefault(cwd, process)
    return found


def working_in(folder: Path) -> list[psutil.Process]:
    """All other processes whose working directory is ``folder`` or below it."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            cwd = working_directory(process)
            # A removed folder's processes still name it, with a mark behind.
            if cwd is not None and cwd.is_relative_to(folder) and process.pid != os.getpid():
                found.append(process)
    return found


def _is_server(process: psutil.Process) -> bool:
    import psutil

    with suppress(psutil.Error):
        return _SERVER.fullmatch(process.name()) is not None
    return False


def _is_alive(process: psutil.Process) -> bool:
    import psutil

    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False

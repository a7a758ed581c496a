"""What ``dbdev_init`` records for later commands: the port that each server was given.

The file stands beside the servers' data, ``dbdev_tempdata/servers.json``, and belongs to the
machine, not to the project: it is not for committing.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

FILE = "servers.json"
#: Half of a character, which JSON can name and nothing can print or write.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def recorded_ports(tempdata: Path) -> dict[str, int]:
    """Ports by server name (``PostgresBackend``). A file that cannot be read records nothing.

    Nor does one that was copied along with a project: those ports are its model's.
    """
    try:
        content = parse_json((tempdata / FILE).read_text("utf-8"))
        if content.get("folder", _place(tempdata)) != _place(tempdata):
            return {}
        ports = content["ports"]
        return {name: port for name, port in ports.items() if _is_port(port)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def record_port(tempdata: Path, server: str, port: int | None) -> None:
    """Record ``port`` for ``server``, or forget it with None."""
    ports = recorded_ports(tempdata)
    if ports.get(server) == port:
        return
    ports.pop(server, None)
    if port is not None:
        ports[server] = port
    content = {"folder": _place(tempdata), "ports": ports}
    write_atomically(tempdata / FILE, json.dumps(content, indent=2) + "\n")


def _place(tempdata: Path) -> str:
    return os.path.realpath(tempdata)


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def parse_json(text: str) -> Any:
    """What a file from anywhere holds.

    :raises ValueError: when it is not JSON; also when it is nested beyond all sense, or has text
        that is none.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _SURROGATE.search(text):
        # A pair of them is one character, and right.
        json.dumps(content, ensure_ascii=False).encode()
    return content


def temporary_name(path: Path) -> Path:
    """A name beside ``path`` that nobody else has: pids are unique within one container alone.

    What killed processes have left under such names is removed.
    """
    left = re.compile(rf"\.{re.escape(path.name)}\.(\d+)-[0-9a-f]{{8}}\.new")
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if (found := left.fullmatch(name)) and not is_alive(int(found[1])):
                path.with_name(name).unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.new")


def is_alive(pid: int) -> bool:
    """Whether a process has this pid, as far as we see: not in another container."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_atomically(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Write a file so that a reader sees the old content or the new, never a part of it.

    :raises OSError: naming ``path``, also where the disk is full.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = temporary_name(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError as error:
        # Writing to an open file, unlike opening one, tells no name.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)

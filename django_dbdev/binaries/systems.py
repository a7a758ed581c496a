"""Kinds of machines, by the names that Nix gives them, and what pip calls the same."""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from pathlib import Path

#: Every system that a lock covers, where a package exists for it.
SYSTEMS = ("aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux")

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: Versions of glibc (PEP 600) and macOS that wheels name, newest first: pip takes the first
#: that has a file. Whether it runs on this machine is proven by running it.
_MANYLINUX = ("2_39", "2_35", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17")
_MACOS = ("26_0", "15_0", "14_0", "13_0", "12_0", "11_0")


def current_system() -> str:
    """The Nix name of this machine's system, such as "x86_64-linux"."""
    machine = os.uname().machine.lower()
    if machine == "x86_64" and sys.maxsize < 2**32:
        # A 32-bit Python on a 64-bit kernel: its pip and its neighbours are 32-bit, too.
        machine = "i686"
    return f"{_MACHINES.get(machine, machine)}-{sys.platform}"


def pip_platforms(system: str) -> tuple[str, ...]:
    """What pip's ``--platform`` calls a system, the most wanted first."""
    machine, _, kernel = system.partition("-")
    if kernel == "darwin":
        arch = "arm64" if machine == "aarch64" else machine
        # pip adds every older macOS by itself; for Linux it adds none.
        return tuple(f"macosx_{version}_{arch}" for version in _MACOS)
    names = [f"manylinux_{version}_{machine}" for version in _MANYLINUX]
    return (*names, f"manylinux2014_{machine}")


def libc() -> str:
    """The C library and its version, such as "glibc 2.36"; empty where it does not tell."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


@lru_cache(maxsize=1)
def os_release() -> str:
    """What a Linux says of itself; empty where it does not."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            return Path(path).read_text("utf-8", "replace")
        except OSError:
            continue
    return ""


def codename() -> str:
    """The release of a Debian or Ubuntu, such as "bookworm"; empty where it does not tell.

    Of a system that is derived from Ubuntu, that of Ubuntu, whose packages it takes.
    """
    fields: dict[str, str] = dict(re.findall(r'^(\w+)="?([^"\n]*)', os_release(), re.MULTILINE))
    return fields.get("UBUNTU_CODENAME") or fields.get("VERSION_CODENAME", "")

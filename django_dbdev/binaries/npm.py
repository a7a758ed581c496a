"""npm, as a program: versions, hashes and files of packages, from wherever the user's npm looks.

No host is named here: the user's own configuration, registry and credentials hold. Nothing of a
package is run: ``npm pack`` fetches the file alone.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Any

from ..exceptions import ProgramError
from ..process.command import Command
from ..process.run import run

#: What npm would say or look up besides.
_ENVIRONMENT = {
    "npm_config_loglevel": "error",
    "npm_config_update_notifier": "false",
    "npm_config_fund": "false",
    "npm_config_audit": "false",
    "npm_config_progress": "false",
    "npm_config_fetch_retries": "1",
    "NO_COLOR": "1",
}


class NpmError(Exception):
    """``reason`` is npm's own word, without credentials."""

    def __init__(self, reason: str, *, hints: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hints = tuple(hints)


class NotThere(NpmError):
    """The registry answers, and has no such package or version."""


class WrongHash(NpmError):
    """The bytes are not those that the registry announces."""


def is_there() -> bool:
    return which("npm") is not None


def versions(package: str) -> tuple[str, ...]:
    """Every version of a package."""
    found = _npm("view", package, "versions", "--json")
    return tuple(str(version) for version in (found if isinstance(found, list) else [found]))


def sha512_of(package: str, version: str) -> str:
    """The file's SHA-512, told by the registry. Hexadecimal."""
    dist = _npm("view", f"{package}@{version}", "dist", "--json")
    found = dist.get("integrity", "") if isinstance(dist, dict) else ""
    return from_integrity(str(found))


def download(package: str, version: str, folder: Path) -> Path:
    """Fetch a package's file into ``folder``, and give its path."""
    wanted = f"{package}@{version}"
    _npm("pack", wanted, "--json", "--ignore-scripts", "--pack-destination", str(folder))
    fetched = list(folder.glob("*.tgz"))
    if len(fetched) != 1:
        raise NpmError(f"npm fetched {len(fetched)} files for {wanted}")
    return fetched[0]


def from_integrity(text: str) -> str:
    """The SHA-512 in a subresource integrity: hexadecimal.

    :raises NpmError: when it holds none.
    """
    found = re.search(r"sha512-([A-Za-z0-9+/=]+)", text)
    try:
        digest = base64.b64decode(found.group(1), validate=True) if found else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 64:
        raise NpmError("the registry names no SHA-512 for it")
    return digest.hex()


def _npm(*args: str) -> Any:
    path = which("npm")
    if path is None:
        raise NpmError("there is no npm on PATH")
    try:
        completed = run(Command(Path(path), args, _ENVIRONMENT), check=False)
    except ProgramError as error:
        raise NpmError(error.message) from None
    if completed.status < 0:
        raise NpmError(f"npm {completed.ending}")
    try:
        answer = json.loads(completed.output)
    except ValueError:
        answer = None
    if completed.status == 0 and answer is not None:
        return answer
    raise failure(answer, completed.errors or completed.output)


def failure(answer: Any, said: str) -> NpmError:
    """What went wrong: from npm's answer, where it gave one, else from what it said."""
    error = answer.get("error") if isinstance(answer, dict) else None
    error = error if isinstance(error, dict) else {}
    code = str(error.get("code") or "")
    lines = [line.removeprefix("npm error ").strip() for line in said.splitlines()]
    words = str(error.get("summary") or "") or next(iter(filter(None, lines)), "npm failed")
    reason = re.sub(r"(?<=://)[^/\s@'\"]+@", "", words.splitlines()[0])
    if code in {"E404", "ETARGET"}:
        return NotThere(reason)
    if code == "EINTEGRITY":
        return WrongHash(reason)
    return NpmError(reason, hints=["is there a network? `npm config list` shows where npm looks"])

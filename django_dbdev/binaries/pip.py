"""pip, as a program: versions, hashes and files of packages, from wherever the user's pip looks.

No host is named here: the user's own configuration, mirrors and credentials hold. The packages
are carriers of programs and nothing of them is run by Python, so a fixed ``--python-version``
satisfies what their metadata asks of it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..exceptions import ProgramError
from ..process.command import Command
from ..process.run import Completed, run

PYTHON_VERSION = "3.12"

#: What of the user's configuration would change not where pip looks but what it does.
_ENVIRONMENT = {
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_REQUIRE_HASHES": "0",
    "PIP_USER": "0",
    "PIP_QUIET": "0",
    "PIP_VERBOSE": "0",
    "PYTHONWARNINGS": "ignore",
}


_NO_CONNECTION = (
    "connection broken by|Max retries exceeded|Could not fetch URL|not a trusted or secure host"
    "|40[13] Client Error|40[13] Error"
)
_REASON = (
    r"(?<=\] )[^'\")\](]+(?=['\")])|[Rr]ead timed out|[Cc]onnection timed out"
    r"|certificate verify failed[^')(]*|Tunnel connection failed[^')]*"
    r"|40[13] (?:Client )?Error[^.]*|\S+ is not a trusted or secure host"
)


class PipError(Exception):
    """``reason`` is pip's own last word, without credentials."""

    def __init__(self, reason: str, *, hints: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hints = tuple(hints)


class NotThere(PipError):
    """The index answers, and has no such package, version or platform."""


class WrongHash(PipError):
    """The file has another sha256 than the one that was asked for."""


class Damaged(PipError):
    """The file is no wheel."""


def versions(package: str, platforms: Sequence[str]) -> tuple[str, ...]:
    """Every version that has a wheel for one of the platforms.

    :raises PipError: also when the index cannot be reached.
    """
    completed = _pip("index", "versions", package, *_target(platforms), "--retries", "2")
    _check(completed)
    found = re.search(r"^Available versions: (.+)$", completed.output, re.MULTILINE)
    if found is None:
        raise PipError(f"pip index does not tell the versions of {package}")
    return tuple(version.strip() for version in found.group(1).split(","))


def file_of(package: str, version: str, platforms: Sequence[str]) -> tuple[str, str]:
    """Name and sha256 of a package's wheel, told by the index.

    :raises NotThere: when there is none for these platforms.
    :raises PipError: also when the index cannot be reached.
    """
    completed = _pip(
        "install",
        *("--dry-run", "--quiet", "--report", "-", "--target", "unused"),
        *("--no-deps", "--ignore-installed", "--ignore-requires-python", "--retries", "2"),
        *_target(platforms),
        f"{package}=={version}",
    )
    _check(completed)
    try:
        info = json.loads(completed.output)["install"][0]["download_info"]
        name = unquote(urlsplit(info["url"]).path.rpartition("/")[2])
        archive = info["archive_info"]
        sha256 = (archive.get("hashes") or {}).get("sha256")
        sha256 = sha256 or archive.get("hash", "").removeprefix("sha256=")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise PipError(f"pip tells nothing of {package} {version}") from None
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise PipError(f"the package index has no sha256 for {name}")
    return name, sha256


def download(
    package: str,
    version: str,
    sha256: str,
    platforms: Sequence[str],
    scratch: Path,
) -> Path:
    """Fetch one wheel, and give its path in ``scratch``, a folder that is ours alone.

    Until the file is whole it grows somewhere below ``scratch / "pip"``.

    :raises WrongHash: when the index has other bytes under that name.
    :raises PipError: also when the index cannot be reached.
    """
    temporary, folder = scratch / "pip", scratch / "wheels"
    temporary.mkdir()
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{package}=={version} --hash=sha256:{sha256}\n")
    completed = _pip(
        "download",
        *("--require-hashes", "--no-deps", "--ignore-requires-python"),
        # The store keeps what was fetched; a copy in pip's cache would be one too many.
        *("--no-cache-dir", "--progress-bar", "off"),
        *_target(platforms),
        *("--requirement", str(requirements), "--dest", str(folder)),
        temporary=temporary,
    )
    _check(completed)
    fetched = list(folder.iterdir())
    if len(fetched) != 1:
        raise PipError(f"pip fetched {len(fetched)} files for {package} {version}")
    return fetched[0]


def _target(platforms: Sequence[str]) -> tuple[str, ...]:
    named = (word for platform in platforms for word in ("--platform", platform))
    return ("--only-binary=:all:", "--python-version", PYTHON_VERSION, *named)


def _pip(*args: str, temporary: Path | None = None) -> Completed:
    if not sys.executable:
        raise PipError("this Python does not tell where its program is, so pip cannot be run")
    environment = dict(_ENVIRONMENT)
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    # -P: modules in the working directory must not be taken for those that pip imports.
    command = Command(Path(sys.executable), ("-P", "-m", "pip", *args), environment)
    try:
        return run(command, check=False)
    except ProgramError as error:
        raise PipError(error.message) from None


def _check(completed: Completed) -> None:
    if completed.status < 0:
        raise PipError(f"pip {completed.ending}")
    if completed.status != 0:
        raise failure(completed.errors or completed.output)


def failure(said: str) -> PipError:
    """What went wrong, from pip's standard error."""
    text = without_credentials(said)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "No module named pip" in text:
        return PipError(
            "this Python has no pip",
            hints=["install it: python -m ensurepip, or uv pip install pip"],
        )
    if "DO NOT MATCH THE HASHES" in text:
        expected = re.search(r"Expected sha256 (\w+)", text)
        got = re.search(r"Got\s+(\w+)", text)
        words = f"expected sha256 {expected and expected[1]}, got {got and got[1]}"
        return WrongHash(words)
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if re.search(_NO_CONNECTION, text):
        reasons = re.findall(_REASON, text) or (errors or lines)
        return PipError(
            f"the package index cannot be reached: {reasons[-1].strip()}",
            hints=["is there a network? `python -m pip config list` shows where pip looks"],
        )
    if re.search(r"is invalid\.|has an invalid wheel|BadZipFile|not a zip file", text):
        return Damaged((errors or lines)[-1])
    if "No matching distribution" in text:
        return NotThere(errors[-1])
    # "Exception:" stands before a traceback, whose last line says which.
    told = [line for line in errors if line != "Exception:"]
    return PipError((told or lines or ["pip failed and said nothing"])[-1])


def without_credentials(text: str) -> str:
    """The text with the user and the password taken out of every URL."""
    return re.sub(r"(?<=://)[^/\s@'\"]+@", "", text)

"""The one reader of settings, environment and pyproject.toml.

``settings.py`` imports DBSETTINGS from the backends, and DBSETTINGS needs the project's port:
what is used for that (:func:`project_root`, :func:`default_port`) works while the settings
module is still being imported, and imports nothing that is slow.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import ownership
from .exceptions import ConfigurationError, PinError
from .ownership import owner_of, planted_by, planted_on_the_way
from .pins import TABLE, Pins, parse_pins
from .records import recorded_ports

DEFAULT_TEMPDATA = "dbdev_tempdata"
#: Ports outside a project, as 1.2.3 had them.
FALLBACK_PORTS = {"postgresql": 20021, "mysql": 20022}
#: Under which names an engine can be pinned, where there is not just its own.
PINNED_AS = {"mysql": ("mariadb", "mysql")}
#: Set in the environment of what works on ephemeral servers, in JSON: by alias their PORT, a
#: number, or the NAME of a file.
EPHEMERAL = "DBDEV_EPHEMERAL"
#: Theirs lie between the derived ones and Linux's own.
EPHEMERAL_PORTS = range(30000, 32768)
#: The range of derived ports. It ends below what Linux (32768) and macOS (49152) hand out.
DERIVED_PORTS = range(20100, 30000)


class RecordedPort(int):
    """A port that init recorded; a user's own number in DATABASES, be it the same, is none."""


@dataclass(frozen=True)
class Project:
    """Where the project is and what it pins. All paths are absolute.

    ``found`` is False where no project was found, and ``root`` is the working directory then.
    """

    root: Path
    found: bool
    pins: Pins

    @property
    def pyproject(self) -> Path:
        return self.root / "pyproject.toml"

    @property
    def lock(self) -> Path:
        return self.root / "dbdev.lock"


def project() -> Project:
    root, found = project_root()
    return Project(root, found, _read_pins(root / "pyproject.toml", _stamp(root)))


def project_root() -> tuple[Path, bool]:
    """The project's root, and whether there is one.

    Going up from the settings module's file: the first folder whose pyproject.toml has the
    table ``[tool.django_dbdev]``; else the first that has a pyproject.toml; else the first
    that has a manage.py. Where none has, as above an installed package, the same from the
    running manage.py, else from the working directory. ``DBDEV_PROJECT_ROOT`` in the
    environment overrides.

    What another account has put into a folder that everybody can write to, such as /tmp above
    the project, is passed over: pins decide what is run.
    """
    if chosen := os.environ.get("DBDEV_PROJECT_ROOT"):
        return Path(chosen).resolve(), True
    for start in _starts():
        if (root := _find_root(start)) is not None:
            return root, True
    return Path.cwd(), False


def _starts() -> Iterator[Path]:
    """The folder of the settings module, then that of the running manage.py or ourselves."""
    name = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    try:
        spec = find_spec(name) if name else None
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is not None and spec.origin and Path(spec.origin).is_file():
        yield Path(spec.origin).resolve().parent
    script = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path()
    yield script.resolve().parent if script.name == "manage.py" else Path.cwd()


@lru_cache(maxsize=8)
def _find_root(start: Path) -> Path | None:
    candidates: dict[str, Path] = {}
    ours = owner_of(start)
    for folder in (start, *start.parents):
        pyproject, manage = folder / "pyproject.toml", folder / "manage.py"
        if pyproject.is_file() and planted_by(pyproject, ours) is None:
            # One that is closed to us may be the project's: the commands say so.
            with suppress(PermissionError):
                if TABLE.encode() in pyproject.read_bytes():
                    return folder
            candidates.setdefault("pyproject", folder)
        if manage.is_file() and planted_by(manage, ours) is None:
            candidates.setdefault("manage", folder)
        if (folder / ".git").exists():
            break
    return candidates.get("pyproject") or candidates.get("manage")


def _stamp(root: Path) -> tuple[int, int]:
    """What changes when pyproject.toml does, so that pins are parsed once."""
    try:
        status = (root / "pyproject.toml").stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def pyproject() -> dict[str, Any]:
    """The project's whole pyproject.toml; empty where there is none.

    :raises ConfigurationError: when it is not TOML, or cannot be read.
    """
    root, _ = project_root()
    return _read_pyproject(root / "pyproject.toml", _stamp(root))


@lru_cache(maxsize=8)
def _read_pins(pyproject: Path, stamp: tuple[int, int]) -> Pins:
    tool = _read_pyproject(pyproject, stamp).get("tool", {})
    if not isinstance(tool, dict):
        raise PinError(pyproject, "tool", "must be a table")
    return parse_pins(tool.get("django_dbdev", {}), pyproject)


def _read_pyproject(pyproject: Path, stamp: tuple[int, int]) -> dict[str, Any]:
    if stamp == (0, 0):
        return {}
    try:
        return tomllib.loads(pyproject.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{pyproject} is not valid TOML: {error}", hints=["mend the file and run this again"]
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{pyproject} cannot be read: {error.strerror}") from None


def setting(name: str, default: Any = None) -> Any:
    """A Django setting; also from a settings module that is still being imported."""
    from django.conf import settings

    if settings.configured:
        return getattr(settings, name, default)
    module = sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", ""))
    return getattr(module, name, default)


def tempdata() -> Path:
    """``DBDEV_DATADIR``, absolute: the environment, the setting, else ``dbdev_tempdata``.

    A relative one is taken from the project's root.
    """
    return _tempdata(os.environ.get("DBDEV_DATADIR") or setting("DBDEV_DATADIR"))


def tempdata_of_settings() -> Path:
    """As :func:`tempdata`, whatever this machine's environment says."""
    return _tempdata(setting("DBDEV_DATADIR"))


def _tempdata(chosen: object) -> Path:
    chosen = chosen or DEFAULT_TEMPDATA
    # Not resolved: a link in the path is the user's own choice of a place.
    return Path(os.path.abspath(project_root()[0] / _as_path("DBDEV_DATADIR", chosen)))


def refuse_planted(folder: Path) -> None:
    """:raises ConfigurationError: when another account may have planted what stands there."""
    ownership.refuse_planted(folder, project_root()[0])


def recorded() -> dict[str, int]:
    """Ports that init recorded, by server; none where another may have planted what is there."""
    folder = tempdata()
    if planted_on_the_way(folder, project_root()[0]) is not None:
        return {}
    return recorded_ports(folder)


def path_setting(name: str) -> Path | None:
    """A setting that holds the path of a program; None where it is not set."""
    value = setting(name)
    return _as_path(name, value) if value else None


def _as_path(name: str, value: object) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise ConfigurationError(f"{name} is {value!r}, which is not a path.")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ConfigurationError(
            f"{name} is {str(value)!r}, and it is not known where that home is.",
            hints=["write the path in full, without ~"],
        ) from None


def path_variable(name: str) -> Path | None:
    """An environment variable that holds a path; None where it is not set."""
    value = os.environ.get(name)
    return _as_path(name, value) if value else None


def text_variable(name: str) -> str:
    """An environment variable; empty where it is not set."""
    return os.environ.get(name, "")


def flag(name: str) -> bool:
    """Whether an environment variable such as ``DBDEV_LOCKED`` is switched on."""
    return os.environ.get(name, "").lower() not in {"", "0", "false", "no", "off"}


def store() -> Path:
    """The folder of downloads and pristine clusters, shared by all projects of this user.

    Root's is the system's cache: a server's own account could not enter a closed ``/root``.
    """
    if chosen := os.environ.get("DBDEV_STORE"):
        return _as_path("DBDEV_STORE", chosen).resolve()
    from platformdirs import site_cache_path, user_cache_path

    folder = site_cache_path if os.geteuid() == 0 else user_cache_path
    try:
        return folder("django_dbdev", appauthor=False)
    except RuntimeError:
        raise ConfigurationError(
            f"HOME is not set, and uid {os.geteuid()} has no account that tells its home.",
            hints=["set DBDEV_STORE to a folder that you can write to"],
        ) from None


def port_variable(engine: str) -> str:
    return f"DBDEV_{engine.upper()}_PORT"


def default_port(engine: str, server: str) -> int:
    """The port of DBSETTINGS: the environment, the pin, what init recorded, else derived.

    Stable for one project at one path; two projects side by side differ. What is malformed is
    passed over: the commands and the system checks say it, and say it without the traceback
    that an error in settings.py would be.
    """
    with suppress(ConfigurationError):
        explicit = explicit_port(engine)
        if explicit is not None:
            return explicit
    with suppress(ConfigurationError):
        if port := recorded().get(server):
            return RecordedPort(port)
    return derived_port(engine)


def is_ephemeral() -> bool:
    """Whether this process works on servers of its own, which ``dbdev_run`` has made for it."""
    return EPHEMERAL in os.environ


def ephemeral_places() -> dict[str, int | str]:
    """By alias the PORT of this process's own server, or the NAME of its own file."""
    try:
        places = json.loads(os.environ.get(EPHEMERAL, "{}"))
        return {alias: at for alias, at in places.items() if isinstance(at, int | str)}
    except (ValueError, AttributeError):
        return {}


def explicit_port(engine: str) -> int | None:
    """The port that the environment or the pin sets; None where it is ours to choose.

    :raises ConfigurationError: when one of them is malformed.
    """
    if is_ephemeral():
        return None
    if text := os.environ.get(port_variable(engine)):
        if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
            return int(text)
        raise ConfigurationError(
            f"{port_variable(engine)} is {text!r}, which is not a port number (1 to 65535).",
            hints=["set it to a number, or unset it"],
        )
    pins = project().pins
    pinned = (pins.get(name).port for name in PINNED_AS.get(engine, (engine,)))
    return next((port for port in pinned if port is not None), None)


def derived_port(engine: str) -> int:
    root, found = project_root()
    if not found:
        return FALLBACK_PORTS[engine]
    digest = hashlib.sha256(os.fsencode(f"{engine}\0{root}")).digest()
    return DERIVED_PORTS[int.from_bytes(digest[:8], "big") % len(DERIVED_PORTS)]


def databases() -> Mapping[str, Mapping[str, Any]]:
    """``settings.DATABASES``, with Django's defaults filled in."""
    from django.db import connections

    return connections.settings


def database(alias: str) -> Mapping[str, Any]:
    """The settings of one alias.

    :raises ConfigurationError: when there is no such alias.
    """
    known = databases()
    if alias not in known:
        raise ConfigurationError(
            f"There is no database alias {alias!r} in DATABASES.",
            hints=[f"the aliases are {', '.join(sorted(known))}"],
        )
    return known[alias]


def passwords() -> frozenset[str]:
    """Those of all aliases."""
    known = (settings.get("PASSWORD") for settings in setting("DATABASES", {}).values())
    return frozenset(str(password) for password in known if password)


def template_dirs() -> tuple[Path, ...]:
    """``DBDEV_TEMPLATE_DIRS``: the project's own configuration templates, looked in first."""
    chosen = setting("DBDEV_TEMPLATE_DIRS", ())
    if isinstance(chosen, str | os.PathLike):
        chosen = (chosen,)
    root = project_root()[0]
    if not isinstance(chosen, list | tuple):
        raise ConfigurationError(f"DBDEV_TEMPLATE_DIRS is {chosen!r}, which is no list of paths.")
    return tuple(root / _as_path("DBDEV_TEMPLATE_DIRS", folder) for folder in chosen)

"""What the folders of backups are called, and finding them.

``<tempdata>/<server>-backups/backup-<time>[.<name>]/``, where the time is the local one to the
microsecond, as 1.2.3 wrote it, so that names sort by age.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ..exceptions import ConfigurationError

#: The name of what a restore keeps of the data that it replaces.
SAFETY = "before-restore"
#: The name of the data that an upgrade has left behind.
UPGRADED = "before-upgrade"
#: The name of what a load keeps of the data that it replaces, of backends that cannot do both.
LOADED = "before-load"
#: What was kept of replaced data is nobody's latest backup.
RESERVED = {
    SAFETY: "what restores call the copy of what they replace",
    UPGRADED: "what upgrades call the data of the old version",
    LOADED: "what loads call the copy of what they replace",
}
MANIFEST = "manifest.json"
DATA = "data"

_TIME = "%Y-%m-%d_%H-%M-%S-%f"
_FOLDER = re.compile(r"backup-(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6})(?:\.(.+))?", re.DOTALL)
#: Those of no backup cannot be reckoned with: in another zone, or a moment later.
_YEARS = range(1970, 9999)
_NAME = re.compile(r"[^\W_][\w.+@ -]*")


@dataclass(frozen=True, order=True)
class Place:
    """The folder of a backup; ``created`` is the local time in its name."""

    created: datetime
    directory: Path
    name: str = ""

    @property
    def data(self) -> Path:
        return self.directory / DATA

    @property
    def manifest(self) -> Path:
        return self.directory / MANIFEST

    @property
    def is_finished(self) -> bool:
        return self.manifest.is_file()


def place_of(directory: Path) -> Place | None:
    """What the folder's name tells; None when it is not that of a backup."""
    match = _FOLDER.fullmatch(directory.name)
    if match is None:
        return None
    try:
        created = datetime.strptime(match[1], _TIME)
    except ValueError:
        return None
    return Place(created, directory, match[2] or "") if created.year in _YEARS else None


def places(root: Path) -> list[Place]:
    """All folders of backups in ``root``, finished or not, the oldest first."""
    try:
        found = [place_of(entry) for entry in root.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(place for place in found if place is not None)


def new_time(root: Path) -> str:
    """The time for the name of a new backup: now, and later than those of all that there are.

    Clocks are set back, if only from summer to winter time; what was made last is still the
    latest, which is what a restore takes and what clearing keeps.
    """
    now = datetime.now()
    if known := places(root):
        now = max(now, known[-1].created + timedelta(microseconds=1))
    return now.strftime(_TIME)


def finished(root: Path) -> list[Place]:
    """The backups in ``root``, the oldest first: those that have a manifest."""
    return [place for place in places(root) if place.is_finished]


def check_new_name(root: Path, name: str) -> None:
    """Refuse a name that a new backup cannot have.

    :raises ConfigurationError: when it is taken, kept for restores, or awkward in a path.
    """
    if name in RESERVED:
        raise ConfigurationError(f"{name!r} is {RESERVED[name]}.", hints=["use another name"])
    if not _NAME.fullmatch(name) or len(name.encode()) > 150:
        raise ConfigurationError(
            f"A backup cannot be called {name!r}.",
            hints=["use letters, digits, spaces and . _ - + @, a letter or digit first"],
        )
    for place in finished(root):
        if place.name == name:
            raise ConfigurationError(
                f"There is a backup called {name!r} already: {place.directory}",
                hints=["use another name", f"or remove that one: dbdev_clearbackups -n {name}"],
            )


def refuse_dangling(root: Path) -> None:
    """See that the backups' folder is no link to what is not there, as a disk that is away.

    :raises ConfigurationError: naming where it leads.
    """
    if root.is_symlink() and not root.exists():
        raise ConfigurationError(
            f"The backups' folder {root} leads to {root.readlink()}, which is not there.",
            hints=["mount it, or remove the link"],
        )


def find_named(root: Path, name: str) -> Place:
    """The backup called ``name``, the newest where there are several.

    :raises ConfigurationError: naming those that there are.
    """
    if not name:
        raise ConfigurationError(
            "An empty name is that of no backup.", hints=["a variable of the shell may be unset"]
        )
    refuse_dangling(root)
    known = finished(root)
    for place in reversed(known):
        if place.name == name:
            return place
    names = ", ".join(dict.fromkeys(place.name for place in reversed(known) if place.name))
    raise ConfigurationError(
        f"There is no backup called {name!r} in {root}.",
        hints=[f"there are: {names}" if names else "make one: dbdev_backup"],
    )


def find_latest(root: Path, suits: Callable[[Path], bool]) -> Place:
    """The latest backup whose folder suits the alias.

    What was kept of replaced data does not count.

    :raises ConfigurationError: when there is none.
    """
    refuse_dangling(root)
    made = [place for place in finished(root) if place.name not in RESERVED]
    for place in reversed(made):
        if suits(place.directory):
            return place
    if made:
        raise none_of_the_alias(str(root))
    raise ConfigurationError(f"There are no backups in {root}.", hints=["make one: dbdev_backup"])


def none_of_the_alias(where: str) -> ConfigurationError:
    return ConfigurationError(
        f"There are no backups of this alias in {where}, but of others.",
        hints=["make one: dbdev_backup", "one of another alias is restored by its name or folder"],
    )

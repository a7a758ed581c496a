"""What there is of backups, for people and for scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ..exceptions import ConfigurationError
from ..reporting import size
from .manifest import Manifest, try_manifest
from .names import RESERVED, Place, finished, refuse_dangling
from .snapshot import own_size

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Listed:
    """One finished backup.

    :param manifest: None where it cannot be read.
    :param created: with its offset from UTC.
    """

    place: Place
    manifest: Manifest | None
    created: datetime

    def age(self, now: datetime) -> timedelta:
        return max(now - self.created, timedelta(0))


def listed(root: Path) -> list[Listed]:
    """All finished backups, the oldest first."""
    refuse_dangling(root)
    return [
        Listed(place, manifest := try_manifest(place.directory), created(place, manifest))
        for place in finished(root)
    ]


def created(place: Place, manifest: Manifest | None) -> datetime:
    # The manifest's has an offset; the name's is in whatever zone Django's settings had then.
    try:
        if manifest is not None:
            return datetime.fromisoformat(manifest.created).astimezone()
    except (ValueError, OverflowError):
        pass
    return place.created.astimezone()


def as_table(backups: Sequence[Listed], now: datetime) -> str:
    """Lines of columns; the last is the folder, for pasting."""
    head = ("NAME", "KIND", "AGE", "ON DISK", "SIZE", "VERSION", "BRANCH", "DIRECTORY")
    rows: list[tuple[str, ...]] = [head]
    for each in backups:
        manifest = each.manifest
        rows.append(
            (
                each.place.name or "-",
                manifest.kind if manifest else "damaged",
                short_age(each.age(now)),
                size(own_size(each.place.directory)),
                size(manifest.size) if manifest else "-",
                f"{manifest.engine} {manifest.version}".strip() if manifest else "-",
                (manifest.branch or manifest.commit[:10] or "-") if manifest else "-",
                str(each.place.directory),
            )
        )
    rows = [tuple(map(_shown, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    right = {2, 3, 4}
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _shown(text: str) -> str:
    """What a name or a manifest says, which may be another's: it gives a terminal no orders."""
    return "".join(each if each.isprintable() else "?" for each in text)


def as_json(backups: Sequence[Listed], now: datetime) -> str:
    """A list of objects; ages are in seconds, sizes in bytes."""
    content = []
    for each in backups:
        manifest = each.manifest
        content.append(
            {
                "name": each.place.name,
                "directory": str(each.place.directory),
                "readable": manifest is not None,
                "created": each.created.isoformat(),
                "age": round(each.age(now).total_seconds(), 3),
                "own_size": own_size(each.place.directory),
                **(
                    {
                        key: getattr(manifest, key)
                        for key in (
                            "kind",
                            "size",
                            "engine",
                            "version",
                            "system",
                            "alias",
                            "aliases",
                            "branch",
                            "commit",
                            "migrations",
                            "duration",
                        )
                    }
                    if manifest
                    else {}
                ),
            }
        )
    return json.dumps(content, indent=2)


def short_age(age: timedelta) -> str:
    """``5 s``, ``12 min``, ``3 h``, ``9 d``."""
    seconds = int(age.total_seconds())
    for limit, divisor, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds // divisor} {unit}"
    return f"{seconds // 86400} d"


def parse_age(text: str) -> timedelta:
    """``7d``, ``12h``, ``30m``, ``2w``.

    :raises ConfigurationError: when it is something else.
    """
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if match is None:
        raise ConfigurationError(
            f"{text!r} is not an age.", hints=["write a number and s, m, h, d or w, such as 7d"]
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def to_clear(
    backups: Sequence[Listed],
    now: datetime,
    *,
    keep: int | None = None,
    older_than: timedelta | None = None,
    name: str | None = None,
) -> list[Listed]:
    """Which backups go: those that all conditions allow to go, the oldest first.

    :param keep: how many of those that somebody made stay, and what was kept of data that has been
        replaced since.
    """
    last = len(backups)
    if keep:
        made = [i for i, each in enumerate(backups) if each.place.name not in RESERVED]
        last = made[-keep] if len(made) >= keep else 0
    return [
        each
        for index, each in enumerate(backups)
        if index < last
        and (older_than is None or each.age(now) > older_than)
        and (name is None or each.place.name == name)
    ]

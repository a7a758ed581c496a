"""Pins: what ``[tool.django_dbdev]`` of a pyproject.toml asks for.

::

    [tool.django_dbdev.postgresql]
    version = "16"                  # a prefix, or a PEP 440 specifier such as ">=16.13,<17"
    extensions = ["pg_trgm"]
    settings = { shared_buffers = "256MB" }
    port = 5433
    [tool.django_dbdev.databases.reporting.postgresql]
    version = "15"                  # what one alias has differently; the rest is inherited
    [tool.django_dbdev.apt]
    suite = "trixie"                # or several, in the order in which they are asked
    [tool.django_dbdev.conda]
    channel = "conda-forge"

Everything here is a pure function of the parsed table.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .exceptions import PinError

TABLE = "tool.django_dbdev"
ENGINES = ("postgresql", "mariadb", "mysql", "sqlite")
_KEYS = ("version", "extensions", "settings", "port")
_PREFIX = re.compile(r"\d+(\.\d+)*")
#: Characters. Python turns no text of thousands of digits into a number.
_LONGEST_VERSION = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
#: conda's channel where none is named.
CHANNEL = "conda-forge"
#: Tables that are no engine's.
_OTHER_TABLES = ("databases", "apt", "conda")
_SUITE = re.compile(r"[a-z0-9][a-z0-9._+-]*")

SettingValue = str | int | float | bool


@dataclass(frozen=True)
class Requirement:
    """What has to be found: an engine, in a version, with extensions.

    ``version`` is a prefix ("16", "16.15"), a PEP 440 specifier (">=16.13,<17"), or empty
    for any version.
    """

    engine: str
    version: str = ""
    extensions: tuple[str, ...] = ()

    def __str__(self) -> str:
        wanted = f"{self.engine} {self.version}".strip()
        return f"{wanted} with {', '.join(self.extensions)}" if self.extensions else wanted

    def matches(self, version: str) -> bool:
        """Whether ``version``, such as "16.15", satisfies the pin."""
        if not self.version:
            return True
        if _PREFIX.fullmatch(self.version):
            wanted = _release(self.version)
            found = _release(version)
            return (found + (0,) * len(wanted))[: len(wanted)] == wanted
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(self.version).contains(version, prereleases=True)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


@dataclass(frozen=True)
class Pin:
    """One engine's table, checked. ``key`` is its key path, for messages."""

    requirement: Requirement
    settings: Mapping[str, SettingValue] = field(default_factory=dict)
    port: int | None = None
    key: str = ""


@dataclass(frozen=True)
class Pins:
    """All pins of a project: by engine, and by alias and engine where an alias differs.

    ``suites`` are those of Debian or Ubuntu to look in; the system's own where it is empty.
    ``channel`` is conda's, by its name or its place.
    """

    engines: Mapping[str, Pin] = field(default_factory=dict)
    databases: Mapping[str, Mapping[str, Pin]] = field(default_factory=dict)
    suites: tuple[str, ...] = ()
    channel: str = CHANNEL

    def get(self, engine: str, alias: str | None = None) -> Pin:
        """The pin of ``engine`` for ``alias``; one that asks for nothing where none stands."""
        if alias is not None and engine in self.databases.get(alias, {}):
            return self.databases[alias][engine]
        return self.engines.get(engine) or Pin(Requirement(engine), key=f"{TABLE}.{engine}")

    def __iter__(self) -> Iterator[Pin]:
        yield from self.engines.values()
        for pins in self.databases.values():
            yield from pins.values()


def parse_pins(table: object, source: Path) -> Pins:
    """The pins in the table ``[tool.django_dbdev]`` of ``source``.

    :raises PinError: naming the key path of the first thing that is wrong.
    """
    tables = _table(table, source, TABLE)
    engines = {
        engine: _parse_pin(engine, _table(entry, source, f"{TABLE}.{engine}"), source, TABLE)
        for engine, entry in tables.items()
        if engine not in _OTHER_TABLES and _known_engine(engine, source, TABLE)
    }
    databases: dict[str, dict[str, Pin]] = {}
    aliases = _table(tables.get("databases", {}), source, f"{TABLE}.databases")
    for alias, entries in aliases.items():
        prefix = f"{TABLE}.databases.{alias}"
        for engine, entry in _table(entries, source, prefix).items():
            _known_engine(engine, source, prefix)
            own = _table(entry, source, f"{prefix}.{engine}")
            inherited = {k: v for k, v in tables.get(engine, {}).items() if k != "port"}
            pin = _parse_pin(engine, {**inherited, **own}, source, prefix)
            databases.setdefault(alias, {})[engine] = pin
    apt = _table(tables.get("apt", {}), source, f"{TABLE}.apt")
    conda = _table(tables.get("conda", {}), source, f"{TABLE}.conda")
    return Pins(
        engines,
        databases,
        _parse_apt(apt, source, f"{TABLE}.apt"),
        _parse_conda(conda, source, f"{TABLE}.conda"),
    )


def _parse_conda(table: Mapping[str, Any], source: Path, key: str) -> str:
    _known_keys(table, ("channel",), source, key)
    channel = table.get("channel", CHANNEL)
    if not isinstance(channel, str) or not channel.strip() or any(ord(c) <= 32 for c in channel):
        raise PinError(
            source,
            f"{key}.channel",
            f"{channel!r} is not the name of a channel",
            hints=[f'example: "{CHANNEL}"'],
        )
    return channel


def _parse_apt(table: Mapping[str, Any], source: Path, key: str) -> tuple[str, ...]:
    _known_keys(table, ("suite",), source, key)
    suites = table.get("suite", [])
    if isinstance(suites, str):
        suites = [suites]
    if not isinstance(suites, list):
        raise PinError(
            source, f"{key}.suite", f"must be a string or a list of them, not {_kind(suites)}"
        )
    for suite in suites:
        if not isinstance(suite, str) or not _SUITE.fullmatch(suite):
            raise PinError(
                source,
                f"{key}.suite",
                f"{suite!r} is not the name of a suite",
                hints=['examples: "trixie", "noble", ["trixie", "sid"]'],
            )
    return tuple(dict.fromkeys(suites))


def _table(value: object, source: Path, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PinError(source, key, f"must be a table, not {_kind(value)}")
    return value


def _known_engine(engine: str, source: Path, prefix: str) -> bool:
    """Refuse what looks like a slip of the pen; other names belong to custom backends."""
    if engine not in ENGINES:
        slip = "postgresql" if engine in {"postgres", "pg"} else None
        close = [slip] if slip else difflib.get_close_matches(engine, ENGINES, cutoff=0.75)
        if close:
            raise PinError(
                source,
                f"{prefix}.{engine}",
                "no such engine",
                hints=[f"did you mean [{prefix}.{close[0]}]?"],
            )
    return True


def _parse_pin(engine: str, table: Mapping[str, Any], source: Path, prefix: str) -> Pin:
    key = f"{prefix}.{engine}"
    _known_keys(table, _KEYS, source, key)
    return Pin(
        Requirement(
            engine,
            _parse_version(table.get("version", ""), source, f"{key}.version"),
            _parse_extensions(table.get("extensions", []), source, f"{key}.extensions"),
        ),
        _parse_settings(table.get("settings", {}), source, f"{key}.settings"),
        _parse_port(table.get("port"), source, f"{key}.port"),
        key,
    )


def _known_keys(table: Mapping[str, Any], keys: Sequence[str], source: Path, prefix: str) -> None:
    for name in table:
        if name not in keys:
            close = difflib.get_close_matches(name, keys)
            hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(keys)}"
            raise PinError(source, f"{prefix}.{name}", "no such key", hints=[hint])


def _parse_version(value: object, source: Path, key: str) -> str:
    if not isinstance(value, str):
        example = f' (version = "{value}")' if isinstance(value, int | float) else ""
        raise PinError(source, key, f"must be a string{example}, not {_kind(value)}")
    text = value.strip()
    if len(text) > _LONGEST_VERSION:
        raise PinError(source, key, f"has {len(text)} characters, which no version has")
    if not text or _PREFIX.fullmatch(text):
        return text
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise PinError(
            source,
            key,
            f"{value!r} is neither a version nor a PEP 440 specifier",
            hints=['examples: "16", "16.15", ">=16.13,<17"'],
        ) from None
    return text


def _parse_extensions(value: object, source: Path, key: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise PinError(source, key, f"must be a list of names, not {_kind(value)}")
    for index, name in enumerate(value):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PinError(source, f"{key}[{index}]", f"{name!r} is not the name of an extension")
    return tuple(dict.fromkeys(value))


def _parse_settings(value: object, source: Path, key: str) -> dict[str, SettingValue]:
    settings = _table(value, source, key)
    for name, entry in settings.items():
        if not _NAME.fullmatch(name):
            raise PinError(source, f"{key}.{name}", "not the name of a server setting")
        if not isinstance(entry, str | int | float | bool):
            raise PinError(
                source,
                f"{key}.{name}",
                f"must be a string, a number or a boolean, not {_kind(entry)}",
            )
        if isinstance(entry, str) and any(ord(c) < 32 for c in entry):
            raise PinError(source, f"{key}.{name}", "must be on one line, no control characters")
    return settings


def _parse_port(value: object, source: Path, key: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise PinError(source, key, f"{value!r} is not a port number (1 to 65535)")
    return value


def _kind(value: object) -> str:
    names = {dict: "a table", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), f"{value!r}")

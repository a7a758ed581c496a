"""apt's lists of sources, rewritten for another suite: the same mirrors, keys and components.

Pure functions from text to text. Both forms are read: the one with one line for each source,
and the newer one of deb822. Source: sources.list(5).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

#: Names by which a distribution calls its own release, beside its codename.
_ALIASES = frozenset({"stable", "testing", "unstable", "oldstable"})
_LINE = re.compile(r"^deb\s+(\[[^]]*]\s+)?(\S+)\s+(\S+)\s+(\S.*)$")
_FIELD = re.compile(r"^([A-Za-z][\w-]*)\s*:(.*)$")


def rewrite_list(text: str, codename: str, suite: str) -> str:
    """A ``sources.list`` with the sources of ``codename`` alone, which become those of ``suite``.

    Sources of other parties have other suites or components, and are left out.
    """
    lines = []
    for line in text.splitlines():
        found = _LINE.match(line.partition("#")[0].strip())
        if found is None:
            continue
        options, uri, release, components = found.groups()
        if _is_own(release, codename, components.split()):
            lines.append(f"deb {options or ''}{uri} {suite} {components}\n")
    return "".join(lines)


def rewrite_deb822(text: str, codename: str, suite: str) -> str:
    """The same for a ``.sources`` file."""
    stanzas = []
    for fields in _stanzas(text):
        lowered = {name.lower(): value for name, value in fields.items()}
        suites = lowered.get("suites", "").split()
        components = lowered.get("components", "").split()
        wanted = (
            "deb" in lowered.get("types", "").split()
            and lowered.get("enabled", "yes").strip().lower() not in {"no", "false", "0", "off"}
            and any(_is_own(name, codename, components) for name in suites)
        )
        if wanted:
            changed = {"types": " deb", "suites": f" {suite}"}
            stanzas.append(
                "".join(
                    f"{name}:{changed.get(name.lower(), value)}\n" for name, value in fields.items()
                )
            )
    return "\n".join(stanzas)


def _is_own(release: str, codename: str, components: Collection[str]) -> bool:
    return (release == codename or release in _ALIASES) and "main" in components


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """The fields of each stanza; a value keeps its further lines, such as those of a key."""
    fields: dict[str, str] = {}
    last = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last:
                fields[last] += f"\n{line}"
        elif found := _FIELD.match(line):
            last = found.group(1)
            fields[last] = found.group(2)

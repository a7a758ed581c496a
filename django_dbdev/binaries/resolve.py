"""From a requirement to packages with their hashes: what the lock will say."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from ..pins import Requirement
from ..reporting import Reporter, seconds
from .lock import LockedEngine, LockedFile, LockedFiles, LockedPackage
from .programs import lacks
from .providers.base import Declined, Packager, Release
from .systems import SYSTEMS, current_system

#: pip processes at once. Each spends most of its time starting up, which needs a core.
_WORKERS = min(4, os.cpu_count() or 1)
#: How many versions a message names as the nearest.
_NEAREST = 3


@dataclass
class Resolution:
    """What came of asking the index.

    :param entry: for the lock; None where nothing could be installed.
    :param installed: the package of the entry that runs on this machine.
    :param answered: whether the index answered for every provider.
    :param nearest: versions that can be had and by whom, when none satisfies the requirement.
    """

    entry: LockedEngine | None = None
    installed: LockedPackage | None = None
    declined: list[tuple[str, Declined]] = field(default_factory=list)
    answered: bool = True
    offered: bool = False
    nearest: tuple[str, ...] = ()


def resolve(
    requirement: Requirement,
    providers: Sequence[Packager],
    reporter: Reporter,
    *,
    preferred: str = "",
    special: Set[str] = frozenset(),
    previous: LockedEngine | None = None,
) -> Resolution:
    """The newest version that the requirement allows and that is there, installed.

    The providers' order is their rank among those with the same version. All that have a
    version within the requirement get into the entry, so that a machine that cannot run the
    first has others to fall back on.

    :param preferred: a version that is taken before newer ones, if it is allowed and there.
    :param special: extensions that not everybody has; who does not bring one is not asked.
    :param previous: what is locked: where nobody answers now, its hashes of the same version stay.
    :raises IntegrityError: when the bytes are not those that the index announces.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    resolution = Resolution()
    started = time.perf_counter()
    pool = ThreadPoolExecutor(_WORKERS)
    try:
        offers = _offers(requirement, providers, resolution, preferred, special, pool)
        here = current_system()
        files: dict[tuple[str, str], Future[LockedFile | LockedFiles]] = {}
        # This system's files first: the installation starts while the others are looked up.
        for system in (here, *(system for system in SYSTEMS if system != here)):
            for provider, release in offers:
                files[provider.name, system] = pool.submit(
                    provider.file, release, system, requirement
                )
        unfit: set[str] = set()
        for provider, release in offers:
            try:
                file = files[provider.name, here].result()
                if resolution.installed is None and not resolution.offered:
                    resolution.offered = True
                    took = seconds(time.perf_counter() - started)
                    reporter.fact(f"Resolved {requirement.engine} {release.version} in {took}")
                package = provider.package(release).with_file(here, file)
                resolution.installed = provider.install(package, requirement)
                break
            except Declined as declined:
                resolution.declined.append((provider.name, declined))
                if declined.everywhere:
                    unfit.add(provider.name)
        if resolution.installed is not None:
            known = _known(previous, requirement)
            packages = [
                _complete(provider, release, resolution.installed, files, known, reporter)
                for provider, release in offers
                if provider.name not in unfit
            ]
            packages += _unasked(known, resolution, {provider.name for provider, _ in offers})
            resolution.entry = LockedEngine(
                requirement.version,
                requirement.extensions,
                tuple(package for package in packages if package.systems),
            )
    finally:
        pool.shutdown(cancel_futures=True)
    return resolution


def ask(
    requirement: Requirement,
    providers: Sequence[Packager],
    special: Set[str] = frozenset(),
) -> Resolution:
    """Whether the index has what :func:`resolve` would install; nothing is fetched."""
    from concurrent.futures import ThreadPoolExecutor

    resolution = Resolution()
    with ThreadPoolExecutor(_WORKERS) as pool:
        resolution.offered = bool(_offers(requirement, providers, resolution, "", special, pool))
    return resolution


def _offers(
    requirement: Requirement,
    providers: Sequence[Packager],
    resolution: Resolution,
    preferred: str,
    special: Set[str],
    pool: Any,
) -> list[tuple[Packager, Release]]:
    """Each provider's best release, the best provider first."""
    wanted = set(requirement.extensions)
    asked = []
    for provider in providers:
        if lacking := (wanted & special) - provider.brings:
            resolution.declined.append((provider.name, lacks(sorted(lacking))))
        else:
            asked.append((provider, pool.submit(provider.releases, requirement)))
    offers: list[tuple[Packager, Release]] = []
    others: dict[str, list[str]] = {}
    for provider, answer in asked:
        try:
            releases = answer.result()
        except Declined as declined:
            resolution.declined.append((provider.name, declined))
            resolution.answered = resolution.answered and declined.everywhere
            continue
        fitting = [release for release in releases if requirement.matches(release.version)]
        fitting.sort(key=lambda release: release.version != preferred)
        if fitting:
            offers.append((provider, fitting[0]))
            continue
        had = ", ".join(release.version for release in releases) or "nothing"
        resolution.declined.append(
            (
                provider.name,
                Declined(f"it has {had}; {requirement.version} is not among them", everywhere=True),
            )
        )
        for release in releases:
            others.setdefault(release.version, []).append(provider.name)
    offers.sort(
        key=lambda offer: (
            bool(wanted) and not wanted & offer[0].brings,
            offer[1].version != preferred,
            [-number for number in _numbers(offer[1].version)],
        )
    )
    if not offers:
        resolution.nearest = _nearest(requirement.version, others)
    return offers


def _known(previous: LockedEngine | None, requirement: Requirement) -> tuple[LockedPackage, ...]:
    """Packages of the lock whose files serve the requirement, extensions among them."""
    if previous is None or not set(requirement.extensions) <= set(previous.extensions):
        return ()
    return previous.packages


def _complete(
    provider: Packager,
    release: Release,
    installed: LockedPackage,
    files: dict[tuple[str, str], Any],
    known: Sequence[LockedPackage],
    reporter: Reporter,
) -> LockedPackage:
    """The package with its files for all systems; systems for which it has none are left out."""
    package = provider.package(release)
    before = next((each for each in known if replace(each, systems={}) == package), package)
    # What the lock had of another version.
    lost = {system for each in known if each.provider == provider.name for system in each.systems}
    systems: dict[str, LockedFile | LockedFiles] = {}
    for system in SYSTEMS:
        try:
            systems[system] = files[provider.name, system].result()
        except Declined as declined:
            if system in before.systems:
                # Also where the provider knows its own system alone: it was locked on that one.
                systems[system] = before.systems[system]
            elif system in lost or not declined.everywhere:
                remedy = f" ({'; '.join(declined.hints)})" if declined.hints else ""
                reporter.warning(
                    f"dbdev.lock has no file of {provider.name} for {system}: {declined.reason}"
                    f"{remedy}"
                )
    if provider.name == installed.provider:
        systems |= installed.systems
    return replace(package, systems=systems)


def _unasked(
    known: Sequence[LockedPackage], resolution: Resolution, offered: Set[str]
) -> list[LockedPackage]:
    """Packages of the lock in the version that was chosen, whose providers could not answer."""
    installed = resolution.installed
    silent = {name for name, declined in resolution.declined if not declined.everywhere} - offered
    return [
        package
        for package in known
        if package.provider in silent and installed and package.version == installed.version
    ]


def _nearest(wanted: str, versions: dict[str, list[str]]) -> tuple[str, ...]:
    """The nearest of ``versions`` (providers by version), as words: "16.13 (a, b)"."""
    found = re.search(r"\d+(\.\d+)*", wanted)
    target = _numbers(found.group()) if found else []

    def distance(version: str) -> list[int]:
        numbers = _numbers(version)
        goal = [*target, *numbers[len(target) :]]
        return [abs(have - want) for have, want in zip(numbers, goal, strict=False)]

    newest_first = sorted(versions, key=_numbers, reverse=True)
    nearest = sorted(newest_first, key=distance)[:_NEAREST]
    return tuple(f"{v} ({', '.join(versions[v])})" for v in sorted(nearest, key=_numbers))


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]

"""Reading what another series than the pinned one has written, by programs of that series.

A snapshot of another series is restored by way of dumps: a server of the snapshot's own version,
which the store can provide, is started on a copy of it and dumped; the dumps go into the pinned
server as every dump does, into new databases that take the old ones' places.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...backups import snapshot
from ...backups.dumps import Dump, opened
from ...backups.faults import step
from ...backups.manifest import Manifest
from ...backups.names import DATA
from ...backups.replace import Replacement, discard
from ...binaries.find import find_toolchain
from ...binaries.systems import codename
from ...binaries.toolchain import Toolchain
from ...exceptions import BackupError, ToolchainError
from ...pins import Requirement
from ...reporting import seconds
from ..base import timestamp
from .accounts import Account, one_for_each_database
from .served import Served

if TYPE_CHECKING:
    from .backend import ServerBackend

_Served = TypeVar("_Served", bound=Served)


def toolchain_of(backend: ServerBackend, series: str) -> Toolchain:
    """Programs of another series. The project's lock is not touched by that.

    :raises ToolchainError: when nobody has them.
    """
    requirement = Requirement(backend.engine, series, backend.pin.requirement.extensions)
    sources = replace(
        backend.sources(),
        lock=backend.tempdata / f"{backend.engine}-{series}.lock",
        executables={},
        bindir=None,
        locked=False,
        alias=None,
    )
    if sources.suites and (own := codename()) is not None:
        # The release that the pin names has the new series, this system's own perhaps the old.
        sources = replace(sources, suites=tuple(dict.fromkeys((*sources.suites, own))))
    try:
        # What made the data is still here, most often.
        return find_toolchain(requirement, replace(sources, offline=True)).toolchain
    except ToolchainError:
        return find_toolchain(requirement, sources, backend.reporter).toolchain


def dump_snapshot(
    backend: ServerBackend, directory: Path, manifest: Manifest, target: Path
) -> dict[str, Path]:
    """Dump the databases of a snapshot to ``target``; the server's lock must be held.

    :returns: The dumps, by the databases' names.
    """
    begun = time.perf_counter()
    try:
        toolchain = backend.toolchain_of_series(backend.series_of(manifest.version))
    except ToolchainError as error:
        error.hints = (
            *error.hints,
            f"{directory} is a snapshot, which that version alone can read; portable backups go "
            "over to other versions: dbdev_backup --portable",
        )
        raise
    backend.reporter.fact(
        f"The backup is of {backend.title} {manifest.version}: a temporary server of "
        f"{toolchain.version} reads it"
    )
    fresh = Replacement(backend.files.datadir, timestamp()).new
    try:
        snapshot.copy_whole(directory / DATA, manifest, fresh)
        dumps = backend.dump_cluster(toolchain, fresh, target)
    finally:
        discard(fresh)
    _check_databases(backend, directory, manifest, dumps)
    step("restore:converted")
    backend.reporter.fact(f"Dumped it in {seconds(time.perf_counter() - begun)}")
    return dumps


def _check_databases(
    backend: ServerBackend, directory: Path, manifest: Manifest, dumps: Mapping[str, Path]
) -> None:
    """See that the snapshot has what the aliases ask for.

    :raises BackupError: when it has nothing of that: there would be nothing to restore.
    """
    missing = {account.database for account in backend.accounts()} - dumps.keys()
    if not missing:
        return
    problem = f"{directory} has no database {', '.join(sorted(missing))}"
    if not dumps:
        held = ", ".join(sorted(set(manifest.aliases.values())))
        raise BackupError(
            f"{problem}, which DATABASES names: nothing of it can be restored.",
            hints=[f"it was made of {held}: name that in DATABASES"] if held else [],
        )
    backend.reporter.warning(f"{problem}: what there is by that name stays as it is")


def load_dumps(
    served: _Served,
    accounts: Sequence[Account],
    dumps: Mapping[str, Path],
    load: Callable[[_Served, Dump], None],
) -> None:
    """Put every dump into the place of the database of its name.

    :param load: the engine's own way to do that.
    """
    for account in one_for_each_database(accounts):
        if account.database in dumps:
            with opened(str(dumps[account.database]), sys.stdin.buffer) as dump:
                load(replace(served, account=account), dump)

"""Moving a cluster to another series of its server: built beside it, and swapped by rename.

The old data becomes a backup as it is, so that nothing of it is lost whatever happens: see
:func:`django_dbdev.backups.replace.Replacement.exchange`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ...backups.describe import Copied, describe
from ...backups.faults import step
from ...backups.manifest import SNAPSHOT, write_manifest
from ...backups.names import UPGRADED
from ...backups.replace import PENDING, Replacement, discard
from ...backups.snapshot import describe_tree
from ...binaries.systems import current_system
from ...binaries.toolchain import Toolchain
from ...exceptions import DbdevError, ServerError
from ...reporting import seconds
from ..base import timestamp

if TYPE_CHECKING:
    from .backend import ServerBackend


def upgrade(backend: ServerBackend) -> None:
    """Move the cluster to the pinned series; the server runs afterwards.

    :raises ServerError: when there is no cluster, or it is of a newer series than the pinned.
    """
    _ = backend.host
    backend.check_driver()
    begun = time.perf_counter()
    with backend.working_alone():
        if not backend.files.is_cluster():
            raise ServerError(
                f"There is no cluster in {backend.files.datadir}.", hints=["make one: dbdev_init"]
            )
        toolchain = backend.find_toolchain()
        series = backend.files.cluster_series()
        if backend.made_by(toolchain):
            _finish(backend, toolchain)
            for fact in backend.update_extensions():
                backend.reporter.fact(fact)
            return
        wanted = backend.series_of(toolchain.version)
        if _numbers(series) > _numbers(wanted):
            raise ServerError(
                f"The cluster in {backend.files.datadir} was made by {backend.title} {series}; "
                f"the pin gives {toolchain.version}, and there is no way back.",
                hints=[f'pin version = "{series}" in [{backend.pin.key}]'],
            )
        old = backend.toolchain_of_series(series)
        backend.reporter.fact(f"Upgrading {backend.title} {old.version} -> {toolchain.version}")
        kept = _move(backend, old, toolchain)
        try:
            _finish(backend, toolchain)
        except DbdevError as error:
            error.hints = (*error.hints, f"the old data is kept in {kept}")
            raise
        step("upgrade:started")
        took = seconds(time.perf_counter() - begun)
        backend.reporter.fact(f"Upgraded {series} -> {wanted} in {took}")
        backend.reporter.fact(f"The data of {series} is kept in {kept}")


def _finish(backend: ServerBackend, toolchain: Toolchain) -> None:
    """Have the server running, in the pinned version."""
    server = backend.restarted_for(toolchain, backend.control.settled())
    if server is not None:
        backend.reporter.fact(f"{backend.title} {toolchain.version} runs")
        return
    backend.start(toolchain, backend.choose_port())
    backend.ensure_accounts(backend.accounts(), backend.port)


def _move(backend: ServerBackend, old: Toolchain, new: Toolchain) -> Path:
    """Build, compare, swap; the backup that has the old data then."""
    replacement = Replacement(backend.files.datadir, timestamp())
    work = replacement.new.with_suffix(".work.new")
    server = backend.control.settled()
    # From here on whoever comes after a kill knows that an upgrade was under way.
    kept = Path(backend.create_timestamped_backupdir(UPGRADED))
    try:
        if server is not None:
            backend.stop(server)
        step("upgrade:begun")
        for fact in backend.build_upgraded(old, new, replacement.new, work):
            backend.reporter.fact(fact)
        step("upgrade:built")
        _describe(backend, kept, old)
        step("upgrade:described")
        replacement.exchange(kept)
    except BaseException:
        # It says where the old data is.
        backend.mend()
        discard(work)
        _restart(backend, old, server is not None)
        raise
    discard(work)
    return kept


def _restart(backend: ServerBackend, old: Toolchain, ran: bool) -> None:
    if ran and backend.files.is_cluster() and backend.made_by(old):
        try:
            backend.start(old, backend.port)
        except DbdevError as error:
            # The pin's settings are for the new version.
            backend.reporter.warning(f"It was not started again: {error.message}")


def _describe(backend: ServerBackend, kept: Path, old: Toolchain) -> None:
    """The manifest of the old data, which waits until the data is there."""
    begun, started_ns = time.perf_counter(), time.time_ns()
    tree = backend.scan_stopped()
    copied = Copied(tree, describe_tree(backend.files.datadir, tree), started_ns)
    manifest = describe(
        backend,
        kept,
        copied,
        engine=backend.engine,
        kind=SNAPSHOT,
        aliases=backend.server_aliases,
        begun=begun,
        version=old.version,
        system=current_system(),
    )
    write_manifest(kept, manifest, PENDING)


def _numbers(series: str) -> list[int]:
    return [int(part) for part in series.split(".")]
